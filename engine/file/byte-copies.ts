/** Copies of many small byte strings, put together so that each does not cost an allocation outside of the JavaScript heap. */

/** A copy keeps the chunk alive that it is a part of. */
const CHUNK_BYTES = 256 * 1024;

export class ByteCopies {
  #chunk = new Uint8Array(0);
  #used = 0;

  copy(bytes: Uint8Array): Uint8Array {
    if (this.#used + bytes.length > this.#chunk.length) {
      this.#chunk = new Uint8Array(Math.max(CHUNK_BYTES, bytes.length));
      this.#used = 0;
    }
    this.#chunk.set(bytes, this.#used);
    this.#used += bytes.length;
    return this.#chunk.subarray(this.#used - bytes.length, this.#used);
  }
}
