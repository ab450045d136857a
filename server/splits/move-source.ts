/**
 * The node that has a shard which is moved to another one: sends its bytes while it is used, and hands it over. `README.md` says in which steps, and
 * what each of them leaves if it is the last.
 */
import { join } from 'node:path';
import { DivanError, type ErrorCode, isDivanError } from '../../engine/errors.js';
import { RATE_MIN } from '../../engine/rewrite/rate.js';
import { parseRange } from '../../engine/shard/hash.js';
import type { CallHandlers, Node, PeerCalls } from '../cluster/peers.js';
import type { Membership } from '../cluster/shared-records.js';
import type { Config } from '../config/config.js';
import type { Database } from '../databases/database.js';
import type { ShardHandover } from '../databases/shard-handover.js';
import type { ShardPool } from '../databases/shard-pool.js';
import type { ShardSlot } from '../databases/shard-slot.js';
import { type JsonObject, memberOf, optionalInteger, requiredString } from '../http/json-value.js';
import { settledOrAborted } from '../settled-or-aborted.js';
import type { EventLoopWatch, ServerWorld } from '../world.js';
import type { Handover, JobContext, JobDestination, SplitJob } from './job.js';
import { Pacer } from './pacer.js';
import { isForward } from './phases.js';
import { ShardTransfer } from './shard-transfer.js';

export interface MoveSourceParts {
  readonly world: ServerWorld;
  readonly config: Config;
  readonly dataDir: string;
  readonly pool: ShardPool;
  readonly handover: ShardHandover;
  readonly membership: Membership;
  readonly calls: PeerCalls;
  readonly watchEventLoop: (() => EventLoopWatch) | undefined;
}

const CALL_MS = 10_000;
/** For so long writes wait for the other node to take the shard; then they are refused until it is known whether it did. */
const TAKE_MS = 2000;
const AGAIN_MS = 100;
const AGAIN_MS_MAX = 5000;
const COUNT = { min: 0, max: Number.MAX_SAFE_INTEGER };

/** After these it is not known what the other node did. */
const UNCERTAIN: ReadonlySet<ErrorCode> = new Set([
  'ABORTED',
  'CLOSED',
  'PEER',
  'UNAVAILABLE',
  'UNREACHABLE',
]);

/** What asks the node that a shard is moved to. */
export class MoveCalls {
  readonly #calls: PeerCalls;
  readonly #find: () => Node | undefined;
  readonly #rest: JsonObject;

  /** `find`: the node, undefined once it is no member any more. */
  constructor(calls: PeerCalls, find: () => Node | undefined, rest: JsonObject) {
    this.#calls = calls;
    this.#find = find;
    this.#rest = rest;
  }

  /** False once the node has left the cluster, which is for good: nobody hears it any more. */
  get isMember(): boolean {
    return this.#find() !== undefined;
  }

  /** Throws what the other node throws, and as `PeerCalls.call`. */
  async ask(name: string, head: JsonObject = {}, timeoutMs = CALL_MS): Promise<JsonObject> {
    const whole = { ...this.#rest, ...head };
    return this.#calls.call(this.#member, `move/${name}`, whole, { timeoutMs });
  }

  async send(head: JsonObject, bytes: Uint8Array): Promise<void> {
    const whole = { ...this.#rest, ...head };
    const options = { timeoutMs: CALL_MS };
    const reply = await this.#calls.open(this.#member, 'move/bytes', whole, once(bytes), options);
    await reply.body.return();
  }

  get #member(): Node {
    const node = this.#find();
    if (node !== undefined) return node;
    throw new DivanError('NOT_FOUND', NO_MEMBER);
  }
}

const NO_MEMBER = 'the node that the shard was to be moved to is no member of the cluster any more';

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield bytes;
}

