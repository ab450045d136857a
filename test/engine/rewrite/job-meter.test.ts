/**
 * Goal: what a rewrite says of its progress is near the truth on machines and with sources that differ from those it was measured
 * with. Method: reports as workers would make them on a machine of known speeds, by a virtual clock; percent and ETA against when
 * it all ended.
 */
import t from 'tap';
import { JobMeter, type JobProgress } from '../../../engine/rewrite/job-meter.js';
import type { RewriteProgress } from '../../../engine/rewrite/pipeline.js';
import { ZERO_COUNTERS } from '../../../engine/shard/state.js';
import { VirtualHost } from '../../support/virtual-host.js';

const REPORT_MS = 100;
const TICK_MS = 5;
const BODY_BYTES = 200;
const POINTS_MAX = 2;
const ETA_SHARE_MAX = 0.2;
const ETA_FROM = 0.1;
/** Reports come a while after what they tell of. */
const SLACK_MS = 2 * REPORT_MS;
/** How slow ids and the verify pass are is only guessed at first where documents take longer than they are known to. */
const POINTS_MAX_UNKNOWN = 4;

/** What a machine takes for a document, in microseconds. */
interface Machine {
  readonly written: number;
  /** The part of writing in which it waits for the disk. */
  readonly waiting: number;
  readonly id: number;
  readonly read: number;
  readonly idRead: number;
}

const MEASURED: Machine = { written: 0.6, waiting: 0.2, id: 0.22, read: 0.64, idRead: 0.32 };

/** All work that takes as many times as long. */
function slower(machine: Machine, factor: number): Machine {
  const { written, waiting, id, read, idRead } = machine;
  return {
    written: written * factor,
    waiting,
    id: id * factor,
    read: read * factor,
    idRead: idRead * factor,
  };
}

interface Said {
  readonly ms: number;
  readonly progress: JobProgress;
}

/** A split of so many documents, of which an earlier run had written some. */
class Run {
  readonly said: Said[] = [];
  readonly #host = new VirtualHost(1);
  readonly #meter: JobMeter;
  readonly #docs: number;
  readonly #machine: Machine;
  readonly #targets: number;
  readonly #reportedAt = new Map<number, number>();

  constructor(docs: number, machine: Machine, targets = 2) {
    this.#docs = docs;
    this.#machine = machine;
    this.#targets = targets;
    const shares = Array.from({ length: targets }, () => 1 / targets);
    this.#meter = new JobMeter(this.#host, {
      counters: { ...ZERO_COUNTERS, liveDocs: docs, activeBytes: docs * BODY_BYTES },
      bytesTotal: docs * BODY_BYTES * 2,
      verify: { shares: [1, ...shares], threads: 2, isHeldBack: false },
      onProgress: (progress) => this.said.push({ ms: this.#host.now(), progress }),
    });
  }

  /** Returns how long it took. */
  perform(docsBefore: number): number {
    this.#meter.begin('write', 1);
    this.#write(docsBefore);
    this.#meter.done(0);
    this.#reportedAt.clear();
    this.#meter.begin('verify', 1 + this.#targets);
    this.#verify();
    return this.#host.now();
  }

