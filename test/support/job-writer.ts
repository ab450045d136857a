/** A writer of a database whose shards are split and merged meanwhile: everything that a database keeps, each write noted. */

import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { formatRev } from '../../engine/shard/revision.js';
import type { Leaf } from '../../engine/shard/seq-tree.js';
import type { Database } from '../../server/databases/database.js';
import { randomInt } from './seed.js';
import type { VersionLog } from './version-log.js';

const DOCUMENTS = 10;
const LOCALS = 3;
/** What is said of a tombstone. */
export const DELETED = 'deleted';

export interface Markers {
  next: number;
}

export class JobWriter {
  readonly #name: string;
  readonly #database: () => Database;
  readonly #log: VersionLog;
  readonly #random: () => number;
  readonly #markers: Markers;

  /** `name` begins all ids: each writer has its own. */
  constructor(
    name: string,
    database: () => Database,
    parts: { readonly log: VersionLog; readonly random: () => number; readonly markers: Markers },
  ) {
    this.#name = name;
    this.#database = database;
    this.#log = parts.log;
    this.#random = parts.random;
    this.#markers = parts.markers;
  }

  /** Makes one write. */
  async write(): Promise<void> {
    const choice = this.#random();
    if (choice < 0.12) await this.#local();
    else if (choice < 0.2) await this.#settings();
    else await this.#document(choice);
  }

  /** Makes some documents and purges them. */
  async purge(count: number): Promise<void> {
    const id = `${this.#name}-purged`;
    for (let purge = 0; purge < count; purge++) {
      await this.#put(id, undefined, false, false);
      const leaf = await this.#leafOf(id);
      if (leaf !== undefined) await this.#purge(id, leaf);
    }
  }

  async #document(choice: number): Promise<void> {
    const id = `${this.#name}${randomInt(this.#random, DOCUMENTS)}`;
    const leaf = await this.#leafOf(id);
    if (leaf !== undefined && choice < 0.32) await this.#purge(id, leaf);
    else await this.#put(id, leaf, leaf?.deleted === false && choice < 0.44, choice > 0.75);
  }

  /** As a client reads it before it writes. A document has one leaf. */
  #leafOf(id: string): Promise<Leaf | undefined> {
    const key = Buffer.from(id);
    return this.#database().read(
      key,
      async (snapshot) => (await snapshot.document(key))?.leaves[0],
    );
  }

  async #put(id: string, leaf: Leaf | undefined, deleted: boolean, attach: boolean): Promise<void> {
    const marker = ++this.#markers.next;
    const body = Buffer.from(deleted ? '{}' : `{"marker":${marker}}`);
    const bytes = Buffer.alloc(40 + randomInt(this.#random, 1500), `${marker},`);
    const content = { chunks: [bytes], bytesMax: bytes.length };
    const attachments = new Map([['a', { contentType: 'x/y', revpos: undefined, content }]]);
    const edit = { id: Buffer.from(id), body, deleted, parent: leaf?.revision };
    const write = attach && !deleted ? { ...edit, attachments } : edit;
    const suffix = attach ? ` ${createHash('md5').update(bytes).digest('hex')}` : '';
    const text = deleted ? DELETED : body.toString() + suffix;
    await this.#log.write(`document ${id}`, text, () => this.#database().put(write));
  }

  /** Both what it removes and what it says of itself must stay. */
  async #purge(id: string, { revision }: Leaf): Promise<void> {
    const uuid = Buffer.from(`purge ${++this.#markers.next}`);
    const request = { uuid, id: Buffer.from(id), revs: [revision] };
    const info = `${id} ${formatRev(revision)}`;
    await this.#log.write(`${uuid}`, info, () =>
      this.#log.write(`document ${id}`, '', () => this.#database().purge(request)),
    );
  }

  async #local(): Promise<void> {
    const id = `${this.#name}${randomInt(this.#random, LOCALS)}`;
    const body = `{"marker":${++this.#markers.next}}`;
    const isDeletion = this.#random() < 0.2;
    const edit = {
      id: Buffer.from(id),
      body: isDeletion ? undefined : Buffer.from(body),
      revision: 'any' as const,
    };
    await this.#log.write(`local ${id}`, isDeletion ? '' : body, () =>
      this.#database().putLocal(edit),
    );
  }

  /** Of the first writer only: what two say at once has no order. */
  async #settings(): Promise<void> {
    if (this.#name !== 'a') return;
    const marker = ++this.#markers.next;
    const security = `{"marker":${marker}}`;
    const settings = { security: Buffer.from(security), revsLimit: 1000 + marker };
    await this.#log.write('settings', `${security} ${settings.revsLimit}`, () =>
      this.#database().settings.change(settings),
    );
  }
}
