/**
 * Goal: the commands that rewrite shard files give the same files however many workers there are and however often they are killed,
 * and leave nothing behind.
 * Method: the real command on real files, killed at random moments and just before every call that changes something; hashes
 * of the results.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { nodeHost } from '../../engine/file/node-host.js';
import { nodeStorage } from '../../engine/file/node-storage.js';
import { syntheticLines } from '../../fixtures/synthetic.js';
import {
  CLI,
  divan,
  divanOk,
  divanStart,
  run,
  sha256Of,
  temporaryDirectory,
} from '../support/cli.js';
import { seededRandom, seedOf } from '../support/seed.js';
import { wornShard } from '../support/worn-shard.js';

const KILL_AT = join(dirname(fileURLToPath(import.meta.url)), '..', 'support', 'kill-at.js');
const WORLD = { storage: nodeStorage, host: nodeHost };
const EVERYTHING = ['--conflicts', '--deleted', '--attachments', '--local'];

function loadSynthetic(path: string, docs: number): void {
  run(process.execPath, [CLI, 'load', path], [...syntheticLines(docs, 200)].join('\n'));
}

/** The hashes of all files below a directory by name, the ones that only a run in progress has included. */
function hashesBelow(directory: string): Record<string, string> {
  const hashes: Record<string, string> = {};
  for (const entry of readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(directory, entry);
    if (statSync(path).isFile()) hashes[entry] = sha256Of(path);
  }
  return hashes;
}

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
    /\(LIMIT\)/,
  );
  t.strictSame(
    readdirSync(directory).filter((name) => name.startsWith('.')),
    [],
  );
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
  let kills = 0;
  for (let turn = 0; turn < 8; turn++) {
    const child = divanStart('split', shard, '--out', out, '--plan', plan, '--rate', '5MB/s');
    const ended = new Promise<NodeJS.Signals | null>((resolve) =>
      child.on('close', (_code, signal) => resolve(signal)),
    );
    await Promise.race([delay(200 + random() * 1800), ended]);
    child.kill('SIGKILL');
    if ((await ended) === 'SIGKILL') kills++;
  }
  if (!existsSync(join(out, '80000000-ffffffff', 'db.divan'))) {
    divanOk(t, 'split', shard, '--out', out, '--plan', plan);
  }
  t.ok(kills > 2, `killed ${kills} times`);
  t.strictSame(hashesBelow(out), hashesBelow(whole), 'byte for byte, and nothing else');
});

for (const command of ['split', 'compact']) {
  t.test(`${command}: killed before every third call that changes something`, async (t) => {
    const random = seededRandom(seedOf(t));
    const directory = temporaryDirectory(t);
    const original = join(directory, 'original.divan');
    await wornShard(WORLD, original, 200, { overlayBytes: 20_000 });
    const expected = divanOk(t, 'dump', original, ...EVERYTHING);
    for (let at = 1 + Math.floor(random() * 3); ; at += 3) {
      if (!killedAt(t, command, directory, original, at, expected)) break;
    }
  });
}

/** Kills a run, repeats it, and looks at what came of it; false if it got to its end before. */
function killedAt(
  t: Test,
  command: string,
  directory: string,
  original: string,
  at: number,
  expected: string,
): boolean {
  const place = join(directory, 'run');
  rmSync(place, { recursive: true, force: true });
  const out = join(place, 'out');
  const shard = join(directory, 'shard.divan');
  copyFileSync(original, shard);
  const args = ['-u', 'NODE_OPTIONS', process.execPath, KILL_AT, command, shard, out, String(at)];
  run('mkdir', ['-p', place]);
  const { signal, stderr } = spawnSync('env', args, { encoding: 'utf8' });
  if (signal !== 'SIGKILL') {
    t.equal(stderr, '', `ended after fewer than ${at} calls`);
    return false;
  }
  const again = command === 'split' ? ['split', shard, '--out', out] : ['compact', shard];
  const { code, stderr: reason } = divan(...again);
  // The names were all given, and only tidying up was left.
  if (code !== 0 && !/\(EXISTS\)/.test(reason)) t.fail(`killed at ${at}: ${reason}`);
  const files =
    command === 'split' ? Object.keys(hashesBelow(out)).map((name) => join(out, name)) : [shard];
  const dumps = files.map((file) => divanOk(t, 'dump', file, ...EVERYTHING)).join('');
  const lines = (text: string) => text.split('\n').sort();
  if (JSON.stringify(lines(dumps)) !== JSON.stringify(lines(expected))) {
    t.fail(`killed at ${at}: the content differs`);
  }
  const left = [...readdirSync(directory), ...(existsSync(out) ? readdirSync(out) : [])];
  t.strictSame(
    left.filter((name) => name.startsWith('.')),
    [],
    `killed at ${at}`,
  );
  return true;
}
