/** Seeds of random tests: printed, and settable with DIVAN_SEED. */
import type { Test } from 'tap';

export { seededRandom } from '../../fixtures/random.js';

/** The seed for a test, which it prints: any, or `usual` for what is to be the same in every run. */
export function seedOf(t: Test, usual = (Math.random() * 0x7fff_ffff) | 0): number {
  const given = process.env['DIVAN_SEED'];
  const seed = given === undefined ? usual : Number(given);
  t.comment(`DIVAN_SEED=${seed}`);
  return seed;
}

/** A whole number from 0 to `below` - 1. */
export function randomInt(random: () => number, below: number): number {
  return Math.floor(random() * below);
}
