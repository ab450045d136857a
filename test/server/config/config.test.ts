/**
 * Goal: settings come from where they should, mistakes are refused with where they stand, and nothing dangerous can be written over HTTP.
 * Method: literal files, environments and flags; every setting of the table; a restart over the same records.
 */
import t from 'tap';
import { Config, describeSettings } from '../../../server/config/config.js';
import { parseIni } from '../../../server/config/ini.js';
import {
  environmentName,
  partsOf,
  SETTING_NAMES,
  SETTINGS,
  type SettingName,
} from '../../../server/config/settings.js';
import type { ConfigSources } from '../../../server/config/sources.js';
import { outcome, outcomeOf, reason } from '../../support/outcome.js';
import { VirtualWorld } from '../../support/server-world.js';

interface Sources {
  readonly file?: string;
  readonly env?: Record<string, string>;
  readonly flags?: readonly (readonly [string, string])[];
}

function sourcesOf({ file, env = {}, flags = [] }: Sources): ConfigSources {
  const withFile = file === undefined ? [] : [['--config', 'local.ini'] as const];
  return {
    environment: env,
    flags: new Map([...flags, ...withFile]),
    readFile: (path) => (path === 'local.ini' ? file : undefined),
  };
}

function configOf(sources: Sources): Config {
  return new Config(sourcesOf(sources));
}

async function reasonOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'nothing was thrown',
    (error: unknown) => (error instanceof Error ? error.message : ''),
  );
}

t.test('the table', async (t) => {
  for (const name of SETTING_NAMES) {
    const setting = SETTINGS[name];
    const text = configOf({}).textOf(...partsOf(name)) ?? '';
    t.equal(configOf({ env: { [environmentName(name)]: text } }).get(name), setting.default, name);
    t.match(setting.about, /^[A-Z].*\.$/, `${name} is described in a sentence`);
  }
  t.equal(new Set(SETTING_NAMES.map(environmentName)).size, SETTING_NAMES.length);
  const flags = SETTING_NAMES.flatMap((name) => SETTINGS[name].flag ?? []);
  t.same([...flags].sort(), [
    '--advertise',
    '--data-dir',
    '--host',
    '--log-level',
    '--name',
    '--port',
  ]);
  // CVE-2017-12636, 2018-8007, 2018-11769: no path, program or address, nothing read only at the start.
  const writable = SETTING_NAMES.filter((name) => SETTINGS[name].isWritable);
  t.same(
    writable.filter((name) => /dir|path|file|bind|port|host|name|command|exec|secret/.test(name)),
    [],
  );
  for (const name of SETTING_NAMES) {
    t.equal(SETTINGS[name].parse(''), undefined, `${name} is not empty`);
    t.equal(SETTINGS[name].parse('a\nb'), undefined, `${name} has no control characters`);
  }
});

t.test('kinds of values', async (t) => {
  const cases: readonly (readonly [SettingName, string, unknown])[] = [
    ['chttpd/port', '0', 0],
    ['chttpd/port', '65535', 65_535],
    ['chttpd/port', '65536', undefined],
    ['chttpd/port', '-1', undefined],
    ['chttpd/port', '1e3', undefined],
    ['chttpd/port', '0x10', undefined],
    ['chttpd/port', '80.0', undefined],
    ['chttpd/port', '9'.repeat(400), undefined],
    ['couchdb/max_document_size', '8000000', 8_000_000],
    ['couchdb/max_document_size', '8MB', 8_000_000],
    ['couchdb/max_document_size', '8 MiB', 8_388_608],
    ['couchdb/max_document_size', '8 mib', undefined],
    ['couchdb/max_document_size', '0', undefined],
    ['couchdb/max_document_size', 'infinity', undefined],
    ['couchdb/max_document_size', '999999999999999 TiB', undefined],
    ['chttpd/require_valid_user', 'true', true],
    ['chttpd/require_valid_user', 'yes', undefined],
    ['couchdb/default_security', 'everyone', 'everyone'],
    ['couchdb/default_security', 'Everyone', undefined],
    ['chttpd/bind_address', '::1', '::1'],
    ['chttpd/bind_address', 'localhost', 'localhost'],
    ['chttpd/bind_address', '127.0.0.1:80', undefined],
    ['chttpd/bind_address', 'any', undefined],
    ['node/name', 'couchdb@db1.example.com', 'couchdb@db1.example.com'],
    ['node/name', 'node1', undefined],
  ];
  for (const [name, text, value] of cases) {
    t.equal(SETTINGS[name].parse(text), value, `${name} = ${text.slice(0, 30)}`);
  }
});

