/**
 * A program to be imported into a server: tells the process that started it what the server uses between two messages of that.
 *
 * The server ends with whoever started it, however that ended, so that no server is left behind.
 */
import { writeFileSync } from 'node:fs';
import type { Usage } from './result.js';
import { UsageMeter } from './usage.js';

const MIB = 1024 * 1024;
/** What the kernel takes for "forget the most memory that this process has had". */
const FORGET_PEAK = '5';

let meter: UsageMeter | undefined;
let before = 0;

process.on('message', (message) => {
  if (message === 'begin') begin();
  process.send?.(message === 'begin' ? {} : usage());
});
process.once('disconnect', () => process.exit(1));
// It is the server that decides how long this process runs.
process.channel?.unref();

function begin(): void {
  try {
    writeFileSync('/proc/self/clear_refs', FORGET_PEAK);
  } catch {
    // The peak is then that of all the time, which is no less.
  }
  before = process.memoryUsage.rss() / MIB;
  meter = new UsageMeter();
}

function usage(): Usage {
  const found = meter?.read() ?? {};
  return { ...found, grownMiB: Math.max(0, (found.peakMiB ?? 0) - before) };
}
