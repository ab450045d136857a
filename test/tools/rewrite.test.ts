/**
 * Goal: the commands that rewrite shard files give the same files however many workers there are and however often they are killed,
 * and leave nothing behind.
 * Method: the real command on real files, killed at random moments and just before every call that changes something; hashes
 * of the results.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { nodeHost } from '../../engine/file/node-host.js';
import { nodeStorage } from '../../engine/file/node-storage.js';
import {
  divan,
  divanOk,
  divanStart,
  hashesBelow,
  loadSynthetic,
  sortedLines,
  temporaryDirectory,
} from '../support/cli.js';
import { describeKills, killLoop } from '../support/kill-loop.js';
import { seededRandom, seedOf } from '../support/seed.js';
import { wornShard } from '../support/worn-shard.js';

const KILL_AT = join(dirname(fileURLToPath(import.meta.url)), '..', 'support', 'kill-at.js');
const WORLD = { storage: nodeStorage, host: nodeHost };
/** A checkpoint is made every second; other tests run at the same time. */
const REPEATED_SECONDS_MAX = 2.5;
const EVERYTHING = ['--conflicts', '--deleted', '--attachments', '--local'];

t.test('one plan gives equal files with 1, 2 and 4 workers', async (t) => {
  const directory = temporaryDirectory(t);
  const shard = join(directory, 'db.divan');
  loadSynthetic(shard, 30_000);
  const plan = join(directory, 'plan.json');
  const expected: Record<string, string>[] = [];
  for (const workers of ['1', '2', '4']) {
    const out = join(directory, workers);
    divanOk(t, 'split', shard, '--out', out, '--parts', '5', '--plan', plan, '--workers', workers);
    expected.push(hashesBelow(out));
  }
  t.equal(Object.keys(expected[0] ?? {}).length, 5);
  t.strictSame(expected[1], expected[0]);
  t.strictSame(expected[2], expected[0]);
  const other = divan('split', shard, '--out', join(directory, 'x'), '--plan', plan);
  t.equal(other.code, 1);
  t.match(other.stderr, /\(INVALID_PLAN\)/);
});

