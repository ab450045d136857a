/** What this process uses while something is measured in it. */
import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Usage } from './result.js';

const RESOLUTION_MS = 1;

export class UsageMeter {
  readonly #delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #before = transferred();

  constructor() {
    this.#delay.enable();
  }

  /** Since the meter was made, but for the memory, which is that of the whole process. */
  read(): Usage {
    const after = transferred();
    const before = this.#before;
    return {
      peakMiB: peakMiB(),
      bytesRead: before && after && after.read - before.read,
      bytesWritten: before && after && after.written - before.written,
      delayP99Ms: this.#delay.percentile(99) / 1e6,
      delayMaxMs: this.#delay.max / 1e6,
    };
  }
}

/** What the process has read and written so far, whatever cache it came from. Undefined where the system does not say. */
function transferred(): { readonly read: number; readonly written: number } | undefined {
  const text = readOrEmpty('/proc/self/io');
  const read = /^rchar: (\d+)$/m.exec(text)?.[1];
  const written = /^wchar: (\d+)$/m.exec(text)?.[1];
  if (read === undefined || written === undefined) return undefined;
  return { read: Number(read), written: Number(written) };
}

/** The most memory that the process has had. Not `maxRSS` if it can be helped: a process inherits that from the one that started it. */
function peakMiB(): number {
  const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readOrEmpty('/proc/self/status'))?.[1];
  return (peak === undefined ? process.resourceUsage().maxRSS : Number(peak)) / 1024;
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
