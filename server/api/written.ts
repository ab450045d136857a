/** What a client is told of a document that it wrote. */
import type { Exchange } from '../http/exchange.js';

/** Replies that a document is written, with the revision that it has now. */
export function replyWritten(
  exchange: Exchange,
  status: number,
  idBytes: Uint8Array,
  rev: string,
): void {
  const id = Buffer.from(idBytes).toString();
  exchange.setETag(rev);
  exchange.reply(status, { ok: true, id, rev });
}

/** Says where a document is that was written. `id` in UTF-8. */
export function setLocation(exchange: Exchange, id: Uint8Array): void {
  const { host } = exchange.request.headers;
  if (host === undefined) return;
  const path = [exchange.param('db'), ...Buffer.from(id).toString().split('/')];
  exchange.setHeader('Location', `http://${host}/${path.map(encodeURIComponent).join('/')}`);
}
