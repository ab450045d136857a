/** The real `Host`: Node's clock, timers and random numbers. */
import { randomBytes } from 'node:crypto';
import type { Host } from './host.js';

export const nodeHost: Host = {
  now: () => performance.now(),
  randomBytes: (length) => randomBytes(length),
  setTimer(run, delayMs) {
    const timer = setTimeout(run, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
  yieldTurn: () => new Promise((resolve) => setImmediate(resolve)),
};
