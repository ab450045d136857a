/**
 * The rules of the house that a program can check, each a function from a parsed source file to what breaks it.
 * `test/tidy.test.ts` shows that each fires, and holds all files to them.
 */
import { posix } from 'node:path';
import ts from 'typescript';

/** A line in a file, and what is wrong there. */
export interface Finding {
  readonly line: number;
  readonly text: string;
}

export interface SourceFile {
  /** From the root of the repository, with `/`. */
  readonly path: string;
  readonly text: string;
  readonly tree: ts.SourceFile;
}

export type Rule = (file: SourceFile) => Finding[];

export const FILE_LINES_MAX = 450;
export const FUNCTION_LINES_MAX = 70;
export const CODE_COLUMNS_MAX = 120;
/** Of comments and long strings, which the formatter does not wrap. */
export const TEXT_COLUMNS_MAX = 150;

/** From the ground up; each may import what stands before it. What is in one line may not import one another. */
const LAYERS: readonly (readonly string[])[] = [
  ['engine/errors.ts', 'engine/thread-options.ts'],
  ['engine/file/'],
  ['engine/btree/'],
  ['engine/shard/'],
  ['engine/rewrite/'],
  ['engine/index.ts'],
  ['server/world.ts', 'server/durable-names.ts', 'server/settled-or-aborted.ts', 'server/turns.ts'],
  ['server/node-records.ts', 'server/uuids.ts', 'server/active-tasks.ts'],
  ['server/config/'],
  ['server/auth/caller.ts'],
  ['server/http/'],
  ['server/cluster/'],
  ['server/databases/'],
  ['server/auth/'],
  ['server/splits/'],
  ['server/setup/'],
  ['server/metrics.ts'],
  ['server/api/'],
  ['server/routing/'],
  ['server/'],
  ['tools/', 'fixtures/'],
  ['bench/'],
  ['test/'],
];

const NODE_STORAGE = 'engine/file/node-storage.ts';
const NODE_HOST = 'engine/file/node-host.ts';
/** What is offered to those who embed the engine, and the entries of threads, which can be given no objects. */
const CHOOSE_THE_REAL_WORLD = [
  'engine/index.ts',
  'engine/rewrite/worker.ts',
  'engine/rewrite/check-worker.ts',
  'server/auth/hash-worker.ts',
];
const FILE_SYSTEM_MODULES = ['node:fs', 'node:fs/promises', 'fs', 'fs/promises', 'fs-ext'];
const WORLDLY_NAMES = new Set([
  'Date',
  'performance',
  'setTimeout',
  'setInterval',
  'setImmediate',
  'console',
]);
const WORLDLY_MEMBERS = new Set(['Math.random', 'process.env', 'process.hrtime', 'process.argv']);
const WORLDLY_IMPORTS = new Set(['randomBytes', 'randomUUID', 'randomInt', 'randomFillSync']);
const WORLDLY_MODULES = new Set(['node:timers', 'node:timers/promises', 'node:perf_hooks']);

export function parse(path: string, text: string): SourceFile {
  return { path, text, tree: ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true) };
}

function* nodesOf(node: ts.Node): Generator<ts.Node> {
  yield node;
  const children: ts.Node[] = [];
  ts.forEachChild(node, (child) => {
    children.push(child);
  });
  for (const child of children) yield* nodesOf(child);
}

function lineOf(file: SourceFile, position: number): number {
  return file.tree.getLineAndCharacterOfPosition(position).line + 1;
}

function at(file: SourceFile, node: ts.Node, text: string): Finding {
  return { line: lineOf(file, node.getStart(file.tree)), text };
}

interface Import {
  readonly node: ts.Node;
  readonly from: string;
  readonly names: readonly string[];
}

/** Every module that a file names: imports, exports from, `import()` as call and as type, `require` and its kin. */
function* importsOf(file: SourceFile): Generator<Import> {
  for (const node of nodesOf(file.tree)) {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      const bindings = node.importClause?.namedBindings;
      const named = bindings !== undefined && ts.isNamedImports(bindings) ? bindings.elements : [];
      const names = named.map((element) => (element.propertyName ?? element.name).text);
      yield { node, from: node.moduleSpecifier.text, names };
    } else if (ts.isExportDeclaration(node) || ts.isImportTypeNode(node)) {
      yield* literalOf(node, ts.isExportDeclaration(node) ? node.moduleSpecifier : node.argument);
    } else if (ts.isCallExpression(node) && isLoader(node.expression)) {
      yield* literalOf(node, node.arguments[0]);
    }
  }
}

