// Goal: a since token says exactly what its holder saw, whatever becomes of the shards. Method: a model of random histories of shards and
// of readers that stop anywhere; what a token says of every row is compared with what its holder saw.
import t from 'tap';
import { isDivanError } from '../../../engine/errors.js';
import { ZERO_SEQS } from '../../../engine/shard/state.js';
import {
  coverageOf,
  Position,
  parseSince,
  tokenName,
  updateSeqOf,
} from '../../../server/databases/since-token.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';
import { type ModelShard, ShardHistory } from '../../support/shard-history.js';

const HISTORIES = 60;
const STEPS = 250;

/** A client that reads changes now and then. */
class Reader {
  token = '0';
  /** Of each document the version that was read last. */
  readonly seen = new Map<number, number>();
  readonly #history: ShardHistory;
  readonly #random: () => number;
  repeats = 0;
  /** Tokens that carried entries along that nobody needed. */
  needless = 0;

  constructor(history: ShardHistory, random: () => number) {
    this.#history = history;
    this.#random = random;
  }

  /** Reads shard by shard in runs, and stops after about `rows` rows; returns whether it read everything. */
  read(rows: number): boolean {
    const { shards } = this.#history;
    const position = new Position(parseSince(this.token), shards);
    const unread = shards.map((shard, index) => this.#unread(shard, position, index));
    let left = rows;
    while (unread.some((run) => run.length > 0)) {
      const index = randomInt(this.#random, shards.length);
      for (const [document, seq] of unread[index]?.splice(0, 3) ?? []) {
        if (left-- === 0) return false;
        this.#take(document);
        this.token = position.tokenAt(index, seq);
        position.move(index, seq);
        if (shards.every((_, at) => position.seqOf(at) >= position.coverage(at).to)) {
          if (this.token.includes('~')) this.needless++;
        }
      }
    }
    this.token = position.ofEverything();
    return true;
  }

  #unread(shard: ModelShard, position: Position, index: number): [number, number][] {
    const coverage = position.coverage(index);
    return [...shard.rows]
      .filter(([document, seq]) => !coverage.isSeen(seq, this.#history.hashes[document] ?? 0))
      .sort(([, a], [, b]) => a - b);
  }

  #take(document: number): void {
    const version = this.#history.versions[document] ?? 0;
    if (this.seen.get(document) === version) this.repeats++;
    this.seen.set(document, version);
  }

  /** Documents of which the token says anything else than what was seen. */
  wrong(): number[] {
    const { shards, hashes, versions } = this.#history;
    const seen = parseSince(this.token);
    return shards.flatMap((shard) => {
      const coverage = coverageOf(seen, shard);
      return [...shard.rows].flatMap(([document, seq]) => {
        const expected = this.seen.get(document) === versions[document];
        return coverage.isSeen(seq, hashes[document] ?? 0) === expected ? [] : [document];
      });
    });
  }
}

t.test('whatever becomes of the shards, a token covers what was read and nothing else', (t) => {
  const seed = seedOf(t);
  const carried = { count: 0 };
  for (let n = 0; n < HISTORIES; n++) {
    const random = seededRandom(seed + n);
    const history = new ShardHistory(random, 30, 1 + randomInt(random, 4));
    const readers = Array.from({ length: 4 }, () => new Reader(history, random));
    for (let step = 0; step < STEPS; step++) {
      history.step();
      for (const reader of readers) {
        if (random() < 0.1) {
          reader.read(randomInt(random, 12));
          if (reader.token.includes('~')) carried.count++;
        }
        const wrong = reader.wrong();
        if (wrong.length === 0 && reader.repeats === 0 && reader.needless === 0) continue;
        t.fail(`history ${n}, step ${step}: ${wrong}; ${reader.repeats}, ${reader.needless}`);
        t.end();
        return;
      }
    }
    for (const reader of readers) {
      while (!reader.read(5));
      if (reader.token !== updateSeqOf(history.shards)) t.fail('the last token is of everything');
    }
  }
  t.ok(carried.count > HISTORIES, `${carried.count} tokens carried entries of ancestors along`);
  t.end();
});

const shard = (uuid: number, updateSeq: number, start = 0, end = 0xffff_ffff) => ({
  metadata: { uuid: Buffer.alloc(16, uuid), range: { start, end }, lineage: [] },
  counters: { updateSeq },
});

t.test('the text of a token', (t) => {
  const shards = [shard(1, 35, 0, 0x7fff_ffff), shard(0xff, 36, 0x8000_0000)];
  t.equal(updateSeqOf(shards), '71-AQEBAQEBAQEBz.____________10');
  t.equal(updateSeqOf([shard(1, 0)]), '0-AQEBAQEBAQEB0');
  const position = new Position(parseSince('0'), shards);
  t.equal(position.tokenAt(1, 36), '36-AQEBAQEBAQEB0.____________10');
  t.equal(position.token(), '0-AQEBAQEBAQEB0.____________0', 'the position stayed');
  position.move(0, 35);
  t.equal(position.tokenAt(1, 1), '36-AQEBAQEBAQEBz.____________1');
  t.same([...position.seen().values()], [35, 0]);
  t.end();
});

t.test('what is no token is refused', (t) => {
  const good = '71-AQEBAQEBAQEBz.____________10';
  t.same([...parseSince(good).values()], [35, 36]);
  t.same(parseSince(`"${good}"`), parseSince(good), 'in quotes');
  t.equal(parseSince(`${good}~AQEBAQEBAQE_5`).get('AQEBAQEBAQE_'), 5);
  for (const start of ['0', '0-', '0-g1AAAACbeJzLYWBgYMpgTmHg', '"0"']) {
    t.equal(parseSince(start).size, 0, start);
  }
  const bad = [
    '',
    '1',
    '-1',
    '12',
    'now',
    'null',
    '1-',
    '71-AQEBAQEBAQEBz',
    '72-AQEBAQEBAQEBz.____________10',
    '071-AQEBAQEBAQEBz.____________10',
    '71-AQEBAQEBAQEBz.____________10.',
    '71-AQEBAQEBAQEBz.____________010',
    '71-AQEBAQEBAQEBZ.____________10',
    '70-AQEBAQEBAQEBz.AQEBAQEBAQEBz',
    `${good}~`,
    `${good}~AQEBAQEBAQEB1`,
    `${good}~AQEBAQEBAQE`,
    `${good}~AQEBAQEBAQE_1~AQEBAQEBAQE-1`,
    `${good}\n`,
    ` ${good}`,
    '9007199254740992-AQEBAQEBAQEB2gosa7pa2gw',
    '3-g1AAAACbeJzLYWBgYMpgTmHg',
    `[71,"AQEBAQEBAQEBz"]`,
    `1-${'AQEBAQEBAQEB1.'.repeat(10_000)}AQEBAQEBAQEB1`,
  ];
  for (const text of bad) {
    try {
      parseSince(text);
      t.fail(`${text.slice(0, 80)} was taken`);
    } catch (error) {
      t.ok(isDivanError(error, 'BAD_REQUEST'), text.slice(0, 80));
    }
  }
  t.same([...parseSince('9007199254740991-AQEBAQEBAQEB2gosa7pa2gv').values()], [2 ** 53 - 1]);
  t.end();
});

t.test(
  'a token of other files, or of more than a file ever held, stands for the beginning',
  (t) => {
    const known = shard(1, 35);
    const covered = (token: string) => coverageOf(parseSince(token), known).to;
    t.equal(covered(updateSeqOf([shard(2, 35)])), 0);
    t.equal(covered(updateSeqOf([shard(1, 36)])), 0, 'this file was set back');
    t.equal(covered(updateSeqOf([known])), 35);
    const parent = {
      ...{ fileId: Buffer.alloc(16), uuid: Buffer.alloc(16, 9), range: known.metadata.range },
      ...{ cut: { ...ZERO_SEQS, updateSeq: 20 }, parentCount: 1, parentIndex: 0, base: ZERO_SEQS },
    };
    const child = { ...known, metadata: { ...known.metadata, lineage: [parent] } };
    t.equal(coverageOf(new Map([[tokenName(parent.uuid), 20]]), child).to, 20);
    t.equal(coverageOf(new Map([[tokenName(parent.uuid), 21]]), child).to, 0);
    t.end();
  },
);

t.test('the first writes after a merge of empty shards were not seen', (t) => {
  const history = new ShardHistory(seededRandom(1), 20, 2);
  const token = updateSeqOf(history.shards);
  history.merge(0, 2);
  history.write(0);
  const [merged] = history.shards;
  if (merged === undefined) throw new RangeError('there is a shard');
  t.equal(coverageOf(parseSince(token), merged).isSeen(1, history.hashes[0] ?? 0), false);
  t.end();
});
