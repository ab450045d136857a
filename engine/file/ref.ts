/**
 * Refs: where a run of bytes stands in a file and what it must hash to (FORMAT.md, "Refs").
 *
 * Whoever points at bytes also vouches for them, so a stale, rotten or misdirected read is found when it is read.
 */
import { crc32 } from 'node:zlib';
import { byteAt, readU32, readU48, writeU32, writeU48 } from './bytes.js';

/** A position in a file, in bytes from its start. */
export type FilePos = number & { readonly __brand: 'FilePos' };

/** Positions take 48 bits in the file. */
export const FILE_LENGTH_MAX = 2 ** 48 - 1;

/** Brands a number as a position. REQUIRES: an integer from 0 to `FILE_LENGTH_MAX`. */
export function filePos(value: number): FilePos {
  return value as FilePos;
}

/** The bytes as they are, without compression: the only codec of this format version. */
export const CODEC_RAW = 0;

export interface Ref {
  readonly pos: FilePos;
  readonly length: number;
  /** CRC-32 of the run. */
  readonly crc: number;
  readonly codec: number;
}

/** A ref takes this many bytes in the file: position u48, length u32, CRC-32 u32, codec u8, all little-endian. */
export const REF_BYTES = 15;
/** Where length and checksum stand in it. */
export const REF_LENGTH_AT = 6;
export const REF_CRC_AT = 10;

/** CRC-32 (zlib, IEEE) of a run of bytes. */
export function checksum(bytes: Uint8Array, start = 0): number {
  return crc32(bytes, start);
}

export function writeRef(bytes: Uint8Array, at: number, ref: Ref): void {
  writeU48(bytes, at, ref.pos);
  writeU32(bytes, at + REF_LENGTH_AT, ref.length);
  writeU32(bytes, at + REF_CRC_AT, ref.crc);
  bytes[at + 14] = ref.codec;
}

export function readRef(bytes: Uint8Array, at: number): Ref {
  return {
    pos: filePos(readU48(bytes, at)),
    length: readU32(bytes, at + REF_LENGTH_AT),
    crc: readU32(bytes, at + REF_CRC_AT),
    codec: byteAt(bytes, at + 14),
  };
}
