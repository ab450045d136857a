/** Many lives of clusters, one after another. */
import { type LifeOptions, type LifeResult, playLife } from './cluster-life.js';
import { playWholeLife, type WholeLifeOptions } from './whole-life.js';

export interface LivesInput {
  readonly first: LifeOptions;
  readonly lives: number;
}

export interface WholeLivesInput {
  readonly first: WholeLifeOptions;
  readonly lives: number;
}

export interface LivesResult {
  readonly violations: readonly string[];
  readonly lives: number;
  readonly events: number;
  readonly counts: readonly (readonly [string, number])[];
}

/** Plays lives of seeds that follow one another, until one of them goes wrong. Plain data, for a thread of its own. */
export function playLives({ first, lives }: LivesInput): Promise<LivesResult> {
  return playMany(first.seed, lives, (seed, index) => {
    const restores = first.restores ?? index % 4 === 3;
    return playLife({ ...first, seed, restores });
  });
}

/** As `playLives`, of clusters of whole servers. */
export function playWholeLives({ first, lives }: WholeLivesInput): Promise<LivesResult> {
  return playMany(first.seed, lives, (seed) => playWholeLife({ ...first, seed }));
}

async function playMany(
  firstSeed: number,
  lives: number,
  play: (seed: number, index: number) => Promise<LifeResult>,
): Promise<LivesResult> {
  const counts = new Map<string, number>();
  let events = 0;
  for (let index = 0; index < lives; index++) {
    const seed = firstSeed + index;
    const result = await play(seed, index);
    events += result.events;
    for (const [name, count] of result.counts) counts.set(name, count + (counts.get(name) ?? 0));
    if (result.violations.length === 0) continue;
    const violations = result.violations.map((text) => `seed ${seed}: ${text}`);
    return { violations, lives: index + 1, events, counts: [...counts] };
  }
  return { violations: [], lives, events, counts: [...counts] };
}
