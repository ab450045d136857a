/** Work that is done one after another. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();
  #unfinished = 0;

  /** How much is being done, or waits. */
  get unfinished(): number {
    return this.#unfinished;
  }

  /** Calls `work` when all that came before has settled. Throws what it throws. */
  run<T>(work: () => Promise<T>): Promise<T> {
    this.#unfinished++;
    const result = this.#last.then(work);
    const done = () => {
      this.#unfinished--;
    };
    this.#last = result.then(done, done);
    return result;
  }
}