t.test('the later source is the stronger', async (t) => {
  const world = new VirtualWorld();
  const records = await world.openRecords();
  const name = 'chttpd_auth/timeout';
  const file = '[chttpd_auth]\ntimeout = 2\n';
  t.equal(configOf({}).get(name), 600);
  const config = configOf({ file });
  t.equal(config.get(name), 2);
  t.equal(config.originOf(name), 'file');
  t.same(config.useRecords(records), []);
  t.equal(await config.write('chttpd_auth', 'timeout', '3'), '2', 'it answers what was before');
  t.equal(config.get(name), 3);

  const env = { DIVAN_CHTTPD_AUTH_TIMEOUT: '4' };
  const again = configOf({ file, env });
  again.useRecords(records);
  t.equal(again.get(name), 4);
  t.equal(again.originOf(name), 'environment');
  t.equal(await outcomeOf(again.write('chttpd_auth', 'timeout', '5')), 'INVALID_SETTING');
  t.match(
    await reasonOf(again.erase('chttpd_auth', 'timeout')),
    /set by the variable DIVAN_CHTTPD_AUTH_TIMEOUT/,
  );

  const ports = { env: { DIVAN_PORT: '1' }, flags: [['--port', '2'] as const] };
  t.equal(configOf(ports).get('chttpd/port'), 2);
  t.equal(configOf({ env: { DIVAN_PORT: '' } }).get('chttpd/port'), 5984, 'empty says nothing');
  const flagged = configOf({ flags: [['--log-level', 'debug']] });
  flagged.useRecords(records);
  t.match(await reasonOf(flagged.write('log', 'level', 'info')), /set by the flag --log-level/);

  const restarted = configOf({ file });
  restarted.useRecords(records);
  t.equal(restarted.get(name), 3, 'what was written is there after a restart');
  t.equal(await restarted.erase('chttpd_auth', 'timeout'), '3');
  t.equal(restarted.get(name), 2);
  t.equal(await outcomeOf(restarted.erase('chttpd_auth', 'timeout')), 'NOT_FOUND');
  const last = configOf({});
  last.useRecords(records);
  t.equal(last.get(name), 600);
  await records.close();
});

t.test('what may be written over HTTP', async (t) => {
  const world = new VirtualWorld();
  const records = await world.openRecords();
  const config = configOf({});
  config.useRecords(records);
  for (const name of SETTING_NAMES) {
    const [section, key] = partsOf(name);
    const text = config.textOf(section, key) ?? '';
    const isRefused = (await outcomeOf(config.write(section, key, text))) === 'INVALID_SETTING';
    t.equal(isRefused, !SETTINGS[name].isWritable, name);
  }
  for (const [section, key] of [
    ['os_daemons', 'x'],
    ['query_servers', 'javascript'],
    ['admins', 'jan'],
    ['chttpd_auth', 'secret'],
    ['__proto__', 'x'],
    ['couchdb', '__proto__'],
    ['couchdb/', 'max_document_size'],
  ] as const) {
    t.equal(await outcomeOf(config.write(section, key, '1')), 'INVALID_SETTING', section);
    t.equal(config.textOf(section, key), undefined);
  }
  t.match(await reasonOf(config.write('cluster', 'q', '0')), /an integer from 1 to 256, not "0"/);
  t.match(await reasonOf(config.write('cluster', 'z', '0')), /this section has q, n/);
  t.match(
    await reasonOf(config.write('chttpd', 'max_http_request_size', '1 GiB')),
    /is more than chttpd\/max_request_bytes_in_flight/,
  );
  t.equal(config.get('chttpd/max_http_request_size'), 64 * 1024 * 1024);
  await Promise.all(['5', '6', '7'].map((q) => config.write('cluster', 'q', q)));
  t.equal(config.get('cluster/q'), 7, 'one after another');
  t.same(records.get('config/cluster/q'), { value: '7' });
  await records.close();
  t.equal(await outcomeOf(config.write('cluster', 'q', '9')), 'CLOSED');
  t.equal(config.get('cluster/q'), 7, 'what is not durable is not in force');
});

t.test('listeners', async (t) => {
  const records = await new VirtualWorld().openRecords();
  const config = configOf({});
  const heard: unknown[] = [];
  const stop = config.onChange('log/level', (level) => heard.push(level));
  config.onChange('cluster/q', (q) => heard.push(q * 10));
  config.useRecords(records);
  await config.write('log', 'level', 'error');
  await config.write('log', 'level', 'error');
  await config.write('cluster', 'q', '3');
  stop();
  await config.write('log', 'level', 'info');
  await config.erase('cluster', 'q');
  t.same(heard, ['error', 30, 20]);
  await records.close();
});

