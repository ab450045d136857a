/** `divan cluster`: sets up a cluster, says how it is, takes nodes out of it. */
import type { Command } from 'commander';
import { DivanError } from '../engine/errors.js';
import { AdminClient } from './cluster/admin-client.js';
import { credentialsOf, PASSWORD_ENVIRONMENT } from './cluster/credentials.js';
import { removeNode } from './cluster/remove.js';
import {
  type ClusterReport,
  databasesOf,
  type JobReport,
  placesOf,
  reportOf,
} from './cluster/report.js';
import { setUpCluster } from './cluster/setup.js';
import { type CommandContext, LineOutput, runCommand } from './command.js';

const URL_DEFAULT = 'http://127.0.0.1:5984';

interface NodeOptions {
  readonly url: string;
  readonly user?: string;
  readonly json?: boolean;
}

export function registerCluster(program: Command): void {
  const cluster = program
    .command('cluster')
    .description('set up a cluster of nodes, and see how it is')
    .addHelpText(
      'after',
      `
The password of the admin is asked for, or taken from ${PASSWORD_ENVIRONMENT}. A node that is not set up answers its own
machine alone: enable it there by \`divan cluster setup http://127.0.0.1:5984\` before others are to reach it. With certificates of an authority
of your own, set NODE_EXTRA_CA_CERTS to its file.

Examples:
  divan cluster setup --user admin http://10.0.0.1:5984 http://10.0.0.2:5984 http://10.0.0.3:5984
  divan cluster status --user admin --json
  divan cluster shards cities --user admin
  divan cluster remove node3@10.0.0.3 --user admin --url http://10.0.0.1:5984`,
    );
  cluster
    .command('setup')
    .description('make a cluster of nodes that run; given again it goes on where it stopped')
    .argument('<urls...>', 'where the nodes are reached, the one that coordinates first')
    .option('--user <name>', 'the admin that all of them have, or are to have')
    .option('--bind <address>', 'where nodes that are enabled listen from then on', undefined)
    .option('--json', 'one JSON object for each step')
    .action((urls: string[], options: { user?: string; bind?: string; json?: boolean }) =>
      runCommand(options, async (context) => {
        const credentials = await credentialsOf(options.user, context.signal);
        return setUpCluster(context, { urls, credentials, bindAddress: options.bind });
      }),
    );
  asked(cluster, 'status', 'say how the nodes are; exit code 1 if something is wrong').action(
    (options: NodeOptions) => runWith(options, status),
  );
  asked(cluster, 'shards', 'say which node has which shards')
    .argument('[database]', 'only of this one')
    .action((database: string | undefined, options: NodeOptions) =>
      runWith(options, (context, node) => shards(context, node, database)),
    );
  asked(
    cluster,
    'remove',
    'move all shards of a node to those that stay, then take it out; given again it goes on',
  )
    .argument('<node>', 'its name')
    .action((name: string, options: NodeOptions) =>
      runWith(options, (context, node) => removeNode(context, node, name)),
    );
}

function asked(cluster: Command, name: string, description: string): Command {
  return cluster
    .command(name)
    .description(description)
    .option('--url <url>', 'a node of the cluster', URL_DEFAULT)
    .option('--user <name>', 'the name of an admin')
    .option('--json', 'as JSON');
}

function runWith(
  options: NodeOptions,
  work: (context: CommandContext, node: AdminClient) => Promise<boolean>,
): Promise<void> {
  return runCommand(options, async (context) => {
    const credentials = await credentialsOf(options.user, context.signal);
    return work(context, new AdminClient(options.url, credentials, context.signal));
  });
}

async function status({ json }: CommandContext, node: AdminClient): Promise<boolean> {
  const report = await reportOf(node);
  const isWell =
    report.problems.length === 0 && report.nodes.every(({ problem }) => problem === undefined);
  const output = new LineOutput();
  const lines = json ? [JSON.stringify({ ok: isWell, ...report })] : statusLines(report);
  for (const line of lines) await output.line(line);
  await output.flush();
  return isWell;
}

function statusLines({ state, nodes, jobs, problems }: ClusterReport): string[] {
  const width = Math.max(...nodes.map(({ name }) => name.length));
  const versions = new Set(nodes.flatMap(({ version }) => version ?? []));
  return [
    `${state}, ${nodes.length} nodes`,
    ...nodes.map(({ name, problem, version, shards, bytes }) =>
      problem === undefined
        ? `  ${name.padEnd(width)}  ${shards} shards  ${mebibytes(bytes ?? 0)} MiB  Divan ${version}`
        : `  ${name.padEnd(width)}  ${problem}`,
    ),
    ...(versions.size > 1 ? ['the nodes have different versions'] : []),
    ...(jobs.length > 0 ? ['jobs'] : []),
    ...jobs.map(jobLine),
    ...problems,
  ];
}

function jobLine({ type, node, state, sources, percent, secondsLeft, reason }: JobReport): string {
  return [
    `  ${type} of ${sources.join(', ')} on ${node}: ${state}`,
    ...(percent === undefined ? [] : [`${percent} %`]),
    ...(secondsLeft === undefined ? [] : [`${Math.ceil(secondsLeft)} s left`]),
    ...(reason === undefined ? [] : [reason]),
  ].join(', ');
}

function mebibytes(bytes: number): string {
  return (bytes / 1024 / 1024).toFixed(1);
}

/** Throws what `AdminClient.call` throws, and `NOT_FOUND` for a database that is named and not there. */
async function shards(
  { json }: CommandContext,
  node: AdminClient,
  database: string | undefined,
): Promise<boolean> {
  const names = database === undefined ? await databasesOf(node) : [database];
  const output = new LineOutput();
  for (const name of names) {
    const places = await placesOf(node, name);
    if (places === undefined && database !== undefined) {
      throw new DivanError('NOT_FOUND', `there is no database ${database}`);
    }
    for (const [range, nodes] of places ?? []) {
      await output.line(
        json
          ? JSON.stringify({ database: name, range, nodes })
          : `${range}  ${nodes.join(' ')}  ${name}`,
      );
    }
  }
  await output.flush();
  return true;
}
