/** Other stores that do the same as a split into two, in processes of their own. They are installed apart, under `bench/peers`. */
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { program, runChild } from './child.js';
import { type BenchInput, type BenchResult, type BenchRun, isBenchRun } from './result.js';
import { bytesOf } from './rewrite.js';
import { type Contender, compared } from './turns.js';

export const PEERS: readonly string[] = ['better-sqlite3', 'lmdb', 'classic-level'];

/** Beside the compiled bench: they are no TypeScript. */
const FOLDER = program('../../bench/peers');
const PROGRAM = join(FOLDER, 'peer.js');

/** What is in the way of measuring peers, if anything is. */
export function peersProblem(): string | undefined {
  const missing = PEERS.filter((name) => !existsSync(join(FOLDER, 'node_modules', name)));
  if (missing.length === 0) return undefined;
  return `${missing.join(', ')} not installed; run npm ci --prefix bench/peers`;
}

function storeOf(input: BenchInput, peer: string): string {
  return join(input.directory, `peer-${peer}`);
}

function filesIn(directory: string): string[] {
  return readdirSync(directory).map((name) => join(directory, name));
}

/** Fills a store for each peer with the documents of a fresh source, and returns their splits. */
export function peerContenders(input: BenchInput): Contender[] {
  const { docs, size } = input;
  return input.peers.map((peer) => {
    const store = storeOf(input, peer);
    mkdirSync(store);
    runChild(PROGRAM, ['fill', peer, store, String(docs), String(size)]);
    return {
      // Looked up each time: a store may name its files anew whenever it is opened.
      get sources() {
        return filesIn(store);
      },
      run: (place) => {
        const run: unknown = runChild(PROGRAM, [
          'split',
          peer,
          store,
          place,
          String(docs),
          String(size),
        ]);
        if (isBenchRun(run)) return run;
        throw new TypeError(`${peer} printed ${JSON.stringify(run)}`);
      },
    };
  });
}

export function peerResults(
  input: BenchInput,
  measured: readonly (readonly BenchRun[])[],
  divan: readonly BenchRun[] | undefined,
): BenchResult[] {
  const { docs, size } = input;
  return input.peers.map((peer, index) => ({
    family: 'split',
    label: `${peer}, split into 2`,
    isPeer: true,
    docs,
    size,
    sourceBytes: bytesOf(filesIn(storeOf(input, peer))),
    runs: compared(measured[index] ?? [], 'of Divan', divan ?? []),
  }));
}
