/** Clients of one database that write and read without pause, and know what must be there: the load under which shards are split. */
import { randomInt } from './seed.js';
import type { Reply, TestServer } from './server.js';

/** What must be there of a document: its revision; undefined once it is purged. */
type Expected = { readonly rev: string; readonly deleted: boolean } | undefined;

const BULK = 5;

/** The revision in the answer of a write, or of one row of `_bulk_docs`. */
function revOf(body: unknown): string {
  if (typeof body === 'object' && body !== null && 'rev' in body) return String(body.rev);
  throw new Error(`no revision in ${JSON.stringify(body)}`);
}

export class SplitLoad {
  readonly documents = new Map<string, Expected>();
  readonly locals = new Map<string, number>();
  /** Answers that must not have come. */
  readonly problems: string[] = [];
  writes = 0;
  reads = 0;
  readonly #server: TestServer;
  readonly #db: string;
  readonly #random: () => number;
  readonly #readable: readonly string[];
  #going = false;
  #clients: Promise<void>[] = [];

  /** `readable` are documents that nobody changes. */
  constructor(server: TestServer, db: string, readable: readonly string[], random: () => number) {
    this.#server = server;
    this.#db = db;
    this.#readable = readable;
    this.#random = random;
  }

  start(writers: number, readers: number): void {
    this.#going = true;
    const each = (count: number, work: (n: number) => Promise<void>) =>
      Array.from({ length: count }, (_, n) => this.#repeat(() => work(n)));
    this.#clients = [
      ...each(writers, (n) => this.#write(`w${n}`)),
      ...each(readers, () => this.#read()),
    ];
  }

  async stop(): Promise<void> {
    this.#going = false;
    await Promise.all(this.#clients);
  }

  async #repeat(work: () => Promise<void>): Promise<void> {
    while (this.#going) {
      try {
        await work();
      } catch (error) {
        this.problems.push(String(error));
      }
    }
  }

  async #read(): Promise<void> {
    const id = this.#readable[randomInt(this.#random, this.#readable.length)];
    const reply = await this.#server.get(`/${this.#db}/${id}`);
    this.#expect(reply, 200, `GET of ${id}`);
    this.reads++;
  }

  async #write(writer: string): Promise<void> {
    const id = `${writer}-${randomInt(this.#random, 400)}`;
    const known = this.documents.get(id);
    const choice = randomInt(this.#random, 40);
    if (choice === 0 && known !== undefined) await this.#purge(id, known.rev);
    else if (choice === 1) await this.#local(writer);
    else if (choice === 2 && known?.deleted === false) await this.#attach(id, known.rev);
    else if (choice === 3 && known?.deleted === false) await this.#delete(id, known.rev);
    else if (choice < 8) await this.#bulk(writer);
    else await this.#put(id, known);
    this.writes++;
  }

  async #put(id: string, known: Expected): Promise<void> {
    const body = known === undefined || known.deleted ? {} : { _rev: known.rev };
    const reply = await this.#server.put(`/${this.#db}/${id}`, { ...body, n: this.writes });
    await this.#written(reply, 201, id, false);
  }

  async #delete(id: string, rev: string): Promise<void> {
    const reply = await this.#server.delete(`/${this.#db}/${id}?rev=${rev}`);
    await this.#written(reply, 200, id, true);
  }

  async #attach(id: string, rev: string): Promise<void> {
    const path = `/${this.#db}/${id}/file?rev=${rev}`;
    const content = `content ${this.writes}`;
    await this.#written(await this.#server.put(path, content), 201, id, false);
    const reply = await this.#server.get(`/${this.#db}/${id}/file`);
    if (reply.text !== content) this.problems.push(`the attachment of ${id} is ${reply.text}`);
  }

  /** Who writes reads it at once. */
  async #written(reply: Reply, status: number, id: string, deleted: boolean): Promise<void> {
    if (!this.#expect(reply, status, `write of ${id}`)) return;
    const rev = revOf(reply.body);
    this.documents.set(id, { rev, deleted });
    await this.#assertReadable(id);
  }

  async #assertReadable(id: string): Promise<void> {
    const known = this.documents.get(id);
    const reply = await this.#server.get(`/${this.#db}/${id}`);
    const isMissing = known === undefined || known.deleted;
    if (!this.#expect(reply, isMissing ? 404 : 200, `GET of ${id}`) || isMissing) return;
    const { body } = reply;
    const rev = typeof body === 'object' && body !== null && '_rev' in body ? body._rev : undefined;
    if (rev !== known.rev) this.problems.push(`${id} is at ${rev}, not ${known.rev}`);
  }

  async #bulk(writer: string): Promise<void> {
    const ids = Array.from(
      { length: BULK },
      (_, n) => `${writer}-bulk-${n}-${randomInt(this.#random, 100)}`,
    );
    const docs = ids.map((_id) => {
      const known = this.documents.get(_id);
      return known === undefined ? { _id } : { _id, _rev: known.rev, n: this.writes };
    });
    const reply = await this.#server.post(`/${this.#db}/_bulk_docs`, { docs });
    if (!this.#expect(reply, 201, 'bulk write')) return;
    const rows: unknown[] = Array.isArray(reply.body) ? reply.body : [];
    for (const [index, id] of ids.entries()) {
      this.documents.set(id, { rev: revOf(rows[index]), deleted: false });
      await this.#assertReadable(id);
    }
  }

  async #purge(id: string, rev: string): Promise<void> {
    const reply = await this.#server.post(`/${this.#db}/_purge`, { [id]: [rev] });
    if (!this.#expect(reply, 201, `purge of ${id}`)) return;
    this.documents.set(id, undefined);
    await this.#assertReadable(id);
  }

  async #local(writer: string): Promise<void> {
    const id = `${writer}-${randomInt(this.#random, 5)}`;
    const revision = this.locals.get(id);
    const body = revision === undefined ? {} : { _rev: `0-${revision}` };
    const path = `/${this.#db}/_local/${id}`;
    const reply = await this.#server.put(path, { ...body, n: this.writes });
    if (!this.#expect(reply, 201, `write of ${id}`)) return;
    this.locals.set(id, (revision ?? 0) + 1);
    const read = await this.#server.get(path);
    if (read.status !== 200) this.problems.push(`${path} is not there`);
  }

  #expect(reply: Reply, status: number, what: string): boolean {
    if (reply.status === status) return true;
    this.problems.push(`${what}: ${reply.status} ${reply.text.slice(0, 200)}`);
    return false;
  }
}
