/** The body of a call on its way to another node. It is read as fast as that node takes it, and left by `return` whatever happens. */
import type { Host } from '../../engine/file/host.js';
import { type FrameWriter, leaveSource, pulsed } from './call-frames.js';

/** What is told of the progress, to whom it matters who waits for whom. */
export interface SendingEvents {
  /** The other node is to take what there is. */
  readonly onOffer: () => void;
  /** There is nothing for it to take. */
  readonly onNothing: () => void;
  readonly onSent: () => void;
}

export class OutgoingBody {
  readonly #source: AsyncIterable<Uint8Array>;
  #isBegun = false;
  /** What reading it has thrown. */
  failure: { readonly error: unknown } | undefined;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source;
  }

  /** The whole message; `signal` ends it. */
  async *frames(
    writer: FrameWriter,
    head: Uint8Array,
    { host, signal, events }: { host: Host; signal: AbortSignal; events: SendingEvents },
  ): AsyncGenerator<Uint8Array, void> {
    yield writer.frame('head', head);
    this.#isBegun = true;
    const chunks = pulsed(this.#source, host, signal);
    try {
      for (;;) {
        events.onNothing();
        const { done, value } = await chunks.next();
        events.onOffer();
        if (done === true) break;
        if (value.length === 0) yield writer.pulse();
        for (const frame of writer.bodies(value)) {
          events.onOffer();
          yield frame;
        }
      }
    } catch (error) {
      if (!signal.aborted) this.failure = { error };
      throw error;
    } finally {
      await chunks.return();
    }
    yield writer.frame('end');
    events.onSent();
  }

  /** Nobody will read it. */
  leave(): void {
    if (this.#isBegun) return;
    this.#isBegun = true;
    leaveSource(this.#source[Symbol.asyncIterator]());
  }
}
