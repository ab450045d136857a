/**
 * Goal: every family of the bench works, and the figures are what they are called.
 * Method: the smallest run of all of them, whose reports are there and make sense; the statistics on made-up runs; the worn source
 * counted; the baseline's copy compared with what it copies.
 */
import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { copyFiles, warmUp } from '../../bench/copy.js';
import { wrkProblem } from '../../bench/http-wrk.js';
import { PEERS, peersProblem } from '../../bench/peers.js';
import { picture } from '../../bench/picture.js';
import { markdownReport } from '../../bench/report.js';
import { type BenchResult, type BenchRun, ratioToCopy, spread } from '../../bench/result.js';
import { makeSource, WORLD } from '../../bench/sources.js';
import { compared, takeTurnsWithCopies } from '../../bench/turns.js';
import { compact } from '../../engine/rewrite/compact.js';
import { ReadOnlyShard } from '../../engine/shard/read-only-shard.js';
import { run, temporaryDirectory } from '../support/cli.js';

const BENCH = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bench', 'main.js');

/** Requests from wrk, where that is installed. */
const WRK_LABELS = [
  'bare GET, x 16',
  'GET of one, x 16',
  'GET at random, x 16',
  'bare PUT, x 16',
  'PUT, x 16',
  'bare PUT, x 1',
  'PUT, x 1',
];

/** All that the bench reports when it is asked for everything. */
const LABELS = [
  'load',
  'single commits',
  'get by id',
  'all docs',
  'changes',
  'split into 2',
  'split into 3',
  'merge of 2',
  'compact',
  'verify a split',
  'split stopped and resumed',
  'split uninterrupted',
  ...(wrkProblem() === undefined ? WRK_LABELS : []),
  'bare POST, x 4',
  '_bulk_docs, x 4',
  '_all_docs',
  '_changes',
  'reads, no split',
  'reads, copying',
  'writes, no split',
  'writes, copying',
  'cutovers',
  'catching up',
  'reads, no move',
  'reads, moving',
  'writes, no move',
  'writes, moving',
  'handovers',
  'split with checkpoints',
  'split without checkpoints',
];

function bench(...args: readonly string[]) {
  return run('env', ['-u', 'NODE_OPTIONS', process.execPath, BENCH, ...args]);
}

/** The runs of what the family http calls so. */
function requests(results: readonly BenchResult[], label: RegExp): BenchRun[] {
  const found = results.filter((result) => result.family === 'http' && label.test(result.label));
  return found.flatMap(({ runs }) => runs);
}

t.test('every family', async (t) => {
  const out = temporaryDirectory(t);
  const { code, stdout, stderr } = bench('--smoke', '--parts', '2,3', '--out', out);
  t.equal(code, 0, stderr);
  t.match(stdout, /^Node v\d+\.\d+\.\d+ on .*\nCPU \d+ x .*, memory [\d.]+ GiB\ndisk .*\n/);
  const { results }: { results: BenchResult[] } = JSON.parse(
    readFileSync(join(out, 'results.json'), 'utf8'),
  );
  t.same(
    results.map(({ label }) => label),
    LABELS,
  );
  for (const { label, docs, family, sourceBytes, runs } of results) {
    t.equal(runs.length, 1, label);
    t.ok(docs > 0 && runs.every(({ seconds }) => seconds > 0), `${label} took time`);
    if (family === 'commits' || family.startsWith('live-')) continue;
    t.ok(
      runs.every(({ peakMiB }) => peakMiB !== undefined && peakMiB > 10),
      `${label} took memory`,
    );
    if (family === 'http') continue;
    t.ok(sourceBytes > 0);
    t.ok(
      runs.every((run) => (ratioToCopy(run) ?? 0) > 0 && (run.checkedCopySeconds ?? 0) > 0),
      `${label} next to copying`,
    );
  }
  const table = readFileSync(join(out, 'results.md'), 'utf8');
  t.equal(table.split('\n').filter((line) => line.startsWith('| ')).length, results.length + 2);
  for (const { ratios } of requests(results, /^(GET of one|PUT|_bulk_docs)/)) {
    t.ok((ratios?.['of a bare server'] ?? 0) > 0);
  }
  for (const { cpuSeconds = 0, grownMiB } of requests(results, /^(GET|PUT|_)/)) {
    t.ok(cpuSeconds > 0 && grownMiB !== undefined);
  }
  for (const [of, docs] of [
    ['cutovers', 6],
    ['handovers', 2],
  ] as const) {
    const runs = results.find(({ label }) => label === of)?.runs ?? [];
    t.same(
      runs.map(({ docs, failures }) => ({ docs, failures })),
      [{ docs, failures: 0 }],
      `requests were answered during ${of}`,
    );
  }
  for (const title of ['of uninterrupted', 'of one without checkpoints', 'of split']) {
    t.ok(table.includes(`| ${title} |`), title);
  }
});

