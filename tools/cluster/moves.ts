/** Moves all shards off a node, some at a time, and follows how far that is. */
import { setTimeout as delay } from 'node:timers/promises';
import { DivanError } from '../../engine/errors.js';
import { assertNotAborted, type CommandContext } from '../command.js';
import { Progress } from '../progress.js';
import { type AdminClient, memberOf } from './admin-client.js';
import { jobsOf, nodesOf, numberOf, placesOf } from './report.js';
import { type HeldShard, heldShards, Targets } from './targets.js';

/** So many jobs wait or work at once; the node itself decides how many of them work. */
const UNDER_WAY_MAX = 4;
const LOOK_MS = 250;

/** It is not there (any more), another job has it, too many jobs wait. */
const LATER = new Set([404, 409, 429]);

/** A job that was made, or was there. */
interface Move {
  readonly id: string;
  readonly shard: string;
  docs: number;
  bytes: number;
}

export class Moves {
  readonly #context: CommandContext;
  readonly #node: AdminClient;
  readonly #from: string;
  readonly #progress: Progress;
  /** By their shard. */
  readonly #underWay = new Map<string, Move>();
  #ended = 0;
  #lastRefusal: string | undefined;
  #doneDocs = 0;
  #doneBytes = 0;
  #totalBytes = 0;

  constructor(context: CommandContext, node: AdminClient, from: string) {
    this.#context = context;
    this.#node = node;
    this.#from = from;
    this.#progress = new Progress(context.host, context.json);
  }

  /** How many moves go on. */
  get underWay(): number {
    return this.#underWay.size;
  }

  /** Why a shard could not be moved yet, the last time that it could not. */
  get lastRefusal(): string | undefined {
    return this.#lastRefusal;
  }

  /** Ends what is shown. */
  stop(): void {
    this.#progress.stop();
  }

  /**
   * Moves what the node holds now. Returns how many moves came to their end. Throws `FAILED` if one fails or was stopped,
   * `UNAVAILABLE` if no node takes a shard, `ABORTED`, and what `AdminClient.call` throws.
   */
  async run(): Promise<number> {
    const held = await heldShards(this.#node, this.#from);
    if (held.length === 0) return 0;
    const before = this.#ended;
    await this.#findThoseUnderWay();
    const targets = await this.#targetsFor(held);
    const waiting = held.filter(({ shard }) => !this.#underWay.has(shard));
    while (waiting.length > 0 || this.#underWay.size > 0) {
      assertNotAborted(this.#context.signal);
      while (this.#underWay.size < UNDER_WAY_MAX) {
        const next = waiting.shift();
        if (next === undefined) break;
        await this.#begin(next, targets);
      }
      await this.#look();
      if (this.#underWay.size > 0) await delay(LOOK_MS);
    }
    return this.#ended - before;
  }

  /** Those of an earlier run of the command, or of somebody else. */
  async #findThoseUnderWay(): Promise<void> {
    const { jobs } = await jobsOf(this.#node);
    for (const { id, type, node, state, sources } of jobs) {
      const [shard] = sources;
      const isOver = state === 'completed' || state === 'failed';
      if (type !== 'move' || node !== this.#from || isOver || shard === undefined) continue;
      this.#underWay.set(shard, { id, shard, docs: 0, bytes: 0 });
    }
  }

  /** Only nodes that are reached take shards. */
  async #targetsFor(held: readonly HeldShard[]): Promise<Targets> {
    const nodes = await nodesOf(this.#node);
    const staying = nodes.filter(
      ({ name, problem }) => name !== this.#from && problem === undefined,
    );
    const leaving = nodes.find(({ name }) => name === this.#from);
    this.#totalBytes = this.#doneBytes + (leaving?.bytes ?? 0);
    const targets = new Targets(new Map(staying.map(({ name, shards }) => [name, shards ?? 0])));
    for (const database of new Set(held.map((shard) => shard.database))) {
      const places = await placesOf(this.#node, database);
      for (const nodes of places?.values() ?? []) {
        for (const name of nodes) targets.note(database, name);
      }
    }
    return targets;
  }

  /** A shard that is gone, split or moved meanwhile is left to the next round. */
  async #begin({ database, shard }: HeldShard, targets: Targets): Promise<void> {
    const target = targets.take(database);
    if (target === undefined) {
      throw new DivanError('UNAVAILABLE', 'no node that stays can be reached');
    }
    const body = { type: 'move', node: this.#from, shard, target };
    const reply = await this.#node.ask('POST', '/_shard_splits/jobs', body);
    const isStopped = memberOf(reply.body, 'error') === 'stopped';
    if (!isStopped && LATER.has(reply.status)) {
      this.#lastRefusal = String(memberOf(reply.body, 'reason'));
      return;
    }
    if (reply.status !== 201) throw this.#node.failure(`to move ${shard} to ${target}`, reply);
    this.#underWay.set(shard, {
      id: String(memberOf(reply.body, 'id')),
      shard,
      docs: 0,
      bytes: 0,
    });
  }

  async #look(): Promise<void> {
    for (const move of [...this.#underWay.values()]) {
      const reply = await this.#node.ask('GET', `/_shard_splits/jobs/${move.id}`);
      if (reply.status !== 200 && reply.status !== 404) {
        throw this.#node.failure(`how far the move of ${move.shard} is`, reply);
      }
      this.#note(move, reply.status === 404 ? undefined : reply.body);
    }
    let docs = this.#doneDocs;
    let bytes = this.#doneBytes;
    for (const move of this.#underWay.values()) {
      docs += move.docs;
      bytes += move.bytes;
    }
    const bytesTotal = Math.max(this.#totalBytes, bytes);
    const known = { docsDone: docs, docsTotal: docs, bytesDone: bytes, bytesTotal };
    this.#progress.show({ phase: 'move', ...known });
  }

  /** What a job says of itself; undefined if it was removed. */
  #note(move: Move, job: unknown): void {
    const info = memberOf(job, 'state_info');
    move.docs = numberOf(info, 'documents_done') ?? move.docs;
    move.bytes = numberOf(info, 'bytes_done') ?? move.bytes;
    const state = job === undefined ? 'removed' : memberOf(job, 'job_state');
    if (state === 'failed' || state === 'stopped') {
      this.#underWay.delete(move.shard);
      const reason = memberOf(info, 'reason');
      const why = typeof reason === 'string' ? `: ${reason}` : '';
      throw new DivanError(
        'FAILED',
        `the move of ${move.shard} is ${state}${why} (job ${move.id})`,
      );
    }
    if (state !== 'completed' && state !== 'removed') return;
    this.#underWay.delete(move.shard);
    this.#ended++;
    this.#doneDocs += move.docs;
    this.#doneBytes += move.bytes;
    if (state === 'removed') return;
    const { json } = this.#context;
    const target = String(memberOf(job, 'target_node'));
    // A bar would be torn apart by lines.
    if (json) {
      process.stdout.write(`${JSON.stringify({ moved: move.shard, to: target })}\n`);
    } else if (process.stderr.isTTY !== true) {
      process.stdout.write(`${move.shard} is moved to ${target}\n`);
    }
  }
}
