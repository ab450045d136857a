/**
 * The frames in which calls between nodes travel, and the chain of MACs that binds each to all before it: so none can be changed, left out,
 * repeated, moved or cut off without being noticed. `README.md` has the bytes.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { DivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';

/** A head comes first, bodies follow it, and an end is the last; an error ends a message wherever it stands. */
export type FrameKind = 'head' | 'body' | 'end' | 'error';

const KINDS: readonly FrameKind[] = ['head', 'body', 'end', 'error'];

export interface Frame {
  readonly kind: FrameKind;
  /** Valid as long as its owner keeps it: nobody writes to it again. */
  readonly payload: Uint8Array;
}

/** No frame is taken that says it has more. */
export const PAYLOAD_BYTES_MAX = 1024 * 1024;
/** Bodies are sent in smaller ones, each of which goes to the connection in one piece. */
const BODY_BYTES_MAX = 64 * 1024 - 64;

const PREFIX_BYTES = 5;
export const MAC_BYTES = 32;
const NOTHING = new Uint8Array(0);

/** MACs, each over the one before it. */
class MacChain {
  readonly #key: Uint8Array;
  #last: Uint8Array;

  constructor(key: Uint8Array, start: Uint8Array) {
    this.#key = key;
    this.#last = start;
  }

  /** The MAC of the next frame. */
  next(prefix: Uint8Array, payload: Uint8Array): Uint8Array {
    const hmac = createHmac('sha256', this.#key).update(this.#last).update(prefix);
    this.#last = hmac.update(payload).digest();
    return this.#last;
  }
}

/** Makes the frames of one message. */
export class FrameWriter {
  readonly #chain: MacChain;

  constructor(key: Uint8Array, start: Uint8Array) {
    this.#chain = new MacChain(key, start);
  }

  /** The next frame, in a buffer of its own. REQUIRES: the payload has at most `PAYLOAD_BYTES_MAX`. */
  frame(kind: FrameKind, payload: Uint8Array = NOTHING): Buffer {
    const bytes = Buffer.allocUnsafe(PREFIX_BYTES + payload.length + MAC_BYTES);
    bytes.writeUInt32BE(payload.length, 0);
    bytes.writeUInt8(KINDS.indexOf(kind), 4);
    bytes.set(payload, PREFIX_BYTES);
    const mac = this.#chain.next(bytes.subarray(0, PREFIX_BYTES), payload);
    bytes.set(mac, PREFIX_BYTES + payload.length);
    return bytes;
  }

  /** A message without a body. */
  whole(head: Uint8Array): Buffer {
    return Buffer.concat([this.frame('head', head), this.frame('end')]);
  }

  /** The frames of a body, as many as its chunks need. */
  *bodies(chunk: Uint8Array): Generator<Buffer> {
    for (let at = 0; at < chunk.length; at += BODY_BYTES_MAX) {
      yield this.frame('body', chunk.subarray(at, at + BODY_BYTES_MAX));
    }
  }

  /** Says that the sender is there, though it has nothing to say. */
  pulse(): Buffer {
    return this.frame('body');
  }
}

/** Takes a message apart. For one reader, who calls one method at a time. */
export class FrameReader {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #chain: MacChain;
  #chunk: Uint8Array = NOTHING;
  #place: 'start' | 'inside' | 'over' = 'start';

  constructor(source: AsyncIterable<Uint8Array>, key: Uint8Array, start: Uint8Array) {
    this.#source = source[Symbol.asyncIterator]();
    this.#chain = new MacChain(key, start);
  }

