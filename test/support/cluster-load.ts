/**
 * Clients of a database that lies on several nodes, over HTTP to any of them; a log of what was acknowledged, and the judgement of what is found
 * afterwards through each of the nodes. A document has one writer, and one whose writing had no answer is left as it is.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { RunningCluster } from './running-cluster.js';
import { randomInt } from './seed.js';
import { HttpClient, type ProcessReply } from './server-process.js';

export const DB = 'db';
/** Of documents that are there from the beginning and stay as they are. */
const BULK = 500;
/** After a request that had no answer: whoever is asked may not run. */
const PAUSE_MS = 10;
/** Of documents that are read one by one through each node, one in so many. */
const READ_EVERY = 50;

/** What is known of a document: its marker, undefined if it is not there. */
interface Known {
  readonly content: number | undefined;
  readonly rev: string | undefined;
  /** What it may be instead, since a write had no answer. */
  readonly doubtful?: { readonly content: number | undefined };
}

interface Row {
  readonly id: string;
  readonly deleted?: boolean;
  readonly doc?: { readonly _rev: string; readonly marker: number };
}

/** A client with a connection to each node. */
class Client {
  readonly #clients: readonly HttpClient[];
  readonly #random: () => number;

  constructor({ nodes }: RunningCluster, random: () => number) {
    this.#clients = nodes.map(({ machine }) => new HttpClient(machine.port));
    this.#random = random;
  }

  /** Undefined if there is no answer. */
  async send(method: string, path: string, body?: unknown): Promise<ProcessReply | undefined> {
    const client = this.#clients[randomInt(this.#random, this.#clients.length)];
    return client?.call(method, path, body).catch(() => undefined);
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}

export class ClusterLoad {
  /** While it is set nodes are killed: requests may fail, and what became of a write is not known then. */
  isDisturbed = false;
  /** Answers that must not have come. */
  readonly problems: string[] = [];
  acknowledged = 0;
  reads = 0;
  /** Requests that failed while that may be. */
  failed = 0;
  readonly #cluster: RunningCluster;
  readonly #random: () => number;
  readonly #known = new Map<string, Known>();
  readonly #steady: string[] = [];
  #marker = 0;
  #starts = 0;
  #going = false;
  #work: Promise<void>[] = [];

  constructor(cluster: RunningCluster, random: () => number) {
    this.#cluster = cluster;
    this.#random = random;
  }

  /** Makes the database, with some documents that stay as they are. */
  async prepare(q: number, documents: number, bytes: number): Promise<void> {
    await this.#cluster.ask(0, 'PUT', `/${DB}?q=${q}`, undefined, 201);
    const filler = 'x'.repeat(bytes);
    for (let from = 0; from < documents; from += BULK) {
      const docs = Array.from({ length: Math.min(BULK, documents - from) }, (_, index) => {
        return { _id: `first${from + index}`, marker: ++this.#marker, filler };
      });
      const path = `/${DB}/_bulk_docs`;
      const rows = await this.#cluster.ask<{ id: string; rev: string }[]>(
        0,
        'POST',
        path,
        { docs },
        201,
      );
      for (const [index, { id, rev }] of rows.entries()) {
        this.#known.set(id, { content: docs[index]?.marker, rev });
        this.#steady.push(id);
      }
    }
  }

