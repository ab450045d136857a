/** One run of a move up to the map: the bytes of a shard go to another node, are compared there, and the rest goes while writes wait. */
import { DivanError } from '../../engine/errors.js';
import { DATA_START } from '../../engine/file/first-block.js';
import {
  type CopiedCommit,
  FileCopy,
  PIECE_BYTES,
  piecesOf,
  type Stretch,
} from '../../engine/rewrite/file-copy.js';
import { formatRange } from '../../engine/shard/hash.js';
import type { Shard } from '../../engine/shard/shard.js';
import type { Database } from '../databases/database.js';
import { type JsonObject, memberOf, optionalInteger, requiredStrings } from '../http/json-value.js';
import { settledOrAborted } from '../settled-or-aborted.js';
import type { ServerWorld } from '../world.js';
import { HASHES_MAX, hashOfPiece } from './arriving-file.js';
import type { Handover, JobContext } from './job.js';
import type { MoveCalls } from './move-source.js';
import { RateMeter } from './rate-meter.js';

/** Writes are held only when no more bytes are missing than this. */
const BEHIND_FEW = 256 * 1024;
/** If writers are faster than the sending, each piece is sent while they wait after so many rounds. */
const FREE_ROUNDS = 8;
/** The other node syncs after so many bytes, so that a loss of power there costs no more. */
const SYNC_BYTES = 32 * 1024 * 1024;
/** A piece that differs so often is not changed by a write that came late. */
const COMPARE_MAX = 3;
/** A handover that took too long is tried again after so long, and twice as long each time. */
const CUT_AGAIN_MS = 100;
const CUT_AGAIN_MS_MAX = 5000;
/** Requests that were begun before it was known that the shard is about to go have so long to be done. */
const LEAVE_MS = 200;
const COUNT = { min: 0, max: Number.MAX_SAFE_INTEGER };

export interface ShardTransferInput {
  readonly world: ServerWorld;
  readonly context: JobContext;
  readonly database: Database;
  readonly shard: Shard;
  readonly stop: AbortSignal;
  /** Unique to this run. */
  readonly run: string;
  readonly calls: MoveCalls;
  /** Bytes a second, 0 for no limit. */
  readonly rate: () => number;
  /** How long writes are held before it is written down that the shard goes. */
  readonly capMs: number;
  /** Called some time before the handover. */
  readonly onLeaving: () => void;
  /** Called while writes wait, when the other node has everything: hands the shard over, or sees to it that it takes no writes. */
  readonly handOver: (handover: Handover) => Promise<void>;
}

export class ShardTransfer {
  readonly #input: ShardTransferInput;
  readonly #meter = new RateMeter();
  #bytesDone = 0;
  #bytesTotal = 0;
  #unsynced = 0;
  /** When the next piece may be sent. */
  #nextMs = 0;

  constructor(input: ShardTransferInput) {
    this.#input = input;
  }

