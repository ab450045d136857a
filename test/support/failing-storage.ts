/**
 * A `Storage` that fails on purpose: it counts the calls by kind, and lets a chosen one fail, once or from then on.
 *
 * For sweeps over every place where a disk can fail: `sweepFailures` lets call 0, 1, 2, ... of a kind fail until a run
 * passes without meeting the failure.
 */
import assert from 'node:assert';
import { DivanError, type ErrorCode } from '../../engine/errors.js';
import type { OpenMode, Storage, StorageFile } from '../../engine/file/storage.js';

export const CALL_KINDS = [
  'open',
  'read',
  'write',
  'sync',
  'truncate',
  'size',
  'lock',
  'close',
  'identity',
  'rename',
  'link',
  'remove',
  'makeDirectory',
  'removeDirectory',
  'syncDirectory',
  'list',
  'freeBytes',
] as const;
export type CallKind = (typeof CALL_KINDS)[number];

/** Which call fails, and how. */
export interface FailurePlan {
  readonly kind: CallKind | 'any';
  /** The number of the call, counted from 0 over the calls of its kind (of all kinds with `any`) since the plan was set. */
  readonly call: number;
  readonly code: ErrorCode;
  readonly errno?: string;
  /** `once` (the default), or the call and all later ones of the kind. */
  readonly times?: 'once' | 'for ever';
  /** The call does its work and fails all the same, as when the answer of a disk is lost. */
  readonly afterwards?: boolean;
  /** Only calls on paths for which this is true are counted. */
  readonly onlyPath?: (path: string) => boolean;
}

/** What the disk does besides failing. Each is asked for every call. */
export interface Weaknesses {
  /** How many of `length` bytes, which is 2 or more, a write takes: at least 1. */
  shortWrite?: (length: number) => number;
  /** How many of `length` bytes, which is 2 or more, a read gives: at least 1. */
  shortRead?: (length: number) => number;
  /** Waited for before every call but `lock`. */
  slow?: (kind: CallKind, path: string) => Promise<void>;
}

export class FailingStorage implements Storage {
  readonly calls: Record<CallKind, number>;
  readonly weaknesses: Weaknesses;
  /** How often the plan made a call fail. */
  fired = 0;
  readonly #inner: Storage;
  #plan: FailurePlan | undefined;
  #counted = 0;

  constructor(inner: Storage, weaknesses: Weaknesses = {}) {
    this.#inner = inner;
    this.weaknesses = weaknesses;
    this.calls = noCalls();
  }

  /** Sets what is to fail from here on; nothing, if there is no plan. Counts anew. */
  plan(plan?: FailurePlan): void {
    this.#plan = plan;
    this.#counted = 0;
    this.fired = 0;
    Object.assign(this.calls, noCalls());
  }

