/**
 * Names of files and directories that are made and removed for good. What a process that was killed did to a name may not be durable, and
 * the next process can not tell: so a name is synced whether it was there already or not.
 */
import { dirname } from 'node:path';
import { isDivanError } from '../engine/errors.js';
import type { Storage } from '../engine/file/storage.js';

/** Makes a directory, whose name is durable when it resolves. Its parent must exist. */
export async function makeDirectory(storage: Storage, path: string): Promise<void> {
  await storage.makeDirectory(path);
  await storage.syncDirectory(dirname(path));
}

/** Removes a file, for good when it resolves. Nothing needs to be there. */
export async function removeFile(storage: Storage, path: string): Promise<void> {
  try {
    await storage.remove(path);
  } catch (error) {
    if (!isDivanError(error, 'NOT_FOUND')) throw error;
  }
  try {
    await storage.syncDirectory(dirname(path));
  } catch (error) {
    // Where there is no directory there is no file.
    if (!isDivanError(error, 'NOT_FOUND')) throw error;
  }
}