  /** Returns for how long writes waited. Rejects as `JobRunner.run`. */
  async run(): Promise<number> {
    const { shard, context } = this.#input;
    await shard.flush();
    const copy = new FileCopy(shard, await this.#begin());
    try {
      await this.#compare(copy, 1);
      await copy.round((pos, bytes) => this.#send(pos, bytes));
      await context.update({ phase: 'topoff1' });
      await this.#topOff(copy);
      await this.#compare(copy, COMPARE_MAX);
      await this.#topOff(copy);
      if (context.job().verify) await this.#check();
      // The less there is to be replayed, the sooner the other node has it open.
      await shard.flush();
      return await this.#cut(copy);
    } finally {
      copy.close();
    }
  }

  /** Returns how many bytes the other node has of an earlier run. */
  async #begin(): Promise<number> {
    const { database, context, shard, calls } = this.#input;
    const { incarnation, timestamp, maker, copies, hashRule } = database.map;
    const job = context.job();
    const [target] = job.targets;
    const suffix = Number(/\.(\d+)\.divan$/.exec(target?.file ?? '')?.[1] ?? timestamp);
    const answer = await calls.ask('begin', {
      database: job.database,
      ...{ incarnation, timestamp, copies, hashRule, suffix },
      ...(maker === undefined ? {} : { maker }),
      range: formatRange(shard.snapshot().metadata.range),
      fileId: Buffer.from(shard.file.block.fileId).toString('hex'),
    });
    const file = memberOf(answer, 'file');
    if (typeof file !== 'string' || target === undefined) {
      throw new DivanError('CONFLICT', 'the other node has the shard already');
    }
    if (file !== target.file) await context.update({ targets: [{ ...target, file }] });
    this.#bytesTotal = shard.file.end;
    return optionalInteger(answer, 'length', COUNT) ?? 0;
  }

  /** Has all pieces that the other node has be the same; `tries` times, then it is an error. */
  async #compare(copy: FileCopy, tries: number): Promise<void> {
    const batch = HASHES_MAX * PIECE_BYTES;
    for (let from: number = DATA_START; from < copy.copied; from += batch) {
      let unequal = [...piecesOf({ from, to: Math.min(from + batch, copy.copied) })];
      for (let left = tries; left > 0 && unequal.length > 0; left--) {
        unequal = await this.#sendUnequal(copy, unequal);
      }
      if (unequal.length === 0 || tries === 1) continue;
      const path = this.#input.shard.path;
      const reason = `the copy of ${path} is not as the source, though it was sent again`;
      throw new DivanError('VERIFY_FAILED', reason, { path, pos: unequal[0]?.from ?? 0 });
    }
  }