t.test('peers split as Divan does', { skip: peersProblem() ?? false }, async (t) => {
  const out = temporaryDirectory(t);
  const { code, stderr } = bench('split', '--peers', '--smoke', '--out', out);
  t.equal(code, 0, stderr);
  const { results }: { results: BenchResult[] } = JSON.parse(
    readFileSync(join(out, 'results.json'), 'utf8'),
  );
  t.same(
    results.map(({ label }) => label),
    ['split into 2', ...PEERS.map((name) => `${name}, split into 2`)],
  );
});

t.test('wrong usage is one line and exit code 2', async (t) => {
  for (const args of [
    ['nothing'],
    ['--docs', '1.5'],
    ['--size', '129'],
    ['--sizes', '100'],
    ['--sizes', '10x200', '--docs', '10'],
    ['--runs', 'x'],
    ['--seconds', '0'],
    ['--parts', '2,,4'],
    ['--peers=mongo'],
    ['--worn', '--peers'],
    ['--dir', BENCH],
    ['--what'],
  ]) {
    const { code, stdout, stderr } = bench(...args);
    t.equal(code, 2, args.join(' '));
    t.match(stderr, /^bench: [^\n]+\n$/, args.join(' '));
    t.equal(stdout, '');
  }
  t.equal(bench('--help').code, 0);
});

t.test('statistics', async (t) => {
  const runs = [4, 1, 3].map((seconds) => ({ seconds, copySeconds: seconds / 2 }));
  const seconds = ({ seconds }: { readonly seconds: number }) => seconds;
  t.same(spread(runs, seconds), { min: 1, median: 3, max: 4 });
  t.same(spread(runs.slice(0, 2), seconds), { min: 1, median: 2.5, max: 4 });
  t.equal(
    spread(runs, () => undefined),
    undefined,
  );
  t.same(spread(runs, ratioToCopy), { min: 0.5, median: 0.5, max: 0.5 });
  const others = [2, 2, 2].map((seconds) => ({ seconds }));
  t.same(
    compared(runs, 'of others', others).map(({ ratios }) => ratios?.['of others']),
    [0.5, 2, 2 / 3],
    'faster is more',
  );
});

t.test('turns', async (t) => {
  const directory = temporaryDirectory(t);
  const source = join(directory, 'source');
  copyFiles([BENCH], source, {});
  const order: string[] = [];
  const contender = (name: string) => ({
    sources: [source],
    prepare: () => order.push(`prepare ${name}`),
    run: () => {
      order.push(name);
      return { seconds: order.length };
    },
  });
  const contenders = [contender('a'), contender('b')];
  const found = await takeTurnsWithCopies(
    { directory, runs: 2, discarded: 1 },
    [source],
    contenders,
  );
  const turn = ['prepare a', 'a', 'prepare b', 'b'];
  t.same(order, [...turn, ...turn, ...turn]);
  t.same(
    found.map((runs) => runs.map(({ seconds }) => seconds)),
    [
      [6, 10],
      [8, 12],
    ],
    'the first turn does not count',
  );
  for (const { copySeconds, checkedCopySeconds } of found.flat()) {
    t.ok(copySeconds !== undefined && copySeconds > 0);
    t.ok(checkedCopySeconds !== undefined && checkedCopySeconds > 0);
  }
});

