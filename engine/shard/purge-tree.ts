/**
 * Purge infos: what was purged, so that other copies and indexes can purge it too. The trees `purge-by-seq` and
 * `purge-by-uuid` of FORMAT.md section 9.
 */
import type { TreeShape } from '../btree/tree.js';
import { pack, unpack } from '../file/pack.js';

export const PURGE_REVS_MAX = 1000;
export const PURGE_UUID_BYTES_MAX = 64;

export interface PurgeInfo {
  readonly uuid: Uint8Array;
  readonly id: string;
  /** The revisions that were asked to be purged, as text. */
  readonly revs: readonly string[];
}

function countingShape(name: string): TreeShape {
  return {
    name,
    measures: 1,
    measure(_bytes, _keyStart, _keyEnd, _end, totals) {
      totals[0] = (totals[0] ?? 0) + 1;
    },
  };
}

export const purgeBySeqShape = countingShape('purge-by-seq');
export const purgeByUuidShape = countingShape('purge-by-uuid');

export function encodePurgeInfo(info: PurgeInfo): Uint8Array {
  return pack([info.uuid, info.id, info.revs]);
}

/** Throws `CORRUPT`. */
export function decodePurgeInfo(value: Uint8Array): PurgeInfo {
  const parts = unpack(value);
  return {
    uuid: parts.binary(),
    id: parts.text(),
    revs: parts.array().each((rev) => rev.text()),
  };
}
