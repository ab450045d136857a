/** The JSON text of stored documents, put together from bytes: bodies are not parsed. */
import type { Attachment } from './attachment-list.js';
import { formatRevId, type Revision } from './revision.js';

/** What is written of one revision of a document. */
export interface DocumentText {
  readonly id: string;
  readonly rev: string;
  readonly deleted?: boolean;
  /** The revision and its ancestors, newest first, for `_revisions`. */
  readonly path?: readonly Revision[] | undefined;
  /** By name, with their content in base64, or without it as stubs. */
  readonly attachments?: readonly {
    readonly attachment: Attachment;
    readonly data: string | undefined;
  }[];
  /** The body as JSON text. */
  readonly body: Uint8Array;
}

/** A document as one line of JSON. */
export function documentText(parts: DocumentText): Uint8Array {
  const head: string[] = [`"_id":${JSON.stringify(parts.id)},"_rev":${JSON.stringify(parts.rev)}`];
  if (parts.deleted === true) head.push('"_deleted":true');
  if (parts.path !== undefined && parts.path.length > 0) head.push(revisionsText(parts.path));
  if (parts.attachments !== undefined && parts.attachments.length > 0) {
    head.push(`"_attachments":{${parts.attachments.map(attachmentText).join(',')}}`);
  }
  return withMembers(head.join(','), parts.body);
}

/** The member `_revisions` of a path, newest first. */
export function revisionsText(path: readonly Revision[]): string {
  const ids = path.map(({ code }) => formatRevId(code));
  return `"_revisions":${JSON.stringify({ start: path[0]?.gen ?? 0, ids })}`;
}

/** A body with more members, as JSON text, in front of its own. */
export function withMembers(members: string, body: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`{${members}`), ...restOfObject(body)]);
}

/** What comes behind other members of an object to add those of a body. */
export function restOfObject(body: Uint8Array): readonly Uint8Array[] {
  return body.length <= 2 ? [CLOSE] : [COMMA, body.subarray(1)];
}

const CLOSE = Buffer.from('}');
const COMMA = Buffer.from(',');

function attachmentText(input: {
  readonly attachment: Attachment;
  readonly data: string | undefined;
}): string {
  const { attachment, data } = input;
  const value = {
    content_type: attachment.contentType,
    revpos: attachment.revpos,
    digest: digestText(attachment.digest),
    ...encodingOf(attachment),
    ...(data === undefined ? { length: attachment.decodedLength, stub: true } : { data }),
  };
  return `${JSON.stringify(attachment.name)}:${JSON.stringify(value)}`;
}

/** A digest as clients know it. */
export function digestText(digest: Uint8Array): string {
  return `md5-${Buffer.from(digest).toString('base64')}`;
}

function encodingOf({ encoding, length }: Attachment): object | undefined {
  return encoding === undefined ? undefined : { encoding, encoded_length: length };
}

/** `_id` of a local doc, and the `_rev` of its revision number. */
export function localDocText(id: string, revision: number, body: Uint8Array): Uint8Array {
  return documentText({ id: `_local/${id}`, rev: `0-${revision}`, body });
}
