/**
 * Goal: as in kill-process.test.ts.
 * Method: the same, with one kill in each setup: before and after every call, on either side.
 */
import t from 'tap';
import { makeMachines } from '../../support/machines.js';
import { SetupLife } from '../../support/setup-kill.js';

t.test('killed before and after every durable step', async (t) => {
  const machines = makeMachines(t, 2);
  const { calls, problems } = await SetupLife.run(t, machines);
  t.same(problems, []);
  let deaths = 0;
  let setups = 0;
  for (const side of [0, 1] as const) {
    for (let call = 1; call <= (calls[side] ?? 0); call++) {
      for (const when of ['before', 'after'] as const) {
        const kill = { side, call, when };
        const life = await SetupLife.run(t, machines, [kill]);
        t.same(life.problems, [], JSON.stringify(kill));
        deaths += life.deaths;
        setups++;
      }
    }
  }
  t.comment(`${calls.join()} calls; killed ${deaths} times in ${setups} setups`);
  t.ok(deaths > 0.8 * setups);
});
