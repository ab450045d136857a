/** Nodes that kill themselves at a call that changes something durable, as `serve-and-kill.ts` does when it is signalled. */
import { rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ClusterProcess, NodeProcessOptions } from './cluster-process.js';

/** A call by its number, and when the process is killed. */
export interface KillCall {
  readonly call: number;
  readonly when: 'before' | 'after';
}

const PROGRAM = join(dirname(fileURLToPath(import.meta.url)), 'serve-and-kill.js');

/** How a node is started that takes such orders. */
export function killable(settings: Readonly<Record<string, string>> = {}): NodeProcessOptions {
  return { program: PROGRAM, settings: { ...settings, DIVAN_TEST_KILL_BY: 'signal' } };
}

/** Has a node kill itself at a call that is counted from now on. REQUIRES: it is killable, and runs. */
export async function arm(node: ClusterProcess, { call, when }: KillCall): Promise<void> {
  const path = `${node.dataDir}.kill`;
  writeFileSync(path, `${call} ${when}`);
  try {
    await node.signal('SIGUSR2', /counting/);
  } finally {
    rmSync(path);
  }
}

/** How many calls there were since a node was armed; it goes on. */
export async function countedCalls(node: ClusterProcess): Promise<number> {
  await arm(node, { call: 0, when: 'before' });
  const last = node.log.match(/counted \d+ calls/g)?.at(-1);
  return Number(last?.split(' ')[1]);
}