t.test('the copy of the baseline is a copy', async (t) => {
  const directory = temporaryDirectory(t);
  const to = join(directory, 'copy');
  copyFiles([process.execPath, BENCH], to, { checked: true, synced: true });
  const expected = Buffer.concat([readFileSync(process.execPath), readFileSync(BENCH)]);
  t.ok(readFileSync(to).equals(expected));
  t.throws(() => copyFiles([BENCH], to, {}), { code: 'EEXIST' }, 'it is always a new file');
  warmUp([BENCH], directory);
  t.throws(() => statSync(join(directory, 'warm-up')), { code: 'ENOENT' });
});

t.test('a worn source is worn', async (t) => {
  const docs = 4000;
  for (const size of [200, 2048]) {
    const sourceDirectory = temporaryDirectory(t);
    const path = await makeSource({ sourceDirectory, docs, size, worn: true });
    const counted = { docs: 0, updates: 0, conflicts: 0, attachments: 0 };
    {
      await using shard = await ReadOnlyShard.open(WORLD, path);
      for await (const { leaves } of shard.snapshot.documents({})) {
        counted.docs++;
        counted.conflicts += leaves.length > 1 ? 1 : 0;
        const attached = leaves.some(({ attachments }) => attachments.length > 0);
        counted.attachments += attached ? 1 : 0;
        const gens = leaves.map(({ revision }) => revision.gen);
        counted.updates += leaves.length > 1 ? 0 : Math.max(...gens) - 1;
      }
    }
    t.equal(counted.docs, docs);
    t.equal(counted.conflicts, docs / 20);
    t.equal(counted.attachments, docs / 50, 'updates keep attachments');
    const untouched = docs - counted.conflicts;
    t.ok(Math.abs(counted.updates / untouched - 3) < 0.1, `${counted.updates} updates`);
    const before = statSync(path).size;
    await compact(WORLD, path, { workers: 0, verify: false });
    const dead = 1 - statSync(path).size / before;
    t.ok(Math.abs(dead - 0.6) < 0.04, `${(100 * dead).toFixed(1)} % of ${size} B are dead`);
  }
});

t.test('table and picture', async (t) => {
  const result = (label: string, size: number, seconds: number): BenchResult => ({
    ...{ family: 'split', label, docs: 1000, size, sourceBytes: 1000 * size },
    runs: [1, 2, 3].map((factor) => ({ seconds: seconds * factor, copySeconds: 1, madeBytes: 0 })),
  });
  const results = [result('a', 200, 1), result('b', 200, 2), result('a', 16384, 4)];
  t.match(
    markdownReport(['on paper'], results),
    /^- on paper\n\n\| what .*\n\| --- .*\n\| a \| 1,000 x 200 B \| 2\.00 \(1\.00-3\.00\) \| 500 \(333-1,000\)/,
  );
  const svg = picture(results);
  t.match(svg, /^<svg [\s\S]*<\/svg>\n$/);
  const bars = svg.match(/<rect [^>]*height="[\d.]+" fill="#\w{6}"\/>/g) ?? [];
  t.equal(bars.length, 2 + 2 * results.length, 'a legend of two, two panels of three');
  for (const text of ['200 B', '16,384 B', 'Documents a second, logarithmic'])
    t.ok(svg.includes(`>${text}<`));
  t.notMatch(svg, /NaN|Infinity|undefined|="-/);
  t.notMatch(picture([]), /NaN|Infinity|undefined/);
});