  /**
   * The next frame, which is proved. Throws `PEER` for one that is not what the sender sent, `UNREACHABLE` if the message is cut off, and
   * what the source throws.
   */
  async next(): Promise<Frame> {
    const prefix = await this.#take(PREFIX_BYTES);
    const { length, kind } = parsePrefix(prefix);
    // Both in one piece: the payload is not looked at before its MAC is there.
    const rest = await this.#take(length + MAC_BYTES);
    const payload = rest.subarray(0, length);
    if (!timingSafeEqual(this.#chain.next(prefix, payload), rest.subarray(length))) {
      throw notSent('a frame does not have the signature of its sender');
    }
    this.#advance(kind);
    return { kind, payload };
  }

  /** The payloads of the bodies up to the end of the message. Throws as `next` does, and what `errorOf` makes of an error frame. */
  async *bodies(errorOf: (payload: Uint8Array) => Error): AsyncGenerator<Uint8Array, void> {
    try {
      for (;;) {
        const { kind, payload } = await this.next();
        if (kind === 'error') throw errorOf(payload);
        if (kind === 'end') return await this.finish();
        if (payload.length > 0) yield payload;
      }
    } finally {
      await this.leave();
    }
  }

  /** Reads to the end of the source after the last frame. Throws `PEER` if anything follows. */
  async finish(): Promise<void> {
    if (this.#place !== 'over') throw notSent('the message goes on');
    for (;;) {
      if (this.#chunk.length > 0) throw notSent('there is something behind the last frame');
      const { done, value } = await this.#source.next();
      if (done === true) return;
      this.#chunk = value;
    }
  }

  /** Lets go of the source. */
  async leave(): Promise<void> {
    await this.#source.return?.();
  }

  #advance(kind: FrameKind): void {
    const isFirst = this.#place === 'start';
    if (isFirst ? kind !== 'head' && kind !== 'error' : kind === 'head') {
      throw notSent(`a frame of the kind ${kind} stands where none can be`);
    }
    this.#place = kind === 'end' || kind === 'error' ? 'over' : 'inside';
  }

  /** So many bytes, without a copy if they came in one chunk. */
  async #take(length: number): Promise<Uint8Array> {
    while (this.#chunk.length === 0) await this.#more();
    if (this.#chunk.length >= length) return this.#cut(length);
    const bytes = Buffer.allocUnsafe(length);
    for (let at = 0; at < length; ) {
      const part = this.#cut(Math.min(length - at, this.#chunk.length));
      bytes.set(part, at);
      at += part.length;
      if (at < length && this.#chunk.length === 0) await this.#more();
    }
    return bytes;
  }

  #cut(length: number): Uint8Array {
    const part = this.#chunk.subarray(0, length);
    this.#chunk = this.#chunk.subarray(length);
    return part;
  }

  async #more(): Promise<void> {
    const { done, value } = await this.#source.next();
    if (done === true) throw new DivanError('UNREACHABLE', 'the message of a node is cut off');
    this.#chunk = value;
  }
}

function parsePrefix(prefix: Uint8Array): { length: number; kind: FrameKind } {
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
  const length = view.getUint32(0);
  const kind = KINDS[view.getUint8(4)];
  if (length > PAYLOAD_BYTES_MAX) throw notSent(`a frame says that it has ${length} bytes`);
  if (kind === undefined) throw notSent('a frame is of no kind that there is');
  return { length, kind };
}

function notSent(reason: string): DivanError {
  return new DivanError('PEER', `what came is not what a node sent: ${reason}`);
}

/** Instead of a chunk, when there was none for a while. */
export const PULSE = NOTHING;
export const PULSE_MS = 10_000;

/**
 * The chunks of a source, and `PULSE` whenever there was none for a while, so that the other side can tell one that has nothing to say from
 * one that is gone. The source is left by `return` if this is left, or `signal` is aborted, whose reason is thrown then.
 */
export async function* pulsed(
  source: AsyncIterable<Uint8Array>,
  host: Host,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  const iterator = source[Symbol.asyncIterator]();
  let isOver = false;
  try {
    while (!isOver) {
      const next = iterator.next();
      let result = await nextOrPulse(next, host, signal);
      while (result === undefined) {
        yield PULSE;
        result = await nextOrPulse(next, host, signal);
      }
      if (result.done === true) isOver = true;
      else if (result.value.length > 0) yield result.value;
    }
  } catch (error) {
    // A source that threw has nothing more to be told.
    if (!signal.aborted) isOver = true;
    throw error;
  } finally {
    if (!isOver) leaveSource(iterator);
  }
}

/** Lets go of a source. Not waited for: one that waits itself hears of it only when it has something. */
export function leaveSource(iterator: AsyncIterator<Uint8Array>): void {
  iterator.return?.().catch(() => undefined);
}

function nextOrPulse<T>(next: Promise<T>, host: Host, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const settle = (work: () => void) => {
      cancelTimer();
      signal.removeEventListener('abort', onAbort);
      work();
    };
    const onAbort = () => settle(() => reject(signal.reason));
    const cancelTimer = host.setTimer(() => settle(() => resolve(undefined)), PULSE_MS);
    signal.addEventListener('abort', onAbort);
    next.then(
      (value) => settle(() => resolve(value)),
      (error) => settle(() => reject(error)),
    );
    if (signal.aborted) onAbort();
  });
}
