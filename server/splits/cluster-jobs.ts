/**
 * The jobs of all nodes, as any node sees them and does with them. A job is on one node, whose record it is; what is asked of a job goes
 * there. A node that can not be reached is named: what is asked of its jobs fails, and lists say that they lack them.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { CallHandlers, Node, PeerCalls } from '../cluster/peers.js';
import type { Membership } from '../cluster/shared-records.js';
import {
  type JsonArray,
  type JsonObject,
  type JsonValue,
  memberOf,
  objectOf,
  optionalInteger,
  optionalString,
  requiredArray,
  requiredString,
  requiredStrings,
} from '../http/json-value.js';
import { type JobForm, type JobOperation, type OwnJobs, READ_MAX } from './own-jobs.js';

export interface JobPeers {
  readonly membership: Membership;
  readonly calls: PeerCalls;
  readonly handlers: CallHandlers;
}

export interface NodeSummary {
  readonly node: string;
  readonly total: number;
  readonly working: number;
  /** By their states. */
  readonly counts: ReadonlyMap<string, number>;
  readonly stopReason: string | undefined;
}

export interface JobList {
  /** As they are shown. */
  readonly jobs: JsonArray;
  readonly offset: number;
  readonly total: number;
  /** The names of nodes whose jobs are not among them. */
  readonly unreachable: readonly string[];
}

interface Key {
  readonly node: Node;
  readonly created: number;
  readonly id: string;
}

/** What one node said, or why it did not. */
type Answer<T> =
  | { readonly node: Node; readonly value: T }
  | { readonly node: Node; readonly error: DivanError };

/** To find out. */
const ASK_MS = 5000;
/** To do something, which may wait for a run to end. */
const DO_MS = 30_000;
/** More nodes are asked one after another. */
const AT_ONCE = 16;
const COUNT = { min: 0, max: Number.MAX_SAFE_INTEGER };
const ANSWER_ENTRIES_MAX = 10_000;
/** So many jobs of a node are listed. */
const KEYS_MAX = 100_000;

export class ClusterJobs {
  readonly #own: OwnJobs;
  readonly #membership: Membership;
  readonly #calls: PeerCalls;

  constructor(own: OwnJobs, { membership, calls, handlers }: JobPeers) {
    this.#own = own;
    this.#membership = membership;
    this.#calls = calls;
    own.answer(handlers);
  }

  /** The names of all nodes. */
  get nodes(): readonly string[] {
    return this.#members.map(({ name }) => name);
  }

  /** Why all jobs are stopped, as far as this node knows; undefined while they are not. */
  get stopReason(): string | undefined {
    return this.#own.jobs.stopReason;
  }

  /**
   * Stops all jobs of all nodes and says why; resolves when each that works keeps what it did, or is past the map. Returns the names of nodes
   * that were not reached: they stop theirs when they are. Throws what writing a record throws.
   */
  async stop(reason: string): Promise<readonly string[]> {
    await this.#own.jobs.stop(reason);
    return this.#obeyed();
  }

  /** Has all jobs go on but those that were stopped one by one. As `stop`. */
  async start(): Promise<readonly string[]> {
    await this.#own.jobs.start();
    return this.#obeyed();
  }

