/**
 * The CRC-32 of two runs one after the other, from the CRC-32 of each: so that many small runs that adjoin are checked with one
 * look at their bytes instead of one call each, which costs as much as the bytes of a small run themselves.
 *
 * A CRC is linear over GF(2): to append `n` bytes is a linear map of the CRC so far, xor the CRC of what is appended (as in
 * `crc32_combine` of zlib by Mark Adler). The map is looked up byte by byte in tables, which are made when they are first needed.
 */

/** Reversed polynomial of CRC-32 (IEEE). */
const POLYNOMIAL = 0xedb8_8320;

/** Lengths are taken in two digits of six bits, with a table for each digit. */
const DIGIT_BITS = 6;
const DIGITS = 2 ** DIGIT_BITS;

/** The longest run that can be appended: longer ones are worth a call of their own. */
export const JOINED_BYTES_MAX = DIGITS * DIGITS - 1;

/** What each bit of a CRC becomes. */
type LinearMap = Uint32Array;

/** A linear map as four tables, one for each byte of a CRC. */
type MapTable = Int32Array;

const tables: (MapTable | undefined)[] = [];

/** The CRC-32 of a run with the CRC `first` and one with the CRC `second` behind it. REQUIRES: `secondLength` <= `JOINED_BYTES_MAX`. */
export function joinChecksums(first: number, second: number, secondLength: number): number {
  const low = secondLength & (DIGITS - 1);
  const high = secondLength >>> DIGIT_BITS;
  let crc = first;
  if (low > 0) crc = apply(tables[low] ?? makeTable(low, low), crc);
  if (high > 0) crc = apply(tables[DIGITS + high] ?? makeTable(DIGITS + high, high * DIGITS), crc);
  return (crc ^ second) >>> 0;
}

function apply(table: MapTable, crc: number): number {
  return (
    at(table, crc & 0xff) ^
    at(table, 0x100 | ((crc >>> 8) & 0xff)) ^
    at(table, 0x200 | ((crc >>> 16) & 0xff)) ^
    at(table, 0x300 | (crc >>> 24))
  );
}

function at(table: MapTable, index: number): number {
  return table[index] ?? 0;
}

/** The table of appending `bytes` zero bytes, kept at `index`. */
function makeTable(index: number, bytes: number): MapTable {
  const map = appending(bytes);
  const table = new Int32Array(0x400);
  for (let entry = 0; entry < table.length; entry++) {
    table[entry] = image(map, (entry & 0xff) << (8 * (entry >>> 8)));
  }
  tables[index] = table;
  return table;
}

/** The map of appending so many zero bytes, by squaring. */
function appending(bytes: number): LinearMap {
  let map = Uint32Array.from({ length: 32 }, (_, bit) => 2 ** bit);
  let power = appendingOneByte();
  for (let left = bytes; left > 0; left >>>= 1) {
    if ((left & 1) === 1) map = map.map((column) => image(power, column));
    power = power.map((column) => image(power, column));
  }
  return map;
}

function appendingOneByte(): LinearMap {
  return Uint32Array.from({ length: 32 }, (_, bit) => {
    let crc = 2 ** bit;
    for (let step = 0; step < 8; step++) {
      crc = (crc & 1) === 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    }
    return crc >>> 0;
  });
}

function image(map: LinearMap, crc: number): number {
  let result = 0;
  for (let bit = 0, left = crc; left !== 0; bit++, left >>>= 1) {
    if ((left & 1) === 1) result ^= map[bit] ?? 0;
  }
  return result >>> 0;
}
