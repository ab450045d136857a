/** A node to be set up: a server on a port of its own that keeps it over restarts, on a disk whose process can be killed at any operation. */
import { request } from 'node:http';
import pino from 'pino';
import { Config } from '../../server/config/config.js';
import { Listener, listenerOptions } from '../../server/listener.js';
import { DivanServer } from '../../server/server.js';
import type { ServerHost } from '../../server/world.js';
import type { FakeNetwork } from './fake-network.js';
import { basic, type LogEntry, realServerHost } from './server.js';
import { SimulatedDisk } from './simulated-disk.js';

export const OPERATOR = 'operator:a-good-password';

export interface SetupAnswer {
  readonly status: number;
  readonly body: unknown;
  readonly text: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

export interface AskOptions {
  readonly body?: unknown;
  /** `user:password`; undefined for nobody. */
  readonly as?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  /** Where it listens, if that is not loopback. */
  readonly at?: { readonly host: string; readonly port: number };
}

export interface NodeOptions {
  readonly name: string;
  /** Timers of the server take so much of their time, by default all of it. */
  readonly timersBy?: number;
  /** `DIVAN_ADMIN`. */
  readonly admin?: string | undefined;
  /** Of the environment. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Of the command line. */
  readonly flags?: ReadonlyMap<string, string>;
}

export class SetupNode {
  readonly disk = new SimulatedDisk();
  readonly name: string;
  readonly log: LogEntry[] = [];
  readonly #network: FakeNetwork;
  readonly #options: NodeOptions;
  #running: { readonly server: DivanServer; readonly listener: Listener } | undefined;
  #port = 0;

  private constructor(network: FakeNetwork, options: NodeOptions) {
    this.#network = network;
    this.#options = options;
    this.name = `${options.name}@127.0.0.1`;
    this.disk.syncTurns = 0;
  }

  static async start(network: FakeNetwork, options: NodeOptions): Promise<SetupNode> {
    const node = new SetupNode(network, options);
    await node.start();
    return node;
  }

  /** Throws what building a server throws. */
  async start(): Promise<void> {
    const { environment = {}, flags = [], timersBy = 1 } = this.#options;
    const config = new Config({
      environment: {
        DIVAN_NAME: this.name,
        DIVAN_CHTTPD_AUTH_ITERATIONS: '3',
        DIVAN_CLUSTER_Q: '1',
        ...environment,
      },
      flags: new Map([['--data-dir', '/data'], ...flags]),
      readFile: () => undefined,
    });
    const server = await DivanServer.build({
      world: { storage: this.disk.ofProcess(), host: hostWith(timersBy) },
      config,
      log: pino({ level: 'warn' }, { write: (line: string) => this.log.push(JSON.parse(line)) }),
      version: '0.0.0-test',
      admin: this.#options.admin,
      hashThreads: 0,
      rewriteWorkers: 0,
      cluster: { open: this.#network.open },
    });
    const { setup } = server.services;
    const isEnabled = setup.state !== 'cluster_disabled';
    const listener = await Listener.open(realServerHost, server.handler, {
      ...listenerOptions(config),
      ...(isEnabled ? setup.binding : { host: '127.0.0.1', port: this.#port }),
    });
    this.#port = listener.address.port;
    setup.attach(listener);
    const { identity } = server.services.cluster.members.self;
    this.#network.place(identity, `http://127.0.0.1:${this.#port}`);
    this.#running = { server, listener };
  }

  get server(): DivanServer {
    if (this.#running === undefined) throw new RangeError(`${this.name} does not run`);
    return this.#running.server;
  }

  get listener(): Listener {
    if (this.#running === undefined) throw new RangeError(`${this.name} does not run`);
    return this.#running.listener;
  }

  get port(): number {
    return this.listener.address.port;
  }

  /** All records of the node, as they are on its disk. */
  records(): string {
    const { records } = this.server.services;
    const all = records.keys('').sort();
    return JSON.stringify(all.map((key) => [key, records.get(key)]));
  }

  /** The process is killed. */
  async kill(): Promise<void> {
    const { server, listener } = this.#running ?? {};
    this.#running = undefined;
    if (server === undefined || listener === undefined) return;
    this.disk.haltAfter = 0;
    this.#network.detach(server.services.cluster.members.self.identity);
    server.stop();
    await listener.close();
    await server.close().catch(() => undefined);
    this.disk.restart();
  }

  /** Killed, and started again. */
  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  async close(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    if (running === undefined) return;
    running.server.stop();
    await running.listener.close();
    await running.server.close();
  }

  ask(method: string, path: string, options: AskOptions = {}): Promise<SetupAnswer> {
    const { body, as, at = { host: '127.0.0.1', port: this.port } } = options;
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers = new Map(Object.entries(options.headers ?? {}));
    if (as !== undefined) headers.set('authorization', basic(as));
    if (text !== undefined && !headers.has('content-type')) {
      headers.set('content-type', 'application/json');
    }
    return new Promise((resolve, reject) => {
      const sent = request(
        { ...at, method, path, agent: false, headers: Object.fromEntries(headers) },
        (response) => {
          let answer = '';
          response.setEncoding('utf8');
          response.on('data', (part) => {
            answer += part;
          });
          response.on('error', reject);
          response.on('end', () => {
            const isJson = response.headers['content-type'] === 'application/json';
            const { statusCode: status = 0, headers } = response;
            const json: unknown = isJson && answer !== '' ? JSON.parse(answer) : undefined;
            resolve({ status, body: json, text: answer, headers });
          });
        },
      );
      sent.on('error', reject);
      sent.end(text);
    });
  }

  /** `POST /_setup` by the operator. */
  act(body: object, query = ''): Promise<SetupAnswer> {
    return this.ask('POST', `/_setup${query}`, { body, as: OPERATOR });
  }

  state(): Promise<SetupAnswer> {
    return this.ask('GET', '/_setup', { as: OPERATOR });
  }

  /** The body that has it stay where it is. */
  enabling(): object {
    const [user, pass] = OPERATOR.split(':');
    const admin = { user, pass };
    return { action: 'enable_cluster', admin, bind_address: '127.0.0.1', port: this.port };
  }

  enable(): Promise<SetupAnswer> {
    return this.ask('POST', '/_setup', { body: this.enabling() });
  }
}

/** The body that adds a node. */
export function adding({ port }: { readonly port: number }, operator = OPERATOR): object {
  const [user, pass] = operator.split(':');
  return { action: 'add_node', admin: { user, pass }, node: { host: '127.0.0.1', port } };
}

function hostWith(timersBy: number): ServerHost {
  const setTimer = (callback: () => void, ms: number) =>
    realServerHost.setTimer(callback, ms * timersBy);
  return { ...realServerHost, setTimer };
}
