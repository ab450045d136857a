/** From start and end keys to a range of ids in a tree. */
import type { KeyRange } from '../../engine/btree/tree.js';
import type { JsonValue } from '../http/json-value.js';
import type { ListQuery } from './list-query.js';

/** An end of a range: beyond all ids on either side, or an id. */
type Bound = 'before' | 'after' | Uint8Array;

/**
 * The ids of a query that begin with `prefix`; undefined if there can be none. The keys of the tree lack `hiddenPrefix`.
 */
export function idRange(
  query: Pick<ListQuery, 'startKey' | 'endKey' | 'inclusiveEnd' | 'descending'>,
  prefix: string,
  hiddenPrefix: string,
): KeyRange | undefined {
  const { startKey, endKey, inclusiveEnd, descending } = query;
  const [lowKey, highKey] = descending ? [endKey, startKey] : [startKey, endKey];
  const low = lowKey === undefined ? 'before' : boundOf(lowKey, hiddenPrefix);
  const high = highKey === undefined ? 'after' : boundOf(highKey, hiddenPrefix);
  if (low === 'after' || high === 'before') return undefined;
  const from = low === 'before' ? Buffer.from(prefix) : later(low, Buffer.from(prefix));
  // The end of a descending list is its low end.
  const isFromExcluded = descending && !inclusiveEnd && from === low;
  const beyond = endOf(prefix);
  const isHighLast = high !== 'after' && (beyond === undefined || Buffer.compare(high, beyond) < 0);
  const to = isHighLast ? high : beyond;
  const isToExcluded = !isHighLast || (!descending && !inclusiveEnd);
  const range: KeyRange = {
    ...(isFromExcluded ? { gt: from } : { gte: from }),
    ...(to === undefined ? undefined : isToExcluded ? { lt: to } : { lte: to }),
    reverse: descending,
  };
  return isEmpty(range) ? undefined : range;
}

/** Where a key stands among ids. CouchDB orders null, booleans and numbers before strings, arrays and objects after them. */
function boundOf(key: JsonValue, hiddenPrefix: string): Bound {
  if (typeof key !== 'string') return typeof key === 'object' && key !== null ? 'after' : 'before';
  if (key.startsWith(hiddenPrefix)) return Buffer.from(key.slice(hiddenPrefix.length));
  return key < hiddenPrefix ? 'before' : 'after';
}

function later(a: Uint8Array, b: Uint8Array): Uint8Array {
  return Buffer.compare(a, b) >= 0 ? a : b;
}

/** The first text after all that begin with `prefix`; undefined if there is none. */
function endOf(prefix: string): Uint8Array | undefined {
  if (prefix === '') return undefined;
  const end = Buffer.from(prefix);
  end[end.length - 1] = (end[end.length - 1] ?? 0) + 1;
  return end;
}

function isEmpty({ gt, gte, lt, lte }: KeyRange): boolean {
  const low = gt ?? gte;
  const high = lt ?? lte;
  if (low === undefined || high === undefined) return false;
  const order = Buffer.compare(low, high);
  return order > 0 || (order === 0 && (gt !== undefined || lt !== undefined));
}
