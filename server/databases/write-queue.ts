/**
 * Writes that nobody waits for (`batch=ok`): they are written in the background, all that wait in one go. Bounded; a crash loses what was
 * not written yet, as whoever asks for this accepts.
 */
import type { DivanError } from '../../engine/errors.js';
import { isDivanError } from '../../engine/errors.js';
import type { EditOutcome } from '../../engine/shard/document-writer.js';
import type { DocumentWrite } from './shard-writer.js';

/** Told of a write that was refused. Must not throw. */
export type WriteRefused = (id: Uint8Array, error: DivanError) => void;

interface QueuedWrite {
  readonly write: DocumentWrite;
  readonly bytes: number;
  readonly refused: WriteRefused;
}

const WRITES_MAX = 1000;
const BYTES_MAX = 16 * 1024 * 1024;

export class WriteQueue {
  readonly #writeAll: (writes: readonly DocumentWrite[]) => Promise<EditOutcome[]>;
  #waiting: QueuedWrite[] = [];
  /** Of those that wait and those that are being written. */
  #count = 0;
  #bytes = 0;
  #running: Promise<void> | undefined;

  constructor(writeAll: (writes: readonly DocumentWrite[]) => Promise<EditOutcome[]>) {
    this.#writeAll = writeAll;
  }

  /** Resolves when the write is in the queue, which takes a while only when it is full. */
  async add(write: DocumentWrite, refused: WriteRefused): Promise<void> {
    const bytes = bytesOf(write);
    while (this.#count >= WRITES_MAX || (this.#count > 0 && this.#bytes + bytes > BYTES_MAX)) {
      await this.#running;
    }
    this.#waiting.push({ write, bytes, refused });
    this.#count++;
    this.#bytes += bytes;
    this.#running ??= this.#writeWaiting();
  }

  /** Resolves when all that was added before is durable or refused. */
  async flush(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  /** Ends in the turn in which it finds that nothing waits: whoever comes later begins anew. */
  async #writeWaiting(): Promise<void> {
    try {
      while (this.#waiting.length > 0) await this.#writePortion();
    } finally {
      this.#running = undefined;
    }
  }

  async #writePortion(): Promise<void> {
    const queued = this.#waiting;
    this.#waiting = [];
    try {
      const outcomes = await this.#writeAll(queued.map(({ write }) => write));
      for (const [index, { write, refused }] of queued.entries()) {
        const outcome = outcomes[index];
        if (outcome?.ok === false) refused(write.id, outcome.error);
      }
    } catch (error) {
      if (!isDivanError(error)) throw error;
      for (const { write, refused } of queued) refused(write.id, error);
    } finally {
      for (const { bytes } of queued) {
        this.#count--;
        this.#bytes -= bytes;
      }
    }
  }
}

/** What a write holds in memory. Bytes in base64 are a view of the text of the request. */
function bytesOf({ id, body, attachments }: DocumentWrite): number {
  let bytes = id.length + body.length;
  for (const { content } of attachments?.values() ?? []) bytes += content?.length ?? 0;
  return bytes;
}
