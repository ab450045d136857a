/** What the server is doing in the background and how far it is, for `_active_tasks`. */
import type { ServerHost } from './world.js';

/** What a task is, for as long as it runs. */
export interface TaskKind {
  readonly type: 'database_compaction' | 'shard_split' | 'shard_merge' | 'shard_move';
  readonly database: string;
  /** The name of the shard. */
  readonly shard: string;
}

export interface TaskProgress {
  readonly phase: string;
  /** 0 to 1. */
  readonly share: number;
  readonly changesDone: number;
  readonly changesTotal: number;
}

/** A task as it is listed. */
export interface TaskRow extends TaskKind, TaskProgress {
  /** In the form of CouchDB's process ids; never used again by this server. */
  readonly pid: string;
  /** Seconds since 1970. */
  readonly startedOn: number;
  readonly updatedOn: number;
}

export class ActiveTasks {
  readonly #host: ServerHost;
  readonly #tasks = new Set<ActiveTask>();
  #begun = 0;

  constructor(host: ServerHost) {
    this.#host = host;
  }

  /** How many run. */
  get size(): number {
    return this.#tasks.size;
  }

  /** Those that run, the oldest first. */
  list(): TaskRow[] {
    return [...this.#tasks].map((task) => task.row);
  }

  /** Lists a task until its `end` is called. */
  begin(kind: TaskKind, phase: string): ActiveTask {
    const task = new ActiveTask(kind, phase, {
      pid: `<0.${++this.#begun}.0>`,
      seconds: () => Math.floor(this.#host.timeOfDay() / 1000),
      end: () => this.#tasks.delete(task),
    });
    this.#tasks.add(task);
    return task;
  }
}

export class ActiveTask {
  readonly #seconds: () => number;
  readonly #end: () => void;
  #row: TaskRow;

  /** Of `ActiveTasks`. */
  constructor(
    kind: TaskKind,
    phase: string,
    parts: { readonly pid: string; readonly seconds: () => number; readonly end: () => void },
  ) {
    const { pid, seconds, end } = parts;
    this.#seconds = seconds;
    this.#end = end;
    const progress = { phase, share: 0, changesDone: 0, changesTotal: 0 };
    this.#row = { ...kind, ...progress, pid, startedOn: seconds(), updatedOn: seconds() };
  }

  get row(): TaskRow {
    return this.#row;
  }

  update(progress: TaskProgress): void {
    this.#row = { ...this.#row, ...progress, updatedOn: this.#seconds() };
  }

  /** Safe to call again. */
  end(): void {
    this.#end();
  }
}
