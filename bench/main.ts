/**
 * `npm run bench -- [family] [--docs N] [--size BYTES] [--runs N]`: how fast Divan is on this machine.
 *
 * Every family writes its own data into a temporary directory and removes it. Figures are printed for each run; compare them
 * within one run of the bench only, machines differ and are noisy.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { commits } from './commits.js';
import { load } from './load.js';
import { type BenchInput, type BenchResult, formatResult } from './result.js';
import { splitFamily } from './split.js';

interface Family {
  readonly run: (input: BenchInput) => Promise<BenchResult>;
  readonly docs: number;
  readonly size: number;
}

const FAMILIES: ReadonlyMap<string, Family> = new Map([
  ['load', { run: load, docs: 1_000_000, size: 200 }],
  ['commits', { run: commits, docs: 100_000, size: 1024 }],
  ['split', { run: splitFamily, docs: 1_000_000, size: 200 }],
]);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    docs: { type: 'string' },
    size: { type: 'string' },
    runs: { type: 'string', default: '1' },
  },
});

const [cpu] = cpus();
process.stdout.write(
  `Node ${process.version}, ${cpus().length} x ${cpu?.model ?? 'unknown CPU'}, ${Math.round(totalmem() / 2 ** 30)} GiB\n`,
);
for (const name of positionals.length > 0 ? positionals : FAMILIES.keys()) {
  const family = FAMILIES.get(name);
  if (family === undefined)
    throw new TypeError(`there is no family ${name}; there are ${[...FAMILIES.keys()].join(', ')}`);
  for (let run = 0; run < Number(values.runs); run++) {
    const directory = mkdtempSync(join(tmpdir(), 'divan-bench-'));
    const input = {
      directory,
      docs: Number(values.docs ?? family.docs),
      size: Number(values.size ?? family.size),
    };
    try {
      process.stdout.write(`${formatResult(name, input, await family.run(input))}\n`);
    } finally {
      rmSync(directory, { recursive: true });
    }
  }
}
