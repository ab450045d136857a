/** Scanning documents of requests without holding up others. */
import type { Host } from '../../engine/file/host.js';
import { DocumentScanner, type ScannedDocument } from '../../engine/shard/document.js';
import { SCAN_SLICE_BYTES } from '../../engine/shard/json-text.js';

/**
 * Scans the document `source[start, end)`: a small one at once by `scanner`, whose result is valid until its next scan; a large one in
 * slices, between which others have their turn. Throws `INVALID_JSON`, `INVALID_DOCUMENT`, `LIMIT`.
 */
export function scanDocument(
  host: Host,
  scanner: DocumentScanner,
  source: Uint8Array,
  start = 0,
  end = source.length,
): ScannedDocument | Promise<ScannedDocument> {
  if (end - start <= SCAN_SLICE_BYTES) return scanner.scan(source, start, end);
  return scanInSlices(host, source, start, end);
}

/** With a scanner of its own, whose large buffers go with it. */
async function scanInSlices(
  host: Host,
  source: Uint8Array,
  start: number,
  end: number,
): Promise<ScannedDocument> {
  const slices = new DocumentScanner().scanInSlices(source, start, end);
  for (;;) {
    const slice = slices.next();
    if (slice.done === true) return slice.value;
    await host.yieldTurn();
  }
}
