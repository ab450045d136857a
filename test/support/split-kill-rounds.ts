/** Splits and merges the shards of a real server under load, kills it meanwhile, and judges what the next one makes of that. */
import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { temporaryDirectory } from './cli.js';
import { randomInt, seededRandom } from './seed.js';
import { ServerProcess } from './server-process.js';
import { expectStatus, SplitKillLoad } from './split-kill-load.js';

const SERVE = join(dirname(fileURLToPath(import.meta.url)), 'serve-and-kill.js');
const DOCUMENTS = 3000;
const POLLS_MAX = 3000;
const POLL_MS = 20;

/** When a server is killed: at a call, before or after it is done, or a while after its job was made. */
export type Kill =
  | { readonly call: number; readonly when: 'before' | 'after' }
  | { readonly afterMs: number }
  | undefined;

export interface SplitRound {
  readonly type: 'split' | 'merge';
  readonly wasKilled: boolean;
  /** Calls that were counted, if it was not killed. */
  readonly calls: number;
  readonly ms: number;
}

export class SplitKillBed {
  readonly problems: string[] = [];
  readonly rounds: SplitRound[] = [];
  readonly load: SplitKillLoad;
  readonly #dataDir: string;
  readonly #random: () => number;
  #server: ServerProcess | undefined;

  private constructor(dataDir: string, seed: number) {
    this.#dataDir = dataDir;
    this.#random = seededRandom(seed);
    this.load = new SplitKillLoad(this.#random);
  }

  static async open(t: Test, seed: number): Promise<SplitKillBed> {
    const bed = new SplitKillBed(join(temporaryDirectory(t), 'data'), seed);
    t.teardown(() => bed.#server?.end('SIGKILL'));
    const server = await bed.#start(undefined);
    await bed.load.prepare(server.client(), DOCUMENTS);
    await server.end('SIGTERM');
    return bed;
  }

  async #start(kill: Kill): Promise<ServerProcess> {
    const settings: Record<string, string> =
      kill !== undefined && 'call' in kill
        ? { DIVAN_TEST_KILL_AT: String(kill.call), DIVAN_TEST_KILL_WHEN: kill.when }
        : {};
    this.#server = await ServerProcess.start({ dataDir: this.#dataDir, settings, program: SERVE });
    return this.#server;
  }

  /** A split if there is one shard, a merge if there are two; killed on the way, and gone on with by another server. */
  async round(kill: Kill): Promise<SplitRound> {
    const startedAt = performance.now();
    const type = this.#files().length === 1 ? 'split' : 'merge';
    const server = await this.#start(kill);
    // It may be killed before it answers.
    const posted = await this.#post(server, type).catch((error: unknown) => {
      if (kill === undefined) throw error;
      return undefined;
    });
    const life = { isOver: false };
    const writing = this.load
      .run(server, () => life.isOver)
      .catch((error: unknown) => this.problems.push(String(error)));
    const wasKilled = await this.#untilDoneOrKilled(server, posted, kill);
    life.isOver = true;
    await writing;
    const calls = wasKilled ? 0 : await this.#endedCalls(server);
    const next = await this.#start(undefined);
    const id = posted ?? (await this.#newestJob(next));
    if (!(await this.#completed(next, id))) {
      const { text } = await next.client().call('GET', `/_shard_splits/jobs/${id}`);
      this.problems.push(`the ${type} did not finish: ${text}; ${next.log}`);
    }
    this.problems.push(...(await this.load.problems(next.client())));
    this.problems.push(...(await this.#layout(next, type)));
    await next.end('SIGTERM');
    const round = { type, wasKilled, calls, ms: performance.now() - startedAt } as const;
    this.rounds.push(round);
    return round;
  }

  async #post(server: ServerProcess, type: SplitRound['type']): Promise<string> {
    const client = server.client();
    const summary = await expectStatus(client, 200, 'GET', '/_shard_splits');
    const { states }: { states: { running: string[] } } = JSON.parse(summary);
    const shards = this.#files().map((file) => file.replace(/\.divan$/, ''));
    const which = type === 'split' ? { shard: shards[0] } : { shards };
    const body = { type, node: states.running[0], ...which };
    const text = await expectStatus(client, 201, 'POST', '/_shard_splits/jobs', body);
    const { id }: { id: string } = JSON.parse(text);
    return id;
  }

  async #untilDoneOrKilled(
    server: ServerProcess,
    id: string | undefined,
    kill: Kill,
  ): Promise<boolean> {
    if (kill !== undefined && 'afterMs' in kill) {
      await delay(kill.afterMs);
      await server.end('SIGKILL');
      return true;
    }
    if (id !== undefined) await this.#completed(server, id).catch(() => false);
    // One that killed itself is gone; the other one is told to stop.
    return server.child.signalCode === 'SIGKILL' || (await this.#isDying(server));
  }

  async #isDying(server: ServerProcess): Promise<boolean> {
    const isUp = await server
      .client()
      .call('GET', '/_up')
      .then(() => true)
      .catch(() => false);
    if (!isUp) await server.ended;
    return !isUp;
  }

  async #endedCalls(server: ServerProcess): Promise<number> {
    await server.end('SIGTERM');
    return Number(/counted ([0-9]+) calls/.exec(server.log)?.[1] ?? 0);
  }

  async #newestJob(server: ServerProcess): Promise<string> {
    const text = await expectStatus(server.client(), 200, 'GET', '/_shard_splits/jobs');
    const { jobs }: { jobs: { id: string }[] } = JSON.parse(text);
    return jobs.at(-1)?.id ?? '';
  }

  /** Waits until a job is completed; false if it does not come to that. Rejects when the server dies. */
  async #completed(server: ServerProcess, id: string): Promise<boolean> {
    const client = server.client();
    for (let poll = 0; poll < POLLS_MAX; poll++) {
      const { text } = await client.call('GET', `/_shard_splits/jobs/${id}`);
      const { job_state: state }: { job_state?: string } = JSON.parse(text);
      if (state === 'completed') return true;
      if (state === 'failed') {
        this.problems.push(text);
        return false;
      }
      await delay(POLL_MS);
    }
    return false;
  }

  /** The ranges tile the space, and no file is there but those of the map and the records. */
  async #layout(server: ServerProcess, type: SplitRound['type']): Promise<string[]> {
    const text = await expectStatus(server.client(), 200, 'GET', '/db/_shards');
    const { shards }: { shards: Record<string, unknown> } = JSON.parse(text);
    const ranges = Object.keys(shards).sort();
    const expected =
      type === 'split' ? ['00000000-7fffffff', '80000000-ffffffff'] : ['00000000-ffffffff'];
    const problems: string[] = [];
    if (ranges.join() !== expected.join()) problems.push(`the ranges are ${ranges.join()}`);
    const inFiles = this.#files().map((file) => file.split('/')[1] ?? '');
    if (inFiles.join() !== expected.join()) problems.push(`the files are ${this.#files().join()}`);
    return problems;
  }

  /** All files but the records of the node, in order. */
  #files(): string[] {
    return readdirSync(this.#dataDir, { recursive: true, encoding: 'utf8' })
      .filter((entry) => statSync(join(this.#dataDir, entry)).isFile() && entry !== 'node.divan')
      .sort();
  }

  /** A moment in which a job is likely to be under way. */
  randomKill(): Kill {
    const ms = Math.max(100, ...this.rounds.map(({ ms }) => ms)) / 3;
    return { afterMs: randomInt(this.#random, ms) };
  }
}
