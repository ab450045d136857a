/** `divan cluster remove`: what a node holds is moved to those that stay, then it is taken out. Given again it goes on. */
import { setTimeout as delay } from 'node:timers/promises';
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { CommandContext } from '../command.js';
import { type AdminClient, memberOf } from './admin-client.js';
import { Moves } from './moves.js';
import { nodesOf } from './report.js';
import { heldShards } from './targets.js';

/** So often it is looked what the node holds: databases that are made meanwhile come to it, too. */
const ROUNDS = 20;
const NEXT_ROUND_MS = 500;

/**
 * Throws `NOT_FOUND`, `BAD_REQUEST` and `UNAVAILABLE` for what stands against it, before anything is moved; `ABORTED`, with moves going on; and what
 * `AdminClient.call` throws.
 */
export async function removeNode(
  context: CommandContext,
  node: AdminClient,
  name: string,
): Promise<boolean> {
  const nodes = await nodesOf(node);
  const leaving = nodes.find((known) => known.name === name);
  if (leaving === undefined) {
    const names = nodes.map((known) => known.name).join(', ');
    throw new DivanError('NOT_FOUND', `there is no node ${name}; there are ${names}`);
  }
  if (memberOf(await node.call('GET', '/_node/_local'), 'name') === name) {
    const reason = 'a node can not remove itself; give the --url of one that stays';
    throw new DivanError('BAD_REQUEST', reason);
  }
  const held = await heldShards(node, name);
  if (held.length > 0 && leaving.problem !== undefined) {
    throw new DivanError(
      'UNAVAILABLE',
      `${name} holds ${held.length} shards, which can not be moved while it is not reached: ${leaving.problem}`,
    );
  }
  const moves = new Moves(context, node, name);
  try {
    for (let round = 1; round <= ROUNDS; round++) {
      await moves.run();
      if (await isTakenOut(context, node, name)) return true;
      await delay(NEXT_ROUND_MS);
    }
  } catch (error) {
    if (!isDivanError(error, 'ABORTED') || moves.underWay === 0) throw error;
    const going = moves.underWay === 1 ? '1 move goes' : `${moves.underWay} moves go`;
    throw new DivanError(
      'ABORTED',
      `cancelled; ${going} on, and the same command goes on with them`,
    );
  } finally {
    moves.stop();
  }
  throw new DivanError(
    'UNAVAILABLE',
    `${name} gets new shards all the time; give the command again while no databases are made`,
  );
}

/** Whether it was; not if it holds something again. Throws whatever else a node says against it. */
async function isTakenOut(
  { json }: CommandContext,
  node: AdminClient,
  name: string,
): Promise<boolean> {
  const reply = await node.ask('POST', '/_cluster_setup', { action: 'remove_node', name });
  if (reply.status !== 201) {
    if ((await heldShards(node, name)).length > 0) return false;
    throw node.failure('remove_node', reply);
  }
  process.stdout.write(json ? `${JSON.stringify({ removed: name })}\n` : `${name} is removed\n`);
  return true;
}
