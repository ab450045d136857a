/**
 * LevelDB, loaded in bulk: large batches of keys in order, a large write buffer, large files, and a sync with the last batch.
 * Bytes are neither encoded nor decoded, nor compressed, as nothing else here compresses.
 */
import { crc32 } from 'node:zlib';
import { ClassicLevel } from 'classic-level';
import { MIDDLE } from './store.js';

const BATCH_BYTES = 1024 * 1024;
const READ_DOCS = 1000;
const BYTES = { keyEncoding: 'view', valueEncoding: 'view' };

/** @param {string} path */
function openStore(path) {
  return new ClassicLevel(path, {
    ...BYTES,
    compression: false,
    writeBufferSize: 64 * 1024 * 1024,
    maxFileSize: 64 * 1024 * 1024,
    blockSize: 16 * 1024,
  });
}

/** Collects entries into batches. */
class Writer {
  #batch;
  #bytes = 0;
  #store;

  /** @param {ClassicLevel<Uint8Array, Uint8Array>} store */
  constructor(store) {
    this.#store = store;
    this.#batch = store.batch();
  }

  /** @param {Uint8Array} key @param {Uint8Array} value */
  put(key, value) {
    this.#batch.put(key, value);
    this.#bytes += key.length + value.length;
    return this.#bytes >= BATCH_BYTES ? this.#write(false) : undefined;
  }

  async close() {
    await this.#write(true);
    await this.#store.close();
  }

  /** @param {boolean} sync */
  async #write(sync) {
    await this.#batch.write({ sync });
    this.#batch = this.#store.batch();
    this.#bytes = 0;
  }
}

/** @param {string} path */
async function openWriter(path) {
  const store = openStore(path);
  await store.open();
  return new Writer(store);
}

/** @type {import('./store.js').Store} */
export const level = {
  async fill(directory, documents) {
    const writer = await openWriter(directory);
    for (const { id, body } of documents) await writer.put(Buffer.from(id), Buffer.from(body));
    await writer.close();
    const store = openStore(directory);
    await store.compactRange(Buffer.alloc(0), Buffer.alloc(64, 255));
    await store.close();
  },

  async split(from, to) {
    const source = openStore(from);
    const writers = [];
    for (const directory of to) writers.push(await openWriter(directory));
    const entries = source.iterator({ fillCache: false, highWaterMarkBytes: BATCH_BYTES });
    for (let read = []; ; ) {
      read = await entries.nextv(READ_DOCS);
      if (read.length === 0) break;
      for (const [key, value] of read) {
        const full = writers[crc32(key) < MIDDLE ? 0 : 1]?.put(key, value);
        if (full !== undefined) await full;
      }
    }
    await entries.close();
    for (const writer of writers) await writer.close();
    await source.close();
  },

  async count(directory) {
    const store = openStore(directory);
    let found = 0;
    for await (const _ of store.keys()) found++;
    await store.close();
    return found;
  },
};
