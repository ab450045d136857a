/** The feed of changes of one part of a database, as its node sends it: rows, and lines that say how far all of it is read. */
import { PART_END, PART_MARK } from '../api/feed-format.js';
import type { Node } from '../cluster/peers.js';
import type { ServerHost } from '../world.js';
import { ByteFeed } from './byte-feed.js';
import type { PassedReply } from './passed-request.js';
import { inTime, unreachable } from './passing.js';

/** What comes next. Of a row, `rest` is what follows its token, and is to be read before the next line. */
export type PartLine =
  | {
      readonly kind: 'row';
      readonly token: string;
      readonly rest: AsyncGenerator<Uint8Array, void>;
    }
  | { readonly kind: 'mark'; readonly token: string }
  | { readonly kind: 'end'; readonly token: string; readonly pending: number };

/** A node sends something every two seconds, if only to say that it is there. */
const SILENT_MS = 10_000;
/** Longer than any token. */
const HEAD_BYTES_MAX = 256 * 1024;
const ROW_HEAD = /^\{"seq":"([^"]*)"/;
const NEWLINE = 0x0a;

export class PartFeed {
  readonly #host: ServerHost;
  readonly #node: Node;
  readonly #bytes: ByteFeed;

  constructor(host: ServerHost, node: Node, reply: PassedReply) {
    this.#host = host;
    this.#node = node;
    this.#bytes = new ByteFeed(reply.body);
  }

  /** The next line, but for those that only say that the node is there. Throws `UNREACHABLE`, also for a node that is silent, and `PEER`. */
  async next(): Promise<PartLine> {
    for (;;) {
      const byte = await this.#inTime(this.#bytes.peek());
      if (byte === undefined) throw unreachable(this.#node, undefined);
      if (byte !== NEWLINE) return this.#inTime(this.#read(byte));
      this.#bytes.pass(1);
    }
  }

  /** Reads no more. */
  close(): Promise<void> {
    return this.#bytes.close();
  }

  async #read(byte: number): Promise<PartLine> {
    if (byte === PART_MARK.charCodeAt(0)) {
      return { kind: 'mark', token: (await this.#text()).slice(1) };
    }
    if (byte === PART_END.charCodeAt(0)) {
      const [token = '', pending] = (await this.#text()).slice(1).split(' ');
      return { kind: 'end', token, pending: Number(pending ?? 0) };
    }
    const [head, token = ''] = await this.#bytes.lookAt(ROW_HEAD, HEAD_BYTES_MAX);
    this.#bytes.pass(head.length);
    return { kind: 'row', token, rest: this.#bytes.line() };
  }

  async #text(): Promise<string> {
    return (await this.#bytes.until('\n', HEAD_BYTES_MAX)).slice(0, -1);
  }

  async #inTime<T>(reading: Promise<T>): Promise<T> {
    try {
      return await inTime(this.#host, reading, SILENT_MS);
    } catch (error) {
      throw unreachable(this.#node, error);
    }
  }
}
