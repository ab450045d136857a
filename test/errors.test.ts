/**
 * Goal: the table of error codes, the code that throws them and the README say the same.
 * Method: every string literal that stands where a code belongs is found with TypeScript's parser.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import ts from 'typescript';
import { DivanError, ERROR_CODES, isDivanError } from '../engine/errors.js';

/** Codes of the table that nothing throws so far; each must leave this list once something does. */
const NOT_YET_THROWN = ['READ_ONLY'];

const CODE_PATTERN = /^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$/;

function sourcesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && name !== 'errors.ts')
    .map((name) => join(folder, name));
}

function* nodesOf(node: ts.Node): Generator<ts.Node> {
  yield node;
  for (const child of node.getChildren()) yield* nodesOf(child);
}

/** The literals in `new DivanError('CODE', …)`, also behind `? :` and `??`. */
function thrownBy(path: string, text: string): string[] {
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true);
  const codes: string[] = [];
  for (const node of nodesOf(tree)) {
    if (!ts.isNewExpression(node) || node.expression.getText() !== 'DivanError') continue;
    const code = node.arguments?.[0];
    if (code === undefined) continue;
    for (const part of nodesOf(code)) if (ts.isStringLiteral(part)) codes.push(part.text);
  }
  return codes;
}

/** Literals that name a code anywhere: in a helper's call, a table of the system's codes, a function that picks one. */
function namedIn(path: string, text: string): string[] {
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true);
  return [...nodesOf(tree)].filter(ts.isStringLiteral).map((literal) => literal.text);
}

const paths = ['engine', 'server', 'tools']
  .filter((folder) => existsSync(folder))
  .flatMap(sourcesIn);
const texts = paths.map((path) => [path, readFileSync(path, 'utf8')] as const);
const codes = Object.keys(ERROR_CODES);

t.test('every code that is thrown is in the table', async (t) => {
  let count = 0;
  for (const [path, text] of texts) {
    for (const code of thrownBy(path, text)) {
      count++;
      t.ok(codes.includes(code), `${path}: ${code}`);
    }
  }
  t.ok(count > 20, 'the throws are found');
  t.same(thrownBy('a.ts', "new DivanError(a ? 'X' : 'Y', 'text')"), ['X', 'Y']);
});

t.test('every code of the table is thrown', async (t) => {
  const named = new Set(texts.flatMap(([path, text]) => namedIn(path, text)));
  for (const code of codes) {
    t.equal(named.has(code), !NOT_YET_THROWN.includes(code), code);
  }
  for (const code of NOT_YET_THROWN) t.ok(codes.includes(code), `${code} is in the table`);
});

t.test('the table is in order, and each sentence is one', async (t) => {
  // A code comes before the longer ones that begin with its word.
  const key = (code: string) => code.replaceAll('_', ' ');
  t.same(
    codes,
    [...codes].sort((a, b) => (key(a) < key(b) ? -1 : 1)),
  );
  for (const [code, sentence] of Object.entries(ERROR_CODES)) {
    t.match(code, CODE_PATTERN);
    t.match(sentence, /^[A-Z][^\n|]+[^.]\.$/);
  }
});

t.test('the README has the same table', async (t) => {
  const [, section = ''] = readFileSync('README.md', 'utf8').split('\n## Error codes\n');
  const rows: Record<string, string> = {};
  for (const line of (section.split('\n## ')[0] ?? '').split('\n')) {
    const [, code, sentence] = /^\| `([A-Z_]+)`\s*\| (.+?)\s*\|$/.exec(line) ?? [];
    if (code !== undefined && sentence !== undefined) rows[code] = sentence;
  }
  t.same(rows, ERROR_CODES);
});

t.test('an error keeps its code, facts and cause', async (t) => {
  const cause = new Error('the cause');
  const error = new DivanError('IO', 'text', { path: 'a', pos: 7 }, cause);
  t.equal(error.code, 'IO');
  t.equal(error.name, 'DivanError');
  t.same(error.facts, { path: 'a', pos: 7 });
  t.equal(error.cause, cause);
  t.notOk('cause' in new DivanError('IO', 'text'));
  t.ok(isDivanError(error));
  t.ok(isDivanError(error, 'IO'));
  t.notOk(isDivanError(error, 'LIMIT'));
  t.notOk(isDivanError(cause));
});
