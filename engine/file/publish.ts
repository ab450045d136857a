/** How a new file comes to its name. */
import { dirname } from 'node:path';
import type { Storage } from './storage.js';

/**
 * Gives a complete and synced file its name and makes that durable. A link and not a rename, so that of two that are born at
 * once one fails with `EXISTS` and none replaces the other.
 */
export async function publishFile(storage: Storage, from: string, to: string): Promise<void> {
  await storage.link(from, to);
  await storage.remove(from);
  await storage.syncDirectory(dirname(to));
}
