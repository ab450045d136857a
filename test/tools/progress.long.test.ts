/**
 * Goal: percent and ETA are near the truth on a quiet machine: percent within 2 points, and the ETA within a fifth from a tenth of
 * the way on, or within the half second that threads take to start and files to get their names.
 * Method: the lines of the real `divan split --json`, each with the time at which it came, against how long it took in the end; of
 * a fresh shard, a large one, a worn one, and one that is held back to a rate.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { makeSource } from '../../bench/sources.js';
import { divanStart, temporaryDirectory } from '../support/cli.js';

const POINTS_MAX = 2;
const ETA_SHARE_MAX = 0.2;
const ETA_FROM = 0.1;
const SLACK_SECONDS = 0.5;

interface Line {
  /** Since the start. */
  readonly seconds: number;
  readonly percent: number;
  readonly etaSeconds: number | undefined;
}

/** How far from the truth what was said was at worst, beyond the slack. */
interface Errors {
  readonly points: number;
  readonly etaShare: number;
  readonly seconds: number;
}

function lineOf(text: string, seconds: number): Line[] {
  const said: unknown = JSON.parse(text);
  if (typeof said !== 'object' || said === null) return [];
  if (!('percent' in said) || typeof said.percent !== 'number') return [];
  const eta = 'etaSeconds' in said ? said.etaSeconds : undefined;
  return [
    { seconds, percent: said.percent, etaSeconds: typeof eta === 'number' ? eta : undefined },
  ];
}

async function errorsOf(shard: string, out: string, ...options: string[]): Promise<Errors> {
  const start = performance.now();
  const since = () => (performance.now() - start) / 1000;
  const child = divanStart('split', shard, '--out', out, '--json', '--parts', '2', ...options);
  child.stdout.resume();
  const lines: Line[] = [];
  for await (const text of createInterface({ input: child.stderr })) {
    lines.push(...lineOf(text, since()));
  }
  const whole = since();
  rmSync(out, { recursive: true });
  const beyondSlack = (seconds: number) => Math.max(0, Math.abs(seconds) - SLACK_SECONDS);
  const points = lines.map(
    ({ seconds, percent }) => (beyondSlack((percent / 100) * whole - seconds) / whole) * 100,
  );
  const shares = lines.flatMap(({ seconds, etaSeconds }) => {
    if (seconds < ETA_FROM * whole || etaSeconds === undefined) return [];
    return beyondSlack(etaSeconds - (whole - seconds)) / (whole - seconds);
  });
  return { points: Math.max(...points), etaShare: Math.max(...shares), seconds: whole };
}

for (const { name, docs, worn, options } of [
  { name: 'a fresh shard', docs: 2_000_000, worn: false, options: [] },
  { name: 'a long run', docs: 5_000_000, worn: false, options: [] },
  { name: 'a worn shard', docs: 500_000, worn: true, options: [] },
  { name: 'a rate', docs: 1_000_000, worn: false, options: ['--rate', '15MB/s'] },
]) {
  t.test(`progress of splitting: ${name}`, async (t) => {
    const directory = temporaryDirectory(t);
    const sourceDirectory = join(directory, 'source');
    mkdirSync(sourceDirectory);
    const shard = await makeSource({ sourceDirectory, docs, size: 200, worn });
    const { points, etaShare, seconds } = await errorsOf(shard, join(directory, 'out'), ...options);
    t.comment(
      `${seconds.toFixed(1)} s: ${points.toFixed(1)} points, ETA ${Math.round(etaShare * 100)} %`,
    );
    t.ok(points <= POINTS_MAX, `percent within ${points.toFixed(1)} points`);
    t.ok(etaShare <= ETA_SHARE_MAX, `ETA within ${Math.round(etaShare * 100)} %`);
  });
}
