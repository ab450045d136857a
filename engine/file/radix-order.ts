/** Sorting many keys at once, by their first six bytes and then, where these are equal, as a whole. */

const DIGIT_BITS = 12;
const DIGITS = 2 ** DIGIT_BITS;
const PREFIX_BITS = 48;

/**
 * The order of `prefixes`, whole numbers below 2^48: the indexes from the least to the greatest, equal ones as `compare` says
 * and, where that says 0, as they stood. A radix sort, since one that calls back for every pair takes several times as long.
 */
export function orderByPrefix(
  prefixes: Float64Array,
  compare: (a: number, b: number) => number,
): Uint32Array {
  let order = new Uint32Array(prefixes.length);
  for (let index = 0; index < order.length; index++) order[index] = index;
  let spare = new Uint32Array(prefixes.length);
  for (let shift = 0; shift < PREFIX_BITS; shift += DIGIT_BITS) {
    sortByDigit(prefixes, 2 ** shift, order, spare);
    [order, spare] = [spare, order];
  }
  for (let from = 0; from < order.length; ) {
    const to = endOfEqual(prefixes, order, from);
    if (to - from > 1) order.set([...order.subarray(from, to)].sort(compare), from);
    from = to;
  }
  return order;
}

/** Moves indexes from `order` to `out`, stable, by the digit of their prefixes that is worth `weight`. */
function sortByDigit(
  prefixes: Float64Array,
  weight: number,
  order: Uint32Array,
  out: Uint32Array,
): void {
  const digits = new Uint16Array(prefixes.length);
  const next = new Uint32Array(DIGITS + 1);
  for (let index = 0; index < digits.length; index++) {
    const digit = Math.floor((prefixes[index] ?? 0) / weight) % DIGITS;
    digits[index] = digit;
    next[digit + 1] = (next[digit + 1] ?? 0) + 1;
  }
  for (let digit = 1; digit <= DIGITS; digit++) {
    next[digit] = (next[digit] ?? 0) + (next[digit - 1] ?? 0);
  }
  for (let from = 0; from < order.length; from++) {
    const index = order[from] ?? 0;
    const digit = digits[index] ?? 0;
    const at = next[digit] ?? 0;
    next[digit] = at + 1;
    out[at] = index;
  }
}

function endOfEqual(prefixes: Float64Array, order: Uint32Array, from: number): number {
  const prefix = prefixes[order[from] ?? 0];
  let to = from + 1;
  while (to < order.length && prefixes[order[to] ?? 0] === prefix) to++;
  return to;
}