export class MoveSource {
  readonly #parts: MoveSourceParts;
  /** Of the jobs that run, by their ids. */
  readonly #pacers = new Map<string, Pacer>();
  /** Why shards take no writes because of a job, by its id. The same shard may take none for other reasons. */
  readonly #suspensions = new Map<string, DivanError>();
  #jobs: ReadonlyMap<string, { readonly job: SplitJob }> | undefined;

  constructor(parts: MoveSourceParts, handlers: CallHandlers) {
    this.#parts = parts;
    handlers.on('move/state', async ({ head }) => this.#stateOf(head));
  }

  /** The jobs of this node, which other nodes ask for. */
  attach(jobs: ReadonlyMap<string, { readonly job: SplitJob }>): void {
    this.#jobs = jobs;
  }

  /** Whether a shard may still come, and whether this node has given it up: it has no part of its range. */
  #stateOf(head: JsonObject): JsonObject {
    if (this.#jobs === undefined) throw new DivanError('UNAVAILABLE', 'the node is starting');
    const job = this.#jobs.get(requiredString(head, 'id'))?.job;
    const { handover } = this.#parts;
    const name = requiredString(head, 'database');
    const range = parseRange(requiredString(head, 'range'));
    const incarnation = requiredString(head, 'incarnation');
    const isGiven = !handover.overlaps(name, incarnation, range);
    // One that failed past the map can be resumed, unless its database is gone.
    const mayGoOn =
      job !== undefined && isForward(job.phase) && handover.isServed(name, incarnation);
    const isOver =
      job === undefined || ((job.state === 'failed' || job.state === 'completed') && !mayGoOn);
    return { needed: !isOver, given: isGiven };
  }

  /**
   * The node of a name, and how much room it has. Throws `BAD_REQUEST` for a name that no other node has, `UNAVAILABLE` if it can not be
   * reached.
   */
  async room(name: string): Promise<{ to: JobDestination; freeBytes: number }> {
    const { membership, calls } = this.#parts;
    const node = membership.named(name);
    if (node === undefined || node.identity === membership.self.identity) {
      throw new DivanError('BAD_REQUEST', '`target` must be the name of another node');
    }
    try {
      const answer = await calls.call(node, 'move/room', {}, { timeoutMs: CALL_MS });
      const freeBytes = optionalInteger(answer, 'freeBytes', COUNT) ?? 0;
      return { to: { name, identity: node.identity }, freeBytes };
    } catch (error) {
      if (!isDivanError(error, 'UNREACHABLE')) throw error;
      throw new DivanError('UNAVAILABLE', `${name} can not be reached: ${error.message}`);
    }
  }

  setRate(job: SplitJob, rate: number | undefined): void {
    const configured = this.#parts.config.get('reshard/rate');
    this.#pacers.get(job.id)?.setLimit(rate ?? (configured === 0 ? undefined : configured));
  }

  /** At a start, before anybody is served: a shard that the other node may have takes no writes. */
  hold(job: SplitJob): void {
    if (job.phase === 'update_shardmap' && this.#hasSource(job)) this.#suspend(job);
  }

  /** Resolves when the other node has the shard, and takes writes. Rejects as `JobRunner.run`. */
  async run(context: JobContext, database: Database): Promise<void> {
    const { phase } = context.job();
    if (phase === 'wait_source_close' || phase === 'source_delete') return;
    let endLeaving: (() => void) | undefined;
    const onLeaving = () => {
      endLeaving ??= database.beginLeaving();
    };
    let pauseMs: number | undefined;
    try {
      if (phase !== 'update_shardmap') {
        pauseMs = await this.#transfer(context, database, onLeaving);
      }
      onLeaving();
      if (this.#hasSource(context.job())) await this.#settle(context, database);
      await this.#confirm(context, database);
    } finally {
      endLeaving?.();
    }
    const writePauseMs = pauseMs ?? context.job().writePauseMs;
    await context.update({ phase: 'wait_source_close', writePauseMs });
  }

  /** Has the other node remove what it has of a shard that is not to come. If it is not reached it finds out by itself. */
  async discard(job: SplitJob): Promise<void> {
    try {
      await this.#callsOf(job).ask('cancel');
    } catch (error) {
      if (!isDivanError(error)) throw error;
    }
  }

  async #transfer(context: JobContext, database: Database, onLeaving: () => void): Promise<number> {
    const { world, watchEventLoop, config } = this.#parts;
    // Durable, so that a restart does not take up an earlier handover, of which it was not known whether it was written down.
    await context.update({ phase: 'initial_copy', handover: undefined });
    const job = context.job();
    const slot = this.#slotOf(job, database);
    this.#resume(job, slot);
    const release = await claim(slot, context.signal);
    const pacer = new Pacer({ host: world.host, workers: 1, loop: watchEventLoop?.() });
    this.#pacers.set(job.id, pacer);
    this.setRate(job, job.rate);
    const run = Buffer.from(world.host.randomBytes(8)).toString('hex');
    try {
      return await slot.write((shard, ending) => {
        const stop = AbortSignal.any([context.signal, database.ended, ending]);
        const transfer = new ShardTransfer({
          ...{ world, context, database, shard, stop, run, onLeaving },
          calls: this.#callsOf(job, run),
          rate: () => Math.max(pacer.throttle.rate, pacer.throttle.rate > 0 ? RATE_MIN : 0),
          capMs: config.get('reshard/max_write_pause'),
          handOver: (handover) => this.#handOver(context, database, handover),
        });
        return transfer.run();
      });
    } finally {
      pacer.close();
      this.#pacers.delete(job.id);
      release();
    }
  }

  /** Writes wait meanwhile. If it is not known afterwards whose the shard is, they are refused until it is. */
  async #handOver(context: JobContext, database: Database, handover: Handover): Promise<void> {
    await this.#intend(context, handover);
    const job = context.job();
    const calls = this.#callsOf(job);
    try {
      await calls.ask('take', { ...handover }, TAKE_MS);
      assertMember(calls);
      await this.#parts.handover.give(database, sourceOf(job));
    } catch (error) {
      if (!isDivanError(error)) throw error;
      this.#suspend(job);
      return;
    }
    // What is lost here is repeated; until then the other node refuses writes.
    await calls.ask('confirm', {}, TAKE_MS).catch(() => undefined);
  }

  /** From now on only the other node knows whose the shard is. If that can not be written down, writes go on when it is sure that it was not. */
  async #intend(context: JobContext, handover: Handover): Promise<void> {
    try {
      await context.update({ phase: 'update_shardmap', handover });
    } catch (error) {
      try {
        await context.update({ phase: 'topoff1', handover: undefined });
      } catch {
        this.#suspend(context.job());
      }
      throw error;
    }
  }