  /** Sends those pieces again that are not the same, and returns them. REQUIRES: they follow on one another, or are one. */
  async #sendUnequal(copy: FileCopy, pieces: readonly Stretch[]): Promise<Stretch[]> {
    const unequal: Stretch[] = [];
    for (const run of runsOf(pieces)) {
      const answer = await this.#input.calls.ask('hashes', { from: run.from, to: run.to });
      const hashes = requiredStrings(answer, 'hashes', HASHES_MAX);
      for (const [index, piece] of [...piecesOf(run)].entries()) {
        this.#assertGoingOn();
        const bytes = await copy.read(piece);
        if (hashOfPiece(bytes) === hashes[index]) {
          this.#report(bytes.length, false);
          continue;
        }
        unequal.push(piece);
        await this.#send(piece.from, bytes);
      }
    }
    return unequal;
  }

  async #topOff(copy: FileCopy): Promise<void> {
    const { shard } = this.#input;
    for (let round = 0; copy.behind > BEHIND_FEW; round++) {
      const isBraking = round >= FREE_ROUNDS;
      await copy.round((pos, bytes) =>
        isBraking ? shard.holdWrites(() => this.#sendNow(pos, bytes)) : this.#send(pos, bytes),
      );
      this.#bytesTotal = Math.max(this.#bytesTotal, copy.end);
    }
  }

  /** Has the other node look through the whole shard: what is damaged there is damaged here, since they are the same. */
  async #check(): Promise<void> {
    const { calls, shard } = this.#input;
    for (;;) {
      this.#assertGoingOn();
      const answer = await calls.ask('check');
      if (memberOf(answer, 'done') !== true) continue;
      const problem = memberOf(answer, 'problem');
      if (problem === '') return;
      throw new DivanError('CORRUPT', String(problem), { path: shard.path });
    }
  }

  async #cut(copy: FileCopy): Promise<number> {
    const { database, onLeaving } = this.#input;
    onLeaving();
    // Elsewhere requests are always ready to go after their documents.
    if (database.current.isWhole) await this.#sleep(LEAVE_MS);
    for (let againMs = CUT_AGAIN_MS; ; againMs = Math.min(2 * againMs, CUT_AGAIN_MS_MAX)) {
      await this.#topOff(copy);
      const pauseMs = await this.#tryToCut(copy);
      if (pauseMs !== undefined) return pauseMs;
      await this.#sleep(againMs);
    }
  }

  /** Returns how long writes waited; undefined if it would have been too long. */
  async #tryToCut(copy: FileCopy): Promise<number | undefined> {
    const { world, shard, database, capMs, run, handOver } = this.#input;
    const start = world.host.now();
    const isLate = () => world.host.now() - start > capMs;
    const isDone = await database.settings.whileSettled(() =>
      shard.handOver(async () => {
        const commit = await this.#lastRound(copy, isLate);
        if (commit === undefined || isLate()) return false;
        await handOver({ run, ...commit });
        return true;
      }),
    );
    return isDone ? world.host.now() - start : undefined;
  }

  /** Undefined if it became too late. What was sent by then counts: the next round sends the rest. */
  async #lastRound(copy: FileCopy, isLate: () => boolean): Promise<CopiedCommit | undefined> {
    let last: { readonly pos: number; readonly bytes: Uint8Array } | undefined;
    const commit = await copy.round(async (pos, bytes) => {
      if (last !== undefined) await this.#sendNow(last.pos, last.bytes);
      last = { pos, bytes };
    });
    if (last !== undefined) await this.#sendNow(last.pos, last.bytes, true);
    return isLate() ? undefined : commit;
  }

  async #send(pos: number, bytes: Uint8Array): Promise<void> {
    await this.#pace(bytes.length);
    this.#unsynced += bytes.length;
    const isDue = this.#unsynced >= SYNC_BYTES;
    if (isDue) this.#unsynced = 0;
    await this.#sendNow(pos, bytes, isDue);
  }

  async #sendNow(from: number, bytes: Uint8Array, sync = false): Promise<void> {
    this.#assertGoingOn();
    const head: JsonObject = { from, to: from + bytes.length, sync };
    await this.#input.calls.send(head, bytes);
    this.#report(bytes.length, true);
  }

  #assertGoingOn(): void {
    if (this.#input.stop.aborted) throw new DivanError('ABORTED', 'the job was stopped');
  }

  async #pace(bytes: number): Promise<void> {
    const { host } = this.#input.world;
    const now = host.now();
    if (this.#nextMs > now) await this.#sleep(this.#nextMs - now);
    const rate = this.#input.rate();
    if (rate > 0) this.#nextMs = Math.max(now, this.#nextMs) + (bytes / rate) * 1000;
  }

  async #sleep(ms: number): Promise<void> {
    const { world, stop } = this.#input;
    let cancel = () => {};
    const over = new Promise<void>((resolve) => {
      cancel = world.host.setTimer(resolve, ms);
    });
    await settledOrAborted(over, stop);
    cancel();
    this.#assertGoingOn();
  }

  #report(bytes: number, isSent: boolean): void {
    const { context, shard, world } = this.#input;
    this.#bytesDone = Math.min(this.#bytesDone + bytes, this.#bytesTotal);
    const share = this.#bytesTotal === 0 ? 0 : this.#bytesDone / this.#bytesTotal;
    const { liveDocs, deletedDocs } = shard.snapshot().counters;
    const bytesPerSecond = this.#meter.rateAt(world.host.now(), this.#bytesDone);
    const left = this.#bytesTotal - this.#bytesDone;
    const rate = this.#input.rate();
    context.report({
      docsDone: Math.floor((liveDocs + deletedDocs) * share),
      docsTotal: liveDocs + deletedDocs,
      bytesDone: this.#bytesDone,
      bytesTotal: this.#bytesTotal,
      percent: Math.floor(share * 100),
      bytesPerSecond,
      throttle: rate > 0 ? rate : undefined,
      etaSeconds: isSent && bytesPerSecond > 0 ? Math.ceil(left / bytesPerSecond) : undefined,
      behind: undefined,
    });
  }
}

/** Pieces that follow on one another as one stretch. */
function runsOf(pieces: readonly Stretch[]): Stretch[] {
  const runs: { from: number; to: number }[] = [];
  for (const { from, to } of pieces) {
    const last = runs.at(-1);
    if (last?.to === from) last.to = to;
    else runs.push({ from, to });
  }
  return runs;
}