  async #obeyed(): Promise<readonly string[]> {
    const missed = await this.#own.jobs.tellSwitch();
    const told = this.#others.filter((node) => !missed.some((one) => isSame(one, node)));
    const answers = await this.#ask(told, 'obeyed', {}, () => true, DO_MS);
    return [...missed.map(({ name }) => name), ...silent(answers)].sort();
  }

  /** How the jobs of each node are. */
  async summary(): Promise<{
    readonly nodes: readonly NodeSummary[];
    readonly unreachable: readonly string[];
  }> {
    const answers = await this.#ask(this.#members, 'summary', {}, readSummary);
    const nodes = answers.flatMap((answer) =>
      'value' in answer ? [{ ...answer.value, node: answer.node.name }] : [],
    );
    return { nodes, unreachable: silent(answers) };
  }

  /** The jobs of all nodes in the order in which they were made, or a part of them. */
  async list(form: JobForm, skip: number, limit: number | undefined): Promise<JobList> {
    const answers = await inParallel(this.#members, (node) =>
      answered(node, () => this.#keysOf(node)),
    );
    const keys = answers.flatMap((answer) => ('value' in answer ? answer.value : []));
    keys.sort((a, b) => a.created - b.created || (a.id < b.id ? -1 : 1));
    const offset = Math.min(skip, keys.length);
    const page = keys.slice(offset, offset + (limit ?? keys.length));
    const nodes = [...new Set(page.map(({ node }) => node))];
    const read = await inParallel(nodes, (node) =>
      answered(node, () => {
        const ids = page.filter((key) => key.node === node).map(({ id }) => id);
        return this.#read(node, ids, form);
      }),
    );
    const jobs = new Map<string, JsonValue>();
    for (const answer of read) {
      if ('value' in answer) for (const [id, job] of answer.value) jobs.set(id, job);
    }
    const unreachable = [...silent(answers), ...silent(read)].sort();
    const gone = keys.filter(({ node }) => unreachable.includes(node.name)).length;
    return {
      jobs: page.flatMap(({ id }) => jobs.get(id) ?? []),
      offset,
      total: keys.length - gone,
      unreachable,
    };
  }

  async #keysOf(node: Node): Promise<readonly Key[]> {
    const keys: Key[] = [];
    for (let after: JsonValue = null; keys.length < KEYS_MAX; ) {
      const head: JsonObject = after === null ? {} : { after };
      const page = await this.#call(node, 'keys', head, (answer) => ({
        keys: requiredArray(answer, 'keys', ANSWER_ENTRIES_MAX).map((key) => readKey(node, key)),
        more: memberOf(answer, 'more') === true,
      }));
      keys.push(...page.keys);
      const last = page.keys.at(-1);
      if (!page.more || last === undefined) break;
      after = [last.created, last.id];
    }
    return keys;
  }

  async #read(
    node: Node,
    ids: readonly string[],
    form: JobForm,
  ): Promise<ReadonlyMap<string, JsonValue>> {
    const found = new Map<string, JsonValue>();
    for (let at = 0; at < ids.length; ) {
      const asked = ids.slice(at, at + READ_MAX);
      const jobs = await this.#call(node, 'read', { ids: asked, form }, (answer) =>
        requiredArray(answer, 'jobs', READ_MAX),
      );
      // A node that gives nothing would be asked for ever.
      if (jobs.length === 0) throw new DivanError('PEER', `${node.name} did not tell of its jobs`);
      for (const [index, job] of jobs.entries()) {
        const id = asked[index];
        if (id !== undefined && job !== null) found.set(id, job);
      }
      at += jobs.length;
    }
    return found;
  }

  /** A job as it is shown. Throws `NOT_FOUND`, `UNAVAILABLE` if it may be on a node that can not be reached. */
  async read(id: string, form: JobForm): Promise<JsonObject> {
    return (await this.#find(id, form)).job;
  }

  /** The newest at the end. Throws as `read`. */
  async events(id: string): Promise<JsonArray> {
    const { node } = await this.#find(id, 'state');
    return this.#do(node, 'events', { id }, (answer) =>
      requiredArray(answer, 'events', ANSWER_ENTRIES_MAX),
    );
  }

  /** Throws as `read` and as `JobManager.stopJob`, and so do those that follow with theirs. */
  stopJob(id: string, reason: string): Promise<void> {
    return this.#toJob(id, 'stop', { id, reason });
  }

  resumeJob(id: string): Promise<void> {
    return this.#toJob(id, 'resume', { id });
  }

  /** Undefined for the rate of the configuration. */
  setRate(id: string, rate: number | undefined): Promise<void> {
    return this.#toJob(id, 'rate', { id, rate: rate ?? null });
  }

  remove(id: string): Promise<void> {
    return this.#toJob(id, 'remove', { id });
  }

  /**
   * Makes a job on a node, as `JobManager.create`, from what `parseJobRequest` reads. Throws also `BAD_REQUEST` for a name that no node has, and
   * `UNAVAILABLE` for one that can not be reached: it is not known then whether there is the job.
   */
  create(node: string, body: JsonObject, whileStopped: boolean): Promise<string> {
    return this.#do(this.#named(node), 'create', { body, whileStopped }, (answer) =>
      requiredString(answer, 'id'),
    );
  }

  /** What the job would do. Throws as `create`. */
  plan(node: string, body: JsonObject): Promise<JsonObject> {
    return this.#do(this.#named(node), 'plan', { body }, (answer) => answer);
  }

  /**
   * The shards of a database with the names of their nodes, in the order of their ranges; undefined if no node has the database. Throws
   * `UNAVAILABLE` if one that may have some can not be reached. `only` is the name of the node whose shards are asked for.
   */
  async shardsOf(
    database: string,
    only: string | undefined,
  ): Promise<readonly { readonly node: string; readonly shard: string }[] | undefined> {
    const nodes = only === undefined ? this.#members : [this.#named(only)];
    const answers = await this.#ask(nodes, 'shards', { database }, readShards);
    const found = [];
    let isThere = false;
    for (const answer of answers) {
      if ('error' in answer) throw unavailable(answer.node, answer.error);
      if (answer.value === undefined) continue;
      isThere = true;
      found.push(...answer.value.map((shard) => ({ node: answer.node.name, shard })));
    }
    found.sort((a, b) => (a.shard < b.shard ? -1 : 1));
    return isThere ? found : undefined;
  }

  /** Throws `BAD_REQUEST` for a name that no node has. */
  checkNode(name: string): void {
    this.#named(name);
  }

  async #toJob(id: string, operation: JobOperation, head: JsonObject): Promise<void> {
    const { node } = await this.#find(id, 'state');
    await this.#do(node, operation, head, () => undefined);
  }

  /** Where a job is, and how it is. The own ones are looked at first: nobody else has one of the same id. */
  async #find(id: string, form: JobForm): Promise<{ node: Node; job: JsonObject }> {
    const read = (answer: JsonObject) => {
      const [job = null] = requiredArray(answer, 'jobs', 1);
      return job === null ? undefined : objectOf(job, 'the job');
    };
    const head = { ids: [id], form };
    const own = await this.#call(this.#self, 'read', head, read);
    if (own !== undefined) return { node: this.#self, job: own };
    const answers = await this.#ask(this.#others, 'read', head, read);
    for (const answer of answers) {
      if ('value' in answer && answer.value !== undefined) {
        return { node: answer.node, job: answer.value };
      }
    }
    const names = silent(answers);
    if (names.length === 0) throw new DivanError('NOT_FOUND', 'missing');
    throw new DivanError(
      'UNAVAILABLE',
      `no node that can be reached has the job; ${names.join(', ')} can not be reached`,
    );
  }

  get #self(): Node {
    return this.#membership.self;
  }

  get #members(): readonly Node[] {
    return this.#membership.list();
  }

  get #others(): readonly Node[] {
    return this.#membership.others();
  }

  #named(name: string): Node {
    const found = this.#members.find((node) => node.name === name);
    if (found !== undefined) return found;
    const names = this.nodes.slice(0, 20).join(', ');
    throw new DivanError(
      'BAD_REQUEST',
      `\`node\` must be the name of a node of this cluster: ${names}`,
    );
  }

  #ask<T>(
    nodes: readonly Node[],
    operation: JobOperation,
    head: JsonObject,
    read: (answer: JsonObject) => T,
    timeoutMs = ASK_MS,
  ): Promise<readonly Answer<T>[]> {
    return inParallel(nodes, (node) =>
      answered(node, () => this.#call(node, operation, head, read, timeoutMs)),
    );
  }

  /** As `#call`, for what is done on one node; throws `UNAVAILABLE`, which names it, if it can not be reached. */
  async #do<T>(
    node: Node,
    operation: JobOperation,
    head: JsonObject,
    read: (answer: JsonObject) => T,
  ): Promise<T> {
    try {
      return await this.#call(node, operation, head, read, DO_MS);
    } catch (error) {
      throw isDivanError(error, 'UNREACHABLE') ? unavailable(node, error) : error;
    }
  }

  async #call<T>(
    node: Node,
    operation: JobOperation,
    head: JsonObject,
    read: (answer: JsonObject) => T,
    timeoutMs = ASK_MS,
  ): Promise<T> {
    if (isSame(node, this.#self)) return read(await this.#own.do(operation, head));
    const answer = await this.#calls.call(node, `jobs/${operation}`, head, { timeoutMs });
    try {
      return read(answer);
    } catch (error) {
      const message = `${node.name} answered with something that is no answer`;
      throw isDivanError(error) ? new DivanError('PEER', message, {}, error) : error;
    }
  }
}

async function answered<T>(node: Node, ask: () => Promise<T>): Promise<Answer<T>> {
  try {
    return { node, value: await ask() };
  } catch (error) {
    if (isDivanError(error)) return { node, error };
    throw error;
  }
}

async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += AT_ONCE) {
    results.push(...(await Promise.all(items.slice(at, at + AT_ONCE).map(work))));
  }
  return results;
}

