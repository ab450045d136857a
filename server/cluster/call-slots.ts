/** How many calls may be under way, and how many may wait for their turn. */
import { DivanError } from '../../engine/errors.js';

interface Waiter {
  readonly go: () => void;
  readonly fail: (error: Error) => void;
}

export class CallSlots {
  readonly #countMax: number;
  readonly #waitingMax: number;
  #count = 0;
  /** In the order in which they came. */
  readonly #waiting = new Set<Waiter>();

  constructor(countMax: number, waitingMax: number) {
    this.#countMax = countMax;
    this.#waitingMax = waitingMax;
  }

  /** True if nobody has a slot. */
  get isFree(): boolean {
    return this.#count === 0;
  }

  /** Takes a slot, which is given back by `give`. Throws `UNAVAILABLE` when too many wait, and the reason of the signal. */
  async take(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#count < this.#countMax) {
      this.#count++;
      return;
    }
    if (this.#waiting.size >= this.#waitingMax) {
      throw new DivanError('UNAVAILABLE', 'too many calls wait for another node; try again later');
    }
    await new Promise<void>((resolve, reject) => {
      const leave = () => {
        this.#waiting.delete(waiter);
        signal.removeEventListener('abort', onAbort);
      };
      const onAbort = () => waiter.fail(signal.reason);
      const waiter: Waiter = {
        go: () => {
          leave();
          resolve();
        },
        fail: (error) => {
          leave();
          reject(error);
        },
      };
      this.#waiting.add(waiter);
      signal.addEventListener('abort', onAbort);
    });
  }

  /** Gives a slot to the one who waits longest. */
  give(): void {
    const [first] = this.#waiting;
    if (first === undefined) this.#count--;
    else first.go();
  }

  /** Fails all that wait. */
  failWaiting(error: Error): void {
    for (const waiter of [...this.#waiting]) waiter.fail(error);
  }
}
