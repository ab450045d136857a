/** Many lives of clusters, one after another. */
import { type LifeOptions, playLife } from './cluster-life.js';

export interface LivesInput {
  readonly first: LifeOptions;
  readonly lives: number;
}

export interface LivesResult {
  readonly violations: readonly string[];
  readonly lives: number;
  readonly events: number;
  readonly counts: readonly (readonly [string, number])[];
}

/** Plays lives of seeds that follow one another, until one of them goes wrong. Plain data, for a thread of its own. */
export async function playLives(input: LivesInput): Promise<LivesResult> {
  const counts = new Map<string, number>();
  let events = 0;
  for (let index = 0; index < input.lives; index++) {
    const seed = input.first.seed + index;
    const restores = input.first.restores ?? index % 4 === 3;
    const result = await playLife({ ...input.first, seed, restores });
    events += result.events;
    for (const [name, count] of result.counts) counts.set(name, count + (counts.get(name) ?? 0));
    if (result.violations.length === 0) continue;
    const violations = result.violations.map((text) => `seed ${seed}: ${text}`);
    return { violations, lives: index + 1, events, counts: [...counts] };
  }
  return { violations: [], lives: input.lives, events, counts: [...counts] };
}
