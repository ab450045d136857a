/**
 * Goal: revision trees do what those of CouchDB do, ranges and hashes too.
 * Method: literal cases and CouchDB's own vectors; random histories against pouchdb-merge, which implements the same rules.
 */
import { createRequire } from 'node:module';
import t from 'tap';
import { ByteWriter } from '../../../engine/file/byte-writer.js';
import {
  checkTiling,
  evenRanges,
  FULL_RANGE,
  formatRange,
  hashOf,
  parseRange,
} from '../../../engine/shard/hash.js';
import {
  decodeTree,
  encodeTree,
  leavesOf,
  mergePath,
  pathTo,
  type RevTree,
  removeLeaves,
  stem,
} from '../../../engine/shard/rev-tree.js';
import { formatRev, parseRev } from '../../../engine/shard/revision.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';

interface OracleTree {
  readonly pos: number;
  readonly ids: OracleNode;
}

/** What is used of pouchdb-merge, which brings no types. */
interface Oracle {
  merge(
    tree: OracleTree[],
    path: unknown,
    limit: number,
  ): { tree: OracleTree[]; conflicts: string };
  winningRev(metadata: { rev_tree: OracleTree[] }): string;
  collectLeaves(tree: OracleTree[]): { rev: string; opts: { deleted?: boolean } }[];
}
const oracle: Oracle = createRequire(import.meta.url)('pouchdb-merge');

function path(...revs: string[]) {
  return revs.map(parseRev);
}

function leafRevs(tree: RevTree): string[] {
  return leavesOf(tree).map(
    ({ revision, deleted }) => `${formatRev(revision)}${deleted ? ' deleted' : ''}`,
  );
}

function recoded(tree: RevTree): RevTree {
  const out = new ByteWriter();
  encodeTree(out, tree);
  return decodeTree(out.copy());
}

t.test('merging, winners, removing', async (t) => {
  let { tree, outcome } = mergePath([], path('2-b', '1-a'), false);
  t.equal(outcome, 'new_leaf');
  ({ tree, outcome } = mergePath(tree, path('3-c', '2-b'), false));
  t.equal(outcome, 'new_leaf');
  ({ tree, outcome } = mergePath(tree, path('3-d', '2-b'), false));
  t.equal(outcome, 'new_branch');
  t.equal(mergePath(tree, path('2-b', '1-a'), false).outcome, 'known');
  t.strictSame(leafRevs(tree), ['3-d', '3-c']);
  ({ tree } = mergePath(tree, path('4-e', '3-d'), true));
  t.strictSame(leafRevs(tree), ['3-c', '4-e deleted'], 'the living one wins');
  t.strictSame(leafRevs(recoded(tree)), leafRevs(tree), 'encoded and decoded');
  const { tree: rest, removed } = removeLeaves(tree, path('4-e', '1-a'));
  t.strictSame([removed.map(formatRev), leafRevs(rest), rest.length], [['4-e'], ['3-c'], 3]);
  t.strictSame(pathTo(rest, 2).map(formatRev), ['3-c', '2-b', '1-a']);
  t.strictSame(removeLeaves(rest, path('3-c')).tree, []);
});

t.test('a path that comes from further back joins what was stemmed', async (t) => {
  const { tree } = mergePath([], path('5-e', '4-d'), false);
  const joined = mergePath(tree, path('6-f', '5-e', '4-d', '3-c'), false).tree;
  t.equal(joined.length, 4);
  t.equal(stem(joined, 2).length, 2);
});

t.test('a revision that is no MD5 comes back as it was', async (t) => {
  for (const rev of [
    '1-abc',
    '1-ABCDEF',
    `1-${'a'.repeat(32)}`,
    `1-${'A'.repeat(32)}`,
    '12-é',
    '1-a-b',
  ]) {
    t.equal(formatRev(parseRev(rev)), rev);
  }
  for (const rev of ['', '1', '1-', '0-a', '-1-a', 'x-a', `1-${'x'.repeat(65)}`]) {
    t.throws(() => parseRev(rev), { code: 'INVALID_DOCUMENT' });
  }
});

t.test('random histories against pouchdb-merge', async (t) => {
  const random = seededRandom(seedOf(t));
  let compared = 0;
  for (let round = 0; round < 400; round++) {
    const limit = 1 + randomInt(random, 8);
    let ours: RevTree = [];
    let theirs: OracleTree[] = [];
    for (let step = 0; step < 12; step++) {
      const start = 1 + randomInt(random, 6);
      const length = 1 + randomInt(random, Math.min(start, limit));
      const branch = randomInt(random, 3);
      // The older a revision, the more branches share it.
      const revs = Array.from({ length }, (_, index) => {
        const gen = start - index;
        return `${gen}-${gen <= 2 ? 'a' : gen <= 4 ? (branch & 1) : branch}`;
      });
      const deleted =
        randomInt(random, 4) === 0 &&
        !leafRevs(ours).some((leaf) => leaf.startsWith(revs[0] ?? ''));
      const known = leafRevs(ours).some((leaf) => leaf.replace(' deleted', '') === revs[0]);
      if (known) continue;
      ours = stem(mergePath(ours, path(...revs), deleted).tree, limit);
      theirs = oracle.merge(theirs, pouchPath(revs, deleted), limit).tree;
      // Its forest can hold one revision in two trees, once as a leaf and once not; CouchDB's can't.
      if (hasDuplicates(theirs) || lacksSome(theirs, ours)) break;
      compared++;
      const wanted = oracle
        .collectLeaves(theirs)
        .map(({ rev, opts }) => `${rev}${opts.deleted === true ? ' deleted' : ''}`);
      t.strictSame(leafRevs(recoded(ours)).sort(), wanted.sort(), revs.join());
      t.equal(leafRevs(ours)[0]?.replace(' deleted', ''), oracle.winningRev({ rev_tree: theirs }));
    }
  }
  t.ok(compared > 800, `${compared} trees compared`);
});

