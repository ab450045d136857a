/** How fast a rewrite may write, as people say it. */

const UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['k', 1e3],
  ['m', 1e6],
  ['g', 1e9],
]);

/** A slower rewrite would hardly come to an end. */
export const RATE_MIN = 1024;
/** What a text of a rate is to be, to stand after "a rate". */
export const RATE_EXPECTS = 'such as 500kB/s, 50MB/s or 1GB/s';

/** Bytes a second, from a text such as `50MB/s`; undefined for one that is none, or too few. */
export function parseRate(text: string): number | undefined {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?) *([kmg]?)b?(?:\/s)?$/i.exec(text) ?? [];
  const rate = Math.floor(Number(number) * (UNITS.get(unit.toLowerCase()) ?? 0));
  return rate >= RATE_MIN && Number.isSafeInteger(rate) ? rate : undefined;
}
