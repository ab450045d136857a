/** `divan cluster remove`: what a node holds is moved to those that stay, then it is taken out. Given again it goes on. */
import { setTimeout as delay } from 'node:timers/promises';
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { CommandContext } from '../command.js';
import { type AdminClient, memberOf } from './admin-client.js';
import { Moves } from './moves.js';
import { nodesOf } from './report.js';
import { heldRanges } from './targets.js';

/** Databases that are made meanwhile come to the node, too, and other jobs may have its shards for a while: so often in a row none may go. */
const IDLE_ROUNDS_MAX = 600;
const NEXT_ROUND_MS = 1000;
const NAMED_MAX = 20;

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
  if (leaving.problem !== undefined) await assertHoldsNothing(node, leaving.name, leaving.problem);
  const moves = new Moves(context, node, name);
  try {
    for (let idle = 0; idle < IDLE_ROUNDS_MAX; idle++) {
      if ((await moves.run()) > 0) idle = 0;
      if (await isTakenOut(context, node, name)) return true;
      await delay(NEXT_ROUND_MS, undefined, { signal: context.signal }).catch(() => {});
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
    `${name} still holds shards that do not go: ${moves.lastRefusal ?? 'databases are made all the time'}; give the command again later`,
  );
}

/** A node that is not reached can be taken out only with nothing on it. Throws `UNAVAILABLE`. */
async function assertHoldsNothing(node: AdminClient, name: string, problem: string): Promise<void> {
  const held = await heldRanges(node, name);
  if (held.size === 0) return;
  const databases = [...held.keys()].slice(0, NAMED_MAX).join(', ');
  throw new DivanError(
    'UNAVAILABLE',
    `${name} holds shards of ${held.size} databases (${databases}), which can not be moved while it is not reached: ${problem}`,
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
    if ((await heldRanges(node, name)).size > 0) return false;
    throw node.failure('remove_node', reply);
  }
  process.stdout.write(json ? `${JSON.stringify({ removed: name })}\n` : `${name} is removed\n`);
  return true;
}