  /** Finds out whether the other node has taken the shard, or has it do so, until one of them has it and takes writes. */
  async #settle(context: JobContext, database: Database): Promise<void> {
    const job = context.job();
    const calls = this.#callsOf(job);
    const stop = AbortSignal.any([context.signal, database.ended]);
    for (let againMs = AGAIN_MS; ; againMs = Math.min(2 * againMs, AGAIN_MS_MAX)) {
      try {
        await calls.ask('take', { ...job.handover });
        assertMember(calls);
        const { settings } = database;
        await settings.whileSettled(() => this.#parts.handover.give(database, sourceOf(job)));
        return;
      } catch (error) {
        if (!isDivanError(error)) throw error;
        // Before this node has given the shard up nobody takes writes elsewhere: of a node that left there is nothing to know.
        const isOver = !calls.isMember || !UNCERTAIN.has(error.code);
        if (isOver && (await this.#isCancelled(calls))) {
          await this.#keep(context, database);
          throw error;
        }
      }
      await this.#sleep(againMs, stop);
    }
  }

  /** The shard does not go: it takes writes again. */
  async #keep(context: JobContext, database: Database): Promise<void> {
    await context.update({ phase: 'topoff1', handover: undefined });
    const job = context.job();
    this.#resume(job, this.#slotOf(job, database));
  }

