/** The baseline: copying a file in blocks of 1 MiB to a new one, synced. */
import { closeSync, fdatasyncSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';

const BLOCK_BYTES = 1024 * 1024;

/** Seconds it took. The copy is removed again. */
export function copySeconds(from: string, to: string, checked: boolean): number {
  const block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  const start = performance.now();
  const source = openSync(from, 'r');
  const target = openSync(to, 'wx');
  for (let length = -1; length !== 0; ) {
    length = readSync(source, block, 0, BLOCK_BYTES, null);
    if (checked) crc32(block.subarray(0, length));
    for (let done = 0; done < length; ) done += writeSync(target, block, done, length - done);
  }
  fdatasyncSync(target);
  closeSync(source);
  closeSync(target);
  const seconds = (performance.now() - start) / 1000;
  rmSync(to);
  return seconds;
}
