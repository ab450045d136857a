/**
 * Reading the body of a request: bounded, inflated if it comes compressed, and accounted for, so that all bodies together do not take more
 * memory than they may.
 */
import type { IncomingMessage } from 'node:http';
import { DivanError } from '../../engine/errors.js';
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

/** The body as it comes, inflated. Throws, while being read, `TOO_LARGE`, `BAD_REQUEST`, `UNSUPPORTED_TYPE`, `ABORTED`. */
export async function* bodyStream(
  request: IncomingMessage,
  bytesMax: number,
): AsyncGenerator<Uint8Array> {
  if ((declaredLength(request) ?? 0) > bytesMax) throw tooLarge(bytesMax);
  const encoding = request.headers['content-encoding'];
  const source =
    encoding === undefined ? received(request) : inflated(received(request), encoding, bytesMax);
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge(bytesMax);
    yield chunk;
  }
}

/** Chunks as they come from the socket; a client that goes away in the middle is an error of its own. */
async function* received(request: IncomingMessage): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of request) if (chunk instanceof Uint8Array) yield chunk;
  } catch (error) {
    throw new DivanError('ABORTED', 'the client went away', {}, error);
  }
  if (!request.complete) throw new DivanError('ABORTED', 'the client went away');
}

/** The whole body. The budget is held until `release` is called. */
export async function wholeBody(
  request: IncomingMessage,
  bytesMax: number,
  budget: BodyBudget,
): Promise<{ readonly bytes: Uint8Array; readonly release: () => void }> {
  const chunks: Uint8Array[] = [];
  let held = 0;
  const release = () => {
    budget.give(held);
    held = 0;
  };
  try {
    for await (const chunk of bodyStream(request, bytesMax)) {
      budget.take(chunk.length);
      held += chunk.length;
      chunks.push(chunk);
    }
  } catch (error) {
    release();
    throw error;
  }
  const [only] = chunks;
  const bytes = chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks);
  return { bytes, release };
}

function tooLarge(bytesMax: number): DivanError {
  return new DivanError('TOO_LARGE', `the request entity is too large: at most ${bytesMax} bytes`);
}
