/** The real host, which knows how many timers wait. */
import type { ServerHost } from '../../server/world.js';
import { realServerHost } from './server.js';

export class CountingHost implements ServerHost {
  timers = 0;
  readonly now = realServerHost.now;
  readonly timeOfDay = realServerHost.timeOfDay;
  readonly randomBytes = realServerHost.randomBytes;
  readonly yieldTurn = realServerHost.yieldTurn;

  setTimer(run: () => void, delayMs: number): () => void {
    let waits = true;
    this.timers++;
    const end = () => {
      if (waits) this.timers--;
      waits = false;
    };
    const cancel = realServerHost.setTimer(() => {
      end();
      run();
    }, delayMs);
    return () => {
      end();
      cancel();
    };
  }
}
