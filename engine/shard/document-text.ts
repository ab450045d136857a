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
  const [newest] = parts.path ?? [];
  if (newest !== undefined && parts.path !== undefined) {
    const ids = parts.path.map(({ code }) => formatRevId(code));
    head.push(`"_revisions":${JSON.stringify({ start: newest.gen, ids })}`);
  }
  if (parts.attachments !== undefined && parts.attachments.length > 0) {
    head.push(`"_attachments":{${parts.attachments.map(attachmentText).join(',')}}`);
  }
  const members = parts.body.length > 2 ? parts.body.subarray(1) : CLOSE;
  return Buffer.concat([
    Buffer.from(`{${head.join(',')}${parts.body.length > 2 ? ',' : ''}`),
    members,
  ]);
}

const CLOSE = Buffer.from('}');

function attachmentText(input: {
  readonly attachment: Attachment;
  readonly data: string | undefined;
}): string {
  const { attachment, data } = input;
  const value = {
    content_type: attachment.contentType,
    revpos: attachment.revpos,
    digest: `md5-${Buffer.from(attachment.digest).toString('base64')}`,
    ...(data === undefined ? { length: attachment.length, stub: true } : { data }),
  };
  return `${JSON.stringify(attachment.name)}:${JSON.stringify(value)}`;
}

/** `_id` of a local doc, and the `_rev` of its revision number. */
export function localDocText(id: string, revision: number, body: Uint8Array): Uint8Array {
  return documentText({ id: `_local/${id}`, rev: `0-${revision}`, body });
}
