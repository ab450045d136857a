/** Streams of bytes for tests of what reads them. */

/** A source that counts what is asked of it. */
export class Source {
  asked = 0;
  isOpen = true;
  readonly #chunks: Iterable<Uint8Array>;
  readonly #failure: Error | undefined;

  constructor(chunks: Iterable<Uint8Array>, failure?: Error) {
    this.#chunks = chunks;
    this.#failure = failure;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (const chunk of this.#chunks) {
        this.asked++;
        yield chunk;
      }
      if (this.#failure !== undefined) throw this.#failure;
    } finally {
      this.isOpen = false;
    }
  }
}

/** `bytes` in chunks of `size`. */
export function chunksOf(bytes: Buffer, size: number): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
  return chunks;
}

/** All bytes of a stream. */
export async function collect(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) {
    chunks.push(chunk);
    // Others may run between chunks, so that chunks which change later are found out.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return Buffer.concat(chunks);
}
