/** A server's world without a disk or a clock of its own, and what is often made in it. */
import { MemoryStorage } from '../../engine/file/memory-storage.js';
import { Config } from '../../server/config/config.js';
import { NodeRecords } from '../../server/node-records.js';
import type { ServerHost, ServerWorld } from '../../server/world.js';
import { VirtualHost } from './virtual-host.js';

/** 2026-01-02. */
const START_MS = Date.UTC(2026, 0, 2);

/** Its time of day moves with its clock. */
export class VirtualServerHost extends VirtualHost implements ServerHost {
  timeOfDay(): number {
    return START_MS + this.now();
  }
}

export class VirtualWorld implements ServerWorld {
  readonly storage = new MemoryStorage();
  readonly host: VirtualServerHost;

  constructor(seed = 1) {
    this.host = new VirtualServerHost(seed);
  }

  openRecords(): Promise<NodeRecords> {
    return NodeRecords.open(this, '.');
  }
}

/** A configuration of lines of a file, in which hashes take few iterations. */
export function configOf(...lines: readonly string[]): Config {
  const text = ['[chttpd_auth]', 'iterations = 3', ...lines].join('\n');
  return new Config({
    environment: {},
    flags: new Map([['--config', 'test.ini']]),
    readFile: () => text,
  });
}
