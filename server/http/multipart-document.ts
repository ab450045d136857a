/**
 * A document with its attachments as multipart/related: which part holds which attachment.
 *
 * The first part is the document. Its `_attachments` has a stub with `"follows": true` for each further part. Those come in
 * the order in which the stubs stand in the text; newer clients also name each part by its `Content-Disposition`.
 */
import { DivanError } from '../../engine/errors.js';
import { fileNameOf } from './header-value.js';

/** Tells for each part, in their order, which attachment it holds. */
export class PartAssignment {
  readonly #pending: Set<string>;

  /** The names of the attachments that follow, in the order of their stubs. */
  constructor(names: Iterable<string>) {
    this.#pending = new Set(names);
  }

  /** The name of the attachment in the next part, which has these headers. Throws `BAD_REQUEST` if no stub is left for it. */
  take(headers: ReadonlyMap<string, string>): string {
    const named = fileNameOf(headers.get('content-disposition'));
    const name = named ?? this.#pending.values().next().value;
    if (name === undefined || !this.#pending.delete(name)) {
      throw new DivanError('BAD_REQUEST', 'a part belongs to no attachment that follows');
    }
    return name;
  }

  /** Throws `BAD_REQUEST` if there was no part for one of the attachments. */
  finish(): void {
    const [name] = this.#pending;
    if (name === undefined) return;
    const shown = JSON.stringify(name.slice(0, 80));
    throw new DivanError('BAD_REQUEST', `there is no part for the attachment ${shown}`);
  }
}
