/**
 * A reply of unknown length: small parts are put together, and whoever writes waits while the client reads more slowly, so that a slow
 * reader holds no memory. A client that reads nothing for too long is cut off.
 */
import type { ServerResponse } from 'node:http';
import { DivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';

/** Parts are sent when they come to so many characters or bytes. */
const CHUNK_LENGTH = 32 * 1024;

export class ReplyStream {
  readonly #response: ServerResponse;
  readonly #host: Host;
  readonly #stalledMs: number;
  #text = '';

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
    this.#text += part;
    return this.#text.length < CHUNK_LENGTH ? undefined : this.flush();
  }

  /** Adds bytes. */
  bytes(part: Uint8Array): Promise<void> | undefined {
    if (this.#text.length > 0) {
      const text = this.#text;
      this.#text = '';
      this.#send(Buffer.from(text));
    }
    return this.#send(part);
  }

  /** Sends what was put together; resolves when the client has room for more. */
  flush(): Promise<void> | undefined {
    if (this.#text.length === 0) return undefined;
    const text = this.#text;
    this.#text = '';
    return this.#send(Buffer.from(text));
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
