/** One change of the setup after another, and not too many that wait. */
import { DivanError } from '../../engine/errors.js';

const WAITING_MAX = 16;

export class Turns {
  #waiting = 0;
  #last: Promise<unknown> = Promise.resolve();

  /** True while a change is being made, or waits. */
  get isBusy(): boolean {
    return this.#waiting > 0;
  }

  /** Throws what `work` throws, and `UNAVAILABLE` if too many wait. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waiting >= WAITING_MAX) {
      throw new DivanError('UNAVAILABLE', 'too many changes of the setup wait; try again later');
    }
    this.#waiting++;
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    try {
      return await result;
    } finally {
      this.#waiting--;
    }
  }
}

/** What a request of the setup is refused with: the reason goes to whoever sent it. */
export function refused(reason: string, cause?: unknown): DivanError {
  return new DivanError('BAD_REQUEST', reason, {}, cause);
}