/** A node of the oracle: the name of its revision, what is known of it, its children. */
type OracleNode = readonly [string, unknown, readonly OracleNode[]];

/** True if a revision stands in the forest more than once: every name of a revision is unique with its generation. */
function hasDuplicates(forest: readonly OracleTree[]): boolean {
  const revs = forest.flatMap(({ pos, ids }) => [...revsBelow(pos, ids)]);
  return new Set(revs).size < revs.length;
}

/** True if the forest lacks a revision that `tree` has: it stems what branches share to the length of the longest of them. */
function lacksSome(forest: readonly OracleTree[], tree: RevTree): boolean {
  const revs = new Set(forest.flatMap(({ pos, ids }) => [...revsBelow(pos, ids)]));
  return tree.some(({ revision }) => !revs.has(formatRev(revision)));
}

function* revsBelow(gen: number, [id, , children]: OracleNode): Generator<string> {
  yield `${gen}-${id}`;
  for (const child of children) yield* revsBelow(gen + 1, child);
}

/** A path as pouchdb-merge takes it: nested, the oldest outside. */
function pouchPath(revs: readonly string[], deleted: boolean): unknown {
  let node: unknown[] | undefined;
  let pos = 0;
  for (const [index, rev] of revs.entries()) {
    const [gen, id] = [Number(rev.split('-')[0]), rev.split('-')[1]];
    const status =
      index === 0
        ? { status: 'available', ...(deleted ? { deleted } : {}) }
        : { status: 'missing' };
    node = [id, status, node === undefined ? [] : [node]];
    pos = gen;
  }
  return { pos, ids: node };
}

t.test('deep and wide trees', async (t) => {
  const revs = Array.from({ length: 1000 }, (_, index) => `${1000 - index}-${index}`);
  let { tree } = mergePath([], path(...revs), false);
  for (let branch = 0; branch < 1000; branch++)
    tree = mergePath(tree, path(`501-x${branch}`, '500-500'), false).tree;
  t.equal(leavesOf(tree).length, 1001);
  t.equal(recoded(tree).length, 2000);
});

t.test('hashes and ranges are those of CouchDB', async (t) => {
  const hash = (id: string, rule: 'document' | 'partition' = 'document') =>
    hashOf(Buffer.from(id), rule);
  t.equal(hash('joan').toString(16), 'e0b852df');
  t.equal(hash('robert').toString(16), '791875e7');
  t.equal(hash('0'), 4108050209);
  t.equal(hash('_design/x').toString(16), '7723d5aa');
  t.equal(hash('x'.repeat(100)), hash('x'.repeat(100)), 'long ids go another way');
  t.equal(hash('a:b', 'partition'), hash('a'));
  t.equal(hash('_design/a:b', 'partition'), hash('_design/a:b'));
  t.strictSame(evenRanges(FULL_RANGE, 3).map(formatRange), [
    '00000000-55555554',
    '55555555-aaaaaaa9',
    'aaaaaaaa-ffffffff',
  ]);
  t.strictSame(evenRanges(parseRange('55555555-AAAAAAA9'), 2).map(formatRange), [
    '55555555-7ffffffe',
    '7fffffff-aaaaaaa9',
  ]);
  t.strictSame(evenRanges({ start: 0, end: 2 }, 2), [
    { start: 0, end: 0 },
    { start: 1, end: 2 },
  ]);
  const tiling =
    (...ranges: string[]) =>
    () =>
      checkTiling(FULL_RANGE, ranges.map(parseRange));
  t.doesNotThrow(tiling('80000000-ffffffff', '00000000-7fffffff'), 'in any order');
  t.throws(tiling('00000000-7fffffff'), { code: 'INVALID_RANGE', message: /end before/ });
  t.throws(tiling('00000001-ffffffff'), { code: 'INVALID_RANGE', message: /gap/ });
  t.throws(tiling('00000000-80000000', '80000000-ffffffff'), {
    code: 'INVALID_RANGE',
    message: /overlap/,
  });
  t.throws(() => checkTiling({ start: 0, end: 9 }, [{ start: 0, end: 10 }]), {
    code: 'INVALID_RANGE',
  });
  for (const text of ['', '0-1', '00000000-0000000g', '00000002-00000001'])
    t.throws(() => parseRange(text), { code: 'INVALID_RANGE' });
});
