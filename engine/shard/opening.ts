/**
 * From a recovered file to the state of its shard: the flushed state, and overlays with what the change lists since then say
 * (FORMAT.md section 7, step 4).
 */
import { DivanError, isDivanError } from '../errors.js';
import { recordEnd } from '../file/commit-record.js';
import { readRun } from '../file/file-reader.js';
import { changeListsToReplay, type Recovered } from '../file/recovery.js';
import type { StorageFile } from '../file/storage.js';
import { readChangeList } from './change-list.js';
import { OverlaySet } from './overlay-set.js';
import { type Counters, decodeState, type Metadata, type Roots, type State } from './state.js';

/** A shard as its file says it is. */
export interface OpenedState {
  readonly roots: Roots;
  readonly counters: Counters;
  readonly metadata: Metadata;
  readonly overlays: OverlaySet;
}

/** Throws `CORRUPT` or `IO`. */
export async function loadState(file: StorageFile, recovered: Recovered): Promise<OpenedState> {
  const state = await readState(file, recovered);
  let { counters, metadata } = state;
  const overlays = new OverlaySet();
  overlays.onMetadata = (changed) => {
    metadata = changed;
  };
  overlays.beginLoading();
  for await (const changes of changeListsToReplay(file, recovered)) {
    readChangeList(changes, overlays, (firstSeq, after) => {
      overlays.begin(0, firstSeq);
      counters = after;
    });
  }
  overlays.endLoading();
  return { roots: state.roots, counters, metadata, overlays };
}

async function readState(file: StorageFile, recovered: Recovered): Promise<State> {
  const { newest } = recovered;
  try {
    return decodeState(await readRun(file, newest.state, recordEnd(newest)));
  } catch (error) {
    if (!isDivanError(error, 'CHECKSUM')) throw error;
    const { path } = file;
    throw new DivanError(
      'CORRUPT',
      `the state of ${path} is damaged`,
      { path, pos: newest.state.pos },
      error,
    );
  }
}
