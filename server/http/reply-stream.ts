/**
 * A reply of unknown length: small parts are put together, and whoever writes waits while the client reads more slowly, so that a slow
 * reader holds no memory. A client that reads nothing for too long is cut off.
 */
import type { ServerResponse } from 'node:http';
import { DivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';

/** Parts are put together into chunks of this size. */
const CHUNK_BYTES = 32 * 1024;

/** More is not given to the connection in one go, so that a slow client is seen to read. */
const WRITE_BYTES_MAX = 64 * 1024;

const NO_CHUNK = Buffer.alloc(0);

export class ReplyStream {
  readonly #response: ServerResponse;
  readonly #host: Host;
  readonly #stalledMs: number;
  /** Made when something is put into it: a reply that waits holds none. */
  #chunk: Buffer = NO_CHUNK;
  #used = 0;

  /** `stalledMs`: how long the client may read nothing. */
  constructor(response: ServerResponse, host: Host, stalledMs: number) {
    this.#response = response;
    this.#host = host;
    this.#stalledMs = stalledMs;
  }

  /** True once nobody reads any more. */
  get closed(): boolean {
    return this.#response.destroyed || this.#response.writableEnded;
  }

  /** Adds text; a promise if the writer must wait before it goes on. Throws `ABORTED` if the client went away. */
  text(part: string): Promise<void> | undefined {
    // No character of a string takes more than three bytes.
    if (part.length * 3 > CHUNK_BYTES - this.#used) {
      if (part.length * 3 > CHUNK_BYTES / 2) return this.bytes(Buffer.from(part));
      const waiting = this.flush();
      this.#used += this.#room().write(part, this.#used);
      return waiting;
    }
    this.#used += this.#room().write(part, this.#used);
    return undefined;
  }

  /** Adds bytes, which may be changed once the promise, if there is one, has resolved. */
  bytes(part: Uint8Array): Promise<void> | undefined {
    if (part.length <= CHUNK_BYTES - this.#used) {
      this.#room().set(part, this.#used);
      this.#used += part.length;
      return undefined;
    }
    const waiting = this.flush();
    if (part.length > CHUNK_BYTES / 2) return this.#send(part) ?? waiting;
    this.#room().set(part, 0);
    this.#used = part.length;
    return waiting;
  }

  /** Adds all chunks, as slowly as the client reads. Throws also what the source throws. */
  async all(chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; at += WRITE_BYTES_MAX) {
        const waiting = this.bytes(chunk.subarray(at, at + WRITE_BYTES_MAX));
        if (waiting !== undefined) await waiting;
      }
    }
  }

  /** Sends what was put together; resolves when the client has room for more. */
  flush(): Promise<void> | undefined {
    if (this.#used === 0) return undefined;
    const bytes = this.#chunk.subarray(0, this.#used);
    this.#chunk = NO_CHUNK;
    this.#used = 0;
    return this.#send(bytes);
  }

  #room(): Buffer {
    if (this.#chunk === NO_CHUNK) this.#chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    return this.#chunk;
  }

  /** Sends the rest and ends the reply. */
  async end(): Promise<void> {
    await this.flush();
    if (!this.closed) this.#response.end();
  }

  #send(bytes: Uint8Array): Promise<void> | undefined {
    if (this.closed) throw new DivanError('ABORTED', 'the client went away');
    return this.#response.write(bytes) ? undefined : this.#drained();
  }

  #drained(): Promise<void> {
    const response = this.#response;
    return new Promise((resolve, reject) => {
      const cancelTimer = this.#host.setTimer(() => response.destroy(), this.#stalledMs);
      const done = (work: () => void) => () => {
        cancelTimer();
        response.off('drain', onDrain);
        response.off('close', onClose);
        work();
      };
      const onDrain = done(resolve);
      const onClose = done(() => reject(new DivanError('ABORTED', 'the client went away')));
      response.once('drain', onDrain);
      response.once('close', onClose);
    });
  }
}
