/** Resolves when something has settled, in whichever way, or `signal` is aborted. Leaves nothing behind on the signal. */
export function settledOrAborted(
  work: Promise<unknown>,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      signal?.removeEventListener('abort', done);
      resolve();
    };
    signal?.addEventListener('abort', done);
    work.then(done, done);
  });
}
