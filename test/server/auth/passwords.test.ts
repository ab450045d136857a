/**
 * Goal: passwords are kept and verified as CouchDB does it, in its older forms too, on a thread of their own with a bounded queue.
 * Method: against Node's PBKDF2 and known hashes; texts that are damaged; the thread made to fail and closed while it works.
 */
import { pbkdf2Sync } from 'node:crypto';
import t from 'tap';
import * as passwords from '../../../server/auth/password.js';
import { PasswordHasher } from '../../../server/auth/password-hasher.js';
import { outcomeOf } from '../../support/outcome.js';
import { configOf, VirtualServerHost } from '../../support/server-world.js';

t.test('records of passwords', async (t) => {
  const config = configOf('max_iterations = 1000');
  const hasher = new PasswordHasher({ host: new VirtualServerHost(2), config, threads: 0 });
  const record = await hasher.make('päß');
  t.match(record, { scheme: 'pbkdf2', prf: 'sha256', iterations: 3, salt: /^[0-9a-f]{32}$/ });
  const key = pbkdf2Sync('päß', record.salt, 3, 32, 'sha256').toString('hex');
  t.equal(record.derivedKey, key);
  t.not((await hasher.make('päß')).salt, record.salt);
  t.equal(await hasher.verify('päß', record), true);
  t.equal(await hasher.verify('pass', record), false);
  t.equal(await hasher.verify('', undefined), false);
  t.equal(await hasher.verify('päß', { ...record, derivedKey: '' }), false);
  const costly = pbkdf2Sync('päß', record.salt, 1001, 32, 'sha256').toString('hex');
  const tooMuch = { ...record, iterations: 1001, derivedKey: costly };
  t.equal(await hasher.verify('päß', tooMuch), false, 'not even tried');
  // The example of CouchDB's documentation of `_users`, and a hash of its `[admins]`.
  const documented = passwords.recordOf({
    scheme: 'pbkdf2',
    prf: undefined,
    iterations: 10,
    salt: '1112283cf988a34f124200a050d308a1',
    derivedKey: 'e579375db0e0c6a6fc79cd9e36a36859f71575c3',
  });
  t.equal(await hasher.verify('apple', documented), true, 'SHA-1');
  const simple = passwords.parseHashText(
    `-hashed-${Buffer.from(passwords.simpleKey('apple', 'abc')).toString('hex')},abc`,
  );
  t.equal(await hasher.verify('apple', simple), true);
  t.equal(await hasher.verify('apples', simple), false);
  t.equal(
    Buffer.from(passwords.simpleKey('a', 'bc')).toString('hex'),
    'a9993e364706816aba3e25717850c26c9cd0d89d',
  );
  for (const kept of [record, simple, documented]) {
    if (kept === undefined) throw new Error('a record is missing');
    t.same(passwords.parseHashText(passwords.formatHashText(kept)), kept);
    t.same(passwords.readRecord(JSON.parse(JSON.stringify(kept))), kept);
  }
  t.match(passwords.formatHashText(record), /^-pbkdf2:sha256-[0-9a-f]{64},[0-9a-f]{32},3$/);
  const whole = passwords.formatHashText(record);
  for (const text of [
    '',
    'apple',
    '-pbkdf2-abc,def,10',
    whole.replace('sha256', 'md5'),
    whole.replace('sha256', 'sha512'),
    whole.replace(',3', ''),
    whole.replace(',3', ',0'),
    whole.replace(',3', ',3,4'),
    whole.replace(',3', ',1e3'),
    '-hashed-abc,def',
  ]) {
    t.equal(passwords.parseHashText(text), undefined, text);
  }
});

t.test('the thread that hashes', async (t) => {
  const config = configOf('max_hash_queue = 2');
  const hasher = new PasswordHasher({ host: new VirtualServerHost(3), config });
  const record = await hasher.make('apple');
  t.equal(record.derivedKey, pbkdf2Sync('apple', record.salt, 3, 32, 'sha256').toString('hex'));
  const both = [hasher.verify('apple', record), hasher.verify('pear', record)];
  t.equal(hasher.waiting, 2);
  t.equal(await outcomeOf(hasher.verify('apple', record)), 'UNAVAILABLE');
  t.same(await Promise.all(both), [true, false]);
  const bad = { ...record, iterations: 0 };
  t.equal(await outcomeOf(hasher.verify('apple', bad)), 'WORKER', 'a failure is told');
  t.equal(await hasher.verify('apple', record), true, 'and the next one gets a new thread');
  const slow = { ...record, iterations: 10_000_000 };
  const waiting = [outcomeOf(hasher.verify('a', slow)), outcomeOf(hasher.verify('b', slow))];
  await hasher.close();
  t.same(await Promise.all(waiting), ['CLOSED', 'CLOSED']);
  t.equal(await outcomeOf(hasher.make('x')), 'CLOSED');
  await hasher.close();
});
