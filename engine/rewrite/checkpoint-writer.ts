/** Keeps the checkpoint of a running rewrite up to date: one write at a time, each with the newest states. */
import type { Storage } from '../file/storage.js';
import { type VerifyState, writeCheckpoint } from './checkpoint.js';
import type { RewritePlan } from './plan.js';
import type { TargetState } from './target.js';

export class CheckpointWriter {
  readonly #storage: Storage;
  readonly #path: string;
  readonly #plan: RewritePlan;
  readonly #states = new Map<number, TargetState>();
  #verifying: VerifyState | undefined;
  #dirty = false;
  #writing: Promise<void> | undefined;
  #failure: unknown;

  constructor(storage: Storage, path: string, plan: RewritePlan, states: readonly TargetState[]) {
    this.#storage = storage;
    this.#path = path;
    this.#plan = plan;
    for (const state of states) this.#states.set(state.index, state);
  }

  /** Takes newer states of some targets, and sees to it that they are written. */
  update(states: readonly TargetState[]): void {
    for (const state of states) this.#states.set(state.index, state);
    this.#writeSoon();
  }

  /** Takes a newer state of the comparison, and sees to it that it is written. */
  updateVerify(state: VerifyState): void {
    this.#verifying = state;
    this.#writeSoon();
  }

  /** Writes the checkpoint as it is now. Rejects with `IO` or `NO_SPACE`. */
  async write(): Promise<void> {
    const states = [...this.#states.values()];
    await writeCheckpoint(this.#storage, this.#path, {
      plan: this.#plan,
      finishing: false,
      states,
      verifying: this.#verifying,
    });
  }

  /** Resolves when nothing is being written. Rejects if a write failed. */
  async idle(): Promise<void> {
    await this.#writing;
    if (this.#failure !== undefined) throw this.#failure;
  }

  #writeSoon(): void {
    this.#dirty = true;
    this.#writing ??= this.#writeNewest();
  }

  async #writeNewest(): Promise<void> {
    try {
      while (this.#dirty) {
        this.#dirty = false;
        await this.write();
      }
    } catch (error) {
      this.#failure ??= error;
    }
    this.#writing = undefined;
  }
}
