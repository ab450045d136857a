/**
 * Storing the bytes of an attachment while they come: bounded, and compared with what was said of them. If anything fails, what was
 * stored so far is dead bytes.
 */
import { createGunzip, type Gunzip } from 'node:zlib';
import { DivanError } from '../errors.js';
import { compareBytes } from '../file/bytes.js';
import type { AttachmentInput } from './attachment-input.js';
import type { StoredBytes } from './attachment-list.js';

/** Where the bytes of an attachment come from, and what is said of them; what is undefined is not checked. */
export interface AttachmentSource {
  readonly chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /** How the bytes are encoded; they are stored so. */
  readonly encoding?: 'gzip' | undefined;
  /** Neither the bytes nor what they are decoded to may be more. */
  readonly bytesMax: number;
  /** The MD5 of the bytes as they come. */
  readonly digest?: Uint8Array | undefined;
  readonly encodedLength?: number | undefined;
  /** The length after decoding. */
  readonly length?: number | undefined;
}

/** What stores bytes: a shard. */
export interface AttachmentStore {
  store(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<StoredBytes>;
}

/** What a document itself brings of an attachment; undefined if that is a stub. Throws `INVALID_DOCUMENT` if the bytes are elsewhere. */
export function inlineSource(
  name: string,
  input: AttachmentInput,
  bytesMax: number,
): AttachmentSource | undefined {
  const { content, encoding, digest, encodedLength, length } = input;
  if (content === 'stub') return undefined;
  if (content === 'follows') {
    const shown = JSON.stringify(name.slice(0, 80));
    throw new DivanError('INVALID_DOCUMENT', `the bytes of the attachment ${shown} do not follow`);
  }
  return {
    chunks: content.chunks(),
    encoding,
    bytesMax,
    digest,
    encodedLength,
    length,
  };
}

/** Stores an attachment. Throws `TOO_LARGE`, `BAD_REQUEST` if the bytes are not what was said, what the source and the store throw. */
export async function storeAttachment(
  store: AttachmentStore,
  source: AttachmentSource,
): Promise<StoredBytes> {
  const { encoding, bytesMax } = source;
  const limited = atMost(source.chunks, bytesMax);
  if (encoding === undefined) {
    const stored = await store.store(limited);
    checkStored(source, stored);
    return stored;
  }
  const decoder = new DecodedLength(bytesMax);
  try {
    const stored = await store.store(decoder.through(limited));
    const decoded = { ...stored, encoding, decodedLength: await decoder.finish() };
    checkStored(source, decoded);
    return decoded;
  } finally {
    decoder.close();
  }
}

function checkStored(source: AttachmentSource, stored: StoredBytes): void {
  const { digest, encodedLength, length } = source;
  const isSame = digest === undefined || isEqual(digest, stored.digest);
  if (!isSame) throw bad('its MD5 is not the one that was declared');
  if (encodedLength !== undefined && encodedLength !== stored.length) {
    throw bad(`it has ${stored.length} bytes, and ${encodedLength} were declared`);
  }
  if (length !== undefined && length !== stored.decodedLength) {
    throw bad(`it is decoded to ${stored.decodedLength} bytes, and ${length} were declared`);
  }
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return compareBytes(a, 0, a.length, b, 0, b.length) === 0;
}

async function* atMost(
  chunks: AttachmentSource['chunks'],
  bytesMax: number,
): AsyncGenerator<Uint8Array, void> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge(bytesMax);
    yield chunk;
  }
}

/** Finds out how many bytes a gzip stands for while it passes. */
class DecodedLength {
  readonly #gunzip: Gunzip = createGunzip();
  #received = 0;
  #decoded = 0;
  #failure: unknown;
  /** Called when the decoder has closed: it forgets what it was doing then. */
  #onClose: () => void = () => undefined;

  constructor(bytesMax: number) {
    this.#gunzip.on('data', (chunk: Uint8Array) => {
      this.#decoded += chunk.length;
      if (this.#decoded > bytesMax) this.#gunzip.destroy(tooLarge(bytesMax));
    });
    this.#gunzip.on('error', (error) => {
      this.#failure ??= error instanceof DivanError ? error : bad('it is no gzip', error);
    });
    this.#gunzip.on('close', () => this.#onClose());
  }

  async *through(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
    for await (const chunk of chunks) {
      this.#received += chunk.length;
      await this.#done((done) => this.#gunzip.write(chunk, done));
      yield chunk;
    }
  }

  async finish(): Promise<number> {
    await this.#done(() => this.#gunzip.end());
    // Zeros behind the end are passed over by zlib, which then has taken less than there was.
    if (this.#gunzip.bytesWritten !== this.#received) throw bad('it is not one whole gzip');
    return this.#decoded;
  }

  close(): void {
    this.#gunzip.destroy();
  }

  async #done(start: (done: () => void) => void): Promise<void> {
    if (this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#onClose = resolve;
        start(resolve);
      });
    }
    if (this.#failure !== undefined) throw this.#failure;
  }
}

function tooLarge(bytesMax: number): DivanError {
  return new DivanError('TOO_LARGE', `an attachment has at most ${bytesMax} bytes`);
}

function bad(reason: string, cause?: unknown): DivanError {
  return new DivanError(
    'BAD_REQUEST',
    `an attachment is not what was declared: ${reason}`,
    {},
    cause,
  );
}