function* literalOf(node: ts.Node, specifier: ts.Node | undefined): Generator<Import> {
  if (specifier === undefined) return;
  const literal = ts.isLiteralTypeNode(specifier) ? specifier.literal : specifier;
  if (ts.isStringLiteral(literal)) yield { node, from: literal.text, names: [] };
}

/** `import(…)`, `require(…)`, `createRequire(…)(…)`. */
function isLoader(callee: ts.Expression): boolean {
  if (callee.kind === ts.SyntaxKind.ImportKeyword) return true;
  if (ts.isIdentifier(callee)) return callee.text === 'require';
  return ts.isCallExpression(callee) && callee.expression.getText() === 'createRequire';
}

function layerOf(path: string): { height: number; name: string } | undefined {
  for (const [height, names] of LAYERS.entries()) {
    const name = names.find((name) => (name.endsWith('/') ? path.startsWith(name) : path === name));
    if (name !== undefined) return { height, name };
  }
  return undefined;
}

/** The path of an imported file of ours. */
function target(file: SourceFile, from: string): string | undefined {
  if (!from.startsWith('.')) return undefined;
  return posix.join(posix.dirname(file.path), from).replace(/\.js$/, '.ts');
}

/** Imports go down only, and nothing reaches for a test. */
export const layering: Rule = (file) => {
  const own = layerOf(file.path);
  if (own === undefined) return [{ line: 1, text: 'this folder is not in the layers' }];
  const findings: Finding[] = [];
  for (const { node, from } of importsOf(file)) {
    const path = target(file, from);
    if (path === undefined) continue;
    const other = layerOf(path);
    const isFine = other !== undefined && (other.name === own.name || other.height < own.height);
    if (!isFine) findings.push(at(file, node, `${own.name} must not import ${path}`));
  }
  return findings;
};

/** What is given its world, so that tests can give it another one. */
function isSeamed(file: SourceFile): boolean {
  return /^(engine|server)\//.test(file.path);
}

/** In the engine and the server, the file system is behind the seam. */
export const storageSeam: Rule = (file) => {
  if (!isSeamed(file) || file.path === NODE_STORAGE) return [];
  return [...importsOf(file)]
    .filter(({ from }) => FILE_SYSTEM_MODULES.includes(from))
    .map(({ node, from }) => at(file, node, `only ${NODE_STORAGE} imports ${from}`));
};

/** In the engine and the server, only those who are meant to choose the real world. */
export const realWorld: Rule = (file) => {
  if (!isSeamed(file) || CHOOSE_THE_REAL_WORLD.includes(file.path)) return [];
  return [...importsOf(file)]
    .filter(({ from }) => [NODE_STORAGE, NODE_HOST].includes(target(file, from) ?? ''))
    .map(({ node }) => at(file, node, 'takes the real storage or host instead of being given one'));
};

/** Neither has a clock, timers, randomness, environment or logging of its own. */
export const hostSeam: Rule = (file) => {
  if (!isSeamed(file) || [NODE_HOST, ...CHOOSE_THE_REAL_WORLD].includes(file.path)) return [];
  const findings: Finding[] = [];
  for (const { node, from, names } of importsOf(file)) {
    const worldly = names.filter((name) => WORLDLY_IMPORTS.has(name));
    if (WORLDLY_MODULES.has(from)) worldly.push(from);
    if (worldly.length > 0) findings.push(at(file, node, `imports ${worldly.join(', ')}`));
  }
  for (const node of nodesOf(file.tree)) {
    if (ts.isPropertyAccessExpression(node) || ts.isElementAccessExpression(node)) {
      const name = node.getText(file.tree).replace(/\['(\w+)'\]/g, '.$1');
      if (WORLDLY_MEMBERS.has(name)) findings.push(at(file, node, `uses ${name}`));
    } else if (ts.isIdentifier(node) && WORLDLY_NAMES.has(node.text) && !isMemberName(node)) {
      findings.push(at(file, node, `uses ${node.text}`));
    }
  }
  return findings;
};

