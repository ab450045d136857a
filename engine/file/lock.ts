/** The lock of a file's one writer. */
import { DivanError } from '../errors.js';
import type { Storage, StorageFile } from './storage.js';

/** Takes the writer's lock, and makes sure that the path still names the file that is locked. */
export async function lock(storage: Storage, file: StorageFile, path: string): Promise<void> {
  if (!file.tryLock()) {
    throw new DivanError('LOCKED', `${path} is open for writing elsewhere`, { path });
  }
  if ((await file.identity()) !== (await storage.identity(path))) {
    throw new DivanError('REPLACED', `${path} was replaced while it was being opened`, { path });
  }
}
