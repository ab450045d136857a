/**
 * Goal: the rules of the house that a program can check are kept: layers, seams, sizes, names, whole tests.
 * Method: each rule of `support/tidy-rules.ts` is shown to fire on bad samples and not on good ones; then every file is held
 * to all of them.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  CODE_COLUMNS_MAX,
  FILE_LINES_MAX,
  FUNCTION_LINES_MAX,
  machinePaths,
  parse,
  RULES,
  TEXT_COLUMNS_MAX,
} from './support/tidy-rules.js';

type RuleName = keyof typeof RULES;
type Sample = readonly [path: string, text: string];

const FOLDERS = ['engine', 'server', 'tools', 'bench', 'fixtures', 'test'].filter((folder) =>
  existsSync(folder),
);
const PLAIN = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'package.json', '.ci/run'];
/** Written in two pieces, so that this file keeps the rules itself. */
const HOME = `/ho${'me'}/someone`;
const IGNORE = `@ts-ig${'nore'}`;

const BAD: Record<RuleName, readonly Sample[]> = {
  layering: [
    ['engine/file/a.ts', "import { b } from '../btree/b.js';"],
    ['engine/btree/a.ts', "export { b } from '../shard/b.js';"],
    ['engine/shard/a.ts', "type T = import('../rewrite/b.js').T;"],
    ['engine/rewrite/a.ts', "const b = await import('../../server/b.js');"],
    ['engine/file/a.ts', "export * from '../index.js';"],
    ['server/a.ts', "import type { B } from '../tools/b.js';"],
    ['server/http/a.ts', "import { B } from '../databases/b.js';"],
    ['server/databases/a.ts', "import { B } from '../api/b.js';"],
    ['tools/a.ts', "import { b } from '../test/support/b.js';"],
    ['tools/a.ts', "import { b } from '../fixtures/b.js';"],
    ['engine/shard/a.ts', "import { b } from '../../package.json';"],
    ['elsewhere/a.ts', ''],
  ],
  storageSeam: [
    ['engine/shard/a.ts', "import { readFile } from 'node:fs/promises';"],
    ['engine/file/a.ts', "import fs from 'fs';"],
    ['engine/file/a.ts', "createRequire(import.meta.url)('fs-ext');"],
    ['engine/rewrite/a.ts', "await import('node:fs');"],
    ['server/api/a.ts', "import { readFile } from 'node:fs/promises';"],
  ],
  realWorld: [
    ['engine/shard/a.ts', "import { nodeStorage } from '../file/node-storage.js';"],
    ['engine/file/a.ts', "import { nodeHost } from './node-host.js';"],
  ],
  hostSeam: [
    ['engine/shard/a.ts', 'const a = Date.now();'],
    ['engine/shard/a.ts', 'const a = new Date();'],
    ['engine/shard/a.ts', 'const a = performance.now();'],
    ['engine/shard/a.ts', 'setTimeout(a, 1);'],
    ['engine/shard/a.ts', 'await new Promise(setImmediate);'],
    ['engine/shard/a.ts', 'const a = Math.random();'],
    ['engine/shard/a.ts', "const a = process.env['A'];"],
    ['engine/shard/a.ts', "const a = process['env'];"],
    ['engine/shard/a.ts', "import { randomBytes as a } from 'node:crypto';"],
    ['engine/shard/a.ts', "import { setTimeout as a } from 'node:timers/promises';"],
    ['engine/shard/a.ts', "console.log('a');"],
    ['server/api/a.ts', 'setTimeout(a, 1);'],
    ['server/http/a.ts', 'const a = Date.now();'],
  ],
  honesty: [
    ['tools/a.ts', 'const a: any = 1;'],
    ['tools/a.ts', 'const a = b as unknown as string;'],
    ['tools/a.ts', 'const a = b!;'],
    ['tools/a.ts', `// ${IGNORE}\nconst a = 1;`],
    ['test/a.ts', `/* biome-ig${'nore'} lint: because */`],
  ],
  fileName: [
    ['engine/file/appendFile.ts', ''],
    ['engine/file/Append.ts', ''],
    ['test/append_file.test.ts', ''],
  ],
  sizes: [
    ['tools/a.ts', 'a();\n'.repeat(FILE_LINES_MAX + 1)],
    ['tools/a.ts', `const a = ${'x'.repeat(CODE_COLUMNS_MAX)};`],
    ['tools/a.ts', `const a = '${'x'.repeat(TEXT_COLUMNS_MAX)}';`],
    ['tools/a.ts', `// ${'x'.repeat(TEXT_COLUMNS_MAX)}`],
    ['tools/a.ts', `function a() {\n${'  b();\n'.repeat(FUNCTION_LINES_MAX)}}`],
    ['tools/a.ts', `const a = () => {\n${'  b();\n'.repeat(FUNCTION_LINES_MAX)}};`],
    ['tools/a.ts', `class A {\n  a() {\n${'  b();\n'.repeat(FUNCTION_LINES_MAX)}}\n}`],
  ],
  headComment: [
    ['engine/a.ts', "import a from 'a';"],
    ['tools/a.ts', '#!/usr/bin/env node\nimport a from "a";'],
    ['server/a.ts', '// not a block\n'],
  ],
  wholeTests: [
    ['test/a.test.ts', `t.on${'ly'}('a', () => {});`],
    ['test/a.test.ts', `t.sk${'ip'}('a');`],
    ['test/a.test.ts', `t.to${'do'}('a');`],
    ['test/a.test.ts', `t.test('a', { skip: true }, () => {});`],
    ['test/a.test.ts', `t.test('a', { todo: 'later' }, () => {});`],
  ],
  machinePaths: [['tools/a.ts', `const a = '${HOME}/x';`]],
};

