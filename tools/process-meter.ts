/** The memory and the event loop of this process, for the metrics of the server. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { ProcessMeter } from '../server/metrics.js';

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
      // Without a sample the mean is none.
      const isEmpty = Number.isNaN(mean);
      return isEmpty
        ? { mean: 0, p99: 0, max: 0 }
        : { mean: mean / NANOSECONDS, p99: p99 / NANOSECONDS, max: max / NANOSECONDS };
    },
  };
}
