/**
 * The commit record: FORMAT.md section 6. Pure encoding and decoding; what records mean together is the business of
 * `append-file.ts` (writing) and `recovery.ts` (reading).
 */
import { byteAt, readU32, readU48, writeU32, writeU48 } from './bytes.js';
import { DATA_START } from './first-block.js';
import { checksum, type FilePos, filePos, type Ref, readRef, writeRef } from './ref.js';

export const RECORD_BYTES = 96;
/** A commit that refers to nothing outside itself takes at most this many bytes. */
export const SMALL_COMMIT_BYTES_MAX = 8 * 1024 * 1024;

export const RECORD_KINDS = { changes: 1, flush: 2, seal: 3, open: 4 } as const;
export type RecordKind = keyof typeof RECORD_KINDS;

const KIND_NAMES: ReadonlyMap<number, RecordKind> = new Map([
  [RECORD_KINDS.changes, 'changes'],
  [RECORD_KINDS.flush, 'flush'],
  [RECORD_KINDS.seal, 'seal'],
  [RECORD_KINDS.open, 'open'],
]);

export interface CommitRecord {
  readonly kind: RecordKind;
  readonly generation: number;
  /** Where this record stands; its commit ends `RECORD_BYTES` later. */
  readonly pos: FilePos;
  /** Where its commit starts. */
  readonly start: FilePos;
  /** Position and CRC of the record before; both 0 in the first of a file. */
  readonly previousPos: FilePos;
  readonly previousCrc: number;
  /** Invariant I3. */
  readonly durable: FilePos;
  /** Change lists of records at or after this position are not in the state. */
  readonly replayFrom: FilePos;
  readonly changesLength: number;
  readonly changesCrc: number;
  /** CRC-32 from `start` to `pos`. */
  readonly contentCrc: number;
  readonly state: Ref;
  /** CRC-32 of this record: what the next one names. */
  readonly crc: number;
}

/** The position after a record and its commit. */
export function recordEnd(record: CommitRecord): FilePos {
  return filePos(record.pos + RECORD_BYTES);
}

/** Writes a record into `bytes` at `at` and returns it with its CRC. */
export function encodeRecord(
  bytes: Uint8Array,
  at: number,
  mark: Uint8Array,
  record: Omit<CommitRecord, 'crc'>,
): CommitRecord {
  const out = bytes.subarray(at, at + RECORD_BYTES);
  out.fill(0);
  out.set(mark, 0);
  out[12] = RECORD_KINDS[record.kind];
  writeU32(out, 16, record.generation);
  writeU48(out, 20, record.pos);
  writeU48(out, 26, record.start);
  writeU48(out, 32, record.previousPos);
  writeU32(out, 38, record.previousCrc);
  writeU48(out, 42, record.durable);
  writeU48(out, 48, record.replayFrom);
  writeU32(out, 54, record.changesLength);
  writeU32(out, 58, record.changesCrc);
  writeU32(out, 62, record.contentCrc);
  writeRef(out, 66, record.state);
  const crc = checksum(out.subarray(12));
  writeU32(out, 8, crc);
  return { ...record, crc };
}

/**
 * Reads the record that stands at file position `pos` from `bytes` at `at`; undefined if none does: a wrong mark or CRC, a
 * record of another position, or fields that contradict one another.
 */
export function decodeRecord(
  bytes: Uint8Array,
  at: number,
  mark: Uint8Array,
  pos: number,
): CommitRecord | undefined {
  if (at < 0 || at + RECORD_BYTES > bytes.length) return undefined;
  const input = bytes.subarray(at, at + RECORD_BYTES);
  if (Buffer.compare(input.subarray(0, mark.length), mark) !== 0) return undefined;
  const crc = readU32(input, 8);
  const kind = KIND_NAMES.get(byteAt(input, 12));
  if (crc !== checksum(input.subarray(12)) || kind === undefined) return undefined;
  const record: CommitRecord = {
    kind,
    generation: readU32(input, 16),
    pos: filePos(readU48(input, 20)),
    start: filePos(readU48(input, 26)),
    previousPos: filePos(readU48(input, 32)),
    previousCrc: readU32(input, 38),
    durable: filePos(readU48(input, 42)),
    replayFrom: filePos(readU48(input, 48)),
    changesLength: readU32(input, 54),
    changesCrc: readU32(input, 58),
    contentCrc: readU32(input, 62),
    state: readRef(input, 66),
    crc,
  };
  return record.pos === pos && isConsistent(record) ? record : undefined;
}

/** What holds of every record that a writer writes, so that no arithmetic on a forged one goes astray. */
function isConsistent(record: CommitRecord): boolean {
  return (
    record.start >= DATA_START &&
    record.start + record.changesLength <= record.pos &&
    record.durable <= record.start &&
    record.previousPos < record.start &&
    (record.previousPos === 0 || record.previousPos + RECORD_BYTES <= record.durable) &&
    record.state.pos + record.state.length <= record.pos
  );
}
