/**
 * Goal: a job gives way while the event loop is late, and takes its rate back when it is not, between the bounds that are written down.
 * Method: a pacer on a virtual clock, whose event loop is as late as the test says.
 */
import t from 'tap';
import { LATE_MS, LOOK_MS, Pacer } from '../../../server/splits/pacer.js';
import { VirtualHost } from '../../support/virtual-host.js';

const MIB = 1024 * 1024;
const LIMIT = 64 * MIB;

function paced(): { host: VirtualHost; pacer: Pacer; loop: { lateMs: number; closed: boolean } } {
  const host = new VirtualHost(1);
  const loop = { lateMs: 0, closed: false };
  const watch = {
    lateness: () => loop.lateMs,
    close() {
      loop.closed = true;
    },
  };
  return { host, pacer: new Pacer({ host, workers: 1, loop: watch }), loop };
}

t.test('the rate follows the event loop', async (t) => {
  const { host, pacer, loop } = paced();
  pacer.setLimit(LIMIT);
  t.equal(pacer.throttle.rate, LIMIT / 4, 'at first');
  host.advance(16 * LOOK_MS);
  t.equal(pacer.throttle.rate, LIMIT / 2, 'after sixteen looks at which it was not late');
  t.equal(pacer.rate, LIMIT / 2);
  host.advance(10_000);
  t.equal(pacer.throttle.rate, LIMIT, 'never more than the limit');
  loop.lateMs = LATE_MS + 1;
  host.advance(LOOK_MS);
  t.equal(pacer.throttle.rate, LIMIT / 2, 'it falls at once');
  host.advance(10_000);
  t.equal(pacer.throttle.rate, LIMIT / 4, 'but not to nothing');
  pacer.setLimit(LIMIT / 2);
  t.equal(pacer.throttle.rate, LIMIT / 8, 'of a new limit it takes the same share');
  pacer.setLimit(undefined);
  t.equal(pacer.rate, undefined);
  t.equal(pacer.throttle.rate, 0, 'where there is none nothing is held back');
  pacer.close();
  t.ok(loop.closed);
  t.equal(host.timers, 0, 'nothing is left when it is closed');
});

t.test('without an event loop to watch it stays at the limit', async (t) => {
  const host = new VirtualHost(1);
  const pacer = new Pacer({ host, workers: 2, loop: undefined });
  pacer.setLimit(LIMIT);
  t.equal(pacer.throttle.rate, LIMIT / 2, 'which the workers share');
  t.equal(host.timers, 0);
  pacer.close();
});