function silent<T>(answers: readonly Answer<T>[]): string[] {
  return answers.flatMap((answer) => ('error' in answer ? [answer.node.name] : [])).sort();
}

function unavailable({ name }: Node, error: DivanError): DivanError {
  return new DivanError('UNAVAILABLE', `${name} can not be reached: ${error.message}`, {}, error);
}

function isSame(a: Node, b: Node): boolean {
  return a.identity === b.identity;
}

function readSummary(answer: JsonObject): Omit<NodeSummary, 'node'> {
  const counts = Object.entries(objectOf(memberOf(answer, 'counts') ?? null, '`counts`'));
  const { stopped } = answer;
  return {
    total: optionalInteger(answer, 'total', COUNT) ?? 0,
    working: optionalInteger(answer, 'working', COUNT) ?? 0,
    counts: new Map(counts.map(([state, count]) => [state, typeof count === 'number' ? count : 0])),
    stopReason: stopped === null ? undefined : optionalString(answer, 'stopped'),
  };
}

function readKey(node: Node, value: JsonValue): Key {
  const [created, id] = requiredArray({ value }, 'value', 2);
  if (typeof created === 'number' && typeof id === 'string') return { node, created, id };
  throw new DivanError('PEER', 'a key of a job is a time and an id');
}

function readShards(answer: JsonObject): readonly string[] | undefined {
  if (memberOf(answer, 'shards') === null) return undefined;
  return requiredStrings(answer, 'shards', ANSWER_ENTRIES_MAX);
}
