/**
 * Goal: a tree is the sorted map that its operations describe, whatever the node size, the order of keys and the
 * batches; damage is reported and never answered with wrong data, another error or a hang.
 * Method: literal bytes for the codec; one suite over many node sizes and key orders; random batches against a sorted Map;
 * every byte of every node changed in turn.
 */
import t, { type Test } from 'tap';
import { BulkBuilder } from '../../../engine/btree/bulk.js';
import { checkTree } from '../../../engine/btree/check.js';
import { lookup } from '../../../engine/btree/lookup.js';
import { modify, type OpCursor } from '../../../engine/btree/modify.js';
import { openNode } from '../../../engine/btree/node.js';
import { entries } from '../../../engine/btree/range.js';
import { reduceRange } from '../../../engine/btree/reduce.js';
import type { KeyRange, TreeRoot, TreeShape } from '../../../engine/btree/tree.js';
import { isDivanError } from '../../../engine/errors.js';
import { checksum } from '../../../engine/file/ref.js';
import { MemoryNodes } from '../../support/memory-nodes.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';

type Model = Map<string, string>;
type Op = readonly [key: string, value: string | undefined];

/** Counts entries and sums up the lengths of their values. */
const SHAPE: TreeShape = {
  name: 'test',
  measures: 2,
  measure(_bytes, _keyStart, keyEnd, end, totals) {
    totals[0] = (totals[0] ?? 0) + 1;
    totals[1] = (totals[1] ?? 0) + (end - keyEnd);
  },
};

