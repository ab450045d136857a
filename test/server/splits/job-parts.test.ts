/**
 * Goal: ids, times, records and histories of jobs are as they are said to be.
 * Method: CouchDB's own ids; the calendar of JavaScript; records that are damaged one member at a time.
 */
import t from 'tap';
import { DivanError } from '../../../engine/errors.js';
import { parseRate } from '../../../engine/rewrite/rate.js';
import type { SplitJob } from '../../../server/splits/job.js';
import { EVENTS_MAX, withEvent } from '../../../server/splits/job-events.js';
import { describeError, isMendable, retryDelayMs } from '../../../server/splits/job-failure.js';
import { jobIdOf } from '../../../server/splits/job-id.js';
import { jobRecord, readJob } from '../../../server/splits/job-record.js';
import { formatMicroseconds, formatSeconds } from '../../../server/splits/timestamp.js';

const NODE = 'node1@127.0.0.1';

const JOB: SplitJob = {
  id: '001-a',
  type: 'split',
  node: NODE,
  database: 'db',
  incarnation: 'i',
  sources: ['shards/00000000-ffffffff/db.1.divan'],
  to: { name: 'node2@127.0.0.1', identity: 'b' },
  handover: { run: 'r', length: 5, crc: 6 },
  targets: [
    { range: { start: 0, end: 0x7fffffff }, file: 'shards/00000000-7fffffff/db.1.divan' },
    { range: { start: 0x80000000, end: 0xffffffff }, file: 'shards/80000000-ffffffff/db.1.divan' },
  ],
  rate: 5000,
  verify: true,
  keepSource: false,
  state: 'running',
  phase: 'topoff1',
  reason: 'r',
  error: 'e',
  retries: 2,
  copied: [{ updateSeq: 1, purgeSeq: 2, localSeq: 3 }],
  writePauseMs: 1.5,
  created: 1,
  started: 2,
  updated: 3,
  events: [{ time: 1, type: 'new', detail: undefined }],
};

t.test("ids are CouchDB's", async (t) => {
  const none = () => false;
  const vectors = [
    [
      'shards/00000000-7fffffff/db1.1554242778',
      'node1@127.0.0.1',
      'ef512cfb502a1c6079fe17e9dfd5d6a2befcc694a146de468b1ba5339ba1d134',
    ],
    [
      'shards/00000000-7fffffff/db1.1554242778',
      'node2@127.0.0.1',
      'cec63704a7b33c6da8263211db9a5c74a1cb585d1b1a24eb946483e2075739ca',
    ],
    [
      'shards/80000000-ffffffff/db3.1554148353',
      'node1@127.0.0.1',
      '30d7848a6feeb826d5e3ea5bb7773d672af226fd34fd84a8fb1ca736285df557',
    ],
    [
      'shards/00000000-1fffffff/d1.1553786862',
      'node1@127.0.0.1',
      '171d1211418996ff47bd610b1d1257fc4ca2628868def4a05e63e8f8fe50694a',
    ],
  ] as const;
  for (const [shard, node, hash] of vectors) t.equal(jobIdOf([shard], node, none), `001-${hash}`);
  const taken = new Set<string>();
  const next = () => {
    const id = jobIdOf(['a'], NODE, (id) => taken.has(id));
    taken.add(id);
    return id;
  };
  t.equal(new Set([next(), next(), next()]).size, 3, 'each job of a shard has an id of its own');
});

t.test("times are those of JavaScript's calendar", async (t) => {
  t.equal(formatMicroseconds(1548268577951228), '2019-01-23T18:36:17.951228Z');
  t.equal(formatMicroseconds(1000001), '1970-01-01T00:00:01.000001Z');
  for (let day = 0; day < 80_000; day += 13) {
    const seconds = day * 86_400 + (day % 86_400);
    const expected = new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
    if (formatSeconds(seconds) !== expected) t.equal(formatSeconds(seconds), expected);
  }
  for (const text of ['2000-02-29', '2100-02-28', '2100-03-01', '2024-12-31', '1970-01-01']) {
    t.equal(formatSeconds(Date.parse(text) / 1000), `${text}T00:00:00Z`);
  }
});

