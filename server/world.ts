/** What the server needs of the world: the engine's seams and the time of day. */
import type { Host } from '../engine/file/host.js';
import type { Storage } from '../engine/file/storage.js';

export interface ServerHost extends Host {
  /** Milliseconds since 1970. For what people read and what expires, never for the order of data. */
  timeOfDay(): number;
}

export interface ServerWorld {
  readonly storage: Storage;
  readonly host: ServerHost;
}
