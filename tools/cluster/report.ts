/** What nodes say of a cluster, put together. */
import { setTimeout as delay } from 'node:timers/promises';
import { isDivanError } from '../../engine/errors.js';
import { checkTiling, FULL_RANGE, parseRange } from '../../engine/shard/hash.js';
import { type AdminClient, memberOf, textsOf } from './admin-client.js';

export interface NodeReport {
  readonly name: string;
  /** What is wrong with it; undefined if nothing is. */
  readonly problem: string | undefined;
  readonly version: string | undefined;
  readonly shards: number | undefined;
  readonly bytes: number | undefined;
}

/** A job that is not over, or that failed. */
export interface JobReport {
  readonly id: string;
  readonly type: string;
  readonly node: string;
  readonly state: string;
  readonly sources: readonly string[];
  readonly percent: number | undefined;
  readonly secondsLeft: number | undefined;
  readonly reason: string | undefined;
}

export interface ClusterReport {
  readonly state: string;
  readonly nodes: readonly NodeReport[];
  readonly jobs: readonly JobReport[];
  /** What is wrong besides nodes. */
  readonly problems: readonly string[];
}

/** How often what is not in its place is looked at: while a shard is moved it is on two nodes for a moment, or on none. */
const LOOKS = 4;
const LOOK_AGAIN_MS = 500;

/** One node says what it knows, and asks the others for what they know. Throws what `AdminClient.call` throws for that node. */
export async function reportOf(node: AdminClient): Promise<ClusterReport> {
  const state = String(memberOf(await node.call('GET', '/_setup'), 'state'));
  const nodes = await nodesOf(node);
  const { jobs, unreachable } = await jobsOf(node);
  const problems = unreachable.map((name) => `the jobs of ${name} are not known`);
  if (state !== 'cluster_finished') problems.push(`the setup is not finished: ${state}`);
  for (const database of await databasesOf(node)) {
    const problem = await misplaced(node, database);
    if (problem !== undefined) problems.push(`${database}: ${problem}`);
  }
  return { state, nodes, jobs: jobs.filter(({ state }) => state !== 'completed'), problems };
}

/** What each member says of itself. Throws what `AdminClient.call` throws. */
export async function nodesOf(node: AdminClient): Promise<NodeReport[]> {
  const names = textsOf(await node.call('GET', '/_membership'), 'cluster_nodes');
  const nodes: NodeReport[] = [];
  for (const name of names) nodes.push(await nodeReport(node, name));
  return nodes;
}

/** All jobs of all nodes that are reached, and the nodes that are not. Throws what `AdminClient.call` throws. */
export async function jobsOf(
  node: AdminClient,
): Promise<{ readonly jobs: readonly JobReport[]; readonly unreachable: readonly string[] }> {
  const body = await node.call('GET', '/_shard_splits/jobs');
  const list = memberOf(body, 'jobs');
  const jobs = Array.isArray(list) ? list.map(jobReport) : [];
  return { jobs, unreachable: textsOf(body, 'unreachable') };
}

export async function databasesOf(node: AdminClient): Promise<string[]> {
  const names = await node.call('GET', '/_all_dbs');
  return Array.isArray(names) ? names.map(String) : [];
}

/** The names of the nodes that have each range of a database; undefined if it is not there. Throws what `AdminClient.call` throws. */
export async function placesOf(
  node: AdminClient,
  database: string,
): Promise<ReadonlyMap<string, readonly string[]> | undefined> {
  const path = `/${encodeURIComponent(database)}/_shards`;
  const reply = await node.ask('GET', path);
  if (reply.status === 404) return undefined;
  if (reply.status !== 200) throw node.failure(`GET ${path}`, reply);
  const ranges = Object.entries(Object(memberOf(reply.body, 'shards')));
  return new Map(
    ranges.map(([range, nodes]) => [range, Array.isArray(nodes) ? nodes.map(String) : []]),
  );
}

/** What is wrong with where the ranges of a database are; undefined if nothing is, or it is gone. */
async function misplaced(node: AdminClient, database: string): Promise<string | undefined> {
  let problem: string | undefined;
  for (let look = 1; look <= LOOKS; look++) {
    if (look > 1) await delay(LOOK_AGAIN_MS);
    const places = await placesOf(node, database);
    if (places === undefined) return undefined;
    problem = problemOf(places);
    if (problem === undefined) return undefined;
  }
  return problem;
}

/** Each range is to be somewhere, and all of them together are to be everything, once. */
function problemOf(places: ReadonlyMap<string, readonly string[]>): string | undefined {
  try {
    const placed = [...places].filter(([, nodes]) => nodes.length > 0);
    checkTiling(
      FULL_RANGE,
      placed.map(([range]) => parseRange(range)),
    );
    return undefined;
  } catch (error) {
    if (isDivanError(error, 'INVALID_RANGE')) return `no nodes have all of it: ${error.message}`;
    throw error;
  }
}

function jobReport(job: unknown): JobReport {
  const info = memberOf(job, 'state_info');
  const source = memberOf(job, 'source');
  const reason = memberOf(info, 'reason');
  return {
    id: String(memberOf(job, 'id')),
    type: String(memberOf(job, 'type') ?? 'split'),
    node: String(memberOf(job, 'node')),
    state: String(memberOf(job, 'job_state')),
    sources: source === undefined ? textsOf(job, 'sources') : [String(source)],
    percent: numberOf(info, 'percent'),
    secondsLeft: numberOf(info, 'eta_seconds'),
    reason: typeof reason === 'string' ? reason : undefined,
  };
}

/** What is no number is not known. */
export function numberOf(value: unknown, name: string): number | undefined {
  const number = memberOf(value, name);
  return typeof number === 'number' ? number : undefined;
}

async function nodeReport(node: AdminClient, name: string): Promise<NodeReport> {
  const reply = await node.ask('GET', `/_node/${encodeURIComponent(name)}/_storage`);
  if (reply.status !== 200) {
    const problem = String(memberOf(reply.body, 'reason'));
    return { name, problem, version: undefined, shards: undefined, bytes: undefined };
  }
  return {
    name,
    problem: undefined,
    version: String(memberOf(reply.body, 'version')),
    shards: numberOf(reply.body, 'shards'),
    bytes: numberOf(reply.body, 'bytes'),
  };
}
