/**
 * Makes and verifies password records, which takes a fifth of a second each by design: on a thread of its own, one after another, with a
 * bounded queue, so that neither requests nor the disk wait for it.
 */
import { Piscina } from 'piscina';
import { DivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';
import { THREAD_OPTIONS } from '../../engine/thread-options.js';
import type { Config } from '../config/config.js';
import derive from './hash-worker.js';
import {
  type Derivation,
  derivationOf,
  isKeyOf,
  type PasswordRecord,
  type Pbkdf2Record,
  PRF,
  SALT_BYTES,
  simpleKey,
} from './password.js';

export interface HasherOptions {
  readonly host: Host;
  readonly config: Pick<Config, 'get'>;
  /** 0 derives on the calling thread: for simulations, where nothing may run beside it, and for tests. */
  readonly threads?: 0 | 1;
}

/** What is done for a user that is not there, so that it takes as long as for one that is. */
const NOBODYS: Pbkdf2Record = {
  scheme: 'pbkdf2',
  prf: PRF,
  iterations: 1,
  salt: '0'.repeat(SALT_BYTES * 2),
  derivedKey: '',
};

export class PasswordHasher {
  readonly #host: Host;
  readonly #config: Pick<Config, 'get'>;
  readonly #threads: number;
  /** Started when the first password comes, and kept. */
  #thread: HashThread | undefined;
  #waiting = 0;
  #isClosed = false;

  constructor({ host, config, threads = 1 }: HasherOptions) {
    this.#host = host;
    this.#config = config;
    this.#threads = threads;
  }

  /** How many passwords are being hashed or wait for it. */
  get waiting(): number {
    return this.#waiting;
  }

  /** A record of a password, with a new salt. Throws `UNAVAILABLE` when too many wait, `CLOSED`, `WORKER`. */
  async make(password: string): Promise<Pbkdf2Record> {
    const salt = Buffer.from(this.#host.randomBytes(SALT_BYTES)).toString('hex');
    const iterations = this.#config.get('chttpd_auth/iterations');
    const record: Pbkdf2Record = { scheme: 'pbkdf2', prf: PRF, iterations, salt, derivedKey: '' };
    const key = await this.#derive(derivationOf(record, password));
    return { ...record, derivedKey: Buffer.from(key).toString('hex') };
  }

  /** False for a record with more iterations than are allowed: it would keep the thread busy for hours. */
  takes(record: PasswordRecord): boolean {
    const iterationsMax = this.#config.get('chttpd_auth/max_iterations');
    return record.scheme === 'simple' || record.iterations <= iterationsMax;
  }

  /**
   * True if the record is of this password. Without a record the same work is done for nothing. A record that is not
   * taken is of no password. Throws as `make`.
   */
  async verify(password: string, record: PasswordRecord | undefined): Promise<boolean> {
    if (record?.scheme === 'pbkdf2' && this.takes(record)) {
      return isKeyOf(record, await this.#derive(derivationOf(record, password)));
    }
    const iterations = this.#config.get('chttpd_auth/iterations');
    await this.#derive(derivationOf({ ...NOBODYS, iterations }, password));
    return record?.scheme === 'simple' && isKeyOf(record, simpleKey(password, record.salt));
  }

  /** Those that wait fail with `CLOSED`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const thread = this.#thread;
    this.#thread = undefined;
    await thread?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #derive(derivation: Derivation): Promise<Uint8Array> {
    if (this.#isClosed) throw closed();
    if (this.#waiting >= this.#config.get('chttpd_auth/max_hash_queue')) {
      throw new DivanError('UNAVAILABLE', 'too many passwords wait to be checked; try again later');
    }
    this.#waiting++;
    try {
      return this.#threads === 0 ? derive(derivation) : await this.#inThread(derivation);
    } finally {
      this.#waiting--;
    }
  }

  async #inThread(derivation: Derivation): Promise<Uint8Array> {
    this.#thread ??= new HashThread();
    const thread = this.#thread;
    try {
      return await thread.run(derivation);
    } catch (error) {
      if (this.#isClosed) throw closed();
      // The next password gets a new thread.
      if (this.#thread === thread) this.#thread = undefined;
      await thread.close();
      throw new DivanError('WORKER', 'the thread that hashes passwords failed', {}, error);
    }
  }
}

/** One thread. After a failure it is done for. */
class HashThread {
  readonly #pool: Piscina<Derivation, Uint8Array>;
  /** Of those who wait for a key: a thread that fails, or that cannot even be loaded, may settle no task. */
  readonly #rejects = new Set<(error: unknown) => void>();

  constructor() {
    this.#pool = new Piscina<Derivation, Uint8Array>({
      filename: new URL('./hash-worker.js', import.meta.url).href,
      minThreads: 1,
      maxThreads: 1,
      ...THREAD_OPTIONS,
    });
    this.#pool.on('error', (error) => {
      for (const reject of this.#rejects) reject(error);
    });
  }

  run(derivation: Derivation): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.#rejects.add(reject);
      this.#pool
        .run(derivation)
        .then(resolve, reject)
        .finally(() => this.#rejects.delete(reject));
    });
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}

function closed(): DivanError {
  return new DivanError('CLOSED', 'the server is about to stop');
}
