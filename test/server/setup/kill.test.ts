/**
 * Goal: a setup comes to its end whichever durable step was the last one before a crash, on either side, when its requests are repeated.
 * Method: the sequence is run once to find the syncs of both nodes' records; then again for each of them, with the process of the node killed right
 * before and right after it.
 */
import t, { type Test } from 'tap';
import { FakeNetwork } from '../../support/fake-network.js';
import { memberOf } from '../../support/server.js';
import { adding, OPERATOR, type SetupAnswer, SetupNode } from '../../support/setup-node.js';
import { CrashError } from '../../support/simulated-disk.js';

const TRIES = 4;
/** What the plan answers to what was done already. */
const DONE = /Cluster is already enabled/;

class Life {
  readonly network = new FakeNetwork();
  readonly nodes: SetupNode[] = [];
  victim: SetupNode | undefined;
  deaths = 0;

  get pair(): readonly [SetupNode, SetupNode] {
    const [a, b] = this.nodes;
    if (a === undefined || b === undefined) throw new RangeError('no nodes');
    return [a, b];
  }

  async begin(): Promise<void> {
    for (const name of ['node1', 'node2']) {
      this.nodes.push(await SetupNode.start(this.network, { name, timersBy: 0.02 }));
    }
  }

  async run(): Promise<void> {
    const [a, b] = this.pair;
    await this.#repeat(() => a.ask('POST', '/_setup', { body: a.enabling(), as: this.#as(a) }));
    await this.#repeat(() => b.ask('POST', '/_setup', { body: b.enabling(), as: this.#as(b) }));
    await this.#repeat(() => a.act(adding(b)));
    await this.#repeat(() => a.act({ action: 'finish_cluster' }));
    await this.#revive();
    await this.network.compare();
    await this.#revive();
    await this.network.compare();
    for (const { server } of this.nodes) await server.services.setup.settled();
    await this.#revive();
  }

  /** Nobody, before there is an admin. */
  #as({ server }: SetupNode): string | undefined {
    return server.services.admins.hasConfiguredAdmin ? OPERATOR : undefined;
  }

  async #repeat(send: () => Promise<SetupAnswer>): Promise<void> {
    let answer: SetupAnswer | undefined;
    for (let tries = 0; tries < TRIES; tries++) {
      await this.#revive();
      answer = await send();
      if (answer.status === 201 || DONE.test(answer.text)) return;
      if (!this.#isDead) break;
    }
    throw new Error(`it does not come to its end: ${answer?.text}`);
  }

  get #isDead(): boolean {
    const { disk } = this.victim ?? {};
    return disk !== undefined && disk.ops.length >= disk.haltAfter;
  }

  async #revive(): Promise<void> {
    if (!this.#isDead) return;
    this.deaths++;
    await this.victim?.restart();
  }

  async close(): Promise<void> {
    for (const node of this.nodes) {
      await node.close().catch((error: unknown) => {
        // What is killed, now if not before, can not close its files.
        if (!(error instanceof CrashError) || node !== this.victim) throw error;
      });
    }
  }
}

async function finished(t: Test, life: Life, what: string): Promise<void> {
  const names = life.pair.map(({ name }) => name);
  const uuids = new Set<unknown>();
  for (const node of life.pair) {
    const state = await node.state();
    t.same(state.body, { state: 'cluster_finished', nodes: names }, `${what}: ${node.name}`);
    uuids.add(memberOf((await node.ask('GET', '/')).body, 'uuid'));
    t.same(node.server.services.admins.names, ['operator'], what);
  }
  t.equal(uuids.size, 1, what);
  t.equal(life.pair[0].server.services.directory.names().length, 3, what);
}

/** Lengths of the log of a disk: right before and right after each durable step of the node's records. */
function stepsOf({ disk }: SetupNode, from: number): number[] {
  const points = disk.ops.flatMap(({ kind, path }, index) => {
    if (index < from || !path.includes('node.divan')) return [];
    if (kind === 'write') return [index];
    return kind === 'synced' ? [index + 1] : [];
  });
  return [...new Set(points)];
}

t.test('killed before and after every durable step, on either side', async (t) => {
  const first = new Life();
  await first.begin();
  const starts = first.nodes.map(({ disk }) => disk.ops.length);
  await first.run();
  await finished(t, first, 'without a crash');
  const steps = first.nodes.map((node, index) => stepsOf(node, starts[index] ?? 0));
  await first.close();
  t.ok((steps[0]?.length ?? 0) >= 14, `${steps[0]?.length} moments of the coordinator`);
  t.ok((steps[1]?.length ?? 0) >= 8, `${steps[1]?.length} moments of the other`);
  let deaths = 0;
  for (const [side, points] of steps.entries()) {
    for (const point of points) {
      const life = new Life();
      await life.begin();
      const victim = life.nodes[side];
      if (victim === undefined) continue;
      life.victim = victim;
      victim.disk.haltAfter = point + victim.disk.ops.length - (starts[side] ?? 0);
      const what = `node ${side + 1} killed at ${point}`;
      await life.run().catch((error: unknown) => t.fail(`${what}: ${error}`));
      await finished(t, life, what);
      deaths += life.deaths;
      await life.close();
    }
  }
  t.ok(deaths > steps.flat().length * 0.7, `${deaths} deaths at ${steps.flat().length} moments`);
});
