/**
 * Goal: the tools do on real data what they say: load, split, dump and check lose, change and double nothing; every kind of bad
 * file gets its own clear error and stays as it was; a full disk and a kill leave what was acknowledged.
 * Method: the real command as a real process on real files: cities, browser compatibility data, and a shard with
 * everything that a shard can hold.
 */
import {
  appendFileSync,
  existsSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { nodeHost } from '../../engine/file/node-host.js';
import { nodeStorage } from '../../engine/file/node-storage.js';
import {
  evenRanges,
  FULL_RANGE,
  formatRange,
  hashOf,
  isInRange,
  parseRange,
} from '../../engine/shard/hash.js';
import { parseRev } from '../../engine/shard/revision.js';
import { Shard } from '../../engine/shard/shard.js';
import { browserCompatLines } from '../../fixtures/browser-compat.js';
import { cityLines } from '../../fixtures/cities.js';
import { syntheticLines } from '../../fixtures/synthetic.js';
import {
  CLI,
  divan,
  divanOk,
  divanStart,
  run,
  sha256Of,
  sortedLines,
  temporaryDirectory,
} from '../support/cli.js';

const WORLD = { storage: nodeStorage, host: nodeHost };
const EVERYTHING = ['--conflicts', '--deleted', '--attachments', '--local'];

/** Checks that the targets together are the source, line by line, and each line in the range that its id hashes to. */
function assertSplit(t: Test, source: string, targets: readonly string[]): void {
  const union: string[] = [];
  for (const target of targets) {
    t.equal(divanOk(t, 'check', target), 'OK\n', `check of ${target}`);
    const lines = sortedLines(divanOk(t, 'dump', target, ...EVERYTHING));
    const range = parseRange(target.split('/').at(-2) ?? '');
    const misplaced = lines.filter((line) => {
      const parsed: { _id: string } = JSON.parse(line);
      return !isInRange(hashOf(Buffer.from(parsed._id), 'document'), range);
    });
    t.strictSame(misplaced.slice(0, 3), [], 'every document is where it hashes to');
    union.push(...lines);
  }
  const wanted = sortedLines(divanOk(t, 'dump', source, ...EVERYTHING));
  union.sort();
  t.equal(union.length, wanted.length, 'as many lines as the source');
  t.ok(
    union.every((line, index) => line === wanted[index]),
    'the same lines as the source',
  );
  t.equal(divanOk(t, 'check', source), 'OK\n', 'check of the source');
}

t.test('cities, split in two', async (t) => {
  const directory = temporaryDirectory(t);
  const [input, shard, out] = ['cities.ndjson', 'cities.divan', 'out'].map((name) =>
    join(directory, name),
  );
  const lines = [...cityLines()];
  writeFileSync(input ?? '', `${lines.join('\n')}\n`);
  divanOk(t, 'load', shard ?? '', input ?? '');
  const info = JSON.parse(divanOk(t, 'info', shard ?? '', '--json'));
  t.equal(info.docs, lines.length);
  t.ok(lines.length > 130_000);
  divanOk(t, 'split', shard ?? '', '--out', out ?? '', '--parts', '2');
  const targets = ['00000000-7fffffff', '80000000-ffffffff'].map((range) =>
    join(out ?? '', range, 'cities.divan'),
  );
  assertSplit(t, shard ?? '', targets);
  const dumped = sortedLines(divanOk(t, 'dump', shard ?? ''));
  const bodies = dumped.map((line) => line.replace(/,"_rev":"1-[0-9a-f]{32}"/, ''));
  t.ok(
    lines.sort().every((line, index) => line === bodies[index]),
    'dump gives what was loaded',
  );
});

t.test('browser compatibility data, split in three odd ranges', async (t) => {
  const directory = temporaryDirectory(t);
  const input = join(directory, 'compat.ndjson');
  const shard = join(directory, 'compat.divan');
  writeFileSync(input, `${[...browserCompatLines()].join('\n')}\n`);
  divanOk(t, 'load', shard, input);
  const ranges = ['00000000-00ffffff', '01000000-9fffffff', 'a0000000-ffffffff'];
  const odd = join(directory, 'odd');
  divanOk(t, 'split', shard, '--out', odd, '--range', ...ranges);
  assertSplit(
    t,
    shard,
    ranges.map((range) => join(odd, range, 'compat.divan')),
  );
  const even = join(directory, 'even');
  divanOk(t, 'split', shard, '--out', even, '--parts', '3', '--workers', '1');
  const thirds = evenRanges(FULL_RANGE, 3).map((range) =>
    join(even, formatRange(range), 'compat.divan'),
  );
  assertSplit(t, shard, thirds);
});

/** A shard with conflicts, tombstones, attachments, local docs and purges. */
async function makeEverything(path: string): Promise<void> {
  const shard = await Shard.create(WORLD, path);
  const put = (id: string, body: string, more = {}) =>
    shard.put({ id: Buffer.from(id), body: Buffer.from(body), deleted: false, ...more });
  for (let index = 0; index < 60; index++) {
    const { rev } = await put(
      `doc/${index}`,
      `{"n":${index}.0,"big":12345678901234567890,"__proto__":{"x":1}}`,
    );
    if (index % 3 === 0) await put(`doc/${index}`, '{"edited":true}', { parent: rev });
    if (index % 5 === 0)
      await put(`doc/${index}`, '{"other":"branch"}', { path: [parseRev(`2-abc${index}`), rev] });
    if (index % 7 === 0) await put(`gone/${index}`, '{"why":"gone"}', { deleted: true });
    if (index % 4 === 0) {
      const stored = await shard.store([Buffer.alloc(100 + index * 50_000, index)]);
      const attachments = new Map([
        ['a file', { contentType: 'text/plain', revpos: undefined, stored }],
      ]);
      const { rev: first } = await put(`attached/${index}`, '{}', { attachments });
      const kept = new Map([
        ['a file', { contentType: 'text/plain', revpos: undefined, stored: undefined }],
      ]);
      await put(`attached/${index}`, '{"again":1}', { parent: first, attachments: kept });
    }
    const id = Buffer.from(`checkpoint-${index}`);
    await shard.putLocal({ id, body: Buffer.from(`{"seq":${index}}`), revision: undefined });
  }
  const { rev } = await put('purged', '{}');
  await shard.purge({ uuid: Buffer.from('a-purge'), id: Buffer.from('purged'), revs: [rev] });
  await shard.setMetadata({ security: Buffer.from('{"members":{"names":["x"]}}'), revsLimit: 77 });
  await shard.close();
}

t.test('everything a shard can hold: split, and dump, load, dump', async (t) => {
  const directory = temporaryDirectory(t);
  const shard = join(directory, 'all.divan');
  await makeEverything(shard);
  const out = join(directory, 'out');
  divanOk(t, 'split', shard, '--out', out, '--parts', '4');
  const targets = evenRanges(FULL_RANGE, 4).map((range) =>
    join(out, formatRange(range), 'all.divan'),
  );
  assertSplit(t, shard, targets);
  const source = JSON.parse(divanOk(t, 'info', shard, '--json'));
  const infos = targets.map((target) => JSON.parse(divanOk(t, 'info', target, '--json')));
  for (const info of infos) {
    t.equal(info.updateSeq, source.updateSeq, 'seqs are kept');
    t.equal(info.purgeSeq, source.purgeSeq);
    t.equal(info.revsLimit, 77, 'limits are copied');
    t.equal(info.lineage[0].fileId, source.fileId);
  }
  t.equal(
    infos.reduce((sum, { purgeInfos }) => sum + purgeInfos, 0),
    1,
    'the purge info is in one target',
  );
  const first = divanOk(t, 'dump', shard, ...EVERYTHING);
  const again = join(directory, 'again.divan');
  writeFileSync(join(directory, 'dump.ndjson'), first);
  divanOk(t, 'load', again, join(directory, 'dump.ndjson'));
  t.equal(divanOk(t, 'dump', again, ...EVERYTHING), first, 'dump, load, dump gives the same lines');
});

t.test('what CouchDB answers to _all_docs is taken', async (t) => {
  const directory = temporaryDirectory(t);
  const file =
    '{"content_type":"text/plain","revpos":1,"digest":"md5-SfaKXIST7CwL9ImCHCH8Ow==","data":"aGk="}';
  const rows = ['a', 'b'].map((id) => {
    const doc = `{"_id":"${id}","_rev":"1-x","n":1.0,"_attachments":{"f":${file}}}`;
    return `{"id":"${id}","key":"${id}","value":{"rev":"1-x"},"doc":${doc}}`;
  });
  const answer = `{"total_rows":2,"offset":0,"rows":[\r\n${rows.join(',\r\n')}\r\n]}\n`;
  const shard = join(directory, 'rows.divan');
  const { code, stderr } = run(process.execPath, [CLI, 'load', shard], answer);
  t.equal(code, 0, stderr);
  const dumped = divanOk(t, 'dump', shard, '--attachments').split('\n');
  t.match(
    dumped[0],
    /^\{"_id":"a","_rev":"1-x","_attachments":\{"f":\{.*"data":"aGk="\}\},"n":1.0\}$/,
  );
});

t.test('bad lines are reported with their numbers and the others loaded', async (t) => {
  const shard = join(temporaryDirectory(t), 'bad.divan');
  const lines = [
    '{"_id":"a"}',
    '{"_id":"b",}',
    '{"x":1,"x":2}',
    '[1]',
    '{"_id":"_bad"}',
    '{"_id":"c","s":"\\ud800"}',
    `{"d":${'['.repeat(600)}${']'.repeat(600)}}`,
    '{"_id":"z"}',
  ];
  const { code, stderr, stdout } = run(process.execPath, [CLI, 'load', shard], lines.join('\n'));
  t.equal(code, 1);
  t.match(stdout, /^2 documents loaded .*; 6 lines refused/);
  for (const number of [2, 3, 4, 5, 6, 7])
    t.match(stderr, new RegExp(`^divan: line ${number}: .*\\(INVALID_`, 'm'));
  t.strictSame(
    sortedLines(divanOk(t, 'dump', shard)).map((line) => JSON.parse(line)._id),
    ['a', 'z'],
  );
  t.equal(divan('get', shard, 'b').code, 1);
  t.match(divanOk(t, 'get', shard, 'a'), /^\{"_id":"a"/);
  t.equal(divanOk(t, 'changes', shard, '--since', '1').split('\n').length, 2);
});

/** Expects that reading a file is refused with a code, in one line, and leaves the file as it is. */
function assertRefused(t: Test, path: string, code: string): void {
  const before = sha256Of(path);
  for (const command of [
    ['check'],
    ['info'],
    ['dump'],
    ['load', '/dev/null'],
    ['split', '--out', `${path}.out`],
  ]) {
    const [name = '', ...rest] = command;
    const { code: exit, stderr } = divan(name, path, ...rest);
    t.equal(exit, 1, `${name} ends with 1`);
    t.match(
      stderr,
      new RegExp(`^divan: [^\\n]*\\(${code}\\)\\n$`),
      `${name}: one line with ${code}`,
    );
  }
  t.equal(sha256Of(path), before, 'the file stays as it was');
}

t.test('files that are no good: each its own error', async (t) => {
  const directory = temporaryDirectory(t);
  const good = join(directory, 'good.divan');
  run(process.execPath, [CLI, 'load', good], [...syntheticLines(3000, 200)].join('\n'));
  const bytes = readFileSync(good);
  const make = (name: string, content: Buffer) => {
    const path = join(directory, name);
    writeFileSync(path, content);
    return path;
  };
  assertRefused(
    t,
    make('other', Buffer.from('this is not a shard file at all\n'.repeat(2000))),
    'NOT_A_SHARD',
  );
  assertRefused(t, make('empty', Buffer.alloc(0)), 'NOT_A_SHARD');
  assertRefused(
    t,
    make('no-commit', Buffer.concat([bytes.subarray(0, 12_288), Buffer.alloc(5000, 7)])),
    'NO_COMMIT',
  );
  const version = Buffer.from(bytes);
  version[8] = 9;
  assertRefused(t, make('version', version), 'FORMAT_VERSION');
  const cut = make('cut', bytes);
  truncateSync(cut, Math.floor(bytes.length / 2));
  assertRefused(t, cut, 'TRUNCATED');
  const { stderr, code } = divan('check', join(directory, 'absent'));
  t.equal(code, 1);
  t.match(stderr, /\(NOT_FOUND\)/);
  const swapped = Buffer.from(bytes);
  // Bodies of the first documents: bytes that trees point to, wherever flushes come.
  const middle = 16_384;
  bytes.copy(swapped, middle, middle + 4096, middle + 8192);
  bytes.copy(swapped, middle + 4096, middle, middle + 4096);
  const path = make('swapped', swapped);
  const before = sha256Of(path);
  const check = divan('check', path);
  t.equal(check.code, 1, 'check finds swapped blocks');
  t.match(check.stdout + check.stderr, /checksum|damaged/);
  t.equal(sha256Of(path), before);
  const saved = join(directory, 'saved.divan');
  const recovered = divan('recover', path, '--out', saved, '--json');
  const { saved: count, lost } = JSON.parse(recovered.stdout);
  t.ok(
    count + lost.length >= 2900 && count > 2500,
    `recover saves ${count} and lists ${lost.length} as lost`,
  );
  t.equal(divanOk(t, 'check', saved), 'OK\n');
});

t.test('a file that another process writes', async (t) => {
  const path = join(temporaryDirectory(t), 'locked.divan');
  const shard = await Shard.create(WORLD, path);
  await shard.put({ id: Buffer.from('a'), body: Buffer.from('{"n":1}'), deleted: false });
  const { code, stderr } = divan('load', path, '/dev/null');
  t.equal(code, 1);
  t.match(stderr, /^divan: [^\n]*\(LOCKED\)\n$/);
  t.match(divanOk(t, 'get', path, 'a'), /"n":1/, 'reading works beside the writer');
  const copy = `${path}.copy`;
  divanOk(t, 'backup', path, '--out', copy);
  t.match(divanOk(t, 'get', copy, 'a'), /"n":1/);
  await shard.close();
  t.match(divan('backup', path, '--out', copy).stderr, /\(EXISTS\)/);
});

t.test('a disk that fills up in the middle of a load', async (t) => {
  const directory = temporaryDirectory(t);
  const input = join(directory, 'docs.ndjson');
  writeFileSync(input, [...syntheticLines(40_000, 300)].join('\n'));
  const shard = join(directory, 'full.divan');
  // The limit of the shell is in blocks of 1,024 bytes: about 4 MB, less than the documents take. It ends in a short write.
  const { code, stderr } = run('bash', [
    '-c',
    `ulimit -f 4000; unset NODE_OPTIONS; exec ${process.execPath} ${CLI} load ${shard} ${input} --batch 200`,
  ]);
  t.equal(code, 1);
  t.match(stderr, /^divan: [^\n]*\(NO_SPACE\)\n$/);
  t.equal(divanOk(t, 'check', shard), 'OK\n');
  const { docs } = JSON.parse(divanOk(t, 'info', shard, '--json'));
  t.ok(docs > 1000, `${docs} documents are there`);
  divanOk(t, 'load', shard, '/dev/null');
  t.equal(
    JSON.parse(divanOk(t, 'info', shard, '--json')).docs,
    docs,
    'and still are after it was opened for writing',
  );
});

t.test('Ctrl-C and SIGKILL in the middle of a load', async (t) => {
  const directory = temporaryDirectory(t);
  const input = join(directory, 'docs.ndjson');
  writeFileSync(input, `${[...syntheticLines(300_000, 200)].join('\n')}\n`);
  for (const [signal, exit] of [
    ['SIGINT', 130],
    ['SIGKILL', null],
  ] as const) {
    const shard = join(directory, `${signal}.divan`);
    const child = divanStart('load', shard, input);
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    while (!existsSync(shard) || statSync(shard).size < 10_000_000) await delay(20);
    child.kill(signal);
    t.equal(await ended, exit, `${signal}: the exit code`);
    t.equal(divanOk(t, 'check', shard), 'OK\n');
    t.ok(JSON.parse(divanOk(t, 'info', shard, '--json')).docs > 1000);
  }
});

t.test('splits that are refused leave nothing behind', async (t) => {
  const directory = temporaryDirectory(t);
  const shard = join(directory, 's.divan');
  run(process.execPath, [CLI, 'load', shard], [...syntheticLines(500, 200)].join('\n'));
  const out = join(directory, 'out');
  const cases: [string[], RegExp][] = [
    [['--range', '00000000-7fffffff', '90000000-ffffffff'], /gap.*\(INVALID_RANGE\)/],
    [['--range', '00000000-8fffffff', '80000000-ffffffff'], /overlap.*\(INVALID_RANGE\)/],
    [['--range', '00000000-7fffffff', '80000000-eeeeeeee'], /\(INVALID_RANGE\)/],
    [['--range', 'nonsense'], /\(INVALID_RANGE\)/],
    [['--parts', '1'], /\(INVALID_RANGE\)/],
    [['--parts', '65'], /\(INVALID_RANGE\)/],
    [['--parts', 'x'], /\(INVALID_SETTING\)/],
  ];
  for (const [args, pattern] of cases) {
    const { code, stderr } = divan('split', shard, '--out', out, ...args);
    t.equal(code, args.includes('x') ? 2 : 1);
    t.match(stderr, pattern, args.join(' '));
    t.notOk(existsSync(out), 'nothing was made');
  }
  divanOk(t, 'split', shard, '--out', out);
  t.match(divan('split', shard, '--out', out).stderr, /\(EXISTS\)/);
  appendFileSync(shard, 'torn tail');
  divanOk(t, 'split', shard, '--out', join(directory, 'again'));
});

t.test('usage', async (t) => {
  t.equal(divan('--help').code, 0);
  for (const command of [
    'load',
    'dump',
    'get',
    'changes',
    'info',
    'check',
    'split',
    'backup',
    'recover',
  ]) {
    const { code, stdout } = divan(command, '--help');
    t.equal(code, 0);
    t.match(stdout, /^Usage: divan /);
  }
  t.equal(divan('nonsense').code, 2);
  t.equal(divan('split', 'x').code, 2);
});
