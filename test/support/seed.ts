/** Seeds of random tests: printed, and settable with DIVAN_SEED. */
import type { Test } from 'tap';

/** The seed for a test, which it prints. */
export function seedOf(t: Test): number {
  const given = process.env['DIVAN_SEED'];
  const seed = given === undefined ? (Math.random() * 0x7fff_ffff) | 0 : Number(given);
  t.comment(`DIVAN_SEED=${seed}`);
  return seed;
}

/** A generator of numbers in [0, 1) that gives the same ones for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A whole number from 0 to `below` - 1. */
export function randomInt(random: () => number, below: number): number {
  return Math.floor(random() * below);
}
