/** `divan cluster setup`: from started nodes to a cluster, by the requests of `/_setup`. Given again it goes on where it stopped. */
import { setTimeout as delay } from 'node:timers/promises';
import { DivanError } from '../../engine/errors.js';
import type { CommandContext } from '../command.js';
import { AdminClient, type Credentials, memberOf, textsOf } from './admin-client.js';

/** A node that was added hears in some seconds who else there is. */
const LOOKS = 20;
const LOOK_AGAIN_MS = 500;

export interface SetupOptions {
  readonly urls: readonly string[];
  readonly credentials: Credentials;
  /** The address at which nodes that are enabled listen from then on; undefined for all of theirs. */
  readonly bindAddress: string | undefined;
}

/** Throws what `AdminClient` throws, with the node and what it was to do. */
export async function setUpCluster(
  { json, signal }: CommandContext,
  { urls, credentials, bindAddress }: SetupOptions,
): Promise<boolean> {
  const nodes = urls.map((url) => new AdminClient(url, credentials, signal));
  const [coordinator, ...others] = nodes;
  if (coordinator === undefined) throw new DivanError('INVALID_SETTING', 'name the nodes');
  const say = (url: string, step: string, text: string) =>
    process.stdout.write(json ? `${JSON.stringify({ url, step })}\n` : `${url} ${text}\n`);

  for (const node of nodes) {
    const asked = await whoAnswers(node);
    if ((await stateOf(asked)) !== 'cluster_disabled') continue;
    await enable(asked, credentials, bindAddress);
    say(node.url, 'enabled', 'is enabled');
  }
  if (others.length === 0) {
    say(coordinator.url, 'waiting', 'waits for other nodes: name them too, to make a cluster');
    return true;
  }
  const known = new Set(await namesAt(coordinator));
  for (const node of others) {
    const name = await nameOf(node);
    if (known.has(name)) continue;
    await add(coordinator, node, credentials);
    say(node.url, 'added', `is added, as ${name}`);
  }
  await coordinator.call('POST', '/_setup', { action: 'finish_cluster' });
  const names = await sameEverywhere(nodes);
  if (json) process.stdout.write(`${JSON.stringify({ finished: true, nodes: names })}\n`);
  else process.stdout.write(`the cluster is set up: ${names.join(', ')}\n`);
  return true;
}

/** As whom a node is to be asked: one that has no admin yet knows no names and passwords. */
async function whoAnswers(node: AdminClient): Promise<AdminClient> {
  const { status } = await node.ask('GET', '/_setup');
  if (status !== 401) return node;
  const { anonymous } = node;
  return (await anonymous.ask('GET', '/_setup')).status === 200 ? anonymous : node;
}

async function stateOf(node: AdminClient): Promise<string> {
  return String(memberOf(await node.call('GET', '/_setup'), 'state'));
}

async function namesAt(node: AdminClient): Promise<string[]> {
  return textsOf(await node.call('GET', '/_setup'), 'nodes');
}

async function nameOf(node: AdminClient): Promise<string> {
  return String(memberOf(await node.call('GET', '/_node/_local'), 'name'));
}

async function enable(
  node: AdminClient,
  { user, password }: Credentials,
  bindAddress: string | undefined,
): Promise<void> {
  await node.call('POST', '/_setup', {
    action: 'enable_cluster',
    admin: { user, pass: password },
    port: portOf(new URL(node.url)),
    ...(bindAddress === undefined ? {} : { bind_address: bindAddress }),
  });
}

async function add(
  coordinator: AdminClient,
  node: AdminClient,
  { user, password }: Credentials,
): Promise<void> {
  const url = new URL(node.url);
  // Whoever names a node here means it, whether the cluster was set up before or not.
  await coordinator.call('POST', '/_setup?i_know_what_i_am_doing=true', {
    action: 'add_node',
    admin: { user, pass: password },
    node: { host: hostOf(url), port: portOf(url), scheme: url.protocol.slice(0, -1) },
  });
}

/** Addresses of IPv6 stand in brackets in URLs, and there alone. */
function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, '');
}

function portOf({ port, protocol }: URL): number {
  if (port !== '') return Number(port);
  return protocol === 'https:' ? 443 : 80;
}

/** The nodes of the cluster, as every one of them says after a while. Throws `UNAVAILABLE` if one goes on saying something else. */
async function sameEverywhere(nodes: readonly AdminClient[]): Promise<string[]> {
  let first: string[] | undefined;
  for (const node of nodes) {
    for (let look = 1; ; look++) {
      const [state, names] = [await stateOf(node), await namesAt(node)];
      first ??= names;
      if (state === 'cluster_finished' && names.join() === first.join()) break;
      if (look === LOOKS) {
        throw new DivanError(
          'UNAVAILABLE',
          `${node.url} does not know of the whole cluster yet (${state}: ${names.join(', ')}); give the command again`,
        );
      }
      await delay(LOOK_AGAIN_MS);
    }
  }
  return first ?? [];
}
