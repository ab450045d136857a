/**
 * The bytes of a stream that have come and have not been taken yet, with more of them on demand.
 *
 * Nothing is read ahead: the source is asked for its next chunk only when what is there is not enough, so a slow reader holds
 * up the source. What is taken are views that nobody writes to again.
 */
export class ByteWindow {
  readonly #source: AsyncIterator<Uint8Array>;
  /** What is there and not taken; a view, replaced by whatever changes it. */
  bytes: Buffer = Buffer.alloc(0);
  /** Memory of the window's own that `bytes` ends in at `#end`; beyond that it is free. */
  #storage: Buffer = Buffer.alloc(0);
  #end = 0;
  #hasEnded = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Waits for the next bytes; false if the source has ended. Throws what the source throws, and has ended then. */
  async more(): Promise<boolean> {
    while (!this.#hasEnded) {
      const chunk = await this.#next();
      if (chunk === undefined || chunk.length === 0) continue;
      this.put(chunk);
      return true;
    }
    return false;
  }

  async #next(): Promise<Uint8Array | undefined> {
    let isGood = false;
    try {
      const result = await this.#source.next();
      isGood = result.done !== true;
      return result.done === true ? undefined : result.value;
    } finally {
      if (!isGood) this.#hasEnded = true;
    }
  }

  /** Appends bytes: as they are if there are none, else copied, in time linear in what is appended. */
  put(chunk: Uint8Array): void {
    const { length } = this.bytes;
    if (length === 0) {
      this.bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
      this.#storage = Buffer.alloc(0);
      this.#end = 0;
      return;
    }
    if (this.#end + chunk.length > this.#storage.length) {
      this.#storage = Buffer.allocUnsafeSlow((length + chunk.length) * 2);
      this.bytes.copy(this.#storage);
      this.#end = length;
    }
    this.#storage.set(chunk, this.#end);
    this.#end += chunk.length;
    const start = this.#end - chunk.length - length;
    this.bytes = this.#storage.subarray(start, this.#end);
  }

  /** Removes the first `length` bytes and returns them. REQUIRES: they are there. */
  take(length: number): Buffer {
    const taken = this.bytes.subarray(0, length);
    this.bytes = this.bytes.subarray(length);
    return taken;
  }

  /** Tells the source that no more is wanted. */
  async close(): Promise<void> {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    await this.#source.return?.();
  }
}