  /** True when it is certain that the other node does not have the shard, and will not take it. */
  async #isCancelled(calls: MoveCalls): Promise<boolean> {
    if (!calls.isMember) return true;
    try {
      return memberOf(await calls.ask('cancel'), 'taken') === false;
    } catch (error) {
      if (!isDivanError(error)) throw error;
      return false;
    }
  }

  /** Resolves when the other node takes writes. */
  async #confirm(context: JobContext, database: Database): Promise<void> {
    const stop = AbortSignal.any([context.signal, database.ended]);
    const calls = this.#callsOf(context.job());
    for (let againMs = AGAIN_MS; ; againMs = Math.min(2 * againMs, AGAIN_MS_MAX)) {
      try {
        await calls.ask('confirm');
        return;
      } catch (error) {
        // Its file is all that is left of the shard, and stays.
        if (!isDivanError(error) || !calls.isMember) throw error;
      }
      await this.#sleep(againMs, stop);
    }
  }

  async #sleep(ms: number, stop: AbortSignal): Promise<void> {
    const { host } = this.#parts.world;
    let cancel = () => {};
    const over = new Promise<void>((resolve) => {
      cancel = host.setTimer(resolve, ms);
    });
    await settledOrAborted(over, stop);
    cancel();
    if (stop.aborted) throw new DivanError('ABORTED', 'the job was stopped');
  }

  #callsOf(job: SplitJob, run = job.handover?.run): MoveCalls {
    const { membership, calls } = this.#parts;
    const find = () => membership.find(job.to?.identity ?? '');
    return new MoveCalls(calls, find, { id: job.id, ...(run === undefined ? {} : { run }) });
  }

  #hasSource(job: SplitJob): boolean {
    return this.#parts.handover.has(job.database, job.incarnation, sourceOf(job));
  }

  #slotOf(job: SplitJob, database: Database): ShardSlot {
    const path = this.#path(job);
    const slot = database.shards.find(({ slot }) => slot.path === path)?.slot;
    if (slot !== undefined) return slot;
    throw new DivanError('NOT_FOUND', `the shard ${sourceOf(job)} is not there any more`, { path });
  }

  #suspend(job: SplitJob): void {
    const reason = `it is not known whether the shard is on ${job.to?.name} already, which does not answer`;
    const error = new DivanError('UNAVAILABLE', reason);
    this.#parts.pool.slot(this.#path(job)).suspend(error, error);
    this.#suspensions.set(job.id, error);
  }

  /** It may have come from another node that has not given it up yet: that is not for this job to end. */
  #resume({ id }: SplitJob, slot: ShardSlot): void {
    const suspension = this.#suspensions.get(id);
    this.#suspensions.delete(id);
    if (suspension !== undefined && slot.suspension === suspension) slot.resume();
  }

  #path(job: SplitJob): string {
    return join(this.#parts.dataDir, ...sourceOf(job).split('/'));
  }
}

function sourceOf({ sources }: SplitJob): string {
  return sources[0] ?? '';
}

/** Excludes compactions of a shard, once the one that goes on is done. */
export async function claim(slot: ShardSlot, signal: AbortSignal): Promise<() => void> {
  for (;;) {
    if (signal.aborted) throw new DivanError('ABORTED', 'the job was stopped');
    const release = slot.beginRewrite();
    if (release !== undefined) return release;
    if (slot.isRetired) throw new DivanError('NOT_FOUND', 'the shard is not there any more');
    await settledOrAborted(slot.rewritten(), signal);
  }
}

/** A shard is not given to a node that was removed meanwhile. Throws `UNREACHABLE`. */
function assertMember({ isMember }: MoveCalls): void {
  if (!isMember) throw new DivanError('UNREACHABLE', NO_MEMBER);
}
