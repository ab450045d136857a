/** The memory and the event loop of this process, for the metrics of the server and for what gives way to its requests. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { ProcessMeter } from '../../server/metrics.js';
import type { EventLoopWatch } from '../../server/world.js';

const NANOSECONDS = 1e6;
/** How often the loop is looked at; what is late by less is not seen. */
const RESOLUTION_MS = 20;

/** Measures from now on. */
export function processMeter(): ProcessMeter {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  return {
    memory: () => process.memoryUsage(),
    eventLoopDelay() {
      const { mean, max } = histogram;
      const p99 = histogram.percentile(99);
      histogram.reset();
      return { mean: late(mean), p99: late(p99), max: late(max) };
    },
  };
}

/** Watches the event loop from now on. */
export function watchEventLoop(): EventLoopWatch {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  return {
    lateness() {
      const { mean } = histogram;
      histogram.reset();
      return late(mean);
    },
    close() {
      histogram.disable();
    },
  };
}

/** What was measured is the time between two looks; without any it is none. */
function late(nanoseconds: number): number {
  return Number.isNaN(nanoseconds) ? 0 : Math.max(0, nanoseconds / NANOSECONDS - RESOLUTION_MS);
}