  #write(docsBefore: number): void {
    const { written, waiting, id } = this.#machine;
    const start = this.#host.now();
    const report = (progress: Partial<RewriteProgress>) => {
      const drainedMs = (this.#host.now() - start) * waiting;
      this.#report(0, { ...NOTHING, ...progress, drainedMs });
      this.#host.advance(REPORT_MS);
    };
    const rowsPerReport = Math.round((REPORT_MS * 1000) / written);
    for (let rows = docsBefore; rows < this.#docs; rows += rowsPerReport) report(rowsOf(rows));
    const idsPerReport = Math.round((REPORT_MS * 1000) / id);
    for (let ids = 0; ids < this.#docs; ids += idsPerReport) report({ pass: 1, entriesDone: ids });
  }

  /** As two threads do it: the source, and the targets one after the other. */
  #verify(): void {
    const docsOf = [this.#docs];
    for (let target = 0; target < this.#targets; target++) docsOf.push(this.#docs / this.#targets);
    const startMs = this.#host.now();
    const threads = [
      { task: 0, startMs },
      { task: 1, startMs },
    ];
    for (let next = 2; threads.some(({ task }) => task < docsOf.length); ) {
      for (const thread of threads) {
        const docs = docsOf[thread.task];
        if (docs === undefined) continue;
        const ms = this.#host.now() - thread.startMs;
        if (ms < this.#readMs(docs)) this.#report(thread.task, this.#reading(ms, docs));
        else {
          this.#meter.done(thread.task);
          thread.startMs += this.#readMs(docs);
          thread.task = next++;
        }
      }
      this.#host.advance(TICK_MS);
    }
  }

  #readMs(docs: number): number {
    return (docs * (this.#machine.read + this.#machine.idRead)) / 1000;
  }

  #reading(ms: number, docs: number): RewriteProgress {
    const { read, idRead } = this.#machine;
    const rows = Math.floor(Math.min(docs, (ms * 1000) / read));
    if (rows < docs) return { ...NOTHING, ...rowsOf(rows), rowsDone: rows };
    const entriesDone = Math.floor((ms * 1000 - docs * read) / idRead);
    return { ...NOTHING, ...rowsOf(docs), pass: 1, entriesDone, rowsDone: docs };
  }

  /** As workers do: not more often than now and then for each task. */
  #report(task: number, progress: RewriteProgress): void {
    const last = this.#reportedAt.get(task);
    if (last !== undefined && this.#host.now() - last < REPORT_MS) return;
    this.#reportedAt.set(task, this.#host.now());
    this.#meter.progress(task, progress);
  }
}

const NOTHING = { pass: 0, entriesDone: 0, bodyBytesDone: 0, bytesWritten: 0 };

function rowsOf(rows: number) {
  return { entriesDone: rows, bodyBytesDone: rows * BODY_BYTES };
}

function beyondSlack(ms: number): number {
  return Math.max(0, Math.abs(ms) - SLACK_MS);
}

for (const { name, docs, machine, targets, pointsMax = POINTS_MAX } of [
  { name: 'the machine that costs were measured on', docs: 2_000_000, machine: MEASURED },
  { name: 'many targets', docs: 10_000_000, machine: MEASURED, targets: 64 },
  { name: 'many small targets', docs: 1_000_000, machine: MEASURED, targets: 64 },
  { name: 'a long run', docs: 100_000_000, machine: MEASURED },
  {
    name: 'a machine of a third of the speed',
    docs: 2_000_000,
    machine: slower(MEASURED, 3),
    pointsMax: POINTS_MAX_UNKNOWN,
  },
  {
    name: 'a slow disk',
    docs: 10_000_000,
    machine: { ...MEASURED, written: 2, waiting: 0.75, id: 0.8 },
  },
  {
    name: 'a source whose documents take twice as long',
    docs: 10_000_000,
    machine: { ...MEASURED, written: 1.2, read: 1.5 },
    pointsMax: POINTS_MAX_UNKNOWN,
  },
]) {
  t.test(`percent and ETA: ${name}`, async (t) => {
    const run = new Run(docs, machine, targets);
    const whole = run.perform(0);
    let points = 0;
    let etaShare = 0;
    for (const { ms, progress } of run.said) {
      points = Math.max(points, (beyondSlack(progress.share * whole - ms) / whole) * 100);
      if (ms < ETA_FROM * whole) continue;
      const left = whole - ms;
      etaShare = Math.max(etaShare, beyondSlack((progress.secondsLeft ?? 0) * 1000 - left) / left);
    }
    t.comment(`${whole} ms: ${points.toFixed(1)} points, ETA ${Math.round(etaShare * 100)} %`);
    t.ok(points <= pointsMax, `percent within ${points.toFixed(1)} points`);
    t.ok(etaShare <= ETA_SHARE_MAX, `ETA within ${Math.round(etaShare * 100)} %`);
  });
}

t.test(
  'a run that goes on where another one stopped begins with what that one has done',
  async (t) => {
    const docs = 2_000_000;
    const whole = new Run(docs, MEASURED).perform(0);
    const run = new Run(docs, MEASURED);
    const left = run.perform(docs / 2);
    const known = run.said.find(({ progress }) => progress.secondsLeft !== undefined);
    t.ok(Math.abs((known?.progress.share ?? 0) - (1 - left / whole)) < 0.1, 'the share');
  },
);

t.test('the share never falls', async (t) => {
  const run = new Run(1_000_000, slower(MEASURED, 5));
  run.perform(0);
  const shares = run.said.map(({ progress }) => progress.share);
  t.strictSame(
    shares,
    [...shares].sort((a, b) => a - b),
  );
  t.ok((shares.at(-1) ?? 0) > 0.95, 'it ends near 1');
});
