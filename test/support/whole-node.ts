/** A node of a simulated cluster that is a whole server, on a machine that can lose power, with calls over a simulated network. */
import pino, { type Logger } from 'pino';
import { DivanError } from '../../engine/errors.js';
import { PROTOCOL } from '../../server/cluster/call-signature.js';
import { ClusterRecords } from '../../server/cluster/cluster-records.js';
import { Members } from '../../server/cluster/members.js';
import type { ClusterFactory } from '../../server/cluster/parts.js';
import { CallHandlers, type Node } from '../../server/cluster/peers.js';
import { Spread } from '../../server/cluster/spread.js';
import { DivanServer } from '../../server/server.js';
import type { SetupHttp } from '../../server/setup/setup-http.js';
import { CallSigner } from './call-signer.js';
import { configOf } from './server-world.js';
import { SimulatedMachine, type SimulatedProcess } from './simulated-machine.js';
import type { SimulatedNetwork } from './simulated-network.js';
import type { SimulatedScheduler } from './simulated-scheduler.js';

export const DATA_DIR = '/data';
const COOKIE = 'c'.repeat(32);

/** One life of a node, once it serves. */
export interface RunningServer {
  readonly whole: WholeNode;
  readonly node: Node;
  readonly process: SimulatedProcess;
  readonly services: DivanServer['services'];
  readonly records: ClusterRecords;
  readonly members: Members;
  readonly spread: Spread;
  readonly startedMs: number;
}

export interface WholeNodeParts {
  readonly scheduler: SimulatedScheduler;
  readonly network: SimulatedNetwork;
  /** Called at each start, before anybody else knows what the records of the node are. */
  readonly watch: (node: Node, records: ClusterRecords) => void;
  /** Told of what a server logs as its own fault. */
  readonly onDefect: (text: string) => void;
}

export class WholeNode {
  readonly name: string;
  readonly machine: SimulatedMachine;
  readonly #parts: WholeNodeParts;
  #running: RunningServer | undefined;
  #server: DivanServer | undefined;
  #isStopping = false;
  /** Whom it believes before it has records, and until then after each start. */
  #trusted: string | undefined;

  constructor(index: number, parts: WholeNodeParts) {
    this.name = `n${index}@host`;
    this.machine = new SimulatedMachine(parts.scheduler);
    this.#parts = parts;
  }

  /** Undefined while it does not serve. */
  get running(): RunningServer | undefined {
    return this.#isStopping || this.#running?.process.isDead !== false ? undefined : this.#running;
  }

  /** The newest life in which it served, which may be over: then what it had durably is what it had in memory at least. */
  get newest(): RunningServer | undefined {
    return this.#running;
  }

  /** Of `Endpoint`. */
  get isUp(): boolean {
    return this.running !== undefined;
  }

  get handlers(): CallHandlers {
    if (this.#handlers === undefined) throw new Error(`${this.name} was never started`);
    return this.#handlers;
  }

  get gate() {
    return this.#server?.services.callServer.gate;
  }

  #handlers: CallHandlers | undefined;

  /** Resolves with true when it serves, with false if it died before. REQUIRES: it does not run. Throws what building a server throws. */
  async start(): Promise<boolean> {
    const { scheduler, network } = this.#parts;
    scheduler.trace(`${this.name} starts`);
    const process = this.machine.begin();
    this.#isStopping = false;
    const dead = process.died.then(() => undefined);
    const built = await Promise.race([this.#build(process), dead]);
    if (built === undefined || process.isDead) return false;
    const { server, ...parts } = built;
    const { services } = server;
    this.#server = server;
    this.#handlers = services.cluster.handlers;
    const { self: node } = services.cluster.members;
    network.attach(node.identity, this);
    const startedMs = scheduler.now;
    this.#running = { ...parts, whole: this, node, process, services, startedMs };
    if (this.#trusted !== undefined) parts.members.trust(this.#trusted);
    return true;
  }

  /** The power fails. */
  crash(): void {
    this.#parts.scheduler.trace(`${this.name} crashes`);
    this.machine.crash();
  }

  /** It is asked to stop; resolves when it has. */
  async stop(): Promise<void> {
    const server = this.#server;
    const { process } = this.machine;
    if (server === undefined || process === undefined) return;
    this.#parts.scheduler.trace(`${this.name} stops`);
    this.#isStopping = true;
    await Promise.race([server.close(), process.died]);
    process.die();
  }

  /** Records are taken from that node though this one is no member yet. */
  trust(identity: string): void {
    this.#trusted = identity;
    this.running?.members.trust(identity);
  }

  async #build(process: SimulatedProcess) {
    const { host } = process;
    const { network, watch } = this.#parts;
    const opened = new Map<'cluster', Pick<RunningServer, 'records' | 'members' | 'spread'>>();
    const open: ClusterFactory = async ({ records: stored, credentials }) => {
      credentials.cookie = COOKIE;
      const { identity } = credentials.self;
      const records = await ClusterRecords.open(stored, identity);
      watch(credentials.self, records);
      const members = new Members(credentials, records);
      credentials.mayCall = members.mayCall.bind(members);
      const handlers = new CallHandlers();
      const signer = new CallSigner(host, credentials);
      const calls = network.callsOf(identity, () => !process.isDead, signer);
      const spread = new Spread({ host, records, members, calls, handlers });
      opened.set('cluster', { records, members, spread });
      return {
        ...{ credentials, calls, handlers, members, records },
        protocol: PROTOCOL,
        trust: (other) => members.trust(other),
        yieldToOthers: () => records.yieldToOthers(),
        close: async () => spread.close(),
      };
    };
    const server = await DivanServer.build({
      world: process.world,
      config: configFor(this.name),
      log: logInto(this.#parts.onDefect),
      version: '0',
      admin: 'a:secret-of-the-tests',
      hashThreads: 0,
      rewriteWorkers: 0,
      cluster: { open, http: NO_HTTP },
    });
    const cluster = opened.get('cluster');
    if (cluster === undefined) throw new Error('the server opened no cluster');
    return { server, ...cluster };
  }
}

/** Nothing is set up over HTTP here. */
const NO_HTTP: SetupHttp = {
  post: () => Promise.reject(new DivanError('UNREACHABLE', 'there is no HTTP here')),
  close: async () => undefined,
};

function configFor(name: string) {
  return configOf(
    '[node]',
    `name = ${name}`,
    '[couchdb]',
    `database_dir = ${DATA_DIR}`,
    'cache_size = 1048576',
    '[reshard]',
    'rate = 0',
    'max_write_pause = 1000',
    'retry_interval = 200',
    'max_retries = 6',
  );
}

/** Errors that are no `DivanError` are defects of the server. */
function logInto(onDefect: (text: string) => void): Logger {
  const write = (line: string) => {
    const { err = {}, msg }: { err?: { type?: string; stack?: string }; msg?: string } =
      JSON.parse(line);
    if (err.type !== 'DivanError' && err.type !== 'Refusal') onDefect(`${msg}: ${err.stack}`);
  };
  return pino({ level: 'error' }, { write });
}
