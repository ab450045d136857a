/**
 * Reading the body of a request: bounded, inflated if it comes compressed, and accounted for, so that all bodies together do not take more
 * memory than they may.
 */
import type { IncomingMessage } from 'node:http';
import { DivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';
import { inflated } from './inflate.js';

/** How many bytes of bodies may be in memory at a time. */
export class BodyBudget {
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Throws `UNAVAILABLE` when too much is held already. */
  take(bytes: number): void {
    if (this.#bytes + bytes > this.#bytesMax) {
      throw new DivanError('UNAVAILABLE', 'too many large requests at once; try again later');
    }
    this.#bytes += bytes;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
  }
}

/** The declared length of a body, undefined if it is sent in chunks. */
export function declaredLength(request: IncomingMessage): number | undefined {
  const text = request.headers['content-length'];
  return text === undefined ? undefined : Number(text);
}

/** True if the request brings a body, be it empty. */
export function hasBody(request: IncomingMessage): boolean {
  const { headers } = request;
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/** The body as it comes, inflated. Throws `UNSUPPORTED_TYPE` and, while being read, `TOO_LARGE`, `BAD_REQUEST`, `ABORTED`. */
export function bodyStream(
  request: IncomingMessage,
  bytesMax: number,
): AsyncGenerator<Uint8Array, void> {
  const raw = rawBodyStream(request, bytesMax);
  const encoding = request.headers['content-encoding'];
  return encoding === undefined ? raw : bounded(inflated(raw, encoding, bytesMax), bytesMax, 0);
}

/** The body as it comes and as it is encoded. Throws `UNSUPPORTED_TYPE` and, while being read, `TOO_LARGE`, `ABORTED`. */
export function rawBodyStream(
  request: IncomingMessage,
  bytesMax: number,
): AsyncGenerator<Uint8Array, void> {
  // Node undoes chunked only, and hands over what any other coding before it has made of the body.
  const codings = request.headers['transfer-encoding'];
  if (codings !== undefined && codings.trim().toLowerCase() !== 'chunked') {
    throw new DivanError('UNSUPPORTED_TYPE', 'the transfer encoding must be chunked');
  }
  return bounded(received(request), bytesMax, declaredLength(request) ?? 0);
}

async function* bounded(
  source: AsyncIterable<Uint8Array>,
  bytesMax: number,
  expected: number,
): AsyncGenerator<Uint8Array, void> {
  if (expected > bytesMax) throw tooLarge(bytesMax);
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge(bytesMax);
    yield chunk;
  }
}

/** Chunks as they come from the socket; a client that goes away in the middle is an error of its own. */
async function* received(request: IncomingMessage): AsyncGenerator<Uint8Array> {
  // Who stops in the middle still wants to reply, so the connection must not go with the iterator.
  const chunks: AsyncIterable<unknown> = request.iterator({ destroyOnReturn: false });
  try {
    for await (const chunk of chunks) if (chunk instanceof Uint8Array) yield chunk;
  } catch (error) {
    throw new DivanError('ABORTED', 'the client went away', {}, error);
  }
  if (!request.complete) throw new DivanError('ABORTED', 'the client went away');
}

/**
 * Passes over what is left of a body, within bounds, and calls `done` then: a connection that is closed while there is something to read
 * takes with it the reply that the client has not read yet.
 */
export function passOver(request: IncomingMessage, host: Host, done: () => void): void {
  let left = PASSED_OVER_BYTES_MAX;
  const finish = () => {
    cancelTimer();
    request.off('data', count).off('end', finish).off('close', finish);
    done();
  };
  const count = (chunk: Uint8Array) => {
    left -= chunk.length;
    if (left <= 0) finish();
  };
  const cancelTimer = host.setTimer(finish, PASSED_OVER_MS_MAX);
  request.on('data', count).once('end', finish).once('close', finish);
  request.resume();
}

const PASSED_OVER_BYTES_MAX = 16 * 1024 * 1024;
const PASSED_OVER_MS_MAX = 2000;

/** The whole body. The budget is held until `release` is called. */
export async function wholeBody(
  request: IncomingMessage,
  bytesMax: number,
  budget: BodyBudget,
): Promise<{ readonly bytes: Uint8Array; readonly release: () => void }> {
  const body = new GrowingBytes(Math.min(declaredLength(request) ?? 0, bytesMax));
  let held = 0;
  const release = () => {
    budget.give(held);
    held = 0;
  };
  try {
    for await (const chunk of bodyStream(request, bytesMax)) {
      budget.take(chunk.length);
      held += chunk.length;
      body.add(chunk);
    }
  } catch (error) {
    release();
    throw error;
  }
  return { bytes: body.bytes, release };
}

/** Chunks put together as they come: to join a large body in the end would hold up everybody else. */
class GrowingBytes {
  #buffer: Uint8Array = NOTHING;
  #length = 0;
  /** The length that was announced, in which nobody trusts before it is there. */
  readonly #expected: number;

  constructor(expected: number) {
    this.#expected = expected;
  }

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  add(chunk: Uint8Array): void {
    const length = this.#length + chunk.length;
    if (this.#length === 0 && length >= this.#expected) {
      this.#buffer = chunk;
      this.#length = length;
      return;
    }
    if (length > this.#buffer.length) this.#grow(length);
    this.#buffer.set(chunk, this.#length);
    this.#length = length;
  }

  #grow(length: number): void {
    // Room that nothing was written to takes no memory, but it has to be found, and makes the garbage collector run.
    const announced = Math.min(this.#expected, length * ROOM_FACTOR_MAX);
    const room = Math.max(length, announced, this.#buffer.length * 2);
    const larger = Buffer.allocUnsafeSlow(room);
    larger.set(this.bytes);
    this.#buffer = larger;
  }
}

const NOTHING = new Uint8Array(0);
/** Room for what was announced is made for so many times what is there: the copying that it costs is a sixteenth of it. */
const ROOM_FACTOR_MAX = 16;

function tooLarge(bytesMax: number): DivanError {
  return new DivanError('TOO_LARGE', `the request entity is too large: at most ${bytesMax} bytes`);
}
