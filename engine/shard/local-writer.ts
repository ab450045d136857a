/** Writing a local doc: no revision tree, only a counter that the writer must know. */
import { DivanError } from '../errors.js';
import { ByteWriter } from '../file/byte-writer.js';
import type { WriteRequest } from './commit-queue.js';
import { assertInRange } from './hash.js';
import { LOCAL_BODY_BYTES_MAX, type LocalDoc, readLocalDoc, writeLocalDoc } from './local-tree.js';
import type { WriteContext } from './write-context.js';

export interface LocalEdit {
  /** UTF-8, without `_local/`. */
  readonly id: Uint8Array;
  /** Canonical JSON text without system members; undefined deletes. */
  readonly body: Uint8Array | undefined;
  /** The `N` of the `0-N` that the writer knows; undefined for none. With `any` whatever is there is replaced. */
  readonly revision: number | undefined | 'any';
  /** The `N` to store, as when a dump is loaded; without it one more than before. */
  readonly newRevision?: number | undefined;
}

const scratch = new ByteWriter();
const NO_BODY = new Uint8Array(0);

export class LocalWrite implements WriteRequest {
  readonly cost: number;
  /** The `N` of the new `0-N`. */
  revision = 0;
  readonly #context: WriteContext;
  readonly #edit: LocalEdit;
  #existing: LocalDoc | undefined;

  constructor(context: WriteContext, edit: LocalEdit) {
    this.#context = context;
    this.#edit = edit;
    this.cost = edit.id.length + (edit.body?.length ?? 0);
    if (this.cost > LOCAL_BODY_BYTES_MAX) {
      throw new DivanError('LIMIT', `a local doc has at most ${LOCAL_BODY_BYTES_MAX} bytes`);
    }
  }

  async prepare(): Promise<void> {
    const value = await this.#context.view('local').get(this.#edit.id);
    this.#existing = value === undefined ? undefined : readLocalDoc(value);
  }

  apply(): void {
    const { overlays, builder, counters } = this.#context;
    const { id, body, revision, newRevision } = this.#edit;
    assertInRange(Buffer.from(idText(id)), this.#context.metadata);
    const { local } = overlays.overlays;
    const handle = local.find(id, Number.MAX_SAFE_INTEGER);
    const value = handle === 0 ? undefined : local.valueOf(handle);
    const existing = value === undefined ? this.#existing : readLocalDoc(value);
    const known = existing === undefined || existing.deleted ? undefined : existing.revision;
    if (revision !== 'any' && revision !== known) {
      throw new DivanError('CONFLICT', 'Document update conflict.', { id: idText(id) });
    }
    this.revision = body === undefined ? 0 : (newRevision ?? (known ?? 0) + 1);
    scratch.clear();
    writeLocalDoc(scratch, {
      seq: ++counters.localSeq,
      deleted: body === undefined,
      revision: this.revision,
      body: body ?? NO_BODY,
    });
    builder.changes.localDoc(existing?.seq ?? 0, id, scratch.view());
    overlays.localDoc(existing?.seq ?? 0, id, scratch.view());
  }
}

/** Several local docs in one commit: all of them or none. */
export class LocalWrites implements WriteRequest {
  readonly cost: number;
  readonly #writes: readonly LocalWrite[];

  /** Throws `LIMIT`. REQUIRES: no id is there twice, and no edit can be refused when it is applied. */
  constructor(context: WriteContext, edits: readonly LocalEdit[]) {
    this.#writes = edits.map((edit) => new LocalWrite(context, edit));
    this.cost = this.#writes.reduce((sum, { cost }) => sum + cost, 0);
  }

  async prepare(): Promise<void> {
    for (const write of this.#writes) await write.prepare();
  }

  apply(): void {
    for (const write of this.#writes) write.apply();
  }
}

function idText(id: Uint8Array): string {
  return `_local/${Buffer.from(id).toString()}`;
}
