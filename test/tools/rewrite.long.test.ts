/**
 * Goal: a large split, and a large compaction, that are killed again and again lose little work each time and give the same files.
 * Method: a million documents; the real command killed at 50 random moments; its own progress lines.
 */
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  divanOk,
  hashesBelow,
  loadSynthetic,
  sha256Of,
  temporaryDirectory,
} from '../support/cli.js';
import { describeKills, killLoop } from '../support/kill-loop.js';
import { seededRandom, seedOf } from '../support/seed.js';

const DOCS = 1_000_000;
const KILLS = 50;
const REPEATED_SECONDS_MAX = 1.5;
/** So slow that 50 kills are spread over the writing. */
const RATE = '10MB/s';

t.test('a split of a million documents, killed 50 times', async (t) => {
  const random = seededRandom(seedOf(t));
  const directory = temporaryDirectory(t);
  const shard = join(directory, 'db.divan');
  loadSynthetic(shard, DOCS);
  const whole = join(directory, 'whole');
  const plan = join(directory, 'plan.json');
  divanOk(t, 'split', shard, '--out', whole, '--plan', plan);
  const out = join(directory, 'out');
  const command = ['split', shard, '--out', out, '--plan', plan];
  const expected = hashesBelow(whole);
  const expectSame = () => t.strictSame(hashesBelow(out), expected, 'byte for byte');
  const result = await killLoop({
    command: [...command, '--rate', RATE],
    bytesPerSecond: 10e6,
    kills: KILLS,
    lifeMsMax: 2500,
    random,
    onEnded: () => {
      expectSame();
      rmSync(out, { recursive: true });
    },
  });
  divanOk(t, ...command);
  expectSame();
  t.comment(describeKills(result));
  t.ok(result.writing > KILLS / 3, 'most were killed while they wrote');
  for (const seconds of result.repeated) t.ok(seconds <= REPEATED_SECONDS_MAX, `${seconds} s`);
});

t.test('a compaction of a million documents, killed 50 times', async (t) => {
  const random = seededRandom(seedOf(t));
  const directory = temporaryDirectory(t);
  const original = join(directory, 'original.divan');
  const shard = join(directory, 'db.divan');
  loadSynthetic(original, DOCS);
  const plan = join(directory, 'plan.json');
  copyFileSync(original, shard);
  divanOk(t, 'compact', shard, '--plan', plan);
  const expected = sha256Of(shard);
  copyFileSync(original, shard);
  const result = await killLoop({
    command: ['compact', shard, '--plan', plan, '--rate', RATE],
    bytesPerSecond: 10e6,
    kills: KILLS,
    lifeMsMax: 2500,
    random,
    onEnded: () => {
      t.equal(sha256Of(shard), expected, 'byte for byte');
      copyFileSync(original, shard);
    },
  });
  divanOk(t, 'compact', shard, '--plan', plan);
  t.equal(sha256Of(shard), expected, 'byte for byte');
  t.comment(describeKills(result));
  t.ok(result.writing > KILLS / 3, 'most were killed while they wrote');
  for (const seconds of result.repeated) t.ok(seconds <= REPEATED_SECONDS_MAX, `${seconds} s`);
});
