/** `divan serve` as a process of its own, and a client that speaks to it over one connection that is kept. */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { Agent, request } from 'node:http';
import { CLI } from './cli.js';

export const ADMIN = 'admin:secret-of-the-tests';
const AUTHORIZATION = `Basic ${Buffer.from(ADMIN).toString('base64')}`;
/** A server that says nothing for so long has failed. */
const START_MS = 30_000;

export interface ProcessReply {
  readonly status: number;
  readonly text: string;
}

export interface ProcessOptions {
  readonly dataDir: string;
  /** Of the environment, besides the data directory and the admin. */
  readonly settings?: Readonly<Record<string, string>>;
  /** What stands before the command, such as a shell that sets limits first. */
  readonly wrapper?: readonly string[];
  /** What is run instead of the command, with the same arguments. */
  readonly program?: string;
}

export class ServerProcess {
  readonly child: ChildProcess;
  readonly port: number;
  /** From its start to its first answer. */
  readonly startMs: number;
  /** How it ended. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: string | null }>;
  readonly #clients: HttpClient[] = [];
  readonly #stderr: string[];

  private constructor(
    child: ChildProcess,
    ended: ServerProcess['ended'],
    started: { readonly port: number; readonly startMs: number; readonly stderr: string[] },
  ) {
    this.child = child;
    this.ended = ended;
    this.port = started.port;
    this.startMs = started.startMs;
    this.#stderr = started.stderr;
  }

  /** Starts one, and waits until it answers. The caller ends it. */
  static async start({
    dataDir,
    settings = {},
    wrapper = [],
    program = CLI,
  }: ProcessOptions): Promise<ServerProcess> {
    const startedAt = performance.now();
    const command = [
      ...wrapper,
      // The test runner has itself loaded into every child, where it takes signals.
      'env',
      '-u',
      'NODE_OPTIONS',
      process.execPath,
      program,
      'serve',
      '--port',
      '0',
      '--data-dir',
      dataDir,
    ];
    const env: NodeJS.ProcessEnv = { ...process.env, ...settings, DIVAN_ADMIN: ADMIN };
    const [first = '', ...args] = command;
    const child = spawn(first, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const stderr: string[] = [];
    child.stderr.on('data', (bytes) => stderr.push(String(bytes)));
    const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) =>
      child.once('close', (code, signal) => resolve({ code, signal })),
    );
    const port = await portOf(child, ended, stderr);
    const client = new HttpClient(port);
    const { status } = await client.call('GET', '/_up');
    const startMs = performance.now() - startedAt;
    client.close();
    if (status !== 200) throw new Error(`the server is not up: ${status}`);
    return new ServerProcess(child, ended, { port, startMs, stderr });
  }

  /** A client on a connection of its own, which is closed with the server. */
  client(): HttpClient {
    const client = new HttpClient(this.port);
    this.#clients.push(client);
    return client;
  }

  /** What it wrote to its log. */
  get log(): string {
    return this.#stderr.join('');
  }

  /** Ends it by a signal, and waits until it is gone. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): ReturnType<() => ServerProcess['ended']> {
    this.child.kill(signal);
    const how = await this.ended;
    for (const client of this.#clients) client.close();
    return how;
  }
}

async function portOf(
  child: ChildProcess,
  ended: Promise<unknown>,
  stderr: readonly string[],
): Promise<number> {
  let timer: NodeJS.Timeout | undefined;
  const port = new Promise<number>((resolve, reject) => {
    let text = '';
    child.stdout?.on('data', (bytes) => {
      text += String(bytes);
      const port = /http:\/\/127\.0\.0\.1:([0-9]+)\//.exec(text)?.[1];
      if (port !== undefined) resolve(Number(port));
    });
    const failed = () => reject(new Error(`the server did not start: ${stderr.join('')}`));
    timer = setTimeout(failed, START_MS);
    ended.then(failed, failed);
  });
  try {
    return await port;
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** One connection. */
export class HttpClient {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  /** Sends a request, its body as JSON. Rejects if the connection breaks before the reply is whole. */
  call(method: string, path: string, body?: unknown): Promise<ProcessReply> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers: Record<string, string | number> = { Authorization: AUTHORIZATION };
    if (text !== undefined) {
      headers['Content-Type'] = 'application/json';
      headers['Content-Length'] = Buffer.byteLength(text);
    }
    return new Promise((resolve, reject) => {
      const options = { agent: this.#agent, host: '127.0.0.1', port: this.#port };
      const sent = request({ ...options, method, path, headers }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('aborted', () => reject(new Error('the reply broke off')));
        response.on('end', () => {
          const status = response.statusCode ?? 0;
          resolve({ status, text: Buffer.concat(chunks).toString() });
        });
      });
      sent.on('error', reject);
      sent.end(text);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
