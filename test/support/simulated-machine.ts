/** A machine of a simulation: a disk that can lose power, a clock that can be wrong, and one process after another that runs on it. */
import type { ServerWorld } from '../../server/world.js';
import { type Mortal, storageOf } from './process-storage.js';
import { SimulatedDisk } from './simulated-disk.js';
import { SimulatedHost, type SimulatedScheduler } from './simulated-scheduler.js';

const SOON_OPS = 60;
const SYNC_MS_MAX = 4;
const SLOW_MS_MAX = 120;
const SLOW = 0.02;
/** Most writes and reads go to the memory of the operating system. */
const WAITS = { sync: 1, write: 0.05, read: 0.01 };

export class SimulatedProcess implements Mortal {
  readonly host: SimulatedHost;
  readonly world: ServerWorld;
  /** Resolves when it has died. */
  readonly died: Promise<void>;
  #tellDied = () => {};

  constructor(disk: SimulatedDisk, host: SimulatedHost) {
    this.host = host;
    this.world = { host, storage: storageOf(disk, this) };
    this.died = new Promise((resolve) => {
      this.#tellDied = resolve;
    });
  }

  get isDead(): boolean {
    return this.host.isDead;
  }

  die(): void {
    this.host.isDead = true;
    this.#tellDied();
  }
}

export class SimulatedMachine {
  readonly clock = { skewMs: 0 };
  readonly #scheduler: SimulatedScheduler;
  #disk = new SimulatedDisk();
  #process: SimulatedProcess | undefined;

  constructor(scheduler: SimulatedScheduler) {
    this.#scheduler = scheduler;
  }

  /** The process that runs, undefined if there is none. */
  get process(): SimulatedProcess | undefined {
    return this.#process?.isDead === false ? this.#process : undefined;
  }

  /** The paths of all files. */
  get files(): string[] {
    return [...this.#disk.names.keys()];
  }

  /** A process begins; the one before, if the power failed under it, has left the disk as it can be then. */
  begin(): SimulatedProcess {
    this.#loseWhatIsNotDurable();
    const host = new SimulatedHost(this.#scheduler, this.clock);
    const process = new SimulatedProcess(this.#disk, host);
    this.#disk.pause = (of) => this.#pause(of, host);
    this.#process = process;
    return process;
  }

  /** The power fails. */
  crash(): void {
    this.#process?.die();
  }

  /** The power fails in the middle of what the disk is about to do, after so many operations at most. */
  crashSoon(opsMax = SOON_OPS): void {
    const { length } = this.#disk.ops;
    this.#disk.haltAfter = length + 1 + this.#scheduler.below(opsMax);
  }

  /** If the power is about to fail it does not. */
  spare(): void {
    this.#disk.haltAfter = Number.POSITIVE_INFINITY;
  }

  #loseWhatIsNotDurable(): void {
    if (this.#process === undefined) return;
    this.#process.die();
    const { random } = this.#scheduler;
    this.#disk = this.#disk.crash(this.#disk.ops.length, random).open();
  }

  #pause(of: 'read' | 'write' | 'sync', host: SimulatedHost): Promise<void> | undefined {
    const scheduler = this.#scheduler;
    if (!scheduler.chance(WAITS[of])) return undefined;
    const max = scheduler.chance(SLOW) ? SLOW_MS_MAX : SYNC_MS_MAX;
    return new Promise((resolve) => host.setTimer(resolve, scheduler.random() * max));
  }
}
