/** Servers of a `MemoryCluster` whose shards are moved, and documents that are written to whoever has their range. */
import { setTimeout as wait } from 'node:timers/promises';
import type { Test } from 'tap';
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { Storage } from '../../engine/file/storage.js';
import { formatRev, parseRev } from '../../engine/shard/revision.js';
import type { Database } from '../../server/databases/database.js';
import { namesOfShardFile } from '../../server/databases/shard-map.js';
import { MemoryCluster } from './memory-cluster.js';
import { memberOf, TestServer } from './server.js';

export const JOBS = '/_shard_splits/jobs';
export const DB = 'db';
const NOT_NOW = ['MOVED', 'UNAVAILABLE', 'FAILED', 'CLOSED', 'NOT_FOUND'];

export class MoveBed {
  readonly cluster: MemoryCluster;
  readonly servers: TestServer[] = [];
  readonly #t: Test;
  readonly #storages: readonly (Storage | undefined)[];

  private constructor(t: Test, count: number, storages: readonly (Storage | undefined)[]) {
    this.#t = t;
    this.cluster = new MemoryCluster(count);
    this.#storages = storages;
  }

  static async open(
    t: Test,
    {
      count = 2,
      q = 2,
      storages = [],
    }: { count?: number; q?: number; storages?: readonly (Storage | undefined)[] } = {},
  ): Promise<MoveBed> {
    const bed = new MoveBed(t, count, storages);
    for (let index = 0; index < count; index++) await bed.start(index);
    const reply = await bed.at(0).put(`/${DB}?q=${q}`);
    if (reply.status !== 201) throw new Error(reply.text);
    return bed;
  }

  async start(index: number, dataDir?: string): Promise<TestServer> {
    const storage = this.#storages[index];
    const server = await TestServer.open(this.#t, {
      settings: { 'reshard/retry_interval': '100', 'node/name': this.name(index) },
      cluster: this.cluster.seams(index),
      mayLogErrors: true,
      ...(dataDir === undefined ? {} : { dataDir }),
      ...(storage === undefined ? {} : { storage }),
    });
    this.servers[index] = server;
    return server;
  }

  at(index: number): TestServer {
    const server = this.servers[index];
    if (server === undefined) throw new RangeError(`there is no server ${index}`);
    return server;
  }

  name(index: number): string {
    return this.cluster.node(index).name;
  }

  database(index: number): Database {
    return this.at(index).server.services.catalog.get(DB);
  }

  shards(index: number): readonly string[] {
    const map = this.at(index).server.services.catalog.find(DB)?.map;
    return (map?.shards ?? []).map(({ file }) => namesOfShardFile(file).shard);
  }

  /** Asks for a move and returns the id of the job. */
  async move(
    from: number,
    to: number,
    shard = this.shards(from)[0],
    members: object = {},
  ): Promise<string> {
    const nodes = { node: this.name(from), target: this.name(to) };
    // To look through a copy takes a thread, which takes longer than all else.
    const body = { type: 'move', ...nodes, shard, verify: false, ...members };
    const reply = await this.at(0).post(JOBS, body);
    if (reply.status !== 201) throw new Error(reply.text);
    return String(memberOf(reply.body, 'id'));
  }

  async status(id: string, through = 0): Promise<unknown> {
    return (await this.at(through).get(`${JOBS}/${id}`)).body;
  }

  /** Resolves when the job is in that state. */
  async inState(id: string, state: string, through = 0): Promise<unknown> {
    let status: unknown;
    for (let turn = 0; turn < 2000; turn++) {
      status = await this.status(id, through);
      if (memberOf(status, 'job_state') === state) return status;
      await wait(5);
    }
    throw new Error(`the job is ${JSON.stringify(status)}`);
  }

  /** The part of the database that has the range of a document. */
  ownerOf(id: string): Database {
    const owners = this.servers
      .map(({ server }) => server.services.catalog.find(DB))
      .filter((database) => (database?.current.find(Buffer.from(id)) ?? -1) >= 0);
    const [owner] = owners;
    if (owner !== undefined) return owner;
    throw new DivanError('MOVED', `nobody has ${id}`);
  }

  /** Writes a document as a client of any node does, over what it was, and returns its revision. */
  put(id: string, value: number, parent?: string, attach = false): Promise<string> {
    return this.#whenOwned(async () => {
      const bytes = Buffer.alloc(3000, `${value},`);
      const content = { chunks: [bytes], bytesMax: bytes.length };
      const { rev } = await this.ownerOf(id).put({
        id: Buffer.from(id),
        body: Buffer.from(JSON.stringify({ value })),
        deleted: false,
        parent: parent === undefined ? undefined : parseRev(parent),
        attachments: attach
          ? new Map([['a', { contentType: 'x/y', revpos: undefined, content }]])
          : undefined,
      });
      return formatRev(rev);
    });
  }

  /** The body of a document, undefined if it is not there. */
  get(id: string): Promise<string | undefined> {
    const key = Buffer.from(id);
    return this.#whenOwned(() =>
      this.ownerOf(id).read(key, async (snapshot) => {
        const leaf = (await snapshot.document(key))?.leaves[0];
        return leaf === undefined ? undefined : Buffer.from(await snapshot.body(leaf)).toString();
      }),
    );
  }

  async #whenOwned<T>(work: () => Promise<T>): Promise<T> {
    for (let turn = 0; ; turn++) {
      try {
        return await work();
      } catch (error) {
        if (!isDivanError(error) || !NOT_NOW.includes(error.code) || turn > 500) throw error;
        await wait(2);
      }
    }
  }
}
