/** What is done with replies of other nodes: they are sent on, refused, read whole. */
import type { Exchange, Headers } from '../http/exchange.js';
import { ByteFeed } from './byte-feed.js';
import type { HeaderList, PassedReply } from './passed-request.js';

/** Smaller replies are sent in one piece. */
const SMALL_BYTES = 64 * 1024;

/** A node refused a part of a request, with which all of it is refused. */
export class Refusal extends Error {
  readonly status: number;
  readonly headers: HeaderList;
  readonly body: Uint8Array;

  constructor({ status, headers }: Omit<PassedReply, 'body'>, body: Uint8Array) {
    super(`a node replied ${status}`);
    this.status = status;
    this.headers = headers;
    this.body = body;
  }

  reply(exchange: Exchange): void {
    exchange.replyBytes(this.status, this.body, asHeaders(this.headers));
  }
}

/** Throws a `Refusal` unless a reply is a success. */
export async function assertServed(reply: PassedReply): Promise<void> {
  if (reply.status >= 200 && reply.status < 300) return;
  const feed = new ByteFeed(reply.body);
  const body = await feed.rest(SMALL_BYTES);
  throw new Refusal(reply, body);
}

/** The whole of a successful reply. Throws `Refusal`, `PEER` if it is larger, and what reading throws. */
export async function wholeReply(reply: PassedReply, bytesMax: number): Promise<Buffer> {
  await assertServed(reply);
  const feed = new ByteFeed(reply.body);
  try {
    return await feed.rest(bytesMax);
  } finally {
    await feed.close();
  }
}

/** Sends a reply on as it comes. */
export async function sendOn(
  exchange: Exchange,
  reply: PassedReply,
  status = reply.status,
): Promise<void> {
  const headers = asHeaders(reply.headers);
  const length = Number(lengthOf(reply.headers) ?? Number.NaN);
  if (status === 204 || (length <= SMALL_BYTES && !exchange.isHead && status !== 304)) {
    const body = await new ByteFeed(reply.body).rest(SMALL_BYTES);
    exchange.replyBytes(status, body, headers);
    return;
  }
  try {
    if (status !== 304) return await exchange.replyChunks(status, reply.body, headers);
    const out = exchange.stream(status, headers);
    if (!out.closed) await out.end();
  } finally {
    await reply.body.return();
  }
}

function lengthOf(headers: HeaderList): string | undefined {
  return headers.find(([name]) => name.toLowerCase() === 'content-length')?.[1];
}

/** Under the names by which the exchange knows those that it sets itself. */
function asHeaders(headers: HeaderList): Headers {
  return Object.fromEntries(headers);
}
