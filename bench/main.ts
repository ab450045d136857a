/**
 * `npm run bench -- [family …] [--docs N] [--size BYTES] [--runs N] [--parts N] [--workers N] [--worn] [--smoke] [--out DIR]`: how fast
 * Divan is on this machine, next to what copying files costs on it.
 *
 * Every family writes its own data into a temporary directory and removes it. Compare figures within one run of the bench only:
 * machines differ and are noisy. `--out` writes the results as JSON, as a Markdown table and as a picture.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { commits } from './commits.js';
import { load } from './load.js';
import { read } from './read.js';
import { markdownTable, picture, resultLine } from './report.js';
import type { BenchInput, BenchResult } from './result.js';
import { rewriteFamily } from './rewrite.js';

interface Family {
  readonly run: (input: BenchInput) => Promise<BenchResult>;
  readonly docs: number;
  readonly size: number;
}

const MILLION = { docs: 1_000_000, size: 200 };
const rewriting = (
  name: string,
  command: 'split' | 'merge' | 'compact',
  measures: 'write' | 'verify' | 'write without checkpoints',
): [string, Family] => [
  name,
  { ...MILLION, run: (input) => rewriteFamily(name, { command, measures }, input) },
];

const FAMILIES: ReadonlyMap<string, Family> = new Map<string, Family>([
  ['load', { run: load, ...MILLION }],
  ['commits', { run: commits, docs: 100_000, size: 1024 }],
  ['read', { run: read, docs: 200_000, size: 200 }],
  rewriting('split', 'split', 'write'),
  rewriting('split-unresumable', 'split', 'write without checkpoints'),
  rewriting('merge', 'merge', 'write'),
  rewriting('compact', 'compact', 'write'),
  rewriting('verify', 'split', 'verify'),
]);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    docs: { type: 'string' },
    size: { type: 'string' },
    runs: { type: 'string', default: '3' },
    parts: { type: 'string', default: '2' },
    workers: { type: 'string', default: '1' },
    worn: { type: 'boolean', default: false },
    smoke: { type: 'boolean', default: false },
    out: { type: 'string' },
  },
});

/** Of `--smoke`: enough to see that a family works. */
const SMOKE_DOCS = 500;

async function runFamily(name: string): Promise<BenchResult> {
  const family = FAMILIES.get(name);
  if (family === undefined) {
    throw new TypeError(`there is no family ${name}; there are ${[...FAMILIES.keys()].join(', ')}`);
  }
  const directory = mkdtempSync(join(tmpdir(), 'divan-bench-'));
  try {
    return await family.run({
      directory,
      docs: Number(values.docs ?? (values.smoke ? SMOKE_DOCS : family.docs)),
      size: Number(values.size ?? family.size),
      runs: values.smoke ? 1 : Number(values.runs),
      parts: Number(values.parts),
      workers: Number(values.workers),
      worn: values.worn,
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const [cpu] = cpus();
const memory = Math.round(totalmem() / 2 ** 30);
const machine = `Node ${process.version}, ${cpus().length} x ${cpu?.model ?? 'unknown CPU'}, ${memory} GiB`;
process.stdout.write(`${machine}\n`);
const results: BenchResult[] = [];
for (const name of positionals.length > 0 ? positionals : FAMILIES.keys()) {
  const result = await runFamily(name);
  results.push(result);
  process.stdout.write(`${resultLine(result)}\n`);
}
if (values.out !== undefined) {
  mkdirSync(values.out, { recursive: true });
  const write = (name: string, text: string) => writeFileSync(join(values.out ?? '', name), text);
  write('results.json', `${JSON.stringify({ machine, results }, undefined, 2)}\n`);
  write('results.md', `${machine}\n\n${markdownTable(results)}`);
  write('results.svg', picture(results));
}
