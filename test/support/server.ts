/** A server in a temporary directory, on a port of its own, and a client that speaks to it through `fetch`. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino, { type Logger } from 'pino';
import type { Test } from 'tap';
import { nodeHost } from '../../engine/file/node-host.js';
import { nodeStorage } from '../../engine/file/node-storage.js';
import type { Storage } from '../../engine/file/storage.js';
import { Config } from '../../server/config/config.js';
import { environmentName, isSettingName, type SettingName } from '../../server/config/settings.js';
import { Listener, listenerOptions } from '../../server/listener.js';
import type { ClusterOptions } from '../../server/node-cluster.js';
import { DivanServer } from '../../server/server.js';
import type { JobRunner } from '../../server/splits/job.js';
import { readCertificate } from '../../server/tls-files.js';
import type { ServerHost } from '../../server/world.js';

export const ADMIN = 'admin:secret-of-the-tests';

export interface TestServerOptions {
  /** By `section/key`, as texts. */
  readonly settings?: Partial<Record<SettingName, string>>;
  /** `user:password`; undefined for none. */
  readonly admin?: string | undefined;
  readonly host?: ServerHost;
  readonly storage?: Storage;
  /** Of another server of the test that was closed, to go on with its data. */
  readonly dataDir?: string;
  /** Does the work of jobs in the place of the one that is there. */
  readonly runner?: JobRunner;
  readonly cluster?: ClusterOptions;
  /** True if errors in the log are what the test is about. */
  readonly mayLogErrors?: boolean;
}

export interface CallOptions {
  /** A text or bytes are sent as they are, anything else as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** `user:password`; null for no credentials. The admin of the server if it is left out. */
  readonly as?: string | null;
  readonly signal?: AbortSignal;
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  /** The value of a JSON body; the text of another one. */
  readonly body: unknown;
  readonly text: string;
}

/** A member of a JSON value; undefined where there is none. */
export function memberOf(value: unknown, name: string): unknown {
  return new Map<string, unknown>(Object.entries(Object(value))).get(name);
}

/** The elements of a member that is a list. */
export function listOf(value: unknown, name: string): readonly unknown[] {
  const list = memberOf(value, name);
  return Array.isArray(list) ? list : [];
}

export const realServerHost: ServerHost = { ...nodeHost, timeOfDay: () => Date.now() };

/** What a server writes to its log, an entry for each line. */
export type LogEntry = Readonly<Record<string, unknown>>;

export class TestServer {
  readonly server: DivanServer;
  readonly listener: Listener;
  readonly dataDir: string;
  readonly log: readonly LogEntry[];
  readonly #admin: string | undefined;
  readonly #scheme: 'http' | 'https';
  #closing: Promise<void> | undefined;

  private constructor(
    server: DivanServer,
    listener: Listener,
    parts: Pick<TestServer, 'dataDir'> & {
      readonly log: LogEntry[];
      readonly admin: string | undefined;
      readonly scheme: 'http' | 'https';
    },
  ) {
    this.server = server;
    this.listener = listener;
    this.dataDir = parts.dataDir;
    this.log = parts.log;
    this.#admin = parts.admin;
    this.#scheme = parts.scheme;
  }