t.test('a record is read as it was written, and strictly', async (t) => {
  const text = JSON.stringify(jobRecord(JOB));
  t.same(readJob(JSON.parse(text)), JOB);
  const optional = [
    'to',
    'handover',
    'rate',
    'reason',
    'error',
    'copied',
    'writePauseMs',
    'started',
  ];
  const members = Object.keys(JOB);
  for (const name of members) {
    for (const value of [undefined, -1, '', {}, [{}], 'x', null]) {
      const damaged: Record<string, unknown> = JSON.parse(text);
      if (value === undefined) delete damaged[name];
      else damaged[name] = value;
      const isText = typeof value === 'string' && typeof Reflect.get(JOB, name) === 'string';
      const isFine = value === undefined ? optional.includes(name) : isText;
      if (isFine && !['type', 'state', 'phase'].includes(name)) {
        t.doesNotThrow(() => readJob(damaged), `${name}: ${value}`);
      } else t.throws(() => readJob(damaged), { code: 'CORRUPT' }, `${name}: ${String(value)}`);
    }
  }
  for (const record of [undefined, null, 3, [], 'x', {}]) {
    t.throws(() => readJob(record), { code: 'CORRUPT' });
  }
  const files = ['../a', 'shards/x/db.1.divan', 'shards/00000000-ffffffff/a/b.divan'];
  for (const file of files) {
    t.throws(() => readJob({ ...JSON.parse(text), sources: [file] }), { code: 'CORRUPT' }, file);
  }
});

t.test('histories are bounded', async (t) => {
  let events = withEvent([], { time: 1, type: 'new', detail: undefined });
  events = withEvent(events, { time: 2, type: 'running', detail: 'a' });
  events = withEvent(events, { time: 3, type: 'running', detail: 'a' });
  t.same(
    events.map(({ time }) => time),
    [1, 3],
    'what happens again is told once',
  );
  for (let time = 4; time < 1000; time++) {
    events = withEvent(events, { time, type: 'running', detail: String(time) });
  }
  t.equal(events.length, EVENTS_MAX);
  t.equal(events.at(-1)?.time, 999);
});

t.test('what is worth another try', async (t) => {
  for (const code of ['IO', 'NO_SPACE', 'LOCKED', 'FAILED', 'WORKER', 'ABORTED'] as const) {
    t.ok(isMendable(new DivanError(code, 'x')), code);
  }
  const lasting = ['CHECKSUM', 'CORRUPT', 'VERIFY_FAILED', 'NOT_FOUND', 'INVALID_RANGE'] as const;
  for (const code of lasting) t.notOk(isMendable(new DivanError(code, 'x')), code);
  t.notOk(isMendable(new TypeError('x')));
  t.same(
    [1, 2, 3, 4].map((retry) => retryDelayMs(10_000, retry)),
    [10_000, 20_000, 40_000, 80_000],
  );
  t.equal(retryDelayMs(10_000, 1000), 600_000);
  const error = new DivanError('CHECKSUM', 'bad bytes', { path: 'a.divan', pos: 4711 });
  t.equal(describeError(error), 'bad bytes, file a.divan, offset 4711');
  t.equal(describeError(new DivanError('IO', 'a.divan: x', { path: 'a.divan' })), 'a.divan: x');
  t.equal(describeError(new Error('x')), 'x');
});

t.test('rates', async (t) => {
  const rates: readonly (readonly [string, number | undefined])[] = [
    ['50MB/s', 50e6],
    ['500 kB/s', 500e3],
    ['1.5g', 1.5e9],
    ['2048', 2048],
    ['1000', undefined],
    ['fast', undefined],
    ['-5MB', undefined],
    ['', undefined],
    ['1e9', undefined],
  ];
  for (const [text, rate] of rates) t.equal(parseRate(text), rate, text);
});
