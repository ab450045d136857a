/**
 * LMDB, loaded in bulk: large transactions that append keys in order, without syncs, and the files are synced
 * when they are complete. Keys and values are bytes, so that nothing is encoded or decoded.
 */
import { crc32 } from 'node:zlib';
import { open } from 'lmdb';
import { MIDDLE } from './store.js';

const BATCH = 5000;

/** @param {string} path @param {object} [options] */
function openStore(path, options) {
  return open({
    path,
    encoding: 'binary',
    keyEncoding: 'binary',
    noSync: true,
    noSubdir: false,
    ...options,
  });
}

/** @type {import('./store.js').Store} */
export const lmdb = {
  async fill(directory, documents) {
    const store = openStore(directory);
    store.transactionSync(() => {
      for (const { id, body } of documents) {
        store.putSync(Buffer.from(id), Buffer.from(body), { append: true });
      }
    });
    await store.close();
  },

  async split(from, to) {
    const source = openStore(from, { readOnly: true });
    const targets = to.map((directory) => openStore(directory));
    const append = { append: true };
    /** @type {{ key: Buffer, value: Buffer }[][]} */
    const batches = [[], []];
    const write = (/** @type {number} */ index) => {
      const target = targets[index];
      target?.transactionSync(() => {
        for (const { key, value } of batches[index] ?? []) target.putSync(key, value, append);
      });
      batches[index] = [];
    };
    for (const { key, value } of source.getRange()) {
      const index = crc32(key) < MIDDLE ? 0 : 1;
      const batch = batches[index];
      if (batch !== undefined && batch.push({ key, value }) >= BATCH) write(index);
    }
    write(0);
    write(1);
    for (const store of [source, ...targets]) await store.close();
  },

  async count(directory) {
    const store = openStore(directory, { readOnly: true });
    const found = store.getKeysCount();
    await store.close();
    return found;
  },
};
