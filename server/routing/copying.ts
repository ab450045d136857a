/**
 * COPY of a document to one that is on another node: read at the one, written at the other, as it comes. What is copied has its attachments
 * as they are stored.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { isLocalId } from '../../engine/shard/document.js';
import { formatRev } from '../../engine/shard/revision.js';
import { destinationOf, documentId } from '../api/documents.js';
import type { Exchange } from '../http/exchange.js';
import { ByteFeed } from './byte-feed.js';
import type { Owners } from './owners.js';
import type { PassedReply } from './passed-request.js';
import { assertServed, sendOn } from './replies.js';
import { outcomeUnknown, type Requests } from './requests.js';

/** The head of a part of a multipart body, and the members with which a document begins. */
const HEAD_BYTES_MAX = 64 * 1024;
const DOCUMENT_HEAD = /^\{"_id":"(?:[^"\\]|\\.)*","_rev":"[^"]*"(,?)/;

/** Serves COPY. */
export async function copy(owners: Owners, requests: Requests, exchange: Exchange): Promise<void> {
  const name = exchange.param('db');
  const id = documentId(exchange);
  const { id: targetId, rev } = destinationOf(exchange);
  if (isLocalId(id) || isLocalId(targetId)) {
    throw new DivanError('BAD_REQUEST', '_local documents cannot be copied.');
  }
  const isTogether = await owners.retrying(name, async (attempt) => {
    const [from, to] = [id, targetId].map((each) => owners.ofDocument(name, each, attempt));
    return from?.identity === to?.identity;
  });
  if (isTogether) return sendOn(exchange, await requests.ofDocument(exchange, id));
  const source = await read(owners, requests, exchange, name, id);
  const target = `/${[name, Buffer.from(targetId).toString()].map(encodeURIComponent).join('/')}`;
  const written = await owners.retrying(name, async (attempt) => {
    // What was read is not there a second time.
    if (attempt > 0) throw new DivanError('UNAVAILABLE', 'the document was moved; send it again');
    try {
      const body = renamed(source, rev === undefined ? undefined : formatRev(rev));
      const type = typeOf(source);
      const node = owners.ofDocument(name, targetId, attempt);
      return await requests.streamTo(exchange, node, { method: 'PUT', url: target, type, body });
    } catch (error) {
      throw isDivanError(error, 'UNREACHABLE') ? outcomeUnknown(error) : error;
    } finally {
      await source.body.return();
    }
  });
  await assertServed(written);
  await sendOn(exchange, written, 201);
}

async function read(
  owners: Owners,
  requests: Requests,
  exchange: Exchange,
  name: string,
  id: Uint8Array,
): Promise<PassedReply> {
  const path = [name, Buffer.from(id).toString()].map(encodeURIComponent).join('/');
  const query = new URLSearchParams({ attachments: 'true' });
  for (const option of ['rev', 'latest']) {
    const value = exchange.query.string(option);
    if (value !== undefined) query.set(option, value);
  }
  const headers = [['accept', 'multipart/related, application/json;q=0.5']] as const;
  const reply = await owners.retrying(name, (attempt) => {
    const node = owners.ofDocument(name, id, attempt);
    return requests.toNode(exchange, node, { method: 'GET', url: `/${path}?${query}`, headers });
  });
  await assertServed(reply);
  return reply;
}

function typeOf({ headers }: PassedReply): string {
  const found = headers.find(([name]) => name.toLowerCase() === 'content-type');
  return found?.[1] ?? 'application/json';
}

/** A document without its id and revision, but with the one that it is to be written over. */
async function* renamed(
  reply: PassedReply,
  rev: string | undefined,
): AsyncGenerator<Uint8Array, void> {
  const feed = new ByteFeed(reply.body);
  if (typeOf(reply).startsWith('multipart/')) {
    yield Buffer.from(await feed.until('\r\n\r\n', HEAD_BYTES_MAX));
  }
  const [head, comma = ''] = await feed.lookAt(DOCUMENT_HEAD, HEAD_BYTES_MAX);
  feed.pass(head.length);
  yield Buffer.from(`{${rev === undefined ? '' : `"_rev":${JSON.stringify(rev)}${comma}`}`);
  yield* feed.chunks();
}
