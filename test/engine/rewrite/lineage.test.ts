/**
 * Goal: what is merged keeps its seqs up to where all of it was one file, and no further: no seq is ever there twice.
 * Method: a model of files that are written, split, merged and compacted; shapes of ancestry by hand with the cut that is expected; and
 * random ones, of files that are kept and used once more too, in which no two things may come to have one seq.
 */
import t, { type Test } from 'tap';
import { commonCuts } from '../../../engine/rewrite/lineage.js';
import { FULL_RANGE } from '../../../engine/shard/hash.js';
import type { Seqs } from '../../../engine/shard/state.js';
import { FileForest, type ForestFile } from '../../support/file-forest.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';

const HISTORIES = 400;
const STEPS = 60;
const FILES_MAX = 14;

const LOW = { start: 0, end: 0x3fff_ffff };
const MIDDLE = { start: 0x4000_0000, end: 0x7fff_ffff };
const HIGH = { start: 0x8000_0000, end: 0xffff_ffff };

const cuts = (files: readonly ForestFile[]) => commonCuts(files.map(({ metadata }) => metadata));
const same = (seq: number): Seqs => ({ updateSeq: seq, purgeSeq: seq, localSeq: seq });

class Family {
  readonly forest = new FileForest(seededRandom(1));

  /** With as many writes of each kind. */
  written(file: ForestFile, count: number): ForestFile {
    return this.forest.writes(file, count);
  }

  /** The parts of a file, each written to so often. */
  parts(file: ForestFile, count: number, writes: number): [ForestFile, ForestFile, ForestFile] {
    const all = this.forest.split(file, count).map((part) => this.written(part, writes));
    const [first, second, third] = all;
    if (first === undefined || second === undefined) throw new RangeError('a split makes two');
    return [first, second, third ?? second];
  }

  whole(writes: number): ForestFile {
    return this.written(this.forest.file(FULL_RANGE), writes);
  }
}

t.test('of what was split and nothing else', (t) => {
  const family = new Family();
  const { forest } = family;
  const [left, right] = family.parts(family.whole(10), 2, 3);
  t.strictSame(cuts([left, right]), same(10), 'halves');
  const more = forest.write(forest.write(family.whole(0), ['purgeSeq']), ['localSeq', 'purgeSeq']);
  t.strictSame(
    cuts(forest.split(more, 2)),
    { updateSeq: 0, purgeSeq: 2, localSeq: 1 },
    'each kind of seq has its own',
  );
  const thirds = family.parts(family.whole(10), 3, 3);
  t.strictSame(cuts(thirds), same(10), 'thirds');
  t.strictSame(cuts(thirds.slice(0, 2)), same(10), 'two of three');
  const two = family.written(forest.merge(...thirds.slice(0, 2)), 2);
  t.strictSame(cuts([two, thirds[2]]), same(10), 'two that were merged, and the third one');
  const [a, b] = family.parts(left, 2, 5);
  t.strictSame(cuts([a, b]), same(13), 'quarters of one half');
  t.strictSame(cuts([b, right]), same(10), 'a quarter and the other half');
  t.strictSame(cuts([a, b, right]), same(10), 'both and the other half');
  const back = family.written(forest.merge(a, b), 2);
  t.strictSame(back.metadata.lineage.at(-1)?.base, same(13));
  t.strictSame(cuts([back, right]), same(10), 'what the quarters were merged into');
  const [c, d] = family.parts(right, 2, 1);
  t.strictSame(cuts([back, c]), same(10), 'of different depths');
  t.strictSame(cuts([back, forest.merge(c, d)]), same(10), 'merges of both sides');
  const [e, f] = family.parts(family.written(forest.merge(back, right), 1), 2, 1);
  t.strictSame(cuts([e, f]), e.metadata.lineage.at(-1)?.cut, 'and the split after that');
  t.strictSame(cuts([forest.compact(e), f]), cuts([e, f]), 'a compacted one');
  t.end();
});

