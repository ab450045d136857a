/** The baseline: copying files in blocks of 1 MiB to a new one, synced. */
import { closeSync, fdatasyncSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

const BLOCK_BYTES = 1024 * 1024;

export interface CopyOptions {
  /** With a CRC-32 of every block. */
  readonly checked?: boolean;
  /** With an fdatasync at the end. */
  readonly synced?: boolean;
}

/** Copies files one after another into one new file. */
export function copyFiles(
  sources: readonly string[],
  to: string,
  { checked = false, synced = false }: CopyOptions,
): void {
  const block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  const target = openSync(to, 'wx');
  for (const path of sources) {
    const source = openSync(path, 'r');
    for (let length = -1; length !== 0; ) {
      length = readSync(source, block, 0, BLOCK_BYTES, null);
      if (checked) crc32(block.subarray(0, length));
      for (let done = 0; done < length; ) done += writeSync(target, block, done, length - done);
    }
    closeSync(source);
  }
  if (synced) fdatasyncSync(target);
  closeSync(target);
}

/** Seconds that a synced copy takes. It is removed again. */
export function copySeconds(sources: readonly string[], place: string, checked: boolean): number {
  const to = join(place, 'copy');
  const start = performance.now();
  copyFiles(sources, to, { checked, synced: true });
  const seconds = (performance.now() - start) / 1000;
  rmSync(to);
  return seconds;
}

/**
 * Makes a throwaway copy and removes it again, right before something is measured.
 *
 * Memory that was freed may have been taken back by a hypervisor, and then the first to use it again waits for the host to give it:
 * a copy after an idle moment, or after the end of a process, takes several times as long as one right after another copy. That has
 * nothing to do with what is measured, so everything is measured in the same state: with the source in the cache, and as much memory
 * as its copy needs just freed. It isn't synced: its bytes are dropped before they get to the disk.
 */
export function warmUp(sources: readonly string[], place: string): void {
  const to = join(place, 'warm-up');
  copyFiles(sources, to, {});
  rmSync(to);
}
