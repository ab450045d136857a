/**
 * What the engine needs of the world besides storage: time, timers, randomness and a turn of the event loop.
 * The engine has none of its own, so that a test can run it with a virtual clock and a seeded generator.
 * `node-host.ts` is the real one.
 */
export interface Host {
  /** Milliseconds, from any fixed point, never falling. */
  now(): number;
  /** `length` unpredictable bytes. */
  randomBytes(length: number): Uint8Array;
  /** Calls `run` once after `delayMs`; the returned function cancels it. The timer does not keep the process alive. */
  setTimer(run: () => void, delayMs: number): () => void;
  /** Resolves after other work that waits for this thread has had its turn. */
  yieldTurn(): Promise<void>;
}
