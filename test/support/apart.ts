/**
 * Runs simulations in a thread of their own: the test runner watches every promise of its thread, which more than doubles the time
 * that a simulation takes. The entry of that thread, too.
 */
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

interface Work {
  readonly module: string;
  readonly name: string;
  readonly input: unknown;
}

/** Calls an exported function of a module, given by its URL, with plain data; resolves with the plain data that it resolves with. */
export function runApart<Input, Output>(
  module: string,
  name: string,
  input: Input,
): Promise<Output> {
  const work: Work = { module, name, input };
  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: work,
    execArgv: [],
    // Simulations make much that soon is garbage.
    resourceLimits: { maxYoungGenerationSizeMb: 64 },
  });
  return new Promise((resolve, reject) => {
    worker.once('message', (output: Output) => resolve(output));
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`the thread of ${name} ended with ${code}`)));
  });
}

async function perform({ module, name, input }: Work): Promise<void> {
  const functions: Record<string, (input: unknown) => Promise<unknown>> = await import(module);
  parentPort?.postMessage(await functions[name]?.(input));
}

if (!isMainThread) await perform(workerData);
