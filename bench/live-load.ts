/**
 * What the client of the families live-split and live-move asks for. A writer reads back at once whatever was acknowledged. Of its writes a tenth are
 * attachments, local docs and purges, a tenth go through `_bulk_docs`; of the rest half are new documents, half updates.
 */
import type { Answer, LiveRequests } from './live-requests.js';

/** The kinds of writes come round after so many. */
const CYCLE = 30;
const KINDS: ReadonlyMap<number, 'attachment' | 'local' | 'purge' | 'bulk'> = new Map([
  [0, 'attachment'],
  [10, 'local'],
  [20, 'purge'],
  [5, 'bulk'],
  [15, 'bulk'],
  [25, 'bulk'],
] as const);
const BULK = 10;
const ATTACHMENT_BYTES = 4096;
const TEXT = 'x'.repeat(120);
/** One in so many reads is a part of a list. */
const LIST_EVERY = 20;

interface Written {
  readonly id: string;
  readonly rev: string;
}

export class LiveWriter {
  readonly #requests: LiveRequests;
  readonly #path: string;
  readonly #name: string;
  #count = 0;
  #last: Written | undefined;
  #localRev: string | undefined;

  constructor(requests: LiveRequests, path: string, name: string) {
    this.#requests = requests;
    this.#path = path;
    this.#name = name;
  }

  async run(): Promise<never> {
    for (;;) {
      this.#count++;
      await this.#writeOne(KINDS.get(this.#count % CYCLE));
    }
  }

  #writeOne(kind: 'attachment' | 'local' | 'purge' | 'bulk' | undefined): Promise<void> {
    if (kind === 'attachment') return this.#attachment();
    if (kind === 'local') return this.#local();
    if (kind === 'purge') return this.#purge();
    if (kind === 'bulk') return this.#bulk();
    return this.#document(this.#count % 2 === 0 ? this.#last : undefined);
  }

  /** The beginning is random, so that ids come in no order. */
  #newId(): string {
    return `${Math.random().toString(16).slice(2, 10)}-${this.#name}-${this.#count}`;
  }

  #body(members: object): Buffer {
    return Buffer.from(JSON.stringify({ ...members, n: this.#count, text: TEXT }));
  }

  async #document(old: Written | undefined): Promise<void> {
    const id = old?.id ?? this.#newId();
    const body = this.#body(old === undefined ? {} : { _rev: old.rev });
    const answer = await this.#requests.write('PUT', `${this.#path}/${id}`, body, 1);
    const rev = revOf(answer);
    this.#last = rev === undefined ? undefined : { id, rev };
    await this.#expect(id, { _rev: rev, n: this.#count });
  }

  async #bulk(): Promise<void> {
    const ids = Array.from({ length: BULK }, () => this.#newId());
    const docs = ids.map((id) => ({ _id: id, n: this.#count, text: TEXT }));
    const body = Buffer.from(JSON.stringify({ docs }));
    const answer = await this.#requests.write('POST', `${this.#path}/_bulk_docs`, body, BULK);
    const rows: unknown = parsed(answer.body);
    const isWhole = Array.isArray(rows) && rows.every((row) => isOk(row));
    if (!isWhole) this.#requests.fail(`_bulk_docs: ${answer.body}`);
    await this.#expect(ids[this.#count % BULK] ?? '', { n: this.#count });
  }

  async #attachment(): Promise<void> {
    const path = `${this.#path}/${this.#newId()}/file`;
    const bytes = Buffer.alloc(ATTACHMENT_BYTES, this.#count & 0xff);
    await this.#requests.write('PUT', path, bytes, 1);
    const { body } = await this.#requests.read(path);
    if (!body.equals(bytes)) this.#requests.fail(`GET ${path}: other bytes`);
  }

  async #local(): Promise<void> {
    const id = `_local/${this.#name}`;
    const body = this.#body(this.#localRev === undefined ? {} : { _rev: this.#localRev });
    const answer = await this.#requests.write('PUT', `${this.#path}/${id}`, body, 1);
    this.#localRev = revOf(answer);
    await this.#expect(id, { _rev: this.#localRev, n: this.#count });
  }

  /** Purges the document that it wrote last. */
  async #purge(): Promise<void> {
    const last = this.#last;
    if (last === undefined) return;
    this.#last = undefined;
    const body = Buffer.from(JSON.stringify({ [last.id]: [last.rev] }));
    await this.#requests.write('POST', `${this.#path}/_purge`, body, 1);
    await this.#requests.readMissing(`${this.#path}/${last.id}`);
  }

  async #expect(id: string, members: Readonly<Record<string, unknown>>): Promise<void> {
    const { body } = await this.#requests.read(`${this.#path}/${id}`);
    for (const [name, value] of Object.entries(members)) {
      if (memberOf(body, name) === value) continue;
      this.#requests.fail(`GET ${id}: ${name} is not ${value}: ${body.subarray(0, 200)}`);
    }
  }
}

export class LiveReader {
  readonly #requests: LiveRequests;
  readonly #path: string;
  readonly #ids: readonly string[];

  constructor(requests: LiveRequests, path: string, ids: readonly string[]) {
    this.#requests = requests;
    this.#path = path;
    this.#ids = ids;
  }

  async run(): Promise<never> {
    for (let count = 0; ; count++) {
      const id = this.#ids[Math.floor(Math.random() * this.#ids.length)] ?? '';
      const list = `_all_docs?limit=20&include_docs=true&startkey=%22${id}%22`;
      await this.#requests.read(`${this.#path}/${count % LIST_EVERY === 0 ? list : id}`);
    }
  }
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
}

function memberOf(body: Buffer, name: string): unknown {
  const value = parsed(body);
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries(value).find(([key]) => key === name)?.[1];
}

function isOk(row: unknown): boolean {
  return typeof row === 'object' && row !== null && 'ok' in row && row.ok === true;
}

function revOf({ body }: Answer): string | undefined {
  const rev = memberOf(body, 'rev');
  return typeof rev === 'string' ? rev : undefined;
}
