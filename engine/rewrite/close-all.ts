/** Closing several things of which each must be closed, whatever becomes of the others. */

/** Closes all, one after the other. Rejects with what the first was rejected with that could not be closed. */
export async function closeAll(all: readonly { close(): Promise<void> }[]): Promise<void> {
  const failures: unknown[] = [];
  for (const one of all) await one.close().catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}
