/**
 * SQLite, loaded in bulk: one transaction without a journal and without syncs, ids in order so that pages are filled from left to
 * right, and the files are synced when they are complete.
 */
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import Database from 'better-sqlite3';
import { MIDDLE } from './store.js';

const FILE = 'docs.sqlite';
/** Of the attached targets. */
const NAMES = ['first', 'second'];
const CACHE_KIB = 64 * 1024;
const MMAP_BYTES = 2 ** 40;
/** Of an ordinary table with an index on the id large bodies are better off: without row ids they would thin out the inner pages. */
const LARGE_BYTES = 1024;

/** @param {string} path @param {number} size */
function create(path, size) {
  const database = new Database(path);
  database.pragma(`page_size = ${size > LARGE_BYTES ? 16_384 : 8192}`);
  tune(database);
  const rowid = size > LARGE_BYTES ? '' : 'WITHOUT ROWID';
  database.exec(`CREATE TABLE docs (id TEXT PRIMARY KEY, body TEXT NOT NULL) ${rowid}`);
  return database;
}

/** @param {Database.Database} database @param {string} [name] of an attached database */
function tune(database, name = 'main') {
  database.pragma(`${name}.journal_mode = OFF`);
  database.pragma(`${name}.synchronous = OFF`);
  database.pragma(`${name}.locking_mode = EXCLUSIVE`);
  database.pragma(`${name}.cache_size = -${CACHE_KIB}`);
  database.pragma(`${name}.mmap_size = ${MMAP_BYTES}`);
}

/** @type {import('./store.js').Store} */
export const sqlite = {
  async fill(directory, documents, size) {
    const database = create(join(directory, FILE), size);
    const insert = database.prepare('INSERT INTO docs VALUES (?, ?)');
    database.exec('BEGIN');
    for (const { id, body } of documents) insert.run(id, body);
    database.exec('COMMIT');
    database.close();
  },

  async split(from, to, size) {
    for (const directory of to) create(join(directory, FILE), size).close();
    const database = new Database(join(from, FILE));
    tune(database);
    const hash = (/** @type {string} */ id) => crc32(id);
    database.function('crc32', { deterministic: true, directOnly: true }, hash);
    for (const [index, directory] of to.entries()) {
      database.prepare('ATTACH ? AS ?').run(join(directory, FILE), NAMES[index]);
      tune(database, NAMES[index]);
    }
    // Each reads the whole source: that takes half the time of handing every body to JavaScript and back.
    database.exec('BEGIN');
    const rows = 'SELECT id, body FROM main.docs';
    database.exec(`INSERT INTO first.docs ${rows} WHERE crc32(id) < ${MIDDLE} ORDER BY id`);
    database.exec(`INSERT INTO second.docs ${rows} WHERE crc32(id) >= ${MIDDLE} ORDER BY id`);
    database.exec('COMMIT');
    database.close();
  },

  async count(directory) {
    const database = new Database(join(directory, FILE), { readonly: true });
    const found = database.prepare('SELECT count(*) FROM docs').pluck().get();
    database.close();
    return Number(found);
  },
};
