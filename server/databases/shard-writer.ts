/**
 * Writes on their way to the shards that they belong to. A write that comes too late for a file, whose documents are in other files by
 * then, is refused with `MOVED`, having done nothing; it is sent again to the shards as they are now, so that nobody hears of that. The file that it
 * came too late for is held meanwhile: attachments that were stored there are copied from it.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { StoredBytes } from '../../engine/shard/attachment-list.js';
import { type AttachmentSource, storeAttachment } from '../../engine/shard/attachment-upload.js';
import type { EditOutcome } from '../../engine/shard/document-writer.js';
import type { DocumentEdit, EditedAttachment } from '../../engine/shard/edit.js';
import type { Shard } from '../../engine/shard/shard.js';
import type { ShardSet } from './shard-set.js';
import type { ShardSlot } from './shard-slot.js';

/** An attachment as a write brings it. */
export interface NewAttachment {
  readonly contentType: string;
  readonly revpos: number | undefined;
  /** Bytes to be stored, or stored already by `DatabaseUpload`; undefined in a stub. */
  readonly content: AttachmentSource | StoredBytes | undefined;
}

/** A write of one document. */
export interface DocumentWrite extends Omit<DocumentEdit, 'attachments'> {
  readonly attachments?: ReadonlyMap<string, NewAttachment> | undefined;
}

/** The writes of one request to one shard, with their places in the request. */
interface ShardWrites {
  readonly slot: ShardSlot;
  readonly writes: DocumentWrite[];
  readonly places: number[];
}

export class ShardWriter {
  readonly #current: () => ShardSet;

  /** `current`: the shards as they are now. */
  constructor(current: () => ShardSet) {
    this.#current = current;
  }

  /** Calls `work` with the shard of a document, and again, with another one, whenever it rejects with `MOVED`. */
  async write<T>(
    id: Uint8Array,
    work: (shard: Shard, ending: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return this.#current()
      .of(id)
      .slot.write(work, () => this.write(id, work));
  }

  /** As `Database.update`. */
  async update(writes: readonly DocumentWrite[]): Promise<EditOutcome[]> {
    const outcomes: EditOutcome[] = new Array(writes.length);
    const groups = this.#byShard(writes, outcomes);
    const results = await Promise.allSettled(
      groups.map(({ slot, writes }) => this.#updateShard(slot, writes)),
    );
    let failures = 0;
    for (const [index, { writes, places }] of groups.entries()) {
      const result = results[index];
      if (result?.status === 'rejected') {
        if (!isDivanError(result.reason) || ++failures === groups.length) throw result.reason;
        for (const place of places) outcomes[place] = { ok: false, error: result.reason };
        continue;
      }
      for (const at of writes.keys()) {
        const outcome = result?.value[at];
        if (outcome !== undefined) outcomes[places[at] ?? 0] = outcome;
      }
    }
    return outcomes;
  }

  /** As `update`, of one write. */
  async updateOne(write: DocumentWrite): Promise<EditOutcome[]> {
    return this.#updateShard(this.#current().of(write.id).slot, [write]);
  }

  #updateShard(slot: ShardSlot, writes: readonly DocumentWrite[]): Promise<EditOutcome[]> {
    const work = async (shard: Shard) => {
      const edits: DocumentEdit[] = [];
      const refused = new Map<number, DivanError>();
      for (const [index, write] of writes.entries()) {
        if (write.attachments === undefined) edits.push({ ...write, attachments: undefined });
        else {
          try {
            edits.push(await withStored(shard, write));
          } catch (error) {
            // What is wrong with the bytes of one document concerns no other.
            if (!isDivanError(error) || shard.file.failed) throw error;
            refused.set(index, error);
          }
        }
      }
      const outcomes = await shard.update(edits);
      if (slot.isRetired) await this.#sendMoved(edits, outcomes);
      return refused.size === 0 ? outcomes : withRefused(outcomes, refused, writes.length);
    };
    return slot.write(work, () => this.update(writes));
  }

  /** Puts what becomes of the edits that came too late into the places of their outcomes: others may be durable. */
  async #sendMoved(edits: readonly DocumentEdit[], outcomes: EditOutcome[]): Promise<void> {
    const late = [...outcomes.keys()].filter((index) => isMoved(outcomes[index]));
    const writes = late.flatMap((index) => edits[index] ?? []).map(asWrite);
    if (writes.length === 0) return;
    const sent = await this.update(writes).catch((error: unknown): EditOutcome[] => {
      if (!isDivanError(error)) throw error;
      return writes.map(() => ({ ok: false, error }));
    });
    for (const [at, index] of late.entries()) {
      const outcome = sent[at];
      if (outcome !== undefined) outcomes[index] = outcome;
    }
  }

  /** Those of ranges that are not on this node are refused in `outcomes`. */
  #byShard(writes: readonly DocumentWrite[], outcomes: EditOutcome[]): ShardWrites[] {
    const current = this.#current();
    const groups = new Map<ShardSlot, ShardWrites>();
    for (const [place, write] of writes.entries()) {
      const slot = current.shards[current.find(write.id)]?.slot;
      if (slot === undefined) {
        outcomes[place] = { ok: false, error: elsewhere() };
        continue;
      }
      let group = groups.get(slot);
      if (group === undefined) {
        group = { slot, writes: [], places: [] };
        groups.set(slot, group);
      }
      group.writes.push(write);
      group.places.push(place);
    }
    return [...groups.values()];
  }
}

function elsewhere(): DivanError {
  return new DivanError('MOVED', 'the range of the document is not on this node');
}

function isMoved(outcome: EditOutcome | undefined): boolean {
  return outcome?.ok === false && outcome.error.code === 'MOVED';
}

/** Outcomes with those of the refused writes in their places. */
export function withRefused(
  outcomes: readonly EditOutcome[],
  refused: ReadonlyMap<number, DivanError>,
  count: number,
): EditOutcome[] {
  const all: EditOutcome[] = [];
  let next = 0;
  for (let index = 0; index < count; index++) {
    const error = refused.get(index);
    const outcome = error === undefined ? outcomes[next++] : { ok: false as const, error };
    if (outcome !== undefined) all.push(outcome);
  }
  return all;
}

/** A write with its attachments stored in the shard of its document. */
export async function withStored(shard: Shard, write: DocumentWrite): Promise<DocumentEdit> {
  if (write.attachments === undefined) return { ...write, attachments: undefined };
  const attachments = new Map<string, EditedAttachment>();
  for (const [name, { contentType, revpos, content }] of write.attachments) {
    const stored =
      content === undefined || 'refs' in content ? content : await storeAttachment(shard, content);
    attachments.set(name, { contentType, revpos, stored });
  }
  return { ...write, attachments };
}

/** An edit, whose attachments are stored, as a write. */
function asWrite(edit: DocumentEdit): DocumentWrite {
  if (edit.attachments === undefined) return { ...edit, attachments: undefined };
  const attachments = new Map<string, NewAttachment>();
  for (const [name, { contentType, revpos, stored }] of edit.attachments) {
    attachments.set(name, { contentType, revpos, content: stored });
  }
  return { ...edit, attachments };
}
