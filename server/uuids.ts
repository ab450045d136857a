/** Ids for what has none, made as CouchDB's algorithm `sequential` makes them. */
import type { Host } from '../engine/file/host.js';

const PREFIX_BYTES = 13;
const COUNTER_MAX = 0xfff000;
const STEP_MAX = 0xffe;

export class Uuids {
  readonly #host: Host;
  #prefix = '';
  #counter = COUNTER_MAX;

  constructor(host: Host) {
    this.#host = host;
  }

  /** 32 hexadecimal digits. Each follows closely on the one before, so that documents with such ids lie together, and can not be guessed. */
  next(): string {
    const [high = 0, low = 0] = this.#host.randomBytes(2);
    this.#counter += 1 + ((high * 256 + low) % STEP_MAX);
    if (this.#counter >= COUNTER_MAX) {
      this.#prefix = Buffer.from(this.#host.randomBytes(PREFIX_BYTES)).toString('hex');
      this.#counter = 1 + ((high * 256 + low) % STEP_MAX);
    }
    return this.#prefix + this.#counter.toString(16).padStart(6, '0');
  }
}
