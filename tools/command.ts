/**
 * What all commands share: how they end, how they print, how they are cancelled.
 *
 * Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed or problems found,
 * 2 wrong usage, 130 cancelled with Ctrl-C. Errors are one line, or with `--json` one JSON object.
 */
import { DivanError, isDivanError } from '../engine/errors.js';
import type { Host } from '../engine/file/host.js';
import { nodeHost } from '../engine/file/node-host.js';
import { nodeStorage } from '../engine/file/node-storage.js';
import type { Storage } from '../engine/file/storage.js';

/** What a command is given besides its own arguments. */
export interface CommandContext {
  readonly storage: Storage;
  readonly host: Host;
  /** Aborted by the first Ctrl-C; the second one ends the process at once. */
  readonly signal: AbortSignal;
  readonly json: boolean;
}

/** Runs a command's work and turns its outcome into the exit code. `work` returns false when it found problems. */
export async function runCommand(
  options: { readonly json?: boolean },
  work: (context: CommandContext) => Promise<boolean>,
): Promise<void> {
  const abort = new AbortController();
  const onInterrupt = () => {
    if (abort.signal.aborted) process.exit(130);
    abort.abort();
  };
  process.stderr.on('error', ignoreBrokenPipe);
  process.on('SIGINT', onInterrupt);
  process.on('SIGTERM', onInterrupt);
  const json = options.json === true;
  try {
    const context = { storage: nodeStorage, host: nodeHost, signal: abort.signal, json };
    process.exitCode = (await work(context)) ? 0 : 1;
  } catch (error) {
    process.exitCode = exitCodeOf(error);
    reportError(error, json);
  } finally {
    process.stderr.off('error', ignoreBrokenPipe);
    process.off('SIGINT', onInterrupt);
    process.off('SIGTERM', onInterrupt);
  }
}

function exitCodeOf(error: unknown): number {
  if (isDivanError(error, 'ABORTED')) return 130;
  return isDivanError(error, 'INVALID_SETTING') ? 2 : 1;
}

/** Work goes on when whoever reads its progress goes away. */
export function ignoreBrokenPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}

function reportError(error: unknown, json: boolean): void {
  if (!isDivanError(error)) throw error;
  const { code, message, facts } = error;
  if (json) process.stderr.write(`${JSON.stringify({ error: code, reason: message, ...facts })}\n`);
  else process.stderr.write(`divan: ${message} (${code})\n`);
}

/** Writes lines to standard output, at the pace at which they are read; a reader that went away ends the command quietly. */
export class LineOutput {
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #broken = false;

  constructor() {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      this.#broken = true;
    });
  }

  /** True once nobody reads any more, as after `| head`. */
  get broken(): boolean {
    return this.#broken;
  }

  async line(text: string | Uint8Array): Promise<void> {
    const bytes = typeof text === 'string' ? Buffer.from(text) : text;
    this.#pending.push(bytes, NEWLINE);
    this.#pendingBytes += bytes.length + 1;
    if (this.#pendingBytes >= OUTPUT_BYTES) await this.flush();
  }

  async flush(): Promise<void> {
    const bytes = Buffer.concat(this.#pending);
    this.#pending = [];
    this.#pendingBytes = 0;
    if (bytes.length === 0 || this.#broken) return;
    await new Promise<void>((resolve) => process.stdout.write(bytes, () => resolve()));
  }
}

const NEWLINE = Buffer.from('\n');
const OUTPUT_BYTES = 64 * 1024;

/** Throws `ABORTED` once the command was cancelled. */
export function assertNotAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new DivanError('ABORTED', 'cancelled');
}
