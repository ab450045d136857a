/**
 * Goal: a node keeps its identity and its admins; the generated admin is told once and goes in one step with the first that was chosen.
 * Method: starts one after another over the same records, each with its own configuration; records counted, damaged and failing.
 */
import t from 'tap';
import { Admins, type ConfiguredAdmins } from '../../../server/auth/admins.js';
import { openIdentity } from '../../../server/auth/node-identity.js';
import { formatHashText, weaknessOf } from '../../../server/auth/password.js';
import { PasswordHasher } from '../../../server/auth/password-hasher.js';
import type { NodeRecords, RecordChange } from '../../../server/node-records.js';
import { outcomeOf } from '../../support/outcome.js';
import { configOf, VirtualWorld } from '../../support/server-world.js';

/** The records of a node, with a count of what is written. */
class Kept {
  readonly world = new VirtualWorld();
  readonly hasher: PasswordHasher;
  readonly sets: string[] = [];
  readonly #records: NodeRecords;
  isBroken = false;

  private constructor(records: NodeRecords) {
    this.#records = records;
    const config = configOf('max_iterations = 1000');
    this.hasher = new PasswordHasher({ host: this.world.host, config, threads: 0 });
  }

  static async make(): Promise<Kept> {
    return new Kept(await new VirtualWorld().openRecords());
  }

  get(key: string): unknown {
    return this.#records.get(key);
  }

  set(key: string, value: object): Promise<void> {
    return this.setAll([[key, value]]);
  }

  async setAll(changes: readonly RecordChange[]): Promise<void> {
    if (this.isBroken) throw new Error('the disk is gone');
    this.sets.push(...changes.map(([key]) => key));
    await this.#records.setAll(changes);
  }

  start(configured: Partial<ConfiguredAdmins> = {}): ReturnType<typeof Admins.open> {
    const none = {
      environment: undefined,
      file: new Map<string, string>(),
      address: '127.0.0.1',
    };
    const options = { host: this.world.host, records: this, hasher: this.hasher };
    return Admins.open(options, { ...none, ...configured });
  }
}

t.test('the identity of a node', async (t) => {
  const kept = await Kept.make();
  const first = await openIdentity(kept.world, kept);
  t.match(first.uuid, /^[0-9a-f]{32}$/);
  t.equal(first.secret.length, 64);
  const again = await openIdentity(new VirtualWorld(99), kept);
  t.same([again.uuid, [...again.secret]], [first.uuid, [...first.secret]]);
  t.same(kept.sets, ['node'], 'written once');
  const other = await openIdentity(new VirtualWorld(2), await Kept.make());
  t.not(other.uuid, first.uuid);
  t.notSame([...other.secret], [...first.secret]);
  for (const record of [{}, { uuid: first.uuid }, { uuid: first.uuid, secret: '00' }, ['a']]) {
    await kept.set('node', record);
    t.equal(await outcomeOf(openIdentity(kept.world, kept)), 'CORRUPT');
  }
});

t.test('with nothing configured', async (t) => {
  const kept = await Kept.make();
  const { admins, generated } = await kept.start();
  t.equal(generated?.name, 'admin');
  const password = generated?.password ?? '';
  t.match(password, /^[2-9a-hjkmnp-z]{6}(-[2-9a-hjkmnp-z]{6}){3}$/, 'more than 115 bits');
  t.ok(await kept.hasher.verify(password, admins.find('admin')));
  t.equal(admins.hasConfiguredAdmin, false);
  t.notMatch(JSON.stringify(kept.get('admins')), new RegExp(password), 'it is not kept');
  const again = await kept.start();
  t.equal(again.generated, undefined, 'it is told once');
  t.ok(await kept.hasher.verify(password, again.admins.find('admin')));
  t.equal(again.admins.hasConfiguredAdmin, false);
  t.same(kept.sets, ['admins']);
});

t.test('a configured admin takes the place of the generated one in one step', async (t) => {
  const kept = await Kept.make();
  await kept.start();
  const { admins, generated } = await kept.start({ environment: 'jan:a pass:word' });
  t.equal(generated, undefined);
  t.same(admins.names, ['jan']);
  t.ok(await kept.hasher.verify('a pass:word', admins.find('jan')));
  t.ok(admins.hasConfiguredAdmin);
  t.same(kept.sets, ['admins', 'admins'], 'one record each time');
  const before = admins.find('jan');
  const same = await kept.start({ environment: 'jan:a pass:word' });
  t.same(same.admins.find('jan'), before, 'the hash stays, so that sessions go on');
  t.equal(kept.sets.length, 2);
  const without = await kept.start();
  t.same(without.admins.names, ['jan'], 'and it stays when it is configured no longer');
  const changed = await kept.start({ environment: 'jan:other pass' });
  t.notSame(changed.admins.find('jan'), before);

  const fresh = await Kept.make();
  t.equal((await fresh.start({ environment: 'admin:chosen pass' })).generated, undefined);
  t.same(fresh.sets, ['admins']);
});