  /** Starts one; it is closed at the end of the test, which fails if the server logged an error. */
  static async open(t: Test, options: TestServerOptions = {}): Promise<TestServer> {
    const { host = realServerHost, storage = nodeStorage, mayLogErrors = false } = options;
    const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'divan-')));
    const admin = 'admin' in options ? options.admin : ADMIN;
    const entries: LogEntry[] = [];
    const config = configOf(dataDir, options.settings ?? {});
    const server = await DivanServer.build({
      world: { storage, host },
      config,
      log: logInto(entries),
      version: '0.0.0-test',
      admin,
      hashThreads: 0,
      rewriteWorkers: storage === nodeStorage ? undefined : 0,
      runner: options.runner,
      cluster: options.cluster,
    });
    const certificate = await readCertificate(storage, config);
    const listener = await Listener.open(realServerHost, server.handler, {
      ...listenerOptions(config, certificate),
      host: '127.0.0.1',
      port: 0,
    });
    server.services.metrics.watch(listener);
    server.services.setup.attach(listener);
    const scheme = certificate === undefined ? 'http' : 'https';
    const running = new TestServer(server, listener, { dataDir, log: entries, admin, scheme });
    t.teardown(async () => {
      await running.close();
      if (options.dataDir === undefined) await rm(dataDir, { recursive: true });
      if (!mayLogErrors && running.errors.length > 0) {
        throw new Error(`the server logged ${JSON.stringify(running.errors)}`);
      }
    });
    return running;
  }

  get url(): string {
    return `${this.#scheme}://127.0.0.1:${this.listener.address.port}`;
  }

  /** What it logged of failures. */
  get errors(): LogEntry[] {
    return this.log.filter(({ level }) => typeof level === 'number' && level >= 50);
  }

  /** Sends a request; `path` begins with `/`. */
  async fetch(method: string, path: string, options: CallOptions = {}): Promise<Response> {
    const { body, signal, as = this.#admin ?? null } = options;
    const headers = new Headers(options.headers);
    if (as !== null) headers.set('Authorization', basic(as));
    const init: RequestInit = { method, headers, redirect: 'manual' };
    if (body instanceof Uint8Array || typeof body === 'string') init.body = body;
    else if (body !== undefined) {
      init.body = JSON.stringify(body);
      if (!headers.has('Content-Type')) headers.set('Content-Type', 'application/json');
    }
    if (signal !== undefined) init.signal = signal;
    return fetch(this.url + path, init);
  }

  /** As `fetch`, and reads the whole reply. */
  async call(method: string, path: string, options: CallOptions = {}): Promise<Reply> {
    const response = await this.fetch(method, path, options);
    const { status, headers } = response;
    const text = await response.text();
    const isJson = headers.get('Content-Type')?.startsWith('application/json') === true;
    const body: unknown = isJson && text !== '' ? JSON.parse(text) : text;
    return { status, headers, body, text };
  }

  get(path: string, options: CallOptions = {}): Promise<Reply> {
    return this.call('GET', path, options);
  }

  put(path: string, body?: unknown, options: CallOptions = {}): Promise<Reply> {
    return this.call('PUT', path, { ...options, body });
  }

  post(path: string, body?: unknown, options: CallOptions = {}): Promise<Reply> {
    return this.call('POST', path, { ...options, body });
  }

  delete(path: string, options: CallOptions = {}): Promise<Reply> {
    return this.call('DELETE', path, options);
  }

  /** Stops it as `divan serve` does. Safe to call again. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.server.stop();
    await this.listener.close();
    await this.server.close();
  }
}

/** The beginning of a body, until it has something. */
export async function readUntil(response: Response, pattern: RegExp): Promise<string> {
  let text = '';
  const reader = response.body?.getReader();
  while (reader !== undefined && !pattern.test(text)) {
    const { done, value } = await reader.read();
    if (done) break;
    text += Buffer.from(value).toString();
  }
  return text;
}

/** The value of an `Authorization` header for `user:password`. */
export function basic(credentials: string): string {
  return `Basic ${Buffer.from(credentials).toString('base64')}`;
}

function configOf(dataDir: string, settings: Partial<Record<SettingName, string>>): Config {
  // Hashes that take a fifth of a second are for those who have something to hide.
  const environment: Record<string, string> = { DIVAN_CHTTPD_AUTH_ITERATIONS: '3' };
  for (const [name, text] of Object.entries(settings)) {
    if (isSettingName(name)) environment[environmentName(name)] = text;
  }
  return new Config({
    environment,
    flags: new Map([['--data-dir', dataDir]]),
    readFile: () => undefined,
  });
}

function logInto(entries: LogEntry[]): Logger {
  return pino({ level: 'warn' }, { write: (line: string) => entries.push(JSON.parse(line)) });
}
