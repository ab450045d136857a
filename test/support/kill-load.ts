/**
 * A load of writes on a server that will be killed, with a log of what was begun and what was acknowledged, and the judgement of what is
 * found afterwards. The log is kept here, outside of the server.
 *
 * Each writer has ids of its own and waits for each reply, so a document has at most one write in doubt.
 */
import { randomInt } from './seed.js';
import type { HttpClient, ProcessReply, ServerProcess } from './server-process.js';

/** A version of a document: what it must say, and what its revision is once that is known. */
interface Version {
  readonly marker: number;
  readonly deleted: boolean;
  readonly attachment: boolean;
  readonly rev: string;
}

interface LoggedDocument {
  readonly db: string;
  readonly id: string;
  acked: Version | undefined;
  /** What was sent, and not answered when the server died. */
  doubtful: Omit<Version, 'rev'> | undefined;
}

/** What is known of a database that comes and goes. */
type Existence = 'acked' | 'doubtful' | 'gone';

const DATABASES = ['load0', 'load1', 'load2'];
const WRITERS = 10;
const BULK = 10;

export class KillLoad {
  readonly documents = new Map<string, LoggedDocument>();
  readonly #random: () => number;
  readonly #existence = new Map<string, Existence>();
  #marker = 0;
  #acked = 0;
  #stopped = true;
  /** Those that the last load wrote. */
  #touched = new Set<LoggedDocument>();

  constructor(random: () => number) {
    this.#random = random;
  }

  /** Makes the databases that stay. */
  async prepare(server: ServerProcess): Promise<void> {
    const client = server.client();
    for (const db of DATABASES) {
      const { status } = await client.call('PUT', `/${db}`);
      if (status !== 201) throw new Error(`${db} was not made: ${status}`);
    }
  }

  /** Writes until the server dies, which `kill` brings about. Resolves with the acknowledged writes of each second. */
  async run(server: ServerProcess, kill: () => Promise<unknown>): Promise<number> {
    this.#acked = 0;
    this.#stopped = false;
    this.#touched = new Set();
    const startedAt = performance.now();
    const writers = Array.from({ length: WRITERS }, (_, index) =>
      this.#untilItDies((client) => this.#write(client, index), server.client()),
    );
    writers.push(this.#untilItDies((client) => this.#comeAndGo(client), server.client()));
    writers.push(this.#untilItDies((client) => this.#compact(client), server.client()));
    await kill();
    const seconds = (performance.now() - startedAt) / 1000;
    this.#stopped = true;
    await Promise.all(writers);
    return this.#acked / seconds;
  }

  async #untilItDies(
    work: (client: HttpClient) => Promise<void>,
    client: HttpClient,
  ): Promise<void> {
    while (!this.#stopped) {
      try {
        await work(client);
      } catch (error) {
        if (error instanceof WrongReply) throw error;
        return;
      }
    }
  }

  async #write(client: HttpClient, writer: number): Promise<void> {
    const db = DATABASES[randomInt(this.#random, DATABASES.length)] ?? '';
    if (this.#random() < 0.3) {
      await this.#writeMany(client, db, writer);
      return;
    }
    const document = this.#pick(db, writer);
    const before = document.acked;
    const version = this.#begin(document, this.#random() < 0.15);
    const path = `/${db}/${document.id}`;
    const reply =
      version.deleted && before !== undefined
        ? await client.call('DELETE', `${path}?rev=${before.rev}`)
        : await client.call('PUT', path, bodyOf(document, version));
    this.#ack(document, version, JSON.parse(expectStatus(reply, [200, 201])).rev);
  }

  async #writeMany(client: HttpClient, db: string, writer: number): Promise<void> {
    const documents = new Set(Array.from({ length: BULK }, () => this.#pick(db, writer)));
    const writes = [...documents].map((document) => {
      const version = this.#begin(document, this.#random() < 0.1);
      return { document, version, body: bodyOf(document, version) };
    });
    const docs = writes.map(({ body }) => body);
    const reply = await client.call('POST', `/${db}/_bulk_docs`, { docs });
    const rows: { id: string; rev?: string }[] = JSON.parse(expectStatus(reply, [201]));
    for (const [index, { document, version }] of writes.entries()) {
      const rev = rows[index]?.rev;
      if (rev === undefined) throw new WrongReply(`no rev in ${reply.text.slice(0, 300)}`);
      this.#ack(document, version, rev);
    }
  }

  /** A new document or, as often, one that the writer made before. */
  #pick(db: string, writer: number): LoggedDocument {
    const id = `w${writer}-${randomInt(this.#random, 60 + this.documents.size / 8)}`;
    const key = `${db}/${id}`;
    const known = this.documents.get(key);
    if (known !== undefined) return known;
    const document = { db, id, acked: undefined, doubtful: undefined };
    this.documents.set(key, document);
    return document;
  }

  #begin(document: LoggedDocument, wantsDeletion: boolean): Omit<Version, 'rev'> {
    const deleted = wantsDeletion && document.acked?.deleted === false;
    const attachment = !deleted && this.#random() < 0.1;
    const version = { marker: ++this.#marker, deleted, attachment };
    document.doubtful = version;
    this.#touched.add(document);
    return version;
  }

  #ack(document: LoggedDocument, version: Omit<Version, 'rev'>, rev: string): void {
    document.acked = { ...version, rev };
    document.doubtful = undefined;
    this.#acked++;
  }

  /** Makes and removes databases, some of them under the name of one before. */
  async #comeAndGo(client: HttpClient): Promise<void> {
    const name = `churn${randomInt(this.#random, 4)}`;
    const isThere = this.#existence.get(name) === 'acked';
    this.#existence.set(name, 'doubtful');
    const reply = await client.call(isThere ? 'DELETE' : 'PUT', `/${name}`);
    expectStatus(reply, isThere ? [200] : [201]);
    if (!isThere) expectStatus(await client.call('PUT', `/${name}/inside`, { a: 1 }), [201]);
    this.#existence.set(name, isThere ? 'gone' : 'acked');
  }

