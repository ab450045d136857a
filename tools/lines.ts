/**
 * Reading newline-delimited JSON: lines as views of the chunks they come in, numbered, bounded in length.
 */
import { createReadStream } from 'node:fs';
import { DivanError } from '../engine/errors.js';

/** A line longer than this is refused: a body of 64 MiB with attachments of twice as much fits. */
const LINE_BYTES_MAX = 256 * 1024 * 1024;
/** So much is scanned between two turns of the event loop: a few milliseconds. */
const CHUNK_BYTES = 256 * 1024;
const NEWLINE = 0x0a;

/** Lines of one chunk: `bytes[start, end)` each, numbered from 1. */
export interface Line {
  readonly number: number;
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  /** Bytes read up to the end of this line. */
  readonly read: number;
}

/** Reads a file, or standard input for `-`. Throws `NOT_FOUND`, `IO` or `LIMIT`. */
export async function* readLines(path: string): AsyncGenerator<Line[]> {
  const stream =
    path === '-' ? process.stdin : createReadStream(path, { highWaterMark: CHUNK_BYTES });
  let rest: Uint8Array[] = [];
  let restBytes = 0;
  let number = 0;
  let read = 0;
  try {
    for await (const chunk of stream) {
      if (!(chunk instanceof Uint8Array)) continue;
      const last = chunk.lastIndexOf(NEWLINE);
      if (last < 0) {
        rest.push(chunk);
        restBytes += chunk.length;
        if (restBytes > LINE_BYTES_MAX) throw tooLong(number + 1);
        continue;
      }
      const bytes = rest.length === 0 ? chunk : Buffer.concat([...rest, chunk]);
      const end = restBytes + last + 1;
      const lines = cutLines(bytes, end, number, read);
      number += lines.length;
      read += end;
      rest = end < bytes.length ? [bytes.subarray(end)] : [];
      restBytes = bytes.length - end;
      yield lines;
    }
  } catch (error) {
    throw inputError(path, error);
  }
  if (restBytes > 0) yield cutLines(Buffer.concat([...rest, END]), restBytes + 1, number, read);
}

const END = Buffer.from('\n');

function cutLines(bytes: Uint8Array, length: number, before: number, read: number): Line[] {
  const lines: Line[] = [];
  for (let start = 0; start < length; ) {
    const end = bytes.indexOf(NEWLINE, start);
    lines.push({ number: before + lines.length + 1, bytes, start, end, read: read + end + 1 });
    start = end + 1;
  }
  return lines;
}

function tooLong(number: number): DivanError {
  return new DivanError('LIMIT', `line ${number} is longer than ${LINE_BYTES_MAX} bytes`);
}

function inputError(path: string, error: unknown): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error;
  if (error.code === 'ENOENT') {
    return new DivanError(
      'NOT_FOUND',
      `can not read ${path}: there is no such file`,
      { path },
      error,
    );
  }
  if (error instanceof DivanError) return error;
  return new DivanError('IO', `can not read ${path}: ${error.message}`, { path }, error);
}
