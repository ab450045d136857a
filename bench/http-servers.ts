/** The servers that are measured: `divan serve`, and a bare one to compare it with, each as a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { program } from './child.js';
import type { BenchRun, Usage } from './result.js';

export const ADMIN = 'admin:of-the-bench';
export const AUTHORIZATION = `Basic ${Buffer.from(ADMIN).toString('base64')}`;
/** The database that is there while Divan is measured, for what writes. */
export const WRITTEN = 'written';

export const CLI = program('../tools/cli.js');
const BARE = program('http-bare.js');
const OBSERVER = pathToFileURL(program('http-observer.js')).href;
/** A server that says nothing for so long has failed. */
const START_MS = 60_000;

/** A server that runs. */
export class BenchServer {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #logPath: string;

  private constructor(child: ChildProcess, port: number, logPath: string) {
    this.#child = child;
    this.port = port;
    this.#logPath = logPath;
  }

  /** Starts a program of Node that prints its address. The caller ends it. */
  static async start(args: readonly string[], logPath: string): Promise<BenchServer> {
    const log = openSync(logPath, 'a');
    const child = spawn(process.execPath, ['--import', OBSERVER, ...args], {
      env: { ...process.env, DIVAN_ADMIN: ADMIN },
      stdio: ['ignore', 'pipe', log, 'ipc'],
    });
    closeSync(log);
    try {
      return new BenchServer(child, await portOf(child, logPath), logPath);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  /** What the server used while `work` was done, together with what `work` found out. */
  async observe(work: () => BenchRun | Promise<BenchRun>): Promise<BenchRun> {
    await this.#ask('begin');
    const run = await work();
    return { ...(await this.#ask('read')), ...run };
  }

  /** Sends a request as the admin. Throws unless it succeeds. */
  call(method: string, path: string, body?: object): Promise<string> {
    const headers = { Authorization: AUTHORIZATION, 'Content-Type': 'application/json' };
    const { port } = this;
    return new Promise((resolve, reject) => {
      // On a connection of its own: one that was kept may have been closed while this thread waited for a client.
      const options = { agent: false, host: '127.0.0.1', port, method, path, headers };
      const sent = request(options, (response) => {
        const { statusCode = 0 } = response;
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.once('error', reject);
        response.once('end', () => {
          if (statusCode < 300) resolve(text);
          else reject(new Error(`${method} ${path}: ${statusCode} ${text}`));
        });
      });
      sent.once('error', reject);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async end(): Promise<void> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGTERM');
    await ended;
  }

  #ask(message: 'begin' | 'read'): Promise<Usage> {
    return new Promise((resolve, reject) => {
      const ended = () => reject(new Error(`a server ended: ${lastOf(this.#logPath)}`));
      this.#child.once('exit', ended);
      this.#child.once('message', (usage: Usage) => {
        this.#child.off('exit', ended);
        resolve(usage);
      });
      this.#child.send(message);
    });
  }
}

function portOf(child: ChildProcess, logPath: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = '';
    const failed = () => reject(new Error(`a server did not start: ${lastOf(logPath)}`));
    const timer = setTimeout(failed, START_MS);
    child.once('exit', failed);
    child.stdout?.on('data', (bytes) => {
      text += String(bytes);
      const port = /http:\/\/127\.0\.0\.1:(\d+)\//.exec(text)?.[1];
      if (port === undefined) return;
      clearTimeout(timer);
      child.off('exit', failed);
      resolve(Number(port));
    });
  });
}

/** The end of a log. */
function lastOf(path: string): string {
  return readFileSync(path, 'utf8').slice(-1000);
}

export type ServerKind = 'divan' | 'bare';

/** Where the servers of a family find their files, and how they are started. */
export class Servers {
  readonly #directory: string;
  readonly #keep: boolean;
  readonly #kept = new Map<ServerKind, BenchServer>();
  /** Of the answer of the bare server. */
  bareBytes = 0;

  /** With `keep` the servers go on from one use to the next, which saves time and mixes what they use. */
  constructor(directory: string, keep: boolean) {
    this.#directory = directory;
    this.#keep = keep;
  }

  /** Has `work` done with a server that has just been started, unless one was kept. */
  async use<T>(kind: ServerKind, work: (server: BenchServer) => Promise<T>): Promise<T> {
    const server = this.#kept.get(kind) ?? (await this.#start(kind));
    try {
      return await work(server);
    } finally {
      if (this.#keep) this.#kept.set(kind, server);
      else await server.end();
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#kept.values()].map((server) => server.end()));
  }

  #start(kind: ServerKind): Promise<BenchServer> {
    const inside = (name: string) => join(this.#directory, name);
    const divan = [CLI, 'serve', '--data-dir', inside('data'), '--port', '0'];
    const bare = [BARE, inside('bare'), String(this.bareBytes)];
    return BenchServer.start(kind === 'divan' ? divan : bare, inside(`${kind}.log`));
  }
}
