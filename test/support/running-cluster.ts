/** Several nodes as processes on this machine, set up as one cluster, that may be killed; and whether their maps and files are right. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Test } from 'tap';
import { ClusterProcess } from './cluster-process.js';
import { killable } from './kill-orders.js';
import { sharedMachines } from './machines.js';
import { ADMIN, HttpClient, type ProcessReply } from './server-process.js';

/** What is to become right is looked at so often. */
const LOOKS_MAX = 400;
const LOOK_MS = 25;

export class RunningCluster {
  readonly nodes: readonly ClusterProcess[];
  readonly #clients: readonly HttpClient[];

  private constructor(nodes: readonly ClusterProcess[]) {
    this.nodes = nodes;
    this.#clients = nodes.map(({ machine }) => new HttpClient(machine.port));
  }

  /** Starts nodes that become one cluster, and are gone at the end of the test. */
  static async open(
    t: Test,
    count: number,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<RunningCluster> {
    const nodes = await Promise.all(
      sharedMachines(count).map((machine, index) =>
        ClusterProcess.start(t, machine, index + 1, killable(settings)),
      ),
    );
    const cluster = new RunningCluster(nodes);
    t.teardown(() => {
      for (const client of cluster.#clients) client.close();
    });
    await cluster.#setUp();
    return cluster;
  }

  async #setUp(): Promise<void> {
    const [user, pass] = ADMIN.split(':');
    const admin = { user, pass };
    const [first, ...others] = this.nodes;
    const act = async (node: ClusterProcess | undefined, as: string | undefined, body: object) => {
      const reply = await node?.call('POST', '/_setup', { as, body });
      if (reply?.status !== 201) throw new Error(JSON.stringify(reply));
    };
    const here = { bind_address: '127.0.0.1' };
    for (const node of this.nodes) {
      const { port } = node.machine;
      await act(node, undefined, { action: 'enable_cluster', admin, ...here, port });
    }
    for (const { machine } of others) {
      const node = { host: machine.address, port: machine.port };
      await act(first, ADMIN, { action: 'add_node', admin, node });
    }
    await act(first, ADMIN, { action: 'finish_cluster' });
  }

  at(index: number): ClusterProcess {
    const node = this.nodes[index];
    if (node === undefined) throw new RangeError(`there is no node ${index}`);
    return node;
  }

  /** Sends a request to a node. Rejects if it does not answer. */
  call(index: number, method: string, path: string, body?: unknown): Promise<ProcessReply> {
    const client = this.#clients[index];
    if (client === undefined) throw new RangeError(`there is no node ${index}`);
    return client.call(method, path, body);
  }

  /** The body of a reply that must have a status. */
  async ask<T>(
    index: number,
    method: string,
    path: string,
    body?: unknown,
    expected = 200,
  ): Promise<T> {
    const { status, text } = await this.call(index, method, path, body);
    if (status === expected) return JSON.parse(text);
    throw new Error(`${method} ${path} at ${this.at(index).name}: ${status} ${text}`);
  }

  /** Starts a node that was killed, or is about to be. */
  async revive(index: number): Promise<void> {
    await this.at(index).end('SIGKILL');
    await this.at(index).restart();
  }

  /** The files of shards of a node, as `shards/<range>/<database>.<suffix>.divan`, and whatever else there is. */
  files(index: number): string[] {
    const { dataDir } = this.at(index);
    return readdirSync(dataDir, { recursive: true, encoding: 'utf8' })
      .filter((entry) => statSync(join(dataDir, entry)).isFile() && entry !== 'node.divan')
      .sort();
  }

  /** The names of shards of a database that a node has. */
  shards(index: number, database: string): string[] {
    return this.files(index)
      .filter((file) => file.split('/')[2]?.startsWith(`${database}.`) === true)
      .map((file) => file.replace(/\.divan$/, ''));
  }

  /** Resolves when each node reaches all others again, by what they have of a database. */
  async reached(database: string): Promise<void> {
    for (let look = 0; look < LOOKS_MAX; look++) {
      const replies = this.nodes.map((_, index) => this.call(index, 'GET', `/${database}`));
      const statuses = (await Promise.all(replies)).map(({ status }) => status);
      if (statuses.every((status) => status === 200)) return;
      await delay(LOOK_MS);
    }
    throw new Error('a node is not reached any more');
  }

  /** What is wrong with the maps of all databases and the files of all nodes, once that is the same for a while. */
  async problems(): Promise<string[]> {
    let problems: string[] = [];
    for (let look = 0; look < LOOKS_MAX; look++) {
      problems = await this.#problemsNow().catch((error: unknown) => [String(error)]);
      if (problems.length === 0) return [];
      await delay(LOOK_MS);
    }
    return problems;
  }

  async #problemsNow(): Promise<string[]> {
    const problems: string[] = [];
    const names = await this.#same<string[]>('/_all_dbs', problems);
    const owned = new Map(this.nodes.map(({ name }) => [name, new Set<string>()]));
    for (const name of names) {
      const path = `/${name}/_shards`;
      const { shards } = await this.#same<{ shards: Record<string, string[]> }>(path, problems);
      problems.push(...tilingProblems(name, Object.keys(shards).sort()));
      for (const [range, owners] of Object.entries(shards)) {
        if (owners.length !== 1) problems.push(`${range} of ${name} is on ${owners.join()}`);
        for (const owner of owners) owned.get(owner)?.add(`shards/${range}/${name}`);
      }
    }
    for (const [index, { name }] of this.nodes.entries()) {
      const files = this.files(index).map((file) => file.replace(/\.\d+\.divan$/, ''));
      const expected = [...(owned.get(name) ?? [])].sort();
      if (files.join() !== expected.join()) {
        problems.push(`${name} has ${files.join()} instead of ${expected.join()}`);
      }
    }
    return problems;
  }

  /** What all nodes must answer alike. */
  async #same<T>(path: string, problems: string[]): Promise<T> {
    const first = await this.ask<T>(0, 'GET', path);
    for (const index of this.nodes.keys()) {
      const other = await this.ask<T>(index, 'GET', path);
      if (!isDeepStrictEqual(other, first)) {
        problems.push(`${path}: ${JSON.stringify(first)} and ${JSON.stringify(other)}`);
      }
    }
    return first;
  }
}

function tilingProblems(name: string, ranges: readonly string[]): string[] {
  let end = -1;
  for (const range of ranges) {
    const [from = '', to = ''] = range.split('-');
    if (Number.parseInt(from, 16) !== end + 1) return [`${name} has ${ranges.join()}`];
    end = Number.parseInt(to, 16);
  }
  return end === 0xffffffff ? [] : [`${name} has ${ranges.join()}`];
}
