/** The setup of two nodes, processes on machines of their own, of which either is killed on the way; its requests are repeated then. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { ClusterProcess, type NodeReply, type NodeRequest } from './cluster-process.js';
import { arm, countedCalls, type KillCall, killable } from './kill-orders.js';
import type { Machine } from './machines.js';

const USER = 'operator';
const PASSWORD = 'a-good-password';
const AS = `${USER}:${PASSWORD}`;
const NEVER: KillCall = { call: 0, when: 'before' };
/** Nodes that were away are not called for some seconds. */
const TRIES = 60;
const NOT_REACHED = /reached|does not answer/;
/** What follows on the last request goes on for a while. */
const LOOKS_MAX = 300;
const LOOK_MS = 50;
const DATABASES = ['_global_changes', '_replicator', '_users'];

/** The coordinator, or the node that it adds. */
export type Side = 0 | 1;

export interface SetupKill extends KillCall {
  readonly side: Side;
}

export class SetupLife {
  deaths = 0;
  readonly #nodes: readonly ClusterProcess[];
  /** Those to come, in their order. */
  readonly #kills: SetupKill[];

  private constructor(nodes: readonly ClusterProcess[], kills: readonly SetupKill[]) {
    this.#nodes = nodes;
    this.#kills = [...kills];
  }

  /**
   * Sets up two nodes whose processes are killed at those calls, each counted from the start of the process. Returns what is wrong then, how
   * often one was killed, and the calls of both since they were started last.
   */
  static async run(
    t: Test,
    machines: readonly Machine[],
    kills: readonly SetupKill[] = [],
  ): Promise<{ problems: string[]; deaths: number; calls: readonly number[] }> {
    const options = killable({ DIVAN_CHTTPD_AUTH_ITERATIONS: '100', DIVAN_CLUSTER_Q: '1' });
    const nodes = await Promise.all(
      machines.map((machine, index) => ClusterProcess.start(t, machine, index + 1, options)),
    );
    const life = new SetupLife(nodes, kills);
    try {
      for (const index of nodes.keys()) await life.#arm(index);
      await life.#sequence();
      const problems = await life.#lastProblems();
      const calls: number[] = [];
      for (const node of nodes) calls.push(await countedCalls(node));
      return { problems, deaths: life.deaths, calls };
    } catch (error) {
      return { problems: [String(error)], deaths: life.deaths, calls: [] };
    } finally {
      for (const node of nodes) await node.remove();
    }
  }

  async #arm(index: number): Promise<void> {
    const node = this.#at(index);
    const next = this.#kills.findIndex(({ side }) => side === index);
    const [kill] = next < 0 ? [] : this.#kills.splice(next, 1);
    await arm(node, kill ?? NEVER);
  }

  #at(index: number): ClusterProcess {
    const node = this.#nodes[index];
    if (node === undefined) throw new RangeError(`there is no node ${index}`);
    return node;
  }

  /** As in the plan of the setup. */
  async #sequence(): Promise<void> {
    const admin = { user: USER, pass: PASSWORD };
    const [first, second] = [this.#at(0), this.#at(1)];
    const { address: host, port } = second.machine;
    for (const node of [first, second]) {
      await this.#repeat(() => this.#enable(node, { action: 'enable_cluster', admin, port }));
    }
    const adding = { action: 'add_node', admin, node: { host, port } };
    await this.#repeat(() => first.call('POST', '/_setup', { body: adding, as: AS }));
    const finish = { action: 'finish_cluster' };
    await this.#repeat(() => first.call('POST', '/_setup', { body: finish, as: AS }));
  }

  /** Who had no answer does not know whether there is an admin now. */
  async #enable(node: ClusterProcess, body: object): Promise<NodeReply> {
    const reply = await node.call('POST', '/_setup', { body });
    if (reply.status !== 401) return reply;
    const known = await node.call('POST', '/_setup', { body, as: AS });
    const isDone = /Cluster is already enabled/.test(JSON.stringify(known.body));
    return isDone ? { ...known, status: 201 } : known;
  }

  /** Sends a request until it succeeds; it may only fail when a node was killed. */
  async #repeat(send: () => Promise<NodeReply>): Promise<void> {
    let answer = '';
    for (let tries = 0; tries < TRIES; tries++) {
      await this.#revive();
      try {
        const reply = await send();
        if (reply.status === 201) return;
        answer = JSON.stringify(reply);
      } catch (error) {
        answer = String(error);
      }
      if (!(await this.#isDead()) && !(this.deaths > 0 && NOT_REACHED.test(answer))) break;
    }
    throw new Error(`it does not come to its end: ${answer}`);
  }

  /** A process that kills itself is gone a moment later. */
  async #isDead(): Promise<boolean> {
    await delay(LOOK_MS);
    return this.#nodes.some(({ isRunning }) => !isRunning);
  }

  async #revive(): Promise<void> {
    for (const [index, node] of this.#nodes.entries()) {
      if (node.isRunning) continue;
      this.deaths++;
      await node.end('SIGKILL');
      await node.restart();
      await this.#arm(index);
    }
  }

  async #lastProblems(): Promise<string[]> {
    let problems: string[] = [];
    for (let look = 0; look < LOOKS_MAX; look++) {
      await this.#revive();
      problems = await this.#problems().catch((error: unknown) => [String(error)]);
      if (problems.length === 0) return [];
      await delay(LOOK_MS);
    }
    return problems;
  }

  /** Both say that it is finished, and are the same in all that they share. */
  async #problems(): Promise<string[]> {
    const problems: string[] = [];
    const expect = (node: ClusterProcess, what: string, found: unknown, expected: unknown) => {
      if (JSON.stringify(found) === JSON.stringify(expected)) return;
      problems.push(`${what} of ${node.name}: ${JSON.stringify(found)}`);
    };
    const nodes = this.#nodes.map(({ name }) => name);
    const [first] = this.#nodes;
    const login = await this.#at(0).call('POST', '/_session', {
      body: { name: USER, password: PASSWORD },
    });
    const session = /set-cookie: (AuthSession=[^;]+)/i.exec(login.headers)?.[1] ?? '';
    let uuid: unknown;
    for (const node of this.#nodes) {
      const get = async (path: string, options: NodeRequest = { as: AS }) =>
        (await node.call('GET', path, options)).body;
      expect(node, 'state', await get('/_setup'), { state: 'cluster_finished', nodes });
      expect(node, 'databases', await get('/_all_dbs'), DATABASES);
      const admins = objectOf(await get('/_node/_local/_config/admins'));
      expect(node, 'admins', Object.keys(admins), [USER]);
      const own = objectOf(await get('/'))['uuid'];
      if (node === first) uuid = own;
      expect(node, 'uuid', own, uuid);
      const who = objectOf(await get('/_session', { headers: [`Cookie: ${session}`] }));
      expect(node, 'session', objectOf(who['userCtx'])['name'], USER);
    }
    return problems;
  }
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
