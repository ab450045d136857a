/**
 * Goal: a setup comes to its end though its nodes are killed on the way, coordinator and the other, when its requests are repeated: both say that
 * it is finished, with the same nodes, admin, uuid and secret.
 * Method: the real command on machines of their own, SIGKILL before or after calls of the storage that change something, which are counted in
 * a setup in which nobody is killed. In each setup both are killed twice; the seed says at which calls.
 */
import t from 'tap';
import { makeMachines } from '../../support/machines.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';
import { type SetupKill, SetupLife, type Side } from '../../support/setup-kill.js';

const SETUPS = 2;
/** Fewer would mean that the counting misses some. */
const CALLS_MIN = [30, 15];

t.test('killed at durable steps, and again', async (t) => {
  const random = seededRandom(seedOf(t));
  const machines = makeMachines(t, 2);
  const whole = await SetupLife.run(t, machines);
  t.same(whole.problems, []);
  const { calls } = whole;
  t.ok(
    CALLS_MIN.every((least, side) => (calls[side] ?? 0) >= least),
    `${calls.join()} calls`,
  );
  const chain = (side: Side): SetupKill[] => {
    const count = calls[side] ?? 0;
    const first = 1 + randomInt(random, count - 1);
    const second = 1 + randomInt(random, count - first);
    return [first, second].map((call) => ({
      ...{ side, call },
      when: random() < 0.5 ? 'before' : 'after',
    }));
  };
  let deaths = 0;
  for (let setup = 0; setup < SETUPS; setup++) {
    const kills = [...chain(0), ...chain(1)];
    const life = await SetupLife.run(t, machines, kills);
    t.same(life.problems, [], JSON.stringify(kills));
    deaths += life.deaths;
  }
  t.ok(deaths >= 2 * SETUPS, `killed ${deaths} times`);
});
