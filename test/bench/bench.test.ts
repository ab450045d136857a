/** Goal: every family of the bench works. Method: the smallest run of all of them; what they report is there and makes sense. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { BenchResult } from '../../bench/result.js';
import { run, temporaryDirectory } from '../support/cli.js';

const BENCH = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bench', 'main.js');

t.test('every family', async (t) => {
  const out = temporaryDirectory(t);
  const args = ['-u', 'NODE_OPTIONS', process.execPath, BENCH, '--smoke', '--out', out];
  const { code, stderr } = run('env', args);
  t.equal(code, 0, stderr);
  const { results }: { results: BenchResult[] } = JSON.parse(
    readFileSync(join(out, 'results.json'), 'utf8'),
  );
  t.ok(results.length >= 8);
  for (const { label, docs, runs } of results) {
    t.equal(runs.length, 1, label);
    t.ok(docs > 0 && runs.every(({ seconds }) => seconds > 0), `${label} took time`);
  }
  const table = readFileSync(join(out, 'results.md'), 'utf8');
  t.equal(table.split('\n').filter((line) => line.startsWith('| ')).length, results.length + 2);
  t.match(readFileSync(join(out, 'results.svg'), 'utf8'), /^<svg [\s\S]*<rect [\s\S]*<\/svg>\n$/);
});