  async #compact(client: HttpClient): Promise<void> {
    const db = DATABASES[randomInt(this.#random, DATABASES.length)];
    const reply = await client.call('POST', `/${db}/_compact`, {});
    expectStatus(reply, [202, 404, 405]);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }

  /** What is wrong with what the server has now; takes it for the truth from here on. */
  async problems(server: ServerProcess): Promise<string[]> {
    const client = server.client();
    const problems = await this.#databaseProblems(client);
    for (const db of DATABASES) problems.push(...(await this.#documentProblems(client, db)));
    return problems;
  }

  async #databaseProblems(client: HttpClient): Promise<string[]> {
    const reply = await client.call('GET', '/_all_dbs');
    const names: string[] = JSON.parse(expectStatus(reply, [200]));
    const problems: string[] = [];
    for (const db of DATABASES) if (!names.includes(db)) problems.push(`${db} is gone`);
    for (const name of names) {
      if (DATABASES.includes(name) || this.#existence.has(name)) continue;
      problems.push(`${name} was never made`);
    }
    for (const [name, existence] of this.#existence) {
      const isThere = names.includes(name);
      if (existence === 'acked' && !isThere) problems.push(`${name} was made and is gone`);
      if (existence === 'gone' && isThere) problems.push(`${name} was removed and is there`);
      this.#existence.set(name, isThere ? 'acked' : 'gone');
      if (!isThere) continue;
      const { status } = await client.call('GET', `/${name}/inside`);
      if (existence === 'doubtful' && status === 404) {
        // It was killed between the two: from here on it is as all others are.
        expectStatus(await client.call('PUT', `/${name}/inside`, { a: 1 }), [201]);
      } else if (status !== 200) problems.push(`${name} answers ${status}`);
    }
    return problems;
  }

  async #documentProblems(client: HttpClient, db: string): Promise<string[]> {
    const problems: string[] = [];
    const listed = await rowsOf(
      client,
      `/${db}/_all_docs?include_docs=true&attachments=true`,
      'rows',
    );
    const changes = await rowsOf(client, `/${db}/_changes`, 'results');
    for (const [what, rows] of [
      ['_all_docs', listed],
      ['_changes', changes],
    ] as const) {
      if (new Set(rows.map(({ id }) => id)).size !== rows.length) {
        problems.push(`${db}: an id is twice in ${what}`);
      }
    }
    const inList = new Map(listed.map((row) => [row.id, row]));
    const inChanges = new Map(changes.map((row) => [row.id, row]));
    for (const document of this.documents.values()) {
      if (document.db !== db) continue;
      const listed = inList.get(document.id);
      const found = foundIn(listed?.doc);
      const problem = judge(document, found, inChanges.get(document.id));
      if (problem !== undefined) problems.push(`${db}/${document.id}: ${problem}`);
      else if (this.#touched.has(document)) {
        problems.push(...(await this.#byId(client, document, listed?.doc)));
      }
      inList.delete(document.id);
      inChanges.delete(document.id);
    }
    for (const id of inList.keys()) problems.push(`${db}/${id} in _all_docs was never written`);
    for (const id of inChanges.keys()) problems.push(`${db}/${id} in _changes was never written`);
    return problems;
  }

  async #byId(client: HttpClient, document: LoggedDocument, listed: unknown): Promise<string[]> {
    const { db, id } = document;
    const { status, text } = await client.call('GET', `/${db}/${id}?attachments=true`);
    const expected = listed === undefined ? 404 : 200;
    if (status !== expected) return [`${db}/${id} answers ${status}`];
    if (status === 404 || same(JSON.parse(text), listed)) return [];
    return [`${db}/${id} is not what _all_docs says: ${text.slice(0, 300)}`];
  }
}

/** A reply that a server that works does not give. */
class WrongReply extends Error {}

function expectStatus({ status, text }: ProcessReply, statuses: readonly number[]): string {
  if (statuses.includes(status)) return text;
  throw new WrongReply(`status ${status}: ${text.slice(0, 300)}`);
}

function bodyOf(document: LoggedDocument, version: Omit<Version, 'rev'>): object {
  const { marker, deleted, attachment } = version;
  return {
    _id: document.id,
    ...(document.acked === undefined ? {} : { _rev: document.acked.rev }),
    ...(deleted ? { _deleted: true } : {}),
    ...(attachment
      ? { _attachments: { a: { content_type: 'text/plain', data: contentOf(marker) } } }
      : {}),
    marker,
    filler: fillerOf(marker),
  };
}

/** Anything that is torn or mixed with another version shows. */
function fillerOf(marker: number): string {
  return `${marker},`.repeat(1 + (marker % 40));
}

function contentOf(marker: number): string {
  return Buffer.alloc(3 + (marker % 5000), String(marker)).toString('base64');
}

interface Row {
  readonly id: string;
  readonly doc?: unknown;
  readonly deleted?: boolean;
  readonly changes?: readonly { readonly rev: string }[];
}

async function rowsOf(client: HttpClient, path: string, member: string): Promise<readonly Row[]> {
  const reply = await client.call('GET', path);
  const body: Record<string, readonly Row[]> = JSON.parse(expectStatus(reply, [200]));
  return body[member] ?? [];
}

interface Found {
  readonly rev: string;
  readonly marker: number;
  readonly isWhole: boolean;
}

function foundIn(doc: unknown): Found | undefined {
  if (typeof doc !== 'object' || doc === null) return undefined;
  const members: Record<string, unknown> = { ...doc };
  const marker = Number(members['marker']);
  const text = JSON.stringify(members['_attachments'] ?? {});
  const hasContent = text === '{}' || text.includes(`"${contentOf(marker)}"`);
  const isWhole = members['filler'] === fillerOf(marker) && hasContent;
  return { rev: String(members['_rev']), marker, isWhole };
}

/** What is wrong with a document; what was in doubt is settled. */
function judge(
  document: LoggedDocument,
  found: Found | undefined,
  change: Row | undefined,
): string | undefined {
  const { acked, doubtful } = document;
  document.doubtful = undefined;
  if (found !== undefined && !found.isWhole) return `torn: ${JSON.stringify(found)}`;
  const rev = change?.changes?.[0]?.rev;
  if (found !== undefined && (rev !== found.rev || change?.deleted === true)) {
    return `_changes says ${JSON.stringify(change)}, _all_docs ${found.rev}`;
  }
  if (found === undefined && change !== undefined && change.deleted !== true) {
    return 'in _changes, not in _all_docs';
  }
  const isAcked =
    acked === undefined
      ? change === undefined
      : rev === acked.rev && (acked.deleted || found?.marker === acked.marker);
  if (isAcked) return undefined;
  const isDoubtful =
    doubtful !== undefined &&
    change !== undefined &&
    (doubtful.deleted ? found === undefined : found?.marker === doubtful.marker);
  if (isDoubtful && rev !== undefined) {
    document.acked = { ...doubtful, rev };
    return undefined;
  }
  return `acknowledged ${JSON.stringify(acked)}, in doubt ${JSON.stringify(doubtful)}, found ${JSON.stringify({ found, change })}`;
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
