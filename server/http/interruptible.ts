/** A stream that ends with an error when somebody needs what its reader holds, however slowly it comes. */

/** What `source` gives, until `signal` is aborted: then it throws the reason at once, and leaves the source to itself. */
export async function* interruptible<T>(
  source: AsyncIterable<T, void>,
  signal: AbortSignal,
): AsyncGenerator<T, void> {
  const iterator = source[Symbol.asyncIterator]();
  let interrupt: () => void = () => undefined;
  const onAbort = () => interrupt();
  signal.addEventListener('abort', onAbort);
  try {
    for (;;) {
      const next = await new Promise<IteratorResult<T, void>>((resolve, reject) => {
        interrupt = () => reject(signal.reason);
        if (signal.aborted) interrupt();
        else iterator.next().then(resolve, reject);
      });
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    // Not awaited: a source that is interrupted may give nothing for long.
    iterator.return?.().catch(() => undefined);
  }
}
