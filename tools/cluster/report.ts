/** What nodes say of a cluster, put together. */
import { type AdminClient, memberOf, textsOf } from './admin-client.js';

export interface NodeReport {
  readonly name: string;
  /** What is wrong with it; undefined if nothing is. */
  readonly problem: string | undefined;
  readonly version: string | undefined;
  readonly shards: number | undefined;
  readonly bytes: number | undefined;
}

export interface ClusterReport {
  readonly state: string;
  readonly nodes: readonly NodeReport[];
  readonly jobs: { readonly total: number; readonly running: number };
  /** What is wrong besides nodes. */
  readonly problems: readonly string[];
}

/** One node says what it knows, and asks the others for what they know. Throws what `AdminClient.call` throws for that node. */
export async function reportOf(node: AdminClient): Promise<ClusterReport> {
  const setup = await node.call('GET', '/_setup');
  const state = String(memberOf(setup, 'state'));
  const names = textsOf(await node.call('GET', '/_membership'), 'cluster_nodes');
  const nodes: NodeReport[] = [];
  for (const name of names) nodes.push(await nodeReport(node, name));
  const splits = await node.call('GET', '/_shard_splits');
  const unreachable = textsOf(memberOf(splits, 'states'), 'unreachable');
  const problems = unreachable.map((name) => `the jobs of ${name} are not known`);
  if (state !== 'cluster_finished') problems.push(`the setup is not finished: ${state}`);
  const jobs = {
    total: Number(memberOf(splits, 'jobs_total')),
    running: Number(memberOf(splits, 'jobs_running')),
  };
  return { state, nodes, jobs, problems };
}

async function nodeReport(node: AdminClient, name: string): Promise<NodeReport> {
  const path = `/_node/${encodeURIComponent(name)}`;
  const reply = await node.ask('GET', `${path}/_storage`);
  if (reply.status !== 200) {
    const problem = String(memberOf(reply.body, 'reason'));
    return { name, problem, version: undefined, shards: undefined, bytes: undefined };
  }
  const number = (member: string) => Number(memberOf(reply.body, member));
  return {
    name,
    problem: undefined,
    version: String(memberOf(reply.body, 'version')),
    shards: number('shards'),
    bytes: number('bytes'),
  };
}
