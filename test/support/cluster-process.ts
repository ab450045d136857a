/** `divan serve` on a machine of its own, and a client on that machine: before a node is set up it answers nobody else. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { CLI } from './cli.js';
import type { Machine } from './machines.js';

export interface NodeReply {
  readonly status: number;
  readonly headers: string;
  readonly body: unknown;
}

export interface NodeRequest {
  readonly body?: unknown;
  /** `user:password`. */
  readonly as?: string | undefined;
  readonly headers?: readonly string[];
}

const START_MS = 30_000;

export interface NodeProcessOptions {
  readonly args?: readonly string[];
  /** What is run instead of the command, with the same arguments. */
  readonly program?: string;
  /** Of the environment. */
  readonly settings?: Readonly<Record<string, string>>;
}

export class ClusterProcess {
  readonly machine: Machine;
  readonly name: string;
  readonly dataDir: string;
  readonly #options: NodeProcessOptions;
  #child: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  #log = '';

  private constructor(machine: Machine, name: string, options: NodeProcessOptions) {
    this.machine = machine;
    this.name = name;
    this.dataDir = mkdtempSync(join(tmpdir(), 'divan-'));
    this.#options = options;
  }

  /** Starts a node without an admin, which is ended with the test. */
  static async start(
    t: Test,
    machine: Machine,
    number: number,
    options: NodeProcessOptions = {},
  ): Promise<ClusterProcess> {
    const node = new ClusterProcess(machine, `node${number}@${machine.address}`, options);
    t.teardown(() => node.remove());
    await node.restart();
    return node;
  }

  /** What it wrote to its log, all its lives together. */
  get log(): string {
    return this.#log;
  }

  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error('the node does not run');
    return this.#child.pid;
  }

  /** Whether its process is there, which may have ended by itself. */
  get isRunning(): boolean {
    const child = this.#child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  /** Sends a signal, and resolves when the log has something new that matches. Rejects when the process ends before. */
  async signal(signal: NodeJS.Signals, answer: RegExp): Promise<void> {
    const length = this.#log.length;
    this.#child?.kill(signal);
    while (!answer.test(this.#log.slice(length))) {
      if (!this.isRunning) throw new Error(`${this.name} ended: ${this.#log.slice(-1000)}`);
      await delay(1);
    }
  }

  /** Starts it again, with the data that it had. REQUIRES: it does not run. */
  async restart(): Promise<void> {
    const { address, port, wrapper } = this.machine;
    const { args = [], program = CLI, settings } = this.#options;
    const command = [
      ...wrapper,
      ...['env', '-u', 'NODE_OPTIONS', '-u', 'DIVAN_ADMIN', process.execPath, program, 'serve'],
      ...['--data-dir', this.dataDir, '--name', this.name],
      ...['--advertise', `http://${address}:${port}`],
      // The default is the one that counts where nothing else is on the machine.
      ...(wrapper.length === 0 ? ['--port', String(port)] : []),
      ...args,
    ];
    const [first = '', ...rest] = command;
    const env = { ...process.env, ...settings };
    const child = spawn(first, rest, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    this.#ended = new Promise((resolve) => child.once('close', resolve));
    child.stderr.on('data', (bytes) => {
      this.#log += String(bytes);
    });
    await new Promise<void>((resolve, reject) => {
      const failed = () => reject(new Error(`${this.name} did not start: ${this.#log}`));
      const timer = setTimeout(failed, START_MS);
      child.once('close', failed);
      child.stdout.on('data', (bytes) => {
        if (!String(bytes).includes('Divan listens')) return;
        clearTimeout(timer);
        resolve();
      });
    });
  }

  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    this.#child?.kill(signal);
    await this.#ended;
    this.#child = undefined;
  }

  /** Ends it, and removes its data. */
  async remove(): Promise<void> {
    await this.end('SIGKILL');
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  get url(): string {
    return `http://${this.machine.address}:${this.machine.port}`;
  }

  /** Sends a request from its own machine to its loopback. */
  call(
    method: string,
    path: string,
    { body, as, headers = [] }: NodeRequest = {},
  ): Promise<NodeReply> {
    const url = `http://127.0.0.1:${this.machine.port}${path}`;
    const all = body === undefined ? headers : [...headers, 'Content-Type: application/json'];
    const args = [
      ...['-s', '-S', '-i', '--max-time', '60', '-X', method],
      ...(as === undefined ? [] : ['-u', as]),
      ...all.flatMap((header) => ['-H', header]),
      ...(body === undefined ? [] : ['--data-binary', JSON.stringify(body)]),
      url,
    ];
    const [first = '', ...rest] = [...this.machine.wrapper, 'curl', ...args];
    return new Promise((resolve, reject) => {
      execFile(first, rest, { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
        if (error === null) resolve(replyOf(stdout));
        else reject(new Error(`${method} ${path} at ${this.name}: ${stderr}`, { cause: error }));
      });
    });
  }
}

function replyOf(text: string): NodeReply {
  const end = text.indexOf('\r\n\r\n');
  const headers = text.slice(0, end);
  const body = text.slice(end + 4);
  const isJson = /^content-type: application\/json/im.test(headers) && body !== '';
  return {
    status: Number(/^HTTP\/1\.1 (\d{3})/.exec(headers)?.[1]),
    headers,
    body: isJson ? JSON.parse(body) : body,
  };
}
