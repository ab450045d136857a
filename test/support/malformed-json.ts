/** JSON texts for requests, some of which are none, or mean what no route expects. All come from a generator of numbers. */
import { randomInt } from './seed.js';

/** A JSON value whose objects may have several members of one name, and which may hold raw text. */
export type Tree =
  | { readonly kind: 'object'; readonly members: readonly (readonly [string, Tree])[] }
  | { readonly kind: 'array'; readonly elements: readonly Tree[] }
  | { readonly kind: 'raw'; readonly text: string };

export type Template =
  | null
  | boolean
  | number
  | string
  | readonly Template[]
  | { readonly [name: string]: Template };

export function pick<T>(random: () => number, choices: readonly T[]): T {
  const choice = choices[randomInt(random, choices.length)];
  if (choice === undefined) throw new RangeError('nothing to pick from');
  return choice;
}

/** Values that are of the wrong type, or too large, wherever they stand. */
const WRONG_VALUES: readonly string[] = [
  'null',
  'true',
  'false',
  '0',
  '-1',
  '-0',
  '1.5',
  '1e400',
  '-1e400',
  '9007199254740993',
  '123456789012345678901234567890',
  '""',
  '"x"',
  '"0"',
  '"true"',
  '"\\u0000"',
  '"\\ud800\\udc00"',
  '"../../etc/passwd"',
  '"_design/"',
  '"_local/"',
  '"1-"',
  '"0-0"',
  '"99999999999999999999-ffffffffffffffffffffffffffffffff"',
  '[]',
  '[null]',
  '[[]]',
  '[{}]',
  '["x","x"]',
  '{}',
  '{"":0}',
  '{"__proto__":{"isServerAdmin":true}}',
  '{"constructor":{"prototype":{"a":1}}}',
  '{"toString":1,"valueOf":2,"length":-1,"then":3}',
  `"${'x'.repeat(5000)}"`,
  `[${'0,'.repeat(300)}0]`,
  `${'['.repeat(60)}${']'.repeat(60)}`,
];

const STRANGE_NAMES = [
  '__proto__',
  'constructor',
  'prototype',
  'hasOwnProperty',
  'toString',
  'then',
  '',
  '_id',
  '_rev',
  '_deleted',
  '_attachments',
  '_revisions',
  '_revs_info',
  '_conflicts',
  '_unknown',
  '\u0000',
  'x'.repeat(2000),
];

export function treeOf(template: Template): Tree {
  if (Array.isArray(template)) return { kind: 'array', elements: template.map(treeOf) };
  if (typeof template === 'object' && template !== null) {
    const members = Object.entries(template).map(([name, value]) => [name, treeOf(value)] as const);
    return { kind: 'object', members };
  }
  return { kind: 'raw', text: JSON.stringify(template) };
}

export function textOf(tree: Tree): string {
  if (tree.kind === 'raw') return tree.text;
  if (tree.kind === 'array') return `[${tree.elements.map(textOf).join(',')}]`;
  const members = tree.members.map(([name, value]) => `${JSON.stringify(name)}:${textOf(value)}`);
  return `{${members.join(',')}}`;
}

/** The tree with one part of it replaced by something that may not stand there. */
export function wrongSomewhere(tree: Tree, random: () => number): Tree {
  if (tree.kind === 'raw' || random() < 0.2)
    return { kind: 'raw', text: pick(random, WRONG_VALUES) };
  if (tree.kind === 'array') {
    const at = randomInt(random, Math.max(1, tree.elements.length));
    const elements = tree.elements.map((element, index) =>
      index === at ? wrongSomewhere(element, random) : element,
    );
    return { kind: 'array', elements };
  }
  const members = [...tree.members];
  const at = randomInt(random, Math.max(1, members.length));
  const [name, value] = members[at] ?? ['x', tree];
  const choice = random();
  if (choice < 0.15) members[at] = [pick(random, STRANGE_NAMES), value];
  else if (choice < 0.3) members.push([pick(random, STRANGE_NAMES), wrongSomewhere(value, random)]);
  else if (choice < 0.4) members.splice(at, 1);
  else members[at] = [name, wrongSomewhere(value, random)];
  return { kind: 'object', members };
}

/** Bytes that are no JSON that Divan takes, made from a text that is. Every route that reads JSON must refuse them. */
export function notJson(text: string, random: () => number): Buffer {
  const inner = text.slice(1);
  const broken: readonly (() => string | Buffer)[] = [
    () => '',
    () => text.slice(0, randomInt(random, text.length)),
    () => `${text}${pick(random, ['x', '}', ']', ',', '{}', '\u0000'])}`,
    () => `{"a":1,"a":2${inner === '}' ? '' : ','}${inner}`,
    () => `{"\\u0061":1,"a":2${inner === '}' ? '' : ','}${inner}`,
    () => `${'['.repeat(2000)}${']'.repeat(2000)}`,
    () => `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`,
    () => '['.repeat(50_000),
    () => `{"a":${pick(random, ['NaN', 'Infinity', '01', '+1', '.5', "'x'", '1.', 'undefined'])}}`,
    () => `{"a":"${pick(random, ['\\ud800', '\\udc00\\ud800', '\\x', '\\u12', '\n', '\u0000'])}"}`,
    () => Buffer.concat([Buffer.from('{"a":"'), notUtf8(random), Buffer.from('"}')]),
    () => Buffer.concat([Buffer.from('{"'), notUtf8(random), Buffer.from('":1}')]),
    () => Buffer.from(Uint8Array.from({ length: 64 }, () => 128 + randomInt(random, 128))),
    () => Buffer.from(`\ufeff${text}`, 'utf16le'),
    () => '// a comment\n{}',
    () => '{"a":1,}',
  ];
  return Buffer.from(pick(random, broken)());
}

/** Bytes that are no UTF-8: cut short, overlong, a surrogate, beyond the last character. */
export function notUtf8(random: () => number): Buffer {
  return Buffer.from(
    pick(random, [
      [0xff, 0xfe],
      [0xc3],
      [0xc0, 0xaf],
      [0xe0, 0x80, 0xaf],
      [0xed, 0xa0, 0x80],
      [0xf4, 0x90, 0x80, 0x80],
      [0x80],
    ]),
  );
}
