/**
 * `npm run bench -- [family …] [options]`: how fast Divan is on this machine, next to what copying files costs on it. See README.md.
 *
 * Everything is made in a temporary directory that is removed at the end.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FAMILIES } from './families.js';
import { machineLines } from './machine.js';
import { type BenchOptions, type DocumentCount, readOptions } from './options.js';
import { picture } from './picture.js';
import { jsonReport, markdownReport, resultLines } from './report.js';
import type { BenchInput, BenchResult } from './result.js';

/** How long requests are sent in smoke size. */
const SMOKE_SECONDS = 0.1;

/** The sizes that a family is to be measured with. */
function countsOf(name: string, options: BenchOptions): readonly DocumentCount[] {
  const family = FAMILIES.get(name);
  const { docs = options.smoke ? family?.smokeDocs : family?.docs, size = family?.size } = options;
  return options.sizes ?? [{ docs: docs ?? 0, size: size ?? 0 }];
}

function* plan(options: BenchOptions): Generator<DocumentCount & { readonly name: string }> {
  for (const name of options.families) {
    for (const count of countsOf(name, options)) yield { name, ...count };
  }
}

async function runAll(options: BenchOptions, root: string): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  for (const { name, docs, size } of plan(options)) {
    const directory = join(root, `${name}-${docs}x${size}`);
    const sourceDirectory = join(root, `source-${docs}x${size}`);
    mkdirSync(directory);
    mkdirSync(sourceDirectory, { recursive: true });
    const { parts, workers, worn, peers, smoke, localDocs } = options;
    const [runs, discarded, seconds] = smoke
      ? [1, 0, SMOKE_SECONDS]
      : [options.runs, 1, options.seconds];
    const input: BenchInput = {
      ...{ directory, sourceDirectory, docs, size, runs, discarded, parts, workers, worn, peers },
      ...{ seconds, smoke, localDocs },
    };
    const found = (await FAMILIES.get(name)?.run(input)) ?? [];
    rmSync(directory, { recursive: true });
    process.stdout.write(resultLines(found));
    results.push(...found);
  }
  return results;
}

function headerOf(options: BenchOptions, root: string): string[] {
  const { families, runs, workers, worn, smoke } = options;
  return [
    ...machineLines(root),
    `${families.join(', ')}: ${smoke ? 'smoke size' : `${runs} runs each`}, ${workers} worker(s), ` +
      `${worn ? 'worn' : 'fresh'} sources; median (least-greatest)`,
  ];
}

const options = readOptions(process.argv.slice(2));
const root = mkdtempSync(join(options.dir, 'divan-bench-'));
const remove = () => rmSync(root, { recursive: true, force: true });
process.on('exit', remove);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
const header = headerOf(options, root);
process.stdout.write(`${header.join('\n')}\n`);
const results = await runAll(options, root);
const { out } = options;
if (out !== undefined) {
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'results.json'), jsonReport(header, results));
  writeFileSync(join(out, 'results.md'), markdownReport(header, results));
  writeFileSync(join(out, 'results.svg'), picture(results));
  process.stdout.write(
    `written: ${['json', 'md', 'svg'].map((type) => join(out, `results.${type}`)).join(', ')}\n`,
  );
}
