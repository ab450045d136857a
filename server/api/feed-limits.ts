/** How many feeds wait for changes, over all and by user. */
import { DivanError } from '../../engine/errors.js';

export interface FeedBounds {
  readonly total: number;
  readonly perUser: number;
}

export class FeedLimits {
  /** For each user that has feeds, how many; nobody's are those of undefined. */
  readonly #counts = new Map<string | undefined, number>();
  #total = 0;

  get total(): number {
    return this.#total;
  }

  /** Counts a feed of a user until the returned function is called. Throws `UNAVAILABLE`. */
  open(user: string | undefined, { total, perUser }: FeedBounds): () => void {
    const count = this.#counts.get(user) ?? 0;
    if (this.#total >= total) {
      throw new DivanError('UNAVAILABLE', `at most ${total} feeds wait for changes at a time`);
    }
    if (count >= perUser) {
      throw new DivanError('UNAVAILABLE', `a user has at most ${perUser} feeds that wait`);
    }
    this.#total++;
    this.#counts.set(user, count + 1);
    let isOpen = true;
    return () => {
      if (isOpen) this.#closed(user);
      isOpen = false;
    };
  }

  #closed(user: string | undefined): void {
    this.#total--;
    const left = (this.#counts.get(user) ?? 0) - 1;
    if (left > 0) this.#counts.set(user, left);
    else this.#counts.delete(user);
  }
}