/** True for the `x` of `a.x` and of `{ x: 1 }`, which only look like the global. */
function isMemberName(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.name === node;
  return 'name' in parent && parent.name === node;
}

/** Nothing quiets the compiler or the linter. */
export const honesty: Rule = (file) => {
  const findings: Finding[] = [];
  for (const node of nodesOf(file.tree)) {
    if (node.kind === ts.SyntaxKind.AnyKeyword) findings.push(at(file, node, 'any'));
    const isDoubleCast = ts.isAsExpression(node) && ts.isAsExpression(node.expression);
    if (isDoubleCast) findings.push(at(file, node, 'a double cast'));
    if (ts.isNonNullExpression(node)) findings.push(at(file, node, 'a non-null assertion'));
  }
  for (const [index, line] of file.text.split('\n').entries()) {
    const found = /@ts-(ignore|expect-error|nocheck)|biome-ignore|eslint-disable/.exec(line);
    if (found !== null && isComment(line)) findings.push({ line: index + 1, text: found[0] });
  }
  return findings;
};

function isComment(line: string): boolean {
  return /^\s*(\/\*|\*|\/\/)|\s\/\/ |\/\* /.test(line);
}

export const fileName: Rule = (file) => {
  const name = posix.basename(file.path);
  const isKebabCase = /^[a-z0-9]+(-[a-z0-9]+)*(\.long)?(\.test)?(\.d)?\.ts$/.test(name);
  return isKebabCase ? [] : [{ line: 1, text: `${name} is not in kebab-case` }];
};

export const sizes: Rule = (file) => {
  const findings: Finding[] = [];
  const lines = file.text.trimEnd().split('\n');
  if (lines.length > FILE_LINES_MAX)
    findings.push({ line: lines.length, text: `a file of ${lines.length} lines` });
  for (const [index, line] of lines.entries()) {
    const max = isComment(line) || /['`]/.test(line) ? TEXT_COLUMNS_MAX : CODE_COLUMNS_MAX;
    if (line.length > max) findings.push({ line: index + 1, text: `${line.length} columns` });
  }
  for (const node of nodesOf(file.tree)) {
    if (!ts.isFunctionLike(node)) continue;
    const length = lineOf(file, node.end) - lineOf(file, node.getStart(file.tree)) + 1;
    if (length > FUNCTION_LINES_MAX) findings.push(at(file, node, `a function of ${length} lines`));
  }
  return findings;
};

/** Product files begin with what they are, after a `#!` line if there is one. */
export const headComment: Rule = (file) => {
  if (!/^(engine|server|tools)\//.test(file.path)) return [];
  const text = file.text.replace(/^#!.*\n/, '');
  return text.startsWith('/**') ? [] : [{ line: 1, text: 'no comment at the head of the file' }];
};

/** No test is left out. One that needs what a machine may not have says so with `skip:` and the reason. */
export const wholeTests: Rule = (file) => {
  if (!file.path.startsWith('test/')) return [];
  const findings: Finding[] = [];
  for (const node of nodesOf(file.tree)) {
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
      const { name } = node.expression;
      if (['only', 'skip', 'todo'].includes(name.text)) findings.push(at(file, node, name.text));
    }
    if (!ts.isPropertyAssignment(node)) continue;
    const text = node.getText(file.tree);
    if (/^(only|skip|todo): (true|'|")/.test(text)) findings.push(at(file, node, text));
  }
  return findings;
};

/** No path of somebody's machine. Of text files of any kind. */
export function machinePaths(text: string): Finding[] {
  const findings: Finding[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const found = /(?<![\w.])\/(home|Users|root|work)\/\w+|[A-Z]:\\Users/.exec(line);
    if (found !== null) findings.push({ line: index + 1, text: found[0] });
  }
  return findings;
}

export const RULES = {
  layering,
  storageSeam,
  realWorld,
  hostSeam,
  honesty,
  fileName,
  sizes,
  headComment,
  wholeTests,
  machinePaths: (file: SourceFile) => machinePaths(file.text),
} as const satisfies Record<string, Rule>;
