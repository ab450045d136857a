/**
 * A program: `node peer.js fill NAME STORE DOCS SIZE` makes a store, `node peer.js split NAME STORE PLACE DOCS SIZE` splits one into two
 * and prints what it took as JSON. The bench is compiled first: documents and meter are those of Divan.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UsageMeter } from '../../dist/bench/usage.js';
import { syntheticLines } from '../../dist/fixtures/synthetic.js';

/** Loads only the peer that is asked for. @param {string} name @returns {Promise<import('./store.js').Store>} */
async function storeOf(name) {
  if (name === 'better-sqlite3') return (await import('./sqlite.js')).sqlite;
  if (name === 'lmdb') return (await import('./lmdb.js')).lmdb;
  if (name === 'classic-level') return (await import('./level.js')).level;
  throw new TypeError(`there is no peer ${name}`);
}

/** In the order of ids, which every store likes best. @param {number} docs @param {number} size */
function documents(docs, size) {
  const found = [...syntheticLines(docs, size)].map((body) => ({ id: JSON.parse(body)._id, body }));
  return found.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Files and directories, so that they survive a power loss. @param {string} directory */
function sync(directory) {
  for (const name of [...readdirSync(directory), '.']) {
    const file = openSync(join(directory, name), 'r');
    fsyncSync(file);
    closeSync(file);
  }
}

const BLOCK_BYTES = 512;

/** Without the holes in files. @param {string} directory */
function bytesIn(directory) {
  const sizes = readdirSync(directory).map(
    (name) => statSync(join(directory, name)).blocks * BLOCK_BYTES,
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** @param {import('./store.js').Store} store @param {string} from @param {string} place @param {number} docs @param {number} size */
async function split(store, from, place, docs, size) {
  const targets = ['a', 'b'].map((name) => join(place, name));
  const meter = new UsageMeter();
  const start = performance.now();
  for (const target of targets) mkdirSync(target);
  await store.split(from, targets, size);
  for (const target of targets) sync(target);
  const seconds = (performance.now() - start) / 1000;
  const run = { seconds, ...meter.read() };
  const madeBytes = targets.reduce((sum, target) => sum + bytesIn(target), 0);
  const counts = await Promise.all(targets.map((target) => store.count(target)));
  const [first = 0, second = 0] = counts;
  if (first + second !== docs || first === 0) {
    throw new Error(`${docs} documents were split into ${counts.join(' and ')}`);
  }
  return { ...run, madeBytes };
}

const [, , command, name = '', path = '', ...rest] = process.argv;
const store = await storeOf(name);
if (command === 'fill') {
  const [docs, size] = rest.map(Number);
  await store.fill(path, documents(docs ?? 0, size ?? 0), size ?? 0);
  sync(path);
  process.stdout.write('{}');
} else {
  const [place = '', docs, size] = rest;
  const run = await split(store, path, place, Number(docs), Number(size));
  process.stdout.write(JSON.stringify(run));
}
