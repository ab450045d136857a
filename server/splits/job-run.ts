/** One run of a job, for those who want it to end. */

export class JobRun {
  /** Resolves when it has ended, and with it what was made of that. Never rejects. */
  readonly ended: Promise<void>;
  /** Resolves when it has ended, or has come so far that it finishes whatever is asked of it. */
  readonly halted: Promise<void>;
  /** True if what was copied is to be kept when it is interrupted. */
  keepPartial = true;
  readonly #abort = new AbortController();
  #end: () => void = () => undefined;
  #halt: () => void = () => undefined;

  constructor() {
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.halted = new Promise((resolve) => {
      this.#halt = resolve;
    });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Has it end soon. Once somebody does not want to keep what was copied, it is not kept. */
  interrupt(keepPartial: boolean): void {
    this.keepPartial &&= keepPartial;
    this.#abort.abort();
  }

  /** Of its job: the map may be written. */
  passedMap(): void {
    this.#halt();
  }

  /** Of the manager. */
  end(): void {
    this.#halt();
    this.#end();
  }
}