function bytes(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

function text(of: Uint8Array): string {
  return Buffer.from(of).toString('latin1');
}

class ListCursor implements OpCursor {
  readonly #ops: readonly Op[];
  #at = 0;

  constructor(ops: readonly Op[]) {
    this.#ops = [...ops].sort((a, b) => Buffer.compare(bytes(a[0]), bytes(b[0])));
  }

  get ended(): boolean {
    return this.#at >= this.#ops.length;
  }

  get key(): Uint8Array {
    return bytes(this.#ops[this.#at]?.[0] ?? '');
  }

  get value(): Uint8Array | undefined {
    const value = this.#ops[this.#at]?.[1];
    return value === undefined ? undefined : bytes(value);
  }

  next(): void {
    this.#at++;
  }
}

function applyToModel(model: Model, ops: readonly Op[]): void {
  for (const [key, value] of ops) {
    if (value === undefined) model.delete(key);
    else model.set(key, value);
  }
}

function sorted(model: Model): [string, string][] {
  return [...model].sort(([a], [b]) => Buffer.compare(bytes(a), bytes(b)));
}

async function read(
  nodes: MemoryNodes,
  root: TreeRoot | undefined,
  range: KeyRange,
): Promise<[string, string][]> {
  const list: [string, string][] = [];
  for await (const { key, value } of entries(nodes, root, range))
    list.push([text(key), text(value)]);
  return list;
}

async function problemsOf(nodes: MemoryNodes, root: TreeRoot | undefined): Promise<string[]> {
  const problems: string[] = [];
  await checkTree(nodes, SHAPE, root, { problem: (problem) => problems.push(problem) });
  return problems;
}

function inRange(key: string, range: KeyRange): boolean {
  const own = bytes(key);
  return (
    (range.gt === undefined || Buffer.compare(own, range.gt) > 0) &&
    (range.gte === undefined || Buffer.compare(own, range.gte) >= 0) &&
    (range.lt === undefined || Buffer.compare(own, range.lt) < 0) &&
    (range.lte === undefined || Buffer.compare(own, range.lte) <= 0)
  );
}

async function compareRange(
  t: Test,
  nodes: MemoryNodes,
  root: TreeRoot | undefined,
  model: Model,
  range: KeyRange,
): Promise<void> {
  const wanted = sorted(model).filter(([key]) => inRange(key, range));
  const forward = await read(nodes, root, range);
  const backward = await read(nodes, root, { ...range, reverse: true });
  const totals = await reduceRange(nodes, SHAPE, root, range);
  const valueBytes = wanted.reduce((sum, [, value]) => sum + value.length, 0);
  t.strictSame(
    { forward, backward: backward.reverse(), totals: Array.from(totals) },
    { forward: wanted, backward: wanted, totals: [wanted.length, valueBytes] },
    'a range, both ways, with its totals',
  );
}

t.test('the codec, byte by byte', async (t) => {
  const nodes = new MemoryNodes();
  const builder = new BulkBuilder(nodes, SHAPE, 64);
  builder.add(bytes('a'), bytes('1'));
  builder.add(bytes('bc'), bytes(''));
  const root = builder.finish();
  const node = nodes.nodes.get(root?.ref.pos ?? -1);
  t.equal(
    Buffer.from(node ?? []).toString('hex'),
    '010002000800 0b00 016131 026263'.replaceAll(' ', ''),
  );
  t.strictSame(root?.totals, [2, 1]);
  t.equal(root?.level, 0);
});

t.test('an interior node, byte by byte', async (t) => {
  const nodes = new MemoryNodes();
  const builder = new BulkBuilder(nodes, SHAPE, 100);
  for (const key of ['aaaa', 'abbb', 'b']) builder.add(bytes(key), bytes('v'.repeat(80)));
  const root = builder.finish();
  const node = Buffer.from(nodes.nodes.get(root?.ref.pos ?? -1) ?? []);
  t.equal(root?.level, 1);
  t.equal(node.subarray(0, 4).toString('hex'), '02010300', 'interior, level 1, three children');
  const opened = openNode(node, 1);
  t.strictSame(
    [0, 1, 2].map((index) => text(opened.key(index))),
    ['', 'ab', 'b'],
    'short separators',
  );
  t.equal(opened.childRef(1).length, 91);
});

const SIZES = [64, 200, 512, 4096, 8192, 70000];
const ORDERS = ['sorted', 'reversed', 'shuffled'] as const;

for (const nodeBytes of SIZES) {
  for (const order of ORDERS) {
    t.test(`${nodeBytes} bytes a node, keys ${order}`, async (t) => {
      const random = seededRandom(nodeBytes);
      const ops: Op[] = [];
      for (let index = 0; index < 3000; index++) {
        const prefix = index % 3 === 0 ? 'shared/prefix/that/is/long/' : '';
        const key = `${prefix}${String(index).padStart(5, '0')}${'k'.repeat(index % 200)}`;
        ops.push([key, 'v'.repeat(index % 7 === 0 ? 0 : index % 40)]);
      }
      ops.push(['', 'the empty key'], ['huge', 'x'.repeat(100_000)]);
      if (order === 'reversed') ops.reverse();
      if (order === 'shuffled') ops.sort(() => random() - 0.5);
      const nodes = new MemoryNodes();
      const model: Model = new Map();
      let root: TreeRoot | undefined;
      for (let at = 0; at < ops.length; at += 700) {
        const batch = ops.slice(at, at + 700);
        applyToModel(model, batch);
        root = await modify(nodes, nodes, SHAPE, root, new ListCursor(batch), { nodeBytes });
      }
      t.strictSame(await problemsOf(nodes, root), []);
      await compareRange(t, nodes, root, model, {});
      for (const key of ['', 'huge', '00042kkkk', '00001k', 'absent']) {
        const value = await lookup(nodes, root, bytes(key));
        t.equal(value === undefined ? undefined : text(value), model.get(key));
      }
      const removals = [...model.keys()]
        .filter((key) => key !== 'huge')
        .map((key): Op => [key, undefined]);
      root = await modify(nodes, nodes, SHAPE, root, new ListCursor(removals), { nodeBytes });
      t.strictSame(
        (await read(nodes, root, {})).map(([key]) => key),
        ['huge'],
      );
      t.equal(root?.level, 0, 'a tree that shrinks loses its height');
      root = await modify(nodes, nodes, SHAPE, root, new ListCursor([['huge', undefined]]), {
        nodeBytes,
      });
      t.equal(root, undefined);
    });
  }
}

t.test('random batches against a sorted Map', async (t) => {
  const random = seededRandom(seedOf(t));
  for (let round = 0; round < 40; round++) {
    const nodes = new MemoryNodes();
    const model: Model = new Map();
    const nodeBytes = [48, 100, 300, 1000][round % 4] ?? 100;
    let root: TreeRoot | undefined;
    for (let step = 0; step < 12; step++) {
      const ops = new Map<string, string | undefined>();
      const count = randomInt(random, step % 3 === 0 ? 200 : 12);
      for (let index = 0; index < count; index++) {
        const key = randomInt(random, 400).toString(randomInt(random, 2) === 0 ? 36 : 2);
        ops.set(key, random() < 0.4 ? undefined : 'v'.repeat(randomInt(random, 30)));
      }
      applyToModel(model, [...ops]);
      root = await modify(nodes, nodes, SHAPE, root, new ListCursor([...ops]), {
        nodeBytes,
        sliceEntries: 5,
      });
      const problems = await problemsOf(nodes, root);
      if (problems.length > 0) t.strictSame(problems, []);
      const low = bytes(randomInt(random, 400).toString(36));
      const high = bytes(randomInt(random, 400).toString(36));
      const range =
        [{}, { gt: low }, { gte: low, lt: high }, { gt: low, lte: high }, { lte: high }][
          step % 5
        ] ?? {};
      await compareRange(t, nodes, root, model, range);
    }
  }
});

t.test('a suspended build goes on to the same bytes', async (t) => {
  const build = async (suspendAt: number): Promise<string> => {
    const nodes = new MemoryNodes();
    let builder = new BulkBuilder(nodes, SHAPE, 256);
    for (let index = 0; index < 2000; index++) {
      if (index === suspendAt) {
        const edge = builder.edge();
        builder = new BulkBuilder(nodes, SHAPE, 256);
        builder.resume(edge);
      }
      builder.add(bytes(String(index).padStart(6, '0')), bytes(`value ${index}`));
    }
    const root = builder.finish();
    return `${JSON.stringify(root)} ${checksum(Buffer.concat([...nodes.nodes.values()]))}`;
  };
  const whole = await build(-1);
  for (const at of [0, 1, 7, 500, 1234, 1999])
    t.equal(await build(at), whole, `suspended at ${at}`);
});

t.test('every byte of every node changed: a clear error or a right answer', async (t) => {
  const nodes = new MemoryNodes();
  const builder = new BulkBuilder(nodes, SHAPE, 100);
  const model: Model = new Map();
  for (let index = 0; index < 120; index++) model.set(String(index).padStart(3, '0'), `v${index}`);
  for (const [key, value] of sorted(model)) builder.add(bytes(key), bytes(value));
  const root = builder.finish();
  let refused = 0;
  for (const [pos, node] of nodes.nodes) {
    for (let at = 0; at < node.length; at++) {
      node[at] = (node[at] ?? 0) ^ (1 << (at % 8));
      const outcome = await read(nodes, root, {}).catch((error: unknown) => error);
      if (!isDivanError(outcome, 'CHECKSUM'))
        t.fail(`the change of ${at} in ${pos} gave ${outcome}`);
      if ((await problemsOf(nodes, root)).length === 0) t.fail('check found nothing');
      node[at] = (node[at] ?? 0) ^ (1 << (at % 8));
      refused++;
    }
  }
  t.ok(refused > 1000);
  for (const node of nodes.nodes.values()) {
    for (let at = 0; at < node.length; at++) {
      for (const forged of [0, 255, (node[at] ?? 0) ^ 1]) {
        const copy = Buffer.from(node);
        copy[at] = forged;
        try {
          const opened = openNode(copy, node[1] ?? 0);
          for (let index = 0; index < opened.count; index++) opened.value(index);
        } catch (error) {
          if (!isDivanError(error, 'CORRUPT')) throw error;
        }
      }
    }
  }
});

t.test('a node that names itself as its child is an error', async (t) => {
  const nodes = new MemoryNodes();
  const builder = new BulkBuilder(nodes, SHAPE, 48);
  for (let index = 0; index < 400; index++) builder.add(bytes(String(1000 + index)), bytes('v'));
  const root = builder.finish();
  t.ok(root !== undefined && root.level >= 2);
  if (root === undefined) return;
  const loop = {
    ...nodes,
    cached: () => undefined,
    load: (_: unknown, level: number) => nodes.load(root.ref, level),
  };
  await t.rejects(lookup(loop, root, bytes('1100')), { code: 'CORRUPT' });
});

t.test('a load that fails is the error of the call, and nothing is left unhandled', async (t) => {
  const nodes = new MemoryNodes();
  const builder = new BulkBuilder(nodes, SHAPE, 64);
  for (let index = 0; index < 200; index++) builder.add(bytes(String(1000 + index)), bytes('v'));
  const root = builder.finish();
  let failures = 0;
  for (let n = 0; ; n++) {
    nodes.loads = 0;
    nodes.failLoad = n;
    const outcome = await read(nodes, root, {}).catch((error: unknown) => error);
    if (Array.isArray(outcome)) break;
    t.ok(isDivanError(outcome, 'IO'));
    failures++;
  }
  t.ok(failures > 20);
  // The second child of the root: loaded ahead, and not on the way to the first entry.
  nodes.failLoad = 2;
  nodes.loads = 0;
  for await (const { key } of entries(nodes, root, {})) {
    t.ok(key.length > 0);
    break;
  }
});
