/** Which part of a rewrite each operation in the log of a simulated disk belongs to. */
import { basename } from 'node:path';
import type { LogEntry } from './disk-record.js';

export const REWRITE_PHASES = [
  'writing',
  'checkpointing',
  'finishing',
  'naming',
  'tidying',
  'resuming',
  'discarding',
] as const;
export type RewritePhase = (typeof REWRITE_PHASES)[number];

const CHECKPOINT = /^\..*\.(split|merge|compact)(\.new)?$/;

function isCheckpoint(path: string): boolean {
  return CHECKPOINT.test(basename(path));
}

/** The phases of the operations of one run, from the first of them on. */
export function phasesOf(ops: readonly LogEntry[]): RewritePhase[] {
  const phases: RewritePhase[] = [];
  let phase: RewritePhase = 'writing';
  let checkpointAt = 0;
  for (const [index, { kind, path }] of ops.entries()) {
    if (isNaming(kind, path)) {
      // The checkpoint before the names is the one that says so.
      if (phase !== 'naming') phases.fill('finishing', checkpointAt);
      phase = 'naming';
    } else if (phase === 'naming' && kind === 'remove') phase = 'tidying';
    else if (isCheckpoint(path) && kind === 'create') {
      phase = 'checkpointing';
      checkpointAt = index;
    }
    phases.push(phase);
    if (phase === 'checkpointing' && kind === 'directory-synced') phase = 'writing';
  }
  return phases;
}

function isNaming(kind: LogEntry['kind'], path: string): boolean {
  return kind === 'link' || (kind === 'rename' && !isCheckpoint(path));
}