const GOOD: Record<RuleName, readonly Sample[]> = {
  layering: [
    ['engine/shard/a.ts', "import { b } from '../btree/b.js'; import c from './c.js';"],
    ['engine/rewrite/a.ts', "import { b } from '../file/b.js'; import c from 'piscina';"],
    ['tools/a.ts', "import { b } from '../engine/shard/b.js'; import c from '../server/c.js';"],
    ['bench/a.ts', "import { b } from '../fixtures/b.js';"],
    ['test/engine/a.test.ts', "import { b } from '../../engine/index.js';"],
  ],
  storageSeam: [
    ['engine/file/node-storage.ts', "import fs from 'node:fs';"],
    ['tools/a.ts', "import fs from 'node:fs';"],
    ['engine/file/a.ts', "// import fs from 'node:fs';"],
  ],
  realWorld: [
    ['engine/rewrite/worker.ts', "import { nodeStorage } from '../file/node-storage.js';"],
    ['tools/a.ts', "import { nodeHost } from '../engine/file/node-host.js';"],
  ],
  hostSeam: [
    ['engine/file/node-host.ts', 'performance.now();'],
    ['engine/rewrite/worker.ts', 'performance.now();'],
    ['engine/shard/a.ts', 'host.setTimeout(1); // Date.now()'],
    ['engine/shard/a.ts', "import { hash } from 'node:crypto'; const a = { Date: 'Date' };"],
    ['tools/a.ts', 'Date.now();'],
  ],
  honesty: [['tools/a.ts', "const any = 'any'; const b = ['a'] as const; const c = !d;"]],
  fileName: [
    ['engine/file/append-file.ts', ''],
    ['test/power-loss.long.test.ts', ''],
  ],
  sizes: [['tools/a.ts', `${'a();\n'.repeat(FILE_LINES_MAX - 1)}function b() {}`]],
  headComment: [
    ['engine/a.ts', '/** What it is. */'],
    ['tools/a.ts', '#!/usr/bin/env node\n/** What it is. */'],
    ['bench/a.ts', 'a();'],
  ],
  wholeTests: [['test/a.test.ts', "t.test('a', { skip: !has && 'no device' }, () => {});"]],
  machinePaths: [['tools/a.ts', "import a from '../work/home.js'; fetch('https://a.b/home/c');"]],
};

function filesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.name === 'node_modules') return [];
    return entry.isDirectory() ? filesIn(path) : [path];
  });
}

for (const [name, rule] of Object.entries(RULES)) {
  t.test(`the rule ${name} fires where it should`, async (t) => {
    for (const [ruleName, samples] of Object.entries(BAD)) {
      if (ruleName !== name) continue;
      for (const [path, text] of samples) {
        t.ok(rule(parse(path, text)).length > 0, `${path}: ${text.slice(0, 60)}`);
      }
    }
    for (const [ruleName, samples] of Object.entries(GOOD)) {
      if (ruleName !== name) continue;
      for (const [path, text] of samples) t.same(rule(parse(path, text)), [], path);
    }
  });
}

t.test('every file keeps the rules', async (t) => {
  const { name } = JSON.parse(readFileSync('package.json', 'utf8'));
  t.equal(name, 'divan', 'tests run in the root of the repository');
  const paths = FOLDERS.flatMap((folder) => filesIn(folder));
  t.ok(paths.length > 50);
  for (const path of paths.filter((path) => path.endsWith('.ts'))) {
    const file = parse(path, readFileSync(path, 'utf8'));
    const found = Object.entries(RULES).flatMap(([name, rule]) =>
      rule(file).map(({ line, text }) => `${path}:${line}: ${text} (${name})`),
    );
    t.same(found, [], path);
  }
});

t.test('no text names a path of somebody’s machine', async (t) => {
  const texts = FOLDERS.flatMap((folder) => filesIn(folder)).filter((path) => path.endsWith('.md'));
  for (const path of [...texts, ...PLAIN]) {
    t.same(machinePaths(readFileSync(join(path), 'utf8')), [], path);
  }
});
