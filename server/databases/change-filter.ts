/** Filters of changes by the ids of documents. */
import { ByteReader } from '../../engine/file/byte-reader.js';
import { hashOf, isInRange } from '../../engine/shard/hash.js';
import { ROW_ID_AT } from '../../engine/shard/seq-tree.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';

export interface ChangeFilter {
  /** Whether a row of by-seq, as it is stored, is wanted. */
  passes(row: Uint8Array): boolean;
  /** The ids that are wanted of a shard, if looking each up is less than going through `rows` rows. */
  fewIds(snapshot: Snapshot, rows: number): Promise<readonly Uint8Array[] | undefined>;
}

/** Looking a document up takes about as long as so many rows. */
const LOOKUP_ROWS = 8;
/** Above so many, documents are not looked up. */
const LOOKUPS_MAX = 1000;

const DESIGN_PREFIX = Buffer.from('_design/');
/** The first text after all that begin with the prefix. */
const DESIGN_END = Buffer.from('_design0');

const reader = new ByteReader();

/** The id in a row of by-seq. A view. */
export function idOfRow(row: Uint8Array): Uint8Array {
  return reader.reset(row, ROW_ID_AT).prefixed();
}

/** Documents of some ids. */
export class IdFilter implements ChangeFilter {
  readonly #ids: readonly Uint8Array[];
  /** The bytes of the ids as texts. */
  readonly #keys: ReadonlySet<string>;

  constructor(ids: readonly string[]) {
    const keys = new Map(ids.map((id) => [keyOf(Buffer.from(id)), Buffer.from(id)]));
    this.#ids = [...keys.values()];
    this.#keys = new Set(keys.keys());
  }

  passes(row: Uint8Array): boolean {
    return this.#keys.has(keyOf(idOfRow(row)));
  }

  async fewIds({ metadata }: Snapshot, rows: number): Promise<readonly Uint8Array[] | undefined> {
    if (this.#ids.length > LOOKUPS_MAX || this.#ids.length * LOOKUP_ROWS > rows) return undefined;
    return this.#ids.filter((id) => isInRange(hashOf(id, metadata.hashRule), metadata.range));
  }
}

/** Design documents. */
export class DesignFilter implements ChangeFilter {
  passes(row: Uint8Array): boolean {
    const id = idOfRow(row);
    return DESIGN_PREFIX.every((byte, at) => id[at] === byte);
  }

  async fewIds(snapshot: Snapshot, rows: number): Promise<readonly Uint8Array[] | undefined> {
    const most = Math.min(LOOKUPS_MAX, Math.floor(rows / LOOKUP_ROWS));
    const ids: Uint8Array[] = [];
    for await (const { key } of snapshot.entries('byId', { gte: DESIGN_PREFIX, lt: DESIGN_END })) {
      if (ids.length >= most) return undefined;
      ids.push(key);
    }
    return ids;
  }
}

function keyOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.length).toString('latin1');
}
