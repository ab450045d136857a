/**
 * SQLite, loaded in bulk: one transaction without a journal and without syncs, ids in order so that pages are filled from left to
 * right, and the files are synced when they are complete.
 */
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import Database from 'better-sqlite3';
import { MIDDLE } from './store.js';

const SOURCE = 'source.sqlite';
const CACHE_KIB = 64 * 1024;
const MMAP_BYTES = 2 ** 40;
/** Of an ordinary table with an index on the id large bodies are better off: without row ids they would thin out the inner pages. */
const LARGE_BYTES = 1024;

/** @param {string} path @param {string} table @param {number} size */
function create(path, table, size) {
  const database = new Database(path);
  database.pragma(`page_size = ${size > LARGE_BYTES ? 16_384 : 8192}`);
  tune(database);
  const rowid = size > LARGE_BYTES ? '' : 'WITHOUT ROWID';
  database.exec(`CREATE TABLE ${table} (id TEXT PRIMARY KEY, body TEXT NOT NULL) ${rowid}`);
  return database;
}

/** @param {Database.Database} database */
function tune(database) {
  database.pragma('journal_mode = OFF');
  database.pragma('synchronous = OFF');
  database.pragma('locking_mode = EXCLUSIVE');
  database.pragma(`cache_size = -${CACHE_KIB}`);
  database.pragma(`mmap_size = ${MMAP_BYTES}`);
}

/** @type {import('./store.js').Store} */
export const sqlite = {
  async fill(directory, documents, size) {
    const database = create(join(directory, SOURCE), 'docs', size);
    const insert = database.prepare('INSERT INTO docs VALUES (?, ?)');
    database.exec('BEGIN');
    for (const { id, body } of documents) insert.run(id, body);
    database.exec('COMMIT');
    database.close();
  },

  async split(from, to, size) {
    const source = new Database(join(from, SOURCE), { readonly: true });
    source.pragma(`mmap_size = ${MMAP_BYTES}`);
    const targets = to.map((directory) => create(join(directory, SOURCE), 'docs', size));
    const inserts = targets.map((target) => target.prepare('INSERT INTO docs VALUES (?, ?)'));
    for (const target of targets) target.exec('BEGIN');
    const rows = source.prepare('SELECT id, body FROM docs ORDER BY id').raw().iterate();
    for (const [id, body] of rows) inserts[crc32(id) < MIDDLE ? 0 : 1]?.run(id, body);
    for (const target of targets) {
      target.exec('COMMIT');
      target.close();
    }
    source.close();
  },

  async count(directory) {
    const database = new Database(join(directory, SOURCE), { readonly: true });
    const found = database.prepare('SELECT count(*) FROM docs').pluck().get();
    database.close();
    return Number(found);
  },
};