t.test('the generated admin is chosen with its own name and password', async (t) => {
  const kept = await Kept.make();
  const { generated } = await kept.start();
  const { admins } = await kept.start({ environment: `admin:${generated?.password}` });
  t.ok(admins.hasConfiguredAdmin);
  t.same(admins.names, ['admin']);
});

t.test('beyond loopback nothing is made that nobody is told of', async (t) => {
  const kept = await Kept.make();
  for (const address of ['0.0.0.0', '::', '10.1.2.3']) {
    t.equal(await outcomeOf(kept.start({ address })), 'INVALID_SETTING', address);
    t.same(kept.sets, [], 'the next start can still tell of an admin');
  }
  const { generated } = await kept.start({ address: '::1' });
  t.equal(generated?.name, 'admin');
  t.equal(await outcomeOf(kept.start({ address: '0.0.0.0' })), 'INVALID_SETTING');
  const chosen = await kept.start({ address: '0.0.0.0', environment: 'jan:a pass:word' });
  t.same(chosen.admins.names, ['jan']);
});

t.test('admins of a file', async (t) => {
  const kept = await Kept.make();
  const hash = formatHashText(await kept.hasher.make('from couchdb'));
  const file = new Map([
    ['jan', 'apples and pears'],
    ['moved', hash],
    ['constructor', 'a strange name'],
  ]);
  const { admins } = await kept.start({ file, environment: 'jan:the stronger one' });
  t.same([...admins.names].sort(), ['constructor', 'jan', 'moved']);
  t.ok(await kept.hasher.verify('the stronger one', admins.find('jan')));
  t.ok(await kept.hasher.verify('from couchdb', admins.find('moved')));
  t.equal(admins.hashText('moved'), hash);
  t.equal(admins.hashText('nobody'), undefined);
  const again = await kept.start({ file: new Map([['moved', hash]]) });
  t.same([...again.admins.names].sort(), ['constructor', 'jan', 'moved']);
  t.equal(kept.sets.length, 1);
});

t.test('what is refused at the start', async (t) => {
  const costly = formatHashText({
    scheme: 'pbkdf2',
    prf: 'sha256',
    iterations: 1001,
    salt: 'a',
    derivedKey: '00'.repeat(32),
  });
  for (const environment of [
    'admin',
    ':password',
    'admin:',
    'admin:short',
    'admin:password',
    'longadmin:LongAdmin',
    'admin:aaaaaaaaaa',
    '_admin:a good password',
    'ad\nmin:a good password',
    'admin:-pbkdf2-broken',
    `admin:${costly}`,
  ]) {
    const kept = await Kept.make();
    t.equal(await outcomeOf(kept.start({ environment })), 'INVALID_SETTING', environment);
    t.same(kept.sets, [], 'and no admin is generated instead');
    const secret = environment.split(':')[1] ?? '';
    const message = await kept.start({ environment }).then(String, String);
    if (secret.length > 4 && secret !== 'password') t.notMatch(message, secret, 'nor is it shown');
  }
  const kept = await Kept.make();
  await kept.set('admins', { jan: { scheme: 'pbkdf2' } });
  t.equal(await outcomeOf(kept.start()), 'CORRUPT');
  t.equal(weaknessOf('jan', 'correct horse'), undefined);
});

t.test('changes while the server runs', async (t) => {
  const kept = await Kept.make();
  const { admins } = await kept.start();
  const heard: unknown[] = [];
  const stop = admins.onChange((name) => heard.push(name));
  t.equal(await outcomeOf(admins.set('jan', 'short')), 'BAD_REQUEST');
  t.equal(await outcomeOf(admins.set('a:b', 'a good password')), 'BAD_REQUEST');
  t.equal(await outcomeOf(admins.remove('admin')), 'FORBIDDEN', 'the last one stays');
  t.same(heard, []);
  await Promise.all([admins.set('jan', 'a good password'), admins.set('ana', 'another password')]);
  t.same([...admins.names].sort(), ['ana', 'jan']);
  t.same([...heard].sort(), ['admin', 'ana', 'jan']);
  await admins.remove('ana');
  t.equal(await outcomeOf(admins.remove('ana')), 'NOT_FOUND');
  t.same((await kept.start()).admins.names, ['jan']);
  kept.isBroken = true;
  const before = admins.find('jan');
  await t.rejects(admins.set('jan', 'a third password'));
  t.equal(admins.find('jan'), before, 'what is not durable is not in force');
  kept.isBroken = false;
  stop();
  await admins.set('jan', 'a fourth password');
  t.equal(heard.filter((name) => name === 'jan').length, 1);
});