t.test('records of another version are left out', async (t) => {
  const records = await new VirtualWorld().openRecords();
  await records.set('config/cluster/q', { value: '100000' });
  await records.set('config/cluster/old', { value: '1' });
  await records.set('config/chttpd/port', { value: '1' });
  await records.set('config/log/level', { other: 1 });
  const config = configOf({});
  const problems = config.useRecords(records).sort();
  t.equal(problems.length, 4);
  t.match(problems[0], /^chttpd\/port, written over HTTP, is left out: .* cannot be changed/);
  t.match(problems[2], /^cluster\/q, .*: cluster\/q must be an integer/);
  t.equal(config.get('cluster/q'), 2);
  t.equal(config.get('chttpd/port'), 5984);
  await records.close();
});

t.test('files', async (t) => {
  const text =
    '\uFEFF; a comment\r\n[a.b] ; another\r\n  k = v = w ;no\r\nempty =\r\nhash=a#b;c\n[c]\nk=1';
  t.same(parseIni(text, 'x'), [
    { section: 'a.b', key: 'k', value: 'v = w', line: 3 },
    { section: 'a.b', key: 'hash', value: 'a#b;c', line: 5 },
    { section: 'c', key: 'k', value: '1', line: 7 },
  ]);
  const config = configOf({ file: '[admins]\njan = apple#1;2\n__proto__ = x\n' });
  t.same([...config.fileAdmins.keys()], ['jan', '__proto__']);
  t.equal(config.fileAdmins.get('jan'), 'apple#1;2');
  t.notMatch(JSON.stringify(config.toObject()), /apple|admins/);
  for (const [file, expected] of [
    [
      '[cluster]\nq = x',
      /^local\.ini, line 2: cluster\/q must be an integer from 1 to 256, not "x"/,
    ],
    ['\n[cluster]\nqq = 1', /^local\.ini, line 3: there is no setting cluster\/qq; .* has q, n/],
    [
      '[query_servers]\njavascript = x',
      /line 2: there is no section query_servers; there are node/,
    ],
    ['[cluster]\nq = 1\nq = 2', /line 3: cluster\/q is set twice/],
    ['[admins]\na = 1\na = 2', /line 3: the admin a is there twice/],
    ['[cluster]\nq', /line 2: this is neither/],
    ['[cluster]\n= 2', /line 2: this is neither/],
    ['q = 2', /line 1: this stands before any/],
    ['[cluster\nq = 2', /line 1: the name of a section/],
    ['[chttpd_auth]\niterations = 9000\nmax_iterations = 8000', /iterations, 9000, is more than/],
  ] as const) {
    t.match(
      reason(() => configOf({ file })),
      expected,
    );
  }
  const missing = sourcesOf({ flags: [['--config', 'none.ini']] });
  t.match(
    reason(() => new Config(missing)),
    /there is no configuration file none\.ini/,
  );
  const fromEnv = { ...sourcesOf({ file: '[cluster]\nq=5' }), flags: new Map<string, string>() };
  const config2 = new Config({ ...fromEnv, environment: { DIVAN_CONFIG: 'local.ini' } });
  t.equal(config2.get('cluster/q'), 5);
});

t.test('the environment and flags', async (t) => {
  for (const env of [{ DIVAN_PORT: 'x' }, { DIVAN_CHTTPD_PROT: '1' }, { DIVAN_CLUSTER_Q: '0' }]) {
    t.equal(
      outcome(() => configOf({ env })),
      'INVALID_SETTING',
      JSON.stringify(env),
    );
  }
  t.ok(configOf({ env: { DIVAN_SEED: '1', DIVAN_ADMIN: 'a:b', PATH: 'x' } }));
  const [flag, value] = ['--prot', '1'];
  t.equal(
    outcome(() => configOf({ flags: [[flag, value]] })),
    'INVALID_SETTING',
  );
  const noPort = { flags: [['--port', 'http'] as const] };
  t.match(
    reason(() => configOf(noPort)),
    /^--port must be an integer from 0 to 65535, not "http"/,
  );
});

t.test('what is shown', async (t) => {
  const object = configOf({}).toObject();
  t.equal(object['couchdb']?.['max_document_size'], '8000000');
  t.equal(Object.keys(object['cluster'] ?? {}).join(), 'q,n,ca_file');
  const count = Object.values(object).reduce((sum, keys) => sum + Object.keys(keys).length, 0);
  t.equal(count, SETTING_NAMES.length);
  const rows = describeSettings();
  t.equal(rows.length, SETTING_NAMES.length + 2);
  t.equal(rows[0]?.flag, '--config');
  const port = rows.find(({ flag }) => flag === '--port');
  t.same([port?.env, port?.default, port?.name], ['DIVAN_PORT', '5984', 'chttpd/port']);
});
