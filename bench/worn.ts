/**
 * A worn shard: three updates of random documents for each document, 5 % of the documents in conflict, attachments that updates keep,
 * about 60 % of the bytes dead: more if there are so many small ones that their trees are flushed several times.
 */
import type { DocumentEdit, EditedAttachment } from '../engine/shard/edit.js';
import { parseRev, type Revision } from '../engine/shard/revision.js';
import type { Shard } from '../engine/shard/shard.js';
import { seededRandom } from '../fixtures/random.js';
import { BATCH, batches, syntheticEdits, updateAll } from './sources.js';

const UPDATES_PER_DOC = 3;
/** Every so many-th document gets a conflict. */
const CONFLICT_EVERY = 20;
/**
 * Every so many-th document gets an attachment, of so many times the size of a document: attachments are few and large, and are
 * live bytes that make up for dead bodies.
 */
const ATTACHMENT_EVERY = 50;
const ATTACHMENT_SIZES = 55;
/** Bodies are drawn from so many. */
const BODIES = 1000;
const KEPT: ReadonlyMap<string, EditedAttachment> = new Map([
  ['file', { contentType: 'application/octet-stream', revpos: undefined, stored: undefined }],
]);

/** A document, and the leaf of it that updates go on from. */
interface Known {
  readonly id: Uint8Array;
  revision: Revision;
}

/** Fills a new shard. */
export async function wornShard(shard: Shard, docs: number, size: number): Promise<void> {
  const random = seededRandom(1);
  const known = await create(shard, docs, size, random);
  const bodies = [...syntheticEdits(Math.min(docs, BODIES), size, 2)].map(({ body }) => body);
  const wear = new Wear(known, bodies, random);
  let conflicts = 0;
  for (let done = 0; done < docs * UPDATES_PER_DOC; ) {
    done += await wear.update(shard, Math.min(BATCH, docs * UPDATES_PER_DOC - done));
    const due = Math.floor((done / (docs * UPDATES_PER_DOC)) * (docs / CONFLICT_EVERY));
    await updateAll(shard, wear.conflicts(conflicts, due));
    conflicts = due;
  }
}

async function create(
  shard: Shard,
  docs: number,
  size: number,
  random: () => number,
): Promise<Known[]> {
  const known: Known[] = [];
  for (const batch of batches(syntheticEdits(docs, size, 1))) {
    const edits: DocumentEdit[] = [];
    for (const [index, edit] of batch.entries()) {
      const attachments = hasAttachment(known.length + index)
        ? await storeAttachment(shard, size * ATTACHMENT_SIZES, random)
        : undefined;
      edits.push({ ...edit, attachments });
    }
    const revisions = await updateAll(shard, edits);
    for (const [index, revision] of revisions.entries()) {
      known.push({ id: batch[index]?.id ?? new Uint8Array(0), revision });
    }
  }
  return known;
}

function hasAttachment(index: number): boolean {
  return index % ATTACHMENT_EVERY === 0;
}

async function storeAttachment(
  shard: Shard,
  length: number,
  random: () => number,
): Promise<ReadonlyMap<string, EditedAttachment>> {
  const stored = await shard.store([Buffer.alloc(length, Math.floor(random() * 256))]);
  return new Map([
    ['file', { contentType: 'application/octet-stream', revpos: undefined, stored }],
  ]);
}

class Wear {
  readonly #known: readonly Known[];
  readonly #bodies: readonly Uint8Array[];
  readonly #random: () => number;

  constructor(known: readonly Known[], bodies: readonly Uint8Array[], random: () => number) {
    this.#known = known;
    this.#bodies = bodies;
    this.#random = random;
  }

  /** Updates so many random documents, or fewer: one that is drawn twice is updated once. Returns how many it were. */
  async update(shard: Shard, count: number): Promise<number> {
    const chosen = new Set(Array.from({ length: count }, () => this.#below(this.#known.length)));
    const edits: DocumentEdit[] = [];
    for (const index of chosen) edits.push(this.#next(index));
    const revisions = await updateAll(shard, edits);
    let at = 0;
    for (const index of chosen) {
      const document = this.#known[index];
      const revision = revisions[at++];
      if (document !== undefined && revision !== undefined) document.revision = revision;
    }
    return chosen.size;
  }

  /** Replicated revisions that conflict with what is there, for some of the documents that are to have one. */
  conflicts(from: number, to: number): DocumentEdit[] {
    return Array.from({ length: to - from }, (_, index): DocumentEdit => {
      const document = this.#known[(from + index) * CONFLICT_EVERY + 1];
      const hash = () =>
        Math.floor(this.#random() * 2 ** 48)
          .toString(16)
          .padStart(32, '0');
      const path = [parseRev(`2-${hash()}`), parseRev(`1-${hash()}`)];
      return { id: document?.id ?? new Uint8Array(0), body: this.#body(), deleted: false, path };
    });
  }

  #next(index: number): DocumentEdit {
    const { id, revision: parent } = this.#known[index] ?? {};
    const attachments = hasAttachment(index) ? KEPT : undefined;
    return { id: id ?? new Uint8Array(0), body: this.#body(), deleted: false, parent, attachments };
  }

  #body(): Uint8Array {
    return this.#bodies[this.#below(this.#bodies.length)] ?? new Uint8Array(0);
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
}