  /** Counts a call, and tells whether it is to fail. */
  #meets(kind: CallKind, path: string): FailurePlan | undefined {
    this.calls[kind]++;
    const plan = this.#plan;
    if (plan === undefined || (plan.kind !== 'any' && plan.kind !== kind)) return undefined;
    if (plan.onlyPath?.(path) === false) return undefined;
    const number = this.#counted++;
    const hit = plan.times === 'for ever' ? number >= plan.call : number === plan.call;
    if (!hit) return undefined;
    this.fired++;
    return plan;
  }

  /** Does a call, or lets it fail. For the files of this storage, too. */
  async perform<T>(kind: CallKind, path: string, call: () => Promise<T>): Promise<T> {
    const plan = this.#meets(kind, path);
    await this.weaknesses.slow?.(kind, path);
    if (plan === undefined) return call();
    if (plan.afterwards === true) await call();
    throw planned(plan, kind, path);
  }

  performNow<T>(kind: CallKind, path: string, call: () => T): T {
    const plan = this.#meets(kind, path);
    if (plan === undefined) return call();
    throw planned(plan, kind, path);
  }

  open(path: string, mode: OpenMode): Promise<StorageFile> {
    return this.perform('open', path, async () => {
      return new FailingFile(this, await this.#inner.open(path, mode));
    });
  }

  identity(path: string): Promise<string | undefined> {
    return this.perform('identity', path, () => this.#inner.identity(path));
  }

  rename(from: string, to: string): Promise<void> {
    return this.perform('rename', from, () => this.#inner.rename(from, to));
  }

  link(from: string, to: string): Promise<void> {
    return this.perform('link', to, () => this.#inner.link(from, to));
  }

  remove(path: string): Promise<void> {
    return this.perform('remove', path, () => this.#inner.remove(path));
  }

  makeDirectory(path: string): Promise<boolean> {
    return this.perform('makeDirectory', path, () => this.#inner.makeDirectory(path));
  }

  removeDirectory(path: string): Promise<void> {
    return this.perform('removeDirectory', path, () => this.#inner.removeDirectory(path));
  }

  syncDirectory(path: string): Promise<void> {
    return this.perform('syncDirectory', path, () => this.#inner.syncDirectory(path));
  }

  list(path: string): Promise<string[]> {
    return this.perform('list', path, () => this.#inner.list(path));
  }

  freeBytes(path: string): Promise<number> {
    return this.perform('freeBytes', path, () => this.#inner.freeBytes(path));
  }
}

class FailingFile implements StorageFile {
  readonly path: string;
  readonly #storage: FailingStorage;
  readonly #inner: StorageFile;

  constructor(storage: FailingStorage, inner: StorageFile) {
    this.path = inner.path;
    this.#storage = storage;
    this.#inner = inner;
  }

  read(into: Uint8Array, position: number): Promise<number> {
    const part = shortened(into, this.#storage.weaknesses.shortRead);
    return this.#storage.perform('read', this.path, () => this.#inner.read(part, position));
  }

  write(bytes: Uint8Array, position: number): Promise<number> {
    const part = shortened(bytes, this.#storage.weaknesses.shortWrite);
    return this.#storage.perform('write', this.path, () => this.#inner.write(part, position));
  }

  sync(): Promise<void> {
    return this.#storage.perform('sync', this.path, () => this.#inner.sync());
  }

  truncate(length: number): Promise<void> {
    return this.#storage.perform('truncate', this.path, () => this.#inner.truncate(length));
  }

  size(): Promise<number> {
    return this.#storage.perform('size', this.path, () => this.#inner.size());
  }

  identity(): Promise<string> {
    return this.#storage.perform('identity', this.path, () => this.#inner.identity());
  }

  /** Failures go on being planned by the name under which it was opened. */
  renamed(path: string): void {
    this.#inner.renamed(path);
  }

  tryLock(): boolean {
    return this.#storage.performNow('lock', this.path, () => this.#inner.tryLock());
  }

  /** The handle is given back even when closing fails, as the system does it. */
  async close(): Promise<void> {
    try {
      await this.#storage.perform('close', this.path, async () => undefined);
    } finally {
      await this.#inner.close();
    }
  }
}

/** Lets the calls of a plan fail one after the other, until a run did not meet the failure. Returns how many runs did. */
export async function sweepFailures(
  plan: Omit<FailurePlan, 'call'>,
  run: (plan: FailurePlan) => Promise<FailingStorage>,
  callsMax = 100_000,
): Promise<number> {
  for (let call = 0; call < callsMax; call++) {
    const storage = await run({ ...plan, call });
    if (storage.fired === 0) return call;
  }
  throw new Error(`after ${callsMax} runs the workload still meets the failure`);
}

function noCalls(): Record<CallKind, number> {
  return {
    open: 0,
    read: 0,
    write: 0,
    sync: 0,
    truncate: 0,
    size: 0,
    lock: 0,
    close: 0,
    identity: 0,
    rename: 0,
    link: 0,
    remove: 0,
    makeDirectory: 0,
    removeDirectory: 0,
    syncDirectory: 0,
    list: 0,
    freeBytes: 0,
  };
}

function planned(plan: FailurePlan, kind: CallKind, path: string): DivanError {
  const errno = plan.errno ?? (plan.code === 'NO_SPACE' ? 'ENOSPC' : 'EIO');
  const text = `a planned failure of ${kind}, call ${plan.call}, on ${path}`;
  return new DivanError(plan.code, text, { path, errno });
}

function shortened(bytes: Uint8Array, shorten: ((length: number) => number) | undefined) {
  if (shorten === undefined || bytes.length < 2) return bytes;
  const length = shorten(bytes.length);
  assert(length >= 1 && length <= bytes.length, 'a short call moves at least one byte');
  return bytes.subarray(0, length);
}