t.test('split, merge and compact on the command line', async (t) => {
  const directory = temporaryDirectory(t);
  const shard = join(directory, 'worn.divan');
  await wornShard(WORLD, shard, 300, { overlayBytes: 20_000 });
  const expected = divanOk(t, 'dump', shard, ...EVERYTHING);
  const out = join(directory, 'out');
  const result: unknown = JSON.parse(
    divanOk(t, 'split', shard, '--out', out, '--parts', '3', '--json'),
  );
  t.match(result, { verified: true, resumed: false, targets: { length: 3 } });
  const halves = Object.keys(hashesBelow(out)).map((name) => join(out, name));
  t.equal(divanOk(t, 'diff', shard, ...halves), 'no differences\n');
  const part = divan('diff', shard, ...halves.slice(1));
  t.equal(part.code, 1);
  t.match(part.stdout, /^only in the first: document "/m);
  t.notMatch(part.stdout, /only in the others|differs/);
  const merged = join(directory, 'merged.divan');
  t.match(divanOk(t, 'merge', ...halves, '--out', merged), /documents merged and verified/);
  t.equal(divanOk(t, 'dump', merged, ...EVERYTHING), expected);
  t.equal(divanOk(t, 'check', merged), 'OK\n');
  const before = statSync(shard).size;
  t.match(divanOk(t, 'compact', shard), /documents compacted and verified/);
  t.equal(divanOk(t, 'dump', shard, ...EVERYTHING), expected);
  t.equal(divanOk(t, 'check', shard), 'OK\n');
  t.ok(statSync(shard).size < before / 2, 'and smaller');
  const again = divan('split', shard, '--out', out, '--parts', '3');
  t.match(again, { code: 1, stderr: /\(EXISTS\)/ });
  t.match(
    divan('split', shard, '--out', join(directory, 'y'), '--resume').stderr,
    /\(CHECKPOINT\)/,
  );
  t.match(
    divan('split', shard, '--out', join(directory, 'y'), '--rate', 'fast').stderr,
    /\(INVALID_SETTING\)/,
  );
  t.strictSame(
    readdirSync(directory).filter((name) => name.startsWith('.')),
    [],
  );
});

t.test('links are followed, permissions are kept, and bad input is one line', async (t) => {
  const directory = temporaryDirectory(t);
  const shard = join(directory, 'real.divan');
  loadSynthetic(shard, 100);
  chmodSync(shard, 0o600);
  const link = join(directory, 'link.divan');
  symlinkSync(shard, link);
  divanOk(t, 'compact', link);
  t.ok(lstatSync(link).isSymbolicLink(), 'a link stays one');
  t.equal(statSync(shard).mode & 0o777, 0o600);
  const out = join(directory, 'out');
  divanOk(t, 'split', shard, '--out', out);
  for (const name of Object.keys(hashesBelow(out))) {
    t.equal(statSync(join(out, name)).mode & 0o777, 0o600, name);
  }
  const refused: readonly (readonly [number, ...string[]])[] = [
    [1, 'split', shard, '--out', join(directory, 'a'), '--plan', directory],
    [1, 'split', shard, '--out', join(directory, 'b'), '--plan', join(directory, 'no', 'plan')],
    [1, 'merge', shard, shard, '--out', join(directory, 'm.divan')],
    [2, 'split', shard, '--out', join(directory, 'c'), '--parts', 'abc'],
    [2, 'split', shard, '--out', join(directory, 'c'), '--rate', 'fast'],
    [2, 'compact', shard, '--workers', '0', '--dry-run'],
    [2, 'changes', shard, '--since', 'x'],
    [2, 'serve', '--port', 'abc'],
  ];
  for (const [expected, ...args] of refused) {
    const { code, stderr } = divan(...args);
    t.equal(code, expected, args.join(' '));
    t.match(stderr, /^divan: [^\n]+ \([A-Z_]+\)\n$/);
  }
});

t.test('Ctrl-C leaves nothing, or on request what a later run goes on with', async (t) => {
  const directory = temporaryDirectory(t);
  const shard = join(directory, 'db.divan');
  loadSynthetic(shard, 60_000);
  const whole = join(directory, 'whole');
  const plan = join(directory, 'plan.json');
  divanOk(t, 'split', shard, '--out', whole, '--plan', plan);
  const out = join(directory, 'out');
  const slowly = ['split', shard, '--out', out, '--plan', plan, '--rate', '4MB/s'];
  for (const more of [[], ['--keep-partial']]) {
    const child = divanStart(...slowly, ...more);
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    await delay(2200);
    const interruptedAt = performance.now();
    child.kill('SIGINT');
    t.equal(await ended, 130);
    t.ok(performance.now() - interruptedAt < 2000, 'within two seconds');
    if (more.length === 0) t.notOk(existsSync(out), 'nothing is left');
  }
  const resumed = divan('split', shard, '--out', out, '--plan', plan, '--resume');
  t.match(resumed, { code: 0, stderr: /going on with an interrupted run/ });
  t.strictSame(hashesBelow(out), hashesBelow(whole), 'byte for byte');
});

t.test('killed at random moments', async (t) => {
  const random = seededRandom(seedOf(t));
  const directory = temporaryDirectory(t);
  const shard = join(directory, 'db.divan');
  loadSynthetic(shard, 60_000);
  const whole = join(directory, 'whole');
  const plan = join(directory, 'plan.json');
  divanOk(t, 'split', shard, '--out', whole, '--plan', plan);
  const out = join(directory, 'out');
  const command = ['split', shard, '--out', out, '--plan', plan];
  const expectSame = () => t.strictSame(hashesBelow(out), hashesBelow(whole), 'byte for byte');
  const result = await killLoop({
    command: [...command, '--rate', '3MB/s'],
    bytesPerSecond: 3e6,
    kills: 10,
    lifeMsMax: 2200,
    random,
    onEnded: () => {
      expectSame();
      rmSync(out, { recursive: true });
    },
  });
  divanOk(t, ...command);
  expectSame();
  t.comment(describeKills(result));
  t.ok(result.writing > 2, `killed ${result.writing} times while it wrote`);
  for (const seconds of result.repeated) t.ok(seconds <= REPEATED_SECONDS_MAX, `${seconds} s`);
});

/** A command that is killed: what it is given, and the files that come of it. */
interface KillCase {
  readonly kind: 'split' | 'merge' | 'compact';
  readonly out: string;
  readonly shards: readonly string[];
  readonly command: readonly string[];
  results(): string[];
}

/** Cases for a worn shard; whatever they change stands in `run`. */
function killCases(t: Test, directory: string, original: string): KillCase[] {
  const halves = join(directory, 'halves');
  divanOk(t, 'split', original, '--out', halves);
  const parts = Object.keys(hashesBelow(halves)).map((name) => join(halves, name));
  const shard = join(directory, 'run', 'shard.divan');
  const out = join(directory, 'run', 'out');
  const merged = join(out, 'merged.divan');
  return [
    {
      kind: 'split',
      out,
      shards: [shard],
      command: ['split', shard, '--out', out],
      results: () => Object.keys(hashesBelow(out)).map((name) => join(out, name)),
    },
    {
      kind: 'merge',
      out: merged,
      shards: parts,
      command: ['merge', ...parts, '--out', merged],
      results: () => Object.keys(hashesBelow(out)).map((name) => join(out, name)),
    },
    {
      kind: 'compact',
      out: '',
      shards: [shard],
      command: ['compact', shard],
      results: () => [shard],
    },
  ];
}

t.test('killed before every third call that changes something', async (t) => {
  const random = seededRandom(seedOf(t));
  const directory = temporaryDirectory(t);
  const original = join(directory, 'original.divan');
  await wornShard(WORLD, original, 200, { overlayBytes: 20_000 });
  const expected = sortedLines(divanOk(t, 'dump', original, ...EVERYTHING));
  for (const killed of killCases(t, directory, original)) {
    for (let at = 1 + Math.floor(random() * 3); ; at += 3) {
      if (!killedAt(t, killed, directory, original, at, expected)) break;
    }
  }
});

/** Kills a run, repeats it, and looks at what came of it; false if it got to its end before. */
function killedAt(
  t: Test,
  { kind, out, shards, command, results }: KillCase,
  directory: string,
  original: string,
  at: number,
  expected: readonly string[],
): boolean {
  const place = join(directory, 'run');
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place);
  copyFileSync(original, join(place, 'shard.divan'));
  const args = ['-u', 'NODE_OPTIONS', process.execPath, KILL_AT, kind, String(at), out, ...shards];
  const { signal, stderr } = spawnSync('env', args, { encoding: 'utf8' });
  if (signal !== 'SIGKILL') {
    t.equal(stderr, '', `${kind} ended after fewer than ${at} calls`);
    t.ok(at > 20, `${at} calls`);
    return false;
  }
  const { code, stderr: reason } = divan(...command);
  // The names were all given, and only tidying up was left.
  if (code !== 0 && !/\(EXISTS\)/.test(reason)) t.fail(`${kind} killed at ${at}: ${reason}`);
  const dumps = results().map((file) => divanOk(t, 'dump', file, ...EVERYTHING));
  if (JSON.stringify(sortedLines(dumps.join(''))) !== JSON.stringify(expected)) {
    t.fail(`${kind} killed at ${at}: the content differs`);
  }
  const left = readdirSync(place, { recursive: true, encoding: 'utf8' });
  t.strictSame(
    left.filter((name) => basename(name).startsWith('.')),
    [],
    `${kind} killed at ${at}`,
  );
  return true;
}

t.test('threads that can not be started are an error in one line', async (t) => {
  const directory = temporaryDirectory(t);
  const shard = join(directory, 'db.divan');
  loadSynthetic(shard, 10);
  // The program with a worker that fails while it loads.
  const built = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
  const program = join(directory, 'program');
  for (const folder of ['engine', 'server', 'tools']) {
    cpSync(join(built, folder), join(program, 'dist', folder), { recursive: true });
  }
  for (const name of ['package.json', 'node_modules']) {
    symlinkSync(join(built, '..', name), join(program, name));
  }
  const worker = join(program, 'dist', 'engine', 'rewrite', 'worker.js');
  writeFileSync(worker, "throw new Error('it does not load');");
  const cli = join(program, 'dist', 'tools', 'cli.js');
  const out = join(directory, 'out');
  const { status, stderr } = spawnSync(process.execPath, [cli, 'split', shard, '--out', out], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  t.equal(status, 1);
  t.equal(stderr, 'divan: a worker failed: Error: it does not load (WORKER)\n');
  t.notOk(existsSync(out), 'nothing was made');
});
