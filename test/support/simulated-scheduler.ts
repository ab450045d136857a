/**
 * Virtual time for several nodes in one process: everything that takes time waits here, and what is due at one moment goes on in an order that
 * the seed decides. What happened is told to a trace, whose hash is the same for the same seed.
 */
import { createHash } from 'node:crypto';
import type { ServerHost } from '../../server/world.js';
import { randomInt, seededRandom } from './seed.js';

interface Task {
  readonly at: number;
  /** Among those of one moment. */
  readonly order: number;
  readonly run: () => void;
  isCancelled: boolean;
}

const START_MS = Date.UTC(2026, 0, 2);

export class SimulatedScheduler {
  readonly random: () => number;
  now = 0;
  /** Messages, timers, syncs: all that had its time. */
  steps = 0;
  /** Called after each step, when all that it led to waits again. */
  onStep: (() => void) | undefined;
  readonly #trace = createHash('sha256');
  /** A heap: none is before the one at half its index. */
  readonly #tasks: Task[] = [];

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  /** Runs it after a time, unless it is cancelled by what is returned. */
  after(ms: number, run: () => void): () => void {
    const task = { at: this.now + ms, order: this.random(), run, isCancelled: false };
    this.#push(task);
    return () => {
      task.isCancelled = true;
    };
  }

  trace(text: string): void {
    this.#trace.update(`${this.now} ${text}\n`);
  }

  /** What happened so far. */
  get fingerprint(): string {
    return this.#trace.copy().digest('hex');
  }

  below(count: number): number {
    return randomInt(this.random, count);
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  pick<T>(from: readonly T[]): T {
    const picked = from[this.below(from.length)];
    if (picked === undefined) throw new Error('there is nothing to pick from');
    return picked;
  }

  /** Lets a time pass, with all that happens in it. */
  async pass(ms: number): Promise<void> {
    const end = this.now + ms;
    await settle();
    for (let next = this.#tasks[0]; next !== undefined && next.at <= end; next = this.#tasks[0]) {
      this.#pop();
      if (next.isCancelled) continue;
      this.now = next.at;
      this.steps++;
      next.run();
      await settle();
      this.onStep?.();
    }
    this.now = end;
  }

  /** Lets time pass until it is settled; throws if that takes longer than `msMax`. */
  async until<T>(work: Promise<T>, msMax = 60_000): Promise<T> {
    const end = this.now + msMax;
    let isSettled = false;
    const mark = () => {
      isSettled = true;
    };
    work.then(mark, mark);
    await settle();
    while (!isSettled) {
      if (this.now >= end) throw new Error(`not settled after ${msMax} ms`);
      const next = this.#tasks[0]?.at ?? end;
      await this.pass(Math.min(next, end) - this.now);
    }
    return work;
  }

  #push(task: Task): void {
    const tasks = this.#tasks;
    let at = tasks.push(task) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const other = tasks[above];
      if (other === undefined || !isBefore(task, other)) break;
      tasks[at] = other;
      at = above;
    }
    tasks[at] = task;
  }

  #pop(): void {
    const tasks = this.#tasks;
    const last = tasks.pop();
    if (last === undefined || tasks.length === 0) return;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      const [left, right] = [tasks[below], tasks[below + 1]];
      if (left === undefined) break;
      let smaller = left;
      if (right !== undefined && isBefore(right, left)) {
        smaller = right;
        below++;
      }
      if (isBefore(last, smaller)) break;
      tasks[at] = smaller;
      at = below;
    }
    tasks[at] = last;
  }
}

function isBefore(a: Task, b: Task): boolean {
  return a.at === b.at ? a.order < b.order : a.at < b.at;
}

/** All that does not wait for the scheduler goes on until it does. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The host of one life of a node: when the node dies nothing of it runs any more. */
export class SimulatedHost implements ServerHost {
  isDead = false;
  readonly #scheduler: SimulatedScheduler;
  readonly #clock: { skewMs: number };

  /** `clock` is that of the machine, which outlives its processes. */
  constructor(scheduler: SimulatedScheduler, clock: { skewMs: number }) {
    this.#scheduler = scheduler;
    this.#clock = clock;
  }

  now(): number {
    return this.#scheduler.now;
  }

  timeOfDay(): number {
    return Math.floor(START_MS + this.#scheduler.now + this.#clock.skewMs);
  }

  randomBytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.#scheduler.below(256));
  }

  setTimer(run: () => void, delayMs: number): () => void {
    return this.#scheduler.after(delayMs, () => {
      if (!this.isDead) run();
    });
  }

  yieldTurn(): Promise<void> {
    return new Promise((resolve) => this.setTimer(resolve, 0));
  }
}