t.test('of what has nothing in common, or is alone', (t) => {
  const family = new Family();
  const { forest } = family;
  const low = family.written(forest.file(LOW), 5);
  t.strictSame(cuts([low, family.written(forest.file(MIDDLE), 5)]), same(0), 'strangers');
  t.strictSame(cuts([]), same(0));
  const [left, right] = family.parts(family.whole(10), 2, 3);
  t.strictSame(cuts([left]), same(0));
  t.strictSame(
    cuts([left, family.written(forest.file(HIGH), 5)]),
    same(0),
    'a half and a stranger',
  );
  const [a, b] = family.parts(left, 2, 2);
  t.strictSame(cuts([a, b, family.written(forest.file(HIGH), 5)]), same(0), 'and two of one');
  t.strictSame(cuts([right, family.parts(family.whole(10), 2, 3)[0]]), same(0), 'other parents');
  t.end();
});

t.test('of what was merged with a stranger', (t) => {
  const family = new Family();
  const { forest } = family;
  const stranger = family.written(forest.file(LOW), 50);
  const parent = family.written(forest.file({ start: MIDDLE.start, end: HIGH.end }), 10);
  const [left, right] = family.parts(parent, 3, 2);
  const mixed = family.written(forest.merge(stranger, left), 1);
  t.strictSame(cuts([mixed, right]), same(0), 'with the stranger in it');
  // All of what is not the stranger's, and some of what is.
  const [, rest] = family.parts(mixed, 2, 1);
  t.strictSame(cuts([rest, right]), same(0), 'with what was beside the stranger only');
  const all = family.written(forest.merge(rest, right), 1);
  const [one, other] = family.parts(all, 2, 1);
  t.strictSame(cuts([one, other]), all.counters, 'and of one again');
  t.end();
});

t.test('a merge in between left only so much as it was', (t) => {
  const family = new Family();
  const { forest } = family;
  const [a, b, c] = family.parts(family.whole(10), 3, 3);
  const [left, right] = family.parts(family.written(forest.merge(a, b), 2), 2, 2);
  const cut = left.metadata.lineage.at(-1)?.cut;
  t.strictSame(cuts([left, right]), cut);
  // What came after the first split got other seqs there, in one of them and not in the other.
  const shifted = family.written(forest.merge(right, c), 2);
  t.strictSame(shifted.metadata.lineage.at(-1)?.base, same(10));
  t.strictSame(cuts([left, shifted]), same(10));
  const [half] = family.parts(shifted, 2, 1);
  t.strictSame(cuts([left, half]), same(10), 'nor in a part of that');
  t.end();
});

t.test('of files that were kept and used once more', (t) => {
  const family = new Family();
  const { forest } = family;
  const whole = family.whole(10);
  const [left, right] = family.parts(whole, 2, 7);
  const [, sameCut] = family.parts(whole, 2, 3);
  t.strictSame(cuts([left, sameCut]), same(10), 'split twice at one cut');
  const [earlier, later] = family.parts(family.written(whole, 4), 2, 3);
  t.strictSame(cuts([left, later]), same(0), 'split twice at different cuts');
  t.strictSame(cuts([earlier, right]), same(0), 'split twice at different cuts');
  t.strictSame(cuts([earlier, later]), same(14));
  // Each half is merged with two others.
  const merges = [
    forest.merge(left, right),
    forest.merge(left, sameCut),
    forest.merge(left, later),
  ];
  for (const [n, one] of merges.entries()) {
    const [first, second] = family.parts(one, 2, 1);
    t.strictSame(cuts([first, second]), one.counters);
    for (const other of merges.slice(n + 1)) {
      const [, apart] = family.parts(other, 2, 1);
      const mixed = forest.merge(first, apart);
      t.ok(mixed.base.updateSeq <= 10, 'parts of different merges');
    }
  }
  t.end();
});

