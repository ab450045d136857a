/**
 * A host whose timers run soon, whatever they are set to, and whose clock moves on whenever it is looked at, so that everything that is to
 * be done now and then is done often.
 */
import { VirtualServerHost } from './server-world.js';

/** Between two looks at the clock: a job that keeps something every second does so at every third. */
const LOOK_MS = 400;
/** The clock is moved on by so much after some turns of the event loop, while anybody waits for it. */
const STEP_MS = 25;
const STEP_TURNS = 4;
/** A timer of hours is one for upkeep, which this host never does. */
const TIMER_MS_MAX = 3_600_000;

export class EagerHost extends VirtualServerHost {
  #looks = 0;
  #isMoving = false;
  #isDead = false;

  override now(): number {
    return super.now() + ++this.#looks * LOOK_MS;
  }

  override setTimer(run: () => void, delayMs: number): () => void {
    if (this.#isDead || delayMs > TIMER_MS_MAX) return () => undefined;
    const cancel = super.setTimer(run, delayMs);
    if (!this.#isMoving) void this.#move();
    return cancel;
  }

  /** Its process was killed: no timer runs any more. */
  die(): void {
    this.#isDead = true;
  }

  async #move(): Promise<void> {
    this.#isMoving = true;
    while (this.timers > 0 && !this.#isDead) {
      for (let turn = 0; turn < STEP_TURNS; turn++) await this.yieldTurn();
      if (!this.#isDead) this.advance(STEP_MS);
    }
    this.#isMoving = false;
  }
}
