/** Ends a call whose caller has no use for it any more, or in which the other node does nothing for too long. */
import { DivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';

/** What the other node owes: to take more of the question, or to say more of the answer. */
export type Owed = 'question' | 'answer';

export class CallWatch {
  readonly #host: Host;
  readonly #abort = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #timers = new Map<Owed, () => void>();

  constructor(host: Host, outer: AbortSignal | undefined) {
    this.#host = host;
    this.#outer = outer;
    outer?.addEventListener('abort', this.#onOuterAbort);
    if (outer?.aborted === true) this.#onOuterAbort();
  }

  /** Aborted with a `DivanError` for its reason. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** From now on the other node may let this call wait for so long. */
  allow(owed: Owed, ms: number, error: () => DivanError): void {
    this.rest(owed);
    if (this.signal.aborted) return;
    this.#timers.set(
      owed,
      this.#host.setTimer(() => this.end(error()), ms),
    );
  }

  /** It is not the other node that the call waits for. */
  rest(owed: Owed): void {
    this.#timers.get(owed)?.();
    this.#timers.delete(owed);
  }

  /** Ends the call, and leaves nothing behind. */
  end(reason: DivanError): void {
    this.done();
    this.#abort.abort(reason);
  }

  /** The call is over: leaves nothing behind. */
  done(): void {
    this.rest('question');
    this.rest('answer');
    this.#outer?.removeEventListener('abort', this.#onOuterAbort);
  }

  readonly #onOuterAbort = () => {
    this.end(new DivanError('ABORTED', 'the call was given up by its caller'));
  };
}