  start(writers: number, readers: number): void {
    this.#going = true;
    this.#starts++;
    const each = (count: number, work: (client: Client, n: number) => () => Promise<void>) =>
      Array.from({ length: count }, (_, n) => this.#repeat((client) => work(client, n)));
    this.#work = [
      ...each(writers, (client, n) => {
        const writer = new Writer(`w${n}-${this.#starts}`);
        return () => this.#write(client, writer);
      }),
      ...each(readers, (client) => () => this.#read(client)),
    ];
  }

  async stop(): Promise<void> {
    this.#going = false;
    await Promise.all(this.#work);
  }

  async #repeat(workOf: (client: Client) => () => Promise<void>): Promise<void> {
    const client = new Client(this.#cluster, this.#random);
    const work = workOf(client);
    try {
      while (this.#going) await work();
    } catch (error) {
      this.problems.push(String(error));
    } finally {
      client.close();
    }
  }

  async #read(client: Client): Promise<void> {
    const id = this.#steady[randomInt(this.#random, this.#steady.length)] ?? '';
    const isList = this.#random() < 0.05;
    const list = `_all_docs?include_docs=true&limit=5&startkey=%22${id}%22`;
    const reply = await client.send('GET', `/${DB}/${isList ? list : id}`);
    this.reads++;
    if (!(await this.#isAnswered(reply, 200, `GET of ${id}`))) return;
    if (!reply?.text.includes(`"marker":${this.#known.get(id)?.content}`)) {
      this.problems.push(`${id} is ${reply?.text.slice(0, 200)}`);
    }
  }

  async #write(client: Client, writer: Writer): Promise<void> {
    const choice = this.#random();
    if (choice < 0.1) return this.#bulk(client, writer);
    const old = choice < 0.5 ? writer.take(this.#random) : undefined;
    const id = old ?? writer.newId();
    const { rev } = this.#known.get(id) ?? {};
    if (old !== undefined && choice < 0.15) {
      const path = `/${DB}/${id}?rev=${rev}`;
      const reply = await this.#sent(client, { id, content: undefined }, 200, 'DELETE', path);
      if (reply) await this.#readBack(client, id);
      return;
    }
    const content = ++this.#marker;
    const isLarge = content % 10 === 0;
    const data = Buffer.alloc(20_000, String(content)).toString('base64');
    const body = {
      marker: content,
      ...(rev === undefined ? {} : { _rev: rev }),
      ...(isLarge ? { _attachments: { a: { content_type: 'text/plain', data } } } : {}),
    };
    if (!(await this.#sent(client, { id, content }, 201, 'PUT', `/${DB}/${id}`, body))) return;
    writer.ids.push(id);
    await this.#readBack(client, id);
  }

  /** Sends a write of one document; true if it was acknowledged. */
  async #sent(
    client: Client,
    { id, content }: { readonly id: string; readonly content: number | undefined },
    status: number,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<boolean> {
    const before = this.#known.get(id) ?? { content: undefined, rev: undefined };
    this.#known.set(id, { ...before, doubtful: { content } });
    const reply = await client.send(method, path, body);
    if (!(await this.#isAnswered(reply, status, `${method} of ${id}`))) return false;
    const { rev }: { rev?: string } = JSON.parse(reply?.text ?? '{}');
    this.#known.set(id, { content, rev });
    this.acknowledged++;
    return true;
  }

  async #bulk(client: Client, writer: Writer): Promise<void> {
    const docs = Array.from({ length: 6 }, () => ({ _id: writer.newId(), marker: ++this.#marker }));
    for (const { _id, marker } of docs) {
      this.#known.set(_id, { content: undefined, rev: undefined, doubtful: { content: marker } });
    }
    const reply = await client.send('POST', `/${DB}/_bulk_docs`, { docs });
    if (!(await this.#isAnswered(reply, 201, '_bulk_docs'))) return;
    const rows: { ok?: boolean; id: string; rev?: string }[] = JSON.parse(reply?.text ?? '[]');
    if (rows.length !== docs.length) this.problems.push(`_bulk_docs: ${reply?.text}`);
    for (const [index, { ok, id, rev }] of rows.entries()) {
      if (ok === true) {
        this.#known.set(id, { content: docs[index]?.marker, rev });
        writer.ids.push(id);
        this.acknowledged++;
      } else if (this.isDisturbed) this.failed++;
      else this.problems.push(`_bulk_docs: ${JSON.stringify(rows[index])}`);
    }
    const { id } = rows.find(({ ok }) => ok === true) ?? {};
    if (id !== undefined) await this.#readBack(client, id);
  }

  /** What was acknowledged is seen at once, through whichever node. */
  async #readBack(client: Client, id: string): Promise<void> {
    const { content } = this.#known.get(id) ?? {};
    const reply = await client.send('GET', `/${DB}/${id}`);
    const status = content === undefined ? 404 : 200;
    if (!(await this.#isAnswered(reply, status, `GET of ${id} just written`))) return;
    if (content !== undefined && !reply?.text.includes(`"marker":${content}`)) {
      this.problems.push(`${id} is ${reply?.text.slice(0, 200)} and not ${content}`);
    }
  }

  async #isAnswered(
    reply: ProcessReply | undefined,
    status: number,
    what: string,
  ): Promise<boolean> {
    if (reply?.status === status) return true;
    if (this.isDisturbed && (reply === undefined || reply.status === 503)) {
      this.failed++;
      await delay(PAUSE_MS);
    } else {
      this.problems.push(`${what}: ${reply?.status} ${reply?.text.slice(0, 300)}`);
    }
    return false;
  }

  /** What is wrong with what the nodes have now; takes it for the truth from here on. REQUIRES: nobody writes. */
  async judge(): Promise<string[]> {
    const problems: string[] = [];
    const found = await this.#listed(0, problems);
    for (const index of this.#cluster.nodes.keys()) {
      const also = await this.#listed(index, problems);
      const name = this.#cluster.at(index).name;
      if (also.size !== found.size) problems.push(`${also.size} documents through ${name}`);
      for (const [id, row] of found) {
        if (also.get(id)?.doc?._rev !== row.doc?._rev)
          problems.push(`${id} is another through ${name}`);
      }
    }
    for (const id of found.keys())
      if (!this.#known.has(id)) problems.push(`${id} was never written`);
    for (const [id, { content, doubtful }] of this.#known) {
      const doc = found.get(id)?.doc;
      const isRight = doc?.marker === content || (doubtful && doc?.marker === doubtful.content);
      if (!isRight)
        problems.push(`${id} is ${doc?.marker}, not ${content} or ${doubtful?.content}`);
      this.#known.set(id, { content: doc?.marker, rev: doc?._rev });
    }
    return [...problems, ...(await this.#unread(found))];
  }

  /** The live documents by id. */
  async #listed(index: number, problems: string[]): Promise<Map<string, Row>> {
    const path = `/${DB}/_all_docs?include_docs=true`;
    const { rows } = await this.#cluster.ask<{ rows: Row[] }>(index, 'GET', path);
    const { results } = await this.#cluster.ask<{ results: Row[] }>(
      index,
      'GET',
      `/${DB}/_changes`,
    );
    const through = this.#cluster.at(index).name;
    for (const list of [rows, results]) {
      if (new Set(list.map(({ id }) => id)).size !== list.length) {
        problems.push(`an id is there twice through ${through}`);
      }
    }
    const changed = new Set(results.flatMap(({ id, deleted }) => (deleted === true ? [] : [id])));
    const found = new Map(rows.map((row) => [row.id, row]));
    const isSame = changed.size === found.size && rows.every(({ id }) => changed.has(id));
    if (!isSame) problems.push(`the changes through ${through} are of other documents`);
    return found;
  }

  /** Some are also read one by one. */
  async #unread(found: ReadonlyMap<string, Row>): Promise<string[]> {
    const problems: string[] = [];
    const first = randomInt(this.#random, READ_EVERY);
    for (const [at, [id, { doc }]] of [...found].entries()) {
      if (at % READ_EVERY !== first) continue;
      for (const index of this.#cluster.nodes.keys()) {
        const { status, text } = await this.#cluster.call(index, 'GET', `/${DB}/${id}`);
        if (status !== 200 || !text.includes(`"_rev":"${doc?._rev}"`)) {
          problems.push(`${id} through ${this.#cluster.at(index).name}: ${status} ${text}`);
        }
      }
    }
    return problems;
  }
}

/** The documents of one writer. */
class Writer {
  /** Those of which it is known what they are, and that are there. */
  readonly ids: string[] = [];
  readonly #name: string;
  #count = 0;

  constructor(name: string) {
    this.#name = name;
  }

  newId(): string {
    return `${this.#name}-${this.#count++}`;
  }

  /** One of them, which is its writer's again when it was written; undefined if there is none. */
  take(random: () => number): string | undefined {
    return this.ids.splice(randomInt(random, this.ids.length), 1)[0];
  }
}
