/**
 * The content encoding of request bodies (RFC 9110, section 8.4): as they are, or gzip.
 *
 * A gzip body is inflated as it comes, and no further than the limit: a few kilobytes may stand for gigabytes. It has to be
 * whole and to be all there is, since what a client appends by mistake would otherwise be lost without a word.
 */
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { DivanError } from '../../engine/errors.js';

const CHUNK_BYTES = 64 * 1024;

/**
 * The body without its content encoding. `contentEncoding` is the header; `bytesMax` limits what gzip is inflated to and says
 * nothing of a body that is not encoded. Throws `UNSUPPORTED_TYPE` at once for another encoding; while it is read,
 * `TOO_LARGE`, `BAD_REQUEST` for what is not one whole gzip, and what `source` throws.
 */
export function inflated(
  source: AsyncIterable<Uint8Array>,
  contentEncoding: string | undefined,
  bytesMax: number,
): AsyncIterable<Uint8Array> {
  const encoding = contentEncoding?.trim().toLowerCase() ?? '';
  if (encoding === '' || encoding === 'identity') return source;
  if (encoding === 'gzip' || encoding === 'x-gzip') return inflate(source, bytesMax);
  throw new DivanError('UNSUPPORTED_TYPE', 'the content encoding must be gzip or identity');
}

async function* inflate(
  source: AsyncIterable<Uint8Array>,
  bytesMax: number,
): AsyncGenerator<Uint8Array> {
  let received = 0;
  const counted = async function* () {
    for await (const chunk of source) {
      received += chunk.length;
      yield chunk;
    }
  };
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  // A failure of either end reaches the loop below through the gunzip, and leaving the loop closes both.
  pipeline(Readable.from(counted(), { objectMode: false }), gunzip, () => {});
  let inflated = 0;
  try {
    for await (const chunk of gunzip) {
      const bytes: Uint8Array = chunk;
      inflated += bytes.length;
      if (inflated > bytesMax) throw tooLarge(bytesMax);
      yield bytes;
    }
  } catch (error) {
    throw isGzipError(error) ? malformed(error) : error;
  }
  // Zeros behind the end are passed over by zlib, which then has taken less than there was.
  if (gunzip.bytesWritten !== received) throw malformed();
}

function isGzipError(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    error.code.startsWith('Z_')
  );
}

function malformed(cause?: unknown): DivanError {
  return new DivanError('BAD_REQUEST', 'the body is not one whole gzip', {}, cause);
}

function tooLarge(bytesMax: number): DivanError {
  return new DivanError('TOO_LARGE', `the body inflates to more than ${bytesMax} bytes`, {
    expected: bytesMax,
  });
}
