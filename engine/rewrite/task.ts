/** The tasks that workers perform, and dividing a rewrite into them. */
import type { Storage } from '../file/storage.js';
import { type DigestState, type DigestTask, digest } from './digest.js';
import type { JobFiles } from './job-files.js';
import { type RewriteControl, type RewriteResult, type RewriteTask, rewrite } from './pipeline.js';
import type { RewritePlan } from './plan.js';
import type { TargetState } from './target.js';

/** Plain data: it travels between threads. */
export type Task = { readonly rewrite: RewriteTask } | { readonly digest: DigestTask };

export interface TaskResult {
  /** Of the targets of a rewrite. */
  readonly rewritten: readonly RewriteResult[];
  readonly digest: DigestState | undefined;
}

export async function performTask(
  storage: Storage,
  task: Task,
  control: RewriteControl,
  onDigest: ((state: DigestState) => void) | undefined,
): Promise<TaskResult> {
  if ('digest' in task) {
    return { rewritten: [], digest: await digest(storage, task.digest, control, onDigest) };
  }
  return { rewritten: await rewrite(storage, task.rewrite, control), digest: undefined };
}

/**
 * Tasks for all targets of a plan. Targets that are equally far can share a task, and so a pass over the sources; they are divided
 * until there are `workers` tasks, if there are targets enough.
 */
export function rewriteTasks(
  plan: RewritePlan,
  files: JobFiles,
  states: readonly TargetState[],
  workers: number,
): Task[] {
  const stateOf = new Map(states.map((state) => [state.index, state]));
  const groups = new Map<string, number[]>();
  for (const index of plan.targets.keys()) {
    const key = placeOf(stateOf.get(index));
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [index]);
    else group.push(index);
  }
  return divide([...groups.values()], workers).map((group) => {
    const targets = group.map((index) => ({
      index,
      path: files.targets[index]?.temporaryPath ?? '',
      state: stateOf.get(index),
    }));
    return { rewrite: { plan, sourcePaths: files.sourcePaths, targets } };
  });
}

/** How far a target is, as a text that is the same for those that are equally far. */
function placeOf(state: TargetState | undefined): string {
  if (state === undefined) return 'new';
  return `${state.roots.length} ${Buffer.from(state.cursor ?? []).toString('hex')}`;
}

/** Halves the largest groups until there are `count`. */
function divide(groups: number[][], count: number): number[][] {
  const divided = [...groups];
  while (divided.length < count) {
    divided.sort((a, b) => b.length - a.length);
    const [largest = [], ...others] = divided;
    if (largest.length < 2) break;
    const half = Math.ceil(largest.length / 2);
    divided.splice(0, divided.length, ...others, largest.slice(0, half), largest.slice(half));
  }
  return divided;
}
