/** The body of a request on its way to a node, of which so much is kept that a small one can be sent again. */
import { DivanError } from '../../engine/errors.js';

/** So much of a body is kept. */
export const KEPT_BYTES_MAX = 1024 * 1024;
const NOTHING = new Uint8Array(0);

export class KeptBody {
  readonly #source: AsyncGenerator<Uint8Array, void>;
  /** In their order; of one that is too large to be sent again, without those that were sent. */
  readonly #chunks: Uint8Array[] = [];
  #bytes = 0;
  /** The reading of the next chunk, which a reader before may have begun. */
  #reading: Promise<boolean> | undefined;

  constructor(source: AsyncGenerator<Uint8Array, void>) {
    this.#source = source;
  }

  /** False once more was read than is kept. */
  get canBeSentAgain(): boolean {
    return this.#bytes <= KEPT_BYTES_MAX;
  }

  /**
   * The body from its beginning; whoever read it before reads no more. Throws `UNAVAILABLE` at once, before anybody is sent anything; what is
   * returned throws what the source throws.
   */
  chunks(): AsyncGenerator<Uint8Array, void> {
    if (this.canBeSentAgain) return this.#all();
    throw new DivanError('UNAVAILABLE', 'the document was moved meanwhile; send it again');
  }

  async *#all(): AsyncGenerator<Uint8Array, void> {
    for (let at = 0; ; at++) {
      if (at >= this.#chunks.length) {
        this.#reading ??= this.#read();
        if (!(await this.#reading)) return;
      }
      yield this.#chunks[at] ?? NOTHING;
      if (!this.canBeSentAgain) this.#chunks[at] = NOTHING;
    }
  }

  async #read(): Promise<boolean> {
    const next = await this.#source.next();
    if (next.done === true) return false;
    this.#bytes += next.value.length;
    this.#chunks.push(next.value);
    this.#reading = undefined;
    return true;
  }
}
