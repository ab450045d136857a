/** What the server needs of the world: the engine's seams and the time of day. */
import type { Host } from '../engine/file/host.js';
import type { Storage } from '../engine/file/storage.js';

export interface ServerHost extends Host {
  /** Milliseconds since 1970. For what people read and what expires, never for the order of data. */
  timeOfDay(): number;
}

/** Sees how late the event loop of the server is. */
export interface EventLoopWatch {
  /** By how many milliseconds it was late, on average, since this was asked before. */
  lateness(): number;
  close(): void;
}

export interface ServerWorld {
  readonly storage: Storage;
  readonly host: ServerHost;
}
