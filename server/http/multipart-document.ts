/**
 * A document with its attachments as multipart/related: which part holds which attachment.
 *
 * The first part is the document. Its `_attachments` has a stub with `"follows": true` for each further part. Those come in
 * the order in which the stubs stand in the text, which `JSON.parse` would not keep for names such as `1`; newer clients also
 * name each part by its `Content-Disposition`.
 */
import { DivanError } from '../../engine/errors.js';
import { fileNameOf } from './header-value.js';
import { splitSmallObject } from './json-members.js';
import { isObject, type JsonObject, memberOf, parseJson } from './json-value.js';

/** The stub of an attachment whose bytes come in a part of their own. */
export interface FollowingAttachment {
  readonly name: string;
  readonly stub: JsonObject;
}

/**
 * The attachments that follow the document `text`, in the order of their stubs. Throws `INVALID_JSON`, and `TOO_LARGE` if a
 * level of the document has more than `membersMax` members.
 */
export function followingAttachments(
  text: Uint8Array,
  membersMax: number,
): readonly FollowingAttachment[] {
  const members = splitSmallObject(text, { start: 0, end: text.length }, membersMax);
  const attachments = members.find((member) => member.name === '_attachments');
  if (attachments === undefined) return [];
  const following: FollowingAttachment[] = [];
  for (const { name, start, end } of splitSmallObject(text, attachments, membersMax)) {
    const stub = parseJson(text.subarray(start, end));
    if (isObject(stub) && memberOf(stub, 'follows') === true) following.push({ name, stub });
  }
  return following;
}

/** Tells for each part, in their order, which attachment it holds. */
export class PartAssignment {
  readonly #pending: Map<string, FollowingAttachment>;

  constructor(following: readonly FollowingAttachment[]) {
    this.#pending = new Map(following.map((attachment) => [attachment.name, attachment]));
  }

  /** The attachment of the next part, which has these headers. Throws `BAD_REQUEST` if no stub is left for it. */
  take(headers: ReadonlyMap<string, string>): FollowingAttachment {
    const named = fileNameOf(headers.get('content-disposition'));
    const name = named ?? this.#pending.keys().next().value;
    const attachment = name === undefined ? undefined : this.#pending.get(name);
    if (name === undefined || attachment === undefined) {
      throw new DivanError('BAD_REQUEST', 'a part belongs to no attachment that follows');
    }
    this.#pending.delete(name);
    return attachment;
  }

  /** Throws `BAD_REQUEST` if there was no part for one of the attachments. */
  finish(): void {
    const [name] = this.#pending.keys();
    if (name === undefined) return;
    const shown = JSON.stringify(name.slice(0, 80));
    throw new DivanError('BAD_REQUEST', `there is no part for the attachment ${shown}`);
  }
}
