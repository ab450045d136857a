/**
 * A client that writes everything that a database keeps, one write after another, while its shards are split and merged and its server is
 * killed; a log of what was acknowledged, and the judgement of what is found afterwards.
 */
import { randomInt } from './seed.js';
import type { HttpClient, ServerProcess } from './server-process.js';

const DB = '/db';
const DOCUMENTS = 400;
const LOCALS = 20;
/** Of the first load, in one request each. */
const BULK = 500;

/** What is known of one thing; '' when it is not there. */
interface Known {
  content: string;
  rev: string | undefined;
  /** Sent, and not answered when the server died. */
  doubtful: string | undefined;
}

interface Row {
  readonly id: string;
  readonly deleted?: boolean;
  readonly doc?: { readonly _rev: string; readonly marker?: number };
}

export class SplitKillLoad {
  readonly #things = new Map<string, Known>();
  readonly #random: () => number;
  #marker = 0;
  acknowledged = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** Makes the database, of one shard, with some thousand documents. */
  async prepare(client: HttpClient, documents: number): Promise<void> {
    await expectStatus(client, 201, 'PUT', `${DB}?q=1`);
    for (let from = 0; from < documents; from += BULK) {
      const docs = Array.from({ length: BULK }, (_, index) => ({
        _id: `first${from + index}`,
        marker: ++this.#marker,
        filler: 'x'.repeat(randomInt(this.#random, 300)),
      }));
      const rows: { id: string; rev: string }[] = JSON.parse(
        await expectStatus(client, 201, 'POST', `${DB}/_bulk_docs`, { docs }),
      );
      for (const [index, { id, rev }] of rows.entries()) {
        const content = String(docs[index]?.marker);
        this.#things.set(id, { content, rev, doubtful: undefined });
      }
    }
  }

  /** Writes until the server dies, or `isOver` says so. */
  async run(server: ServerProcess, isOver: () => boolean): Promise<void> {
    const client = server.client();
    try {
      while (!isOver()) await this.#write(client);
    } catch (error) {
      if (error instanceof WrongReply) throw error;
    }
  }

  async #write(client: HttpClient): Promise<void> {
    const choice = this.#random();
    if (choice < 0.1) {
      const id = `_local/l${randomInt(this.#random, LOCALS)}`;
      const marker = ++this.#marker;
      const thing = this.#begin(id, String(marker));
      const rev = thing.rev === undefined ? {} : { _rev: thing.rev };
      await this.#send(client, thing, 'PUT', `${DB}/${id}`, { marker, ...rev });
    } else if (choice < 0.13) {
      const marker = ++this.#marker;
      const thing = this.#begin('_security', String(marker));
      await this.#send(client, thing, 'PUT', `${DB}/_security`, {
        members: { names: [`${marker}`] },
      });
    } else if (choice < 0.16) {
      const limit = 1000 + ++this.#marker;
      const thing = this.#begin('_revs_limit', String(limit));
      await this.#send(client, thing, 'PUT', `${DB}/_revs_limit`, limit);
    } else await this.#writeDocument(client, choice < 0.24);
  }

  async #writeDocument(client: HttpClient, isPurge: boolean): Promise<void> {
    const id = `d${randomInt(this.#random, DOCUMENTS)}`;
    const before = this.#things.get(id);
    if (isPurge && before?.rev !== undefined) {
      const thing = this.#begin(id, '');
      await this.#send(client, thing, 'POST', `${DB}/_purge`, { [id]: [before.rev] });
      thing.rev = undefined;
      return;
    }
    const marker = ++this.#marker;
    const thing = this.#begin(id, String(marker));
    const data = Buffer.alloc(200 + (marker % 4000), String(marker)).toString('base64');
    const attached = { _attachments: { a: { content_type: 'text/plain', data } } };
    const rev = thing.rev === undefined ? {} : { _rev: thing.rev };
    const body = { marker, ...rev, ...(marker % 4 === 0 ? attached : {}) };
    await this.#send(client, thing, 'PUT', `${DB}/${id}`, body);
  }

  #begin(key: string, content: string): Known {
    const thing = this.#things.get(key) ?? { content: '', rev: undefined, doubtful: undefined };
    thing.doubtful = content;
    this.#things.set(key, thing);
    return thing;
  }

  async #send(
    client: HttpClient,
    thing: Known,
    method: string,
    path: string,
    body: unknown,
  ): Promise<void> {
    const { status, text } = await client.call(method, path, body);
    if (status > 201) throw new WrongReply(`${method} ${path} is answered with ${status}: ${text}`);
    const { rev }: { rev?: string } = JSON.parse(text);
    if (rev !== undefined) thing.rev = rev;
    thing.content = thing.doubtful ?? '';
    thing.doubtful = undefined;
    this.acknowledged++;
  }

  /** What is wrong with what the server has now; takes it for the truth from here on. */
  async problems(client: HttpClient): Promise<string[]> {
    const problems: string[] = [];
    const listed = await rowsOf(client, `${DB}/_all_docs?include_docs=true`, 'rows');
    const changes = await rowsOf(client, `${DB}/_changes`, 'results');
    for (const rows of [listed, changes]) {
      if (new Set(rows.map(({ id }) => id)).size !== rows.length)
        problems.push('an id is there twice');
    }
    const changed = new Set(changes.map(({ id }) => id));
    const found = new Map(listed.map(({ id, doc }) => [id, doc]));
    for (const id of changed) if (!found.has(id)) problems.push(`${id} is among the changes only`);
    for (const id of found.keys()) {
      if (!changed.has(id)) problems.push(`${id} is not among the changes`);
      if (!this.#things.has(id)) problems.push(`${id} was never written`);
    }
    for (const [key, thing] of this.#things) {
      const doc = key.startsWith('_') ? await special(client, key) : found.get(key);
      const content = doc?.marker === undefined ? '' : String(doc.marker);
      if (content !== thing.content && content !== thing.doubtful) {
        problems.push(`${key} is "${content}", not "${thing.content}" or "${thing.doubtful}"`);
      }
      if (!key.startsWith('_')) await this.#byId(client, key, content, problems);
      Object.assign(thing, { content, rev: doc?._rev, doubtful: undefined });
    }
    return problems;
  }

  /** Those that are written again and again are also read one by one, with their attachments. */
  async #byId(client: HttpClient, id: string, content: string, problems: string[]): Promise<void> {
    if (!id.startsWith('d')) return;
    const { status, text } = await client.call('GET', `${DB}/${id}?attachments=true`);
    const isRight = content === '' ? status === 404 : status === 200;
    if (!isRight) problems.push(`${id} is answered with ${status}`);
    if (status !== 200) return;
    const doc: { marker: number; _attachments?: { a: { data: string } } } = JSON.parse(text);
    const data = Buffer.alloc(200 + (doc.marker % 4000), String(doc.marker)).toString('base64');
    const expected = doc.marker % 4 === 0 ? data : undefined;
    if (doc._attachments?.a.data !== expected) problems.push(`the attachment of ${id} is another`);
  }
}

/** A reply that a server that works does not give. */
class WrongReply extends Error {}

/** Throws if the reply has another status; its text. */
export async function expectStatus(
  client: HttpClient,
  expected: number,
  method: string,
  path: string,
  body?: unknown,
): Promise<string> {
  const { status, text } = await client.call(method, path, body);
  if (status !== expected) throw new WrongReply(`${method} ${path}: ${status} ${text}`);
  return text;
}

async function rowsOf(client: HttpClient, path: string, member: string): Promise<readonly Row[]> {
  const body: Record<string, readonly Row[]> = JSON.parse(
    await expectStatus(client, 200, 'GET', path),
  );
  return body[member] ?? [];
}

/** A local doc or a setting. */
async function special(
  client: HttpClient,
  key: string,
): Promise<{ readonly _rev?: string; readonly marker?: number } | undefined> {
  const { status, text } = await client.call('GET', `${DB}/${key}`);
  if (status !== 200) return undefined;
  if (key === '_revs_limit') return { marker: Number(text) };
  if (key !== '_security') return JSON.parse(text);
  const { members }: { members?: { names?: string[] } } = JSON.parse(text);
  return { marker: Number(members?.names?.[0]) };
}
