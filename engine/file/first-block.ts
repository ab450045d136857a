/**
 * The first block of a shard file and its two length witnesses: FORMAT.md section 4.
 */
import { DivanError } from '../errors.js';
import { readU16, readU32, readU48, writeU16, writeU32, writeU48 } from './bytes.js';
import { checksum, type FilePos, filePos } from './ref.js';

export const FORMAT_VERSION = 1;
/** Commits start here: after the first block and both witnesses. */
export const DATA_START = filePos(12_288);
export const FILE_ID_BYTES = 16;
export const SALT_BYTES = 16;

const BLOCK_BYTES = 512;
const MAGIC = Buffer.from([0x89, 0x44, 0x49, 0x56, 0x41, 0x4e, 0x0d, 0x0a]);
const CRC_AT = 508;
/** Far enough apart that no two of first block and witnesses share a sector of 4 KiB. */
const WITNESS_AT = [4096, 8192] as const;
const WITNESS_CRC_AT = 30;

/** What the first block says. */
export interface FirstBlock {
  /** 16 random bytes, new for every file. */
  readonly fileId: Uint8Array;
  /** 16 secret random bytes; marks of records and runs are taken from them. */
  readonly salt: Uint8Array;
}

/** The eight bytes that begin every commit record of this file. */
export function recordMark(block: FirstBlock): Buffer {
  return Buffer.from(block.salt.subarray(0, 8));
}

/** The four bytes that begin the salvage frame of every tree node and state of this file. */
export function runMark(block: FirstBlock): Buffer {
  return Buffer.from(block.salt.subarray(8, 12));
}

/** The first `DATA_START` bytes of a new file: the first block and two witnesses that say nothing yet. */
export function encodeFirstBlock(block: FirstBlock): Uint8Array {
  const bytes = new Uint8Array(DATA_START);
  bytes.set(MAGIC, 0);
  writeU16(bytes, 8, FORMAT_VERSION);
  bytes.set(block.fileId, 24);
  bytes.set(block.salt, 40);
  writeU32(bytes, CRC_AT, checksum(bytes.subarray(0, CRC_AT)));
  return bytes;
}

/**
 * Reads the first `DATA_START` bytes of a file.
 * Throws `NOT_A_SHARD`, `CORRUPT` or `FORMAT_VERSION`; a set read-only compatible bit refuses only writers.
 */
export function decodeFirstBlock(bytes: Uint8Array, path: string, forWriting: boolean): FirstBlock {
  if (bytes.length < DATA_START || MAGIC.compare(bytes, 0, MAGIC.length) !== 0) {
    throw new DivanError('NOT_A_SHARD', `${path} is not a Divan shard file`, { path });
  }
  const version = readU16(bytes, 8);
  if (version !== FORMAT_VERSION) {
    throw new DivanError(
      'FORMAT_VERSION',
      `${path} has format version ${version}; this program knows version ${FORMAT_VERSION}`,
      { path, expected: FORMAT_VERSION, actual: version },
    );
  }
  if (readU32(bytes, CRC_AT) !== checksum(bytes.subarray(0, CRC_AT))) {
    throw new DivanError('CORRUPT', `the first block of ${path} is damaged`, { path, pos: 0 });
  }
  if (readU32(bytes, 20) !== 0 || (forWriting && readU32(bytes, 16) !== 0)) {
    throw new DivanError(
      'FORMAT_VERSION',
      `${path} uses features that this program does not know`,
      {
        path,
      },
    );
  }
  return { fileId: bytes.slice(24, 40), salt: bytes.slice(40, 56) };
}

/** What the valid witnesses of a file say together. */
export interface Witness {
  /** The count of the newest valid slot; -1 when none is valid. */
  readonly count: number;
  /** The end of a commit that was durable. */
  readonly length: FilePos;
  /** The generation that wrote it. */
  readonly generation: number;
}

/** The slot for a count, as its position and bytes. */
export function encodeWitness(
  block: FirstBlock,
  witness: Witness,
): { pos: FilePos; bytes: Uint8Array } {
  const bytes = new Uint8Array(WITNESS_CRC_AT + 4);
  writeU32(bytes, 0, witness.count);
  writeU48(bytes, 4, witness.length);
  bytes.set(block.fileId, 10);
  writeU32(bytes, 26, witness.generation);
  writeU32(bytes, WITNESS_CRC_AT, checksum(bytes.subarray(0, WITNESS_CRC_AT)));
  return { pos: filePos(WITNESS_AT[witness.count % 2 === 0 ? 0 : 1]), bytes };
}

/** Reads both slots from the first `DATA_START` bytes; a damaged slot says nothing. */
export function decodeWitness(bytes: Uint8Array, block: FirstBlock): Witness {
  let count = -1;
  let length = 0;
  let generation = 0;
  for (const at of WITNESS_AT) {
    const slot = bytes.subarray(at, at + BLOCK_BYTES);
    const whole = readU32(slot, WITNESS_CRC_AT) === checksum(slot.subarray(0, WITNESS_CRC_AT));
    if (!whole || Buffer.compare(slot.subarray(10, 10 + FILE_ID_BYTES), block.fileId) !== 0)
      continue;
    count = Math.max(count, readU32(slot, 0));
    length = Math.max(length, readU48(slot, 4));
    generation = Math.max(generation, readU32(slot, 26));
  }
  return { count, length: filePos(length), generation };
}
