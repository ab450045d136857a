/** The body of a call that came in, for its handler, who need not read it. */
import type { IncomingMessage } from 'node:http';
import type { Host } from '../../engine/file/host.js';
import type { FrameReader } from './call-frames.js';
import { decodeError } from './call-payloads.js';

export class IncomingBody {
  readonly #reader: FrameReader;
  readonly #request: IncomingMessage;
  #isBegun = false;
  /** As `Call.body`. */
  readonly chunks: AsyncGenerator<Uint8Array, void>;

  constructor(reader: FrameReader, request: IncomingMessage) {
    this.#reader = reader;
    this.#request = request;
    this.chunks = this.#read();
  }

  /** Nobody will read (the rest of) it: what still comes is passed over. Resolves at once, though somebody may read at this moment. */
  async leave(host: Host): Promise<void> {
    const left = this.#isBegun ? this.chunks.return() : this.#reader.leave();
    await Promise.race([left.catch(() => undefined), host.yieldTurn()]);
    this.#request.resume();
  }

  async *#read(): AsyncGenerator<Uint8Array, void> {
    this.#isBegun = true;
    try {
      yield* this.#reader.bodies((payload) => decodeError(payload).error);
    } finally {
      // Only while something is read it is seen whether the caller is still there.
      this.#request.resume();
    }
  }
}