t.test('lineages that do not say the same, or not enough', (t) => {
  const family = new Family();
  const [left, right] = family.parts(family.whole(10), 2, 3);
  const quarters = family.parts(left, 2, 2).slice(0, 2);
  const metadata = (file: ForestFile) => file.metadata;
  const family3 = [...quarters, right].map(metadata);
  t.strictSame(commonCuts(family3), same(10));
  const other = { parentCount: 2, parentIndex: 1, base: same(20), cut: same(9) };
  for (const [name, value] of Object.entries(other)) {
    const [first, ...others] = family3.map((shard, at) => ({
      ...shard,
      // Of the half, which has no part in what is common.
      lineage: shard.lineage.map((parent, n) =>
        at === 0 && n === 1 ? { ...parent, [name]: value } : parent,
      ),
    }));
    if (first === undefined) throw new RangeError('there are three');
    t.strictSame(commonCuts([first, ...others]), same(0), `another ${name}`);
  }
  const grown = family3.map((shard) => ({ ...shard, range: FULL_RANGE }));
  t.strictSame(commonCuts(grown), same(10), 'what was split had all of it');
  const more = [left, right].map(({ metadata: { range, lineage } }) => ({
    range,
    lineage: lineage.map((parent) => ({ ...parent, range: { ...range, end: range.end - 1 } })),
  }));
  t.strictSame(commonCuts(more), same(0), 'what was split had not all of it');
  t.end();
});

t.test('of files that do not say their purge and local seqs', (t) => {
  const family = new Family();
  const old = family.parts(family.whole(10), 2, 3).map(({ metadata: { range, lineage } }) => ({
    range,
    lineage: lineage.map((parent) => ({ ...parent, cut: { ...same(0), updateSeq: 10 } })),
  }));
  t.strictSame(commonCuts(old), { ...same(0), updateSeq: 10 });
  t.end();
});

/** What a random history does to its files. */
class History {
  readonly #random: () => number;
  readonly #forest: FileForest;
  #files: ForestFile[];
  /** How many merges there were, and how many of them left anything as it was. */
  merges = 0;
  kept = 0;

  constructor(random: () => number) {
    this.#random = random;
    this.#forest = new FileForest(random);
    this.#files = [LOW, MIDDLE, HIGH].map((range) => this.#forest.file(range));
  }

  step(): void {
    const dice = this.#random();
    const source = this.#any();
    if (dice < 0.15) this.#become([source], this.#forest.split(source, 2 + this.#below(2)));
    else if (dice < 0.4) this.#merge(source);
    else if (dice < 0.45) this.#become([source], [this.#forest.compact(source)]);
    else this.#replace([source], [this.#forest.writes(source, 1 + this.#below(3))]);
    while (this.#files.length > FILES_MAX) this.#files.splice(this.#below(FILES_MAX), 1);
  }

  #merge(first: ForestFile): void {
    const sources = [first];
    for (let more = 1 + this.#below(2); more > 0; more--) {
      const end = sources.at(-1)?.metadata.range.end ?? 0;
      const next = this.#files.filter(({ metadata }) => metadata.range.start === end + 1);
      const [source] = next.slice(this.#below(Math.max(1, next.length)));
      if (source !== undefined) sources.push(source);
    }
    if (sources.length === 1) return;
    const merged = this.#forest.merge(...sources);
    this.merges++;
    if (merged.base.updateSeq > 0) this.kept++;
    this.#become(sources, [merged]);
  }

  /** The sources stay now and then. */
  #become(sources: readonly ForestFile[], targets: readonly ForestFile[]): void {
    this.#replace(this.#random() < 0.7 ? sources : [], targets);
  }

  #replace(sources: readonly ForestFile[], targets: readonly ForestFile[]): void {
    this.#files = [...this.#files.filter((file) => !sources.includes(file)), ...targets];
  }

  #any(): ForestFile {
    const [file] = this.#files.slice(this.#below(this.#files.length));
    if (file === undefined) throw new RangeError('there are no files');
    return file;
  }

  #below(count: number): number {
    return randomInt(this.#random, count);
  }
}

function runHistories(t: Test, seed: number): { merges: number; kept: number } {
  const total = { merges: 0, kept: 0 };
  for (let n = 0; n < HISTORIES; n++) {
    const history = new History(seededRandom(seed + n));
    try {
      for (let step = 0; step < STEPS; step++) history.step();
    } catch (error) {
      t.fail(`history ${n}: ${String(error)}`);
    }
    total.merges += history.merges;
    total.kept += history.kept;
  }
  return total;
}

t.test('no history of files makes one seq of two', (t) => {
  const { merges, kept } = runHistories(t, seedOf(t));
  t.ok(merges > HISTORIES, `${merges} merges`);
  t.ok(kept > merges / 20, `${kept} of them kept seqs`);
  t.end();
});
