/** Work that is done one after another. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Calls `work` when all that came before has settled. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
