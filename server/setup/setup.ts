/**
 * The setup of a node, from freshly started to a part of a finished cluster: a state machine whose every step is durable before it is
 * answered. `server/cluster/README.md` has the table of states and actions.
 */
import type { Logger } from 'pino';
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { Admins } from '../auth/admins.js';
import type { NodeIdentity } from '../auth/node-identity.js';
import { isHashText, type PasswordRecord } from '../auth/password.js';
import type { PasswordHasher } from '../auth/password-hasher.js';
import { type ClusterCredentials, isInTheClear } from '../cluster/credentials.js';
import type { ClusterParts } from '../cluster/parts.js';
import type { Node } from '../cluster/peers.js';
import type { Config } from '../config/config.js';
import type { JsonObject, JsonValue } from '../http/json-value.js';
import type { NodeRecords } from '../node-records.js';
import { Turns } from '../turns.js';
import type { ServerHost } from '../world.js';
import {
  advertisedUrl,
  type Binding,
  bindingFor,
  bindingInForce,
  type ListenerMove,
  overridings,
  type PortMover,
  urlOf,
} from './binding.js';
import { Joining, type NodeToAdd } from './joining.js';
import { nodeOf } from './node-json.js';
import { refused } from './refused.js';
import type { SetupHttp } from './setup-http.js';
import type { SetupRecord, SetupState } from './setup-record.js';
import { Sharing } from './sharing.js';

export interface SetupOptions {
  readonly host: ServerHost;
  readonly config: Config;
  readonly log: Logger;
  readonly records: NodeRecords;
  readonly record: SetupRecord;
  readonly admins: Admins;
  readonly hasher: PasswordHasher;
  readonly identity: NodeIdentity;
  readonly credentials: ClusterCredentials;
  readonly cluster: ClusterParts;
  readonly http: SetupHttp;
  /** Called when the secret of sessions has become another one. */
  readonly secretChanged: () => void;
  /** Makes a database that all nodes see. Throws `EXISTS`, `INVALID_NAME`. */
  readonly createDatabase: (name: string) => Promise<void>;
  readonly databases: () => readonly string[];
  /** What a member still holds, in words for people; nothing, if it can go. */
  readonly heldBy: (identity: string) => readonly string[];
}

export type StateName = 'cluster_disabled' | 'cluster_enabled' | 'cluster_finished';

export interface ChosenAdmin {
  readonly name: string;
  /** A password, or the text of its hash. */
  readonly text: string;
}

export interface Enabling {
  /** Undefined to keep those that there are. */
  readonly admin: ChosenAdmin | undefined;
  readonly binding: Partial<Binding>;
  readonly nodeCount?: number | undefined;
  /** Asked when it is this request's turn: whether who sent it still may. */
  readonly mayGoOn: () => Promise<boolean>;
}

/** What was done, with what an operator should know of it. */
export interface Done {
  readonly warnings: readonly string[];
}

export interface RemoteEnabling {
  readonly host: string;
  readonly port: number;
  /** Of the remote node, if it has an admin. */
  readonly as: { readonly user: string; readonly password: string } | undefined;
  /** An admin of this node, whose hash the remote node gets. */
  readonly admin: string;
  readonly passwordHash: string | undefined;
  readonly options: JsonObject;
}

const SYSTEM_DATABASES = ['_users', '_replicator', '_global_changes'];
const SINGLE_NODE_DATABASES = ['_users', '_replicator'];
const HELLO_MS = 5000;
/** So many changes wait, and the one that is being made. */
const CHANGES_MAX = 16;

export class Setup {
  readonly #options: SetupOptions;
  readonly #turns = new Turns();
  readonly #joining: Joining;
  readonly #sharing: Sharing;
  #mover: PortMover | undefined;
  /** Never rejects. */
  #announced: Promise<void> = Promise.resolve();

  constructor(options: SetupOptions) {
    const { host, log, record, admins, identity, credentials, cluster, http } = options;
    const { secretChanged, databases } = options;
    this.#options = options;
    this.#sharing = new Sharing({ host, log, admins, identity, cluster, secretChanged });
    const isFinished = () => this.#sharing.isFinished;
    this.#joining = new Joining({
      host,
      record,
      credentials,
      cluster,
      http,
      isFinished,
      databases,
    });
    const { coordinator } = record.state;
    if (coordinator !== undefined) cluster.trust(coordinator.identity);
  }

  /** Takes over what the cluster has. `changed`: the admins whom the configuration made or changed. Throws `CORRUPT`, what writing throws. */
  async start(changed: readonly string[]): Promise<void> {
    await this.#sharing.start(changed);
  }

  /** Where the server is to listen. */
  get binding(): Binding {
    return bindingInForce(this.#options.config, this.#record.binding);
  }

  /** What moves the port when a cluster is enabled; called when the server listens. */
  attach(mover: PortMover): void {
    this.#mover = mover;
    this.#tellUrl(mover.address.port);
  }

  get state(): StateName {
    if (!this.#record.isEnabled) return 'cluster_disabled';
    return this.isSingleNode || this.#sharing.isFinished ? 'cluster_finished' : 'cluster_enabled';
  }

  get isSingleNode(): boolean {
    return this.#record.isSingleNode && !this.#sharing.isFinished;
  }

  /** The names of the other nodes; with this one once the cluster is finished. */
  get nodes(): readonly string[] {
    const { members } = this.#options.cluster;
    const nodes = this.state === 'cluster_finished' ? members.list() : members.others();
    return nodes.map(({ name }) => name);
  }

  /** State 1 to 2. Throws `BAD_REQUEST`, `UNAUTHORIZED`, `UNAVAILABLE`, and what the disk throws. */
  enable(enabling: Enabling): Promise<Done> {
    return this.#inTurn(async () => {
      await this.#assertMayEnable(enabling);
      const { config } = this.#options;
      return await this.#bindAndKeep(enabling, bindingFor(config, enabling.binding), false);
    });
  }

  /** State 1 to a finished cluster of one. Throws as `enable`. */
  enableSingleNode(enabling: Enabling, databases = SINGLE_NODE_DATABASES): Promise<Done> {
    return this.#inTurn(async () => {
      await this.#assertMayEnable(enabling);
      // Before it says that all is done; a repetition finds them there.
      await this.#createDatabases(databases);
      const { host, port } = enabling.binding;
      const isAsked = host !== undefined || port !== undefined;
      const configured = bindingInForce(this.#options.config, undefined);
      const asked = { host: host ?? configured.host, port: port ?? configured.port };
      return await this.#bindAndKeep(enabling, isAsked ? asked : undefined, true);
    });
  }

  /** Has another node enabled, with an admin of this one. Throws `BAD_REQUEST` with what it answered. */
  async enableRemote(remote: RemoteEnabling): Promise<Done> {
    const { admins, http, log, credentials } = this.#options;
    const hash = remote.passwordHash ?? admins.hashText(remote.admin);
    if (hash === undefined) throw refused(`there is no admin ${remote.admin} on this node`);
    const scheme = credentials.self.url.startsWith('https:') ? 'https' : 'http';
    const origin = urlOf(scheme, remote.host, remote.port);
    const { status, body } = await http
      .post({
        origin,
        path: '/_cluster_setup',
        as: remote.as,
        body: {
          ...remote.options,
          action: 'enable_cluster',
          username: remote.admin,
          password_hash: hash,
        },
      })
      .catch((error: unknown) => {
        if (!isDivanError(error)) throw error;
        throw refused(`the remote node can not be enabled: ${error.message}`, error);
      });
    if (status < 200 || status >= 300) {
      const reason = new Map<string, unknown>(Object.entries(Object(body))).get('reason');
      const why = typeof reason === 'string' ? reason.slice(0, 1000) : `it answered ${status}`;
      throw refused(`the remote node can not be enabled: ${why}`);
    }
    const warning = `the hash of the password of ${remote.admin} went to ${origin} unencrypted`;
    const warnings = isInTheClear(origin) ? [warning] : [];
    for (const text of warnings) log.warn(text);
    return { warnings };
  }

  /** Adds a node; `evenIfFinished` is for who knows what that means. Throws `BAD_REQUEST` with why not, with nothing changed. */
  addNode(wanted: NodeToAdd, evenIfFinished: boolean): Promise<Done> {
    return this.#inTurn(async () => {
      const { record, log } = this.#options;
      this.#assertEnabled();
      if (this.state === 'cluster_finished' && !evenIfFinished) {
        throw refused(
          'Cluster is already finished; nodes can be added with ?i_know_what_i_am_doing=true',
        );
      }
      this.#assertCoordinator();
      const { node, warnings } = await this.#joining.handOver(wanted);
      for (const warning of warnings) log.warn(warning);
      if (this.isSingleNode) {
        // From here on it is a finished cluster whose nodes follow it.
        await this.#sharing.publish();
        await this.#sharing.finish();
      }
      await this.#addMember(node);
      if (record.state.isSingleNode) await record.change({ isSingleNode: false });
      return { warnings };
    });
  }

  /** Keeps the cookie of a coordinator. Returns what that is answered. Throws `BAD_REQUEST` with why not, with nothing changed. */
  async receiveCookie(cookie: string, from: JsonValue | undefined): Promise<JsonObject> {
    const { identity } = nodeOf(from, '`from`');
    if (identity === this.#options.credentials.self.identity) {
      throw refused('that is this node itself');
    }
    // It does not wait: two nodes that add each other would wait for ever.
    if (this.#turns.unfinished > 0) {
      throw refused('the setup of this node is being changed at this moment; try again');
    }
    return await this.#inTurn(() => this.#joining.receive({ cookie, from }));
  }

  /** State 2 to 3; nothing is done in state 3. `mayBeAlone`: without any other node. Throws `BAD_REQUEST`, with the state unchanged. */
  finish(mayBeAlone: boolean, databases = SYSTEM_DATABASES): Promise<Done> {
    return this.#inTurn(async () => {
      this.#assertEnabled();
      if (this.state === 'cluster_finished') return { warnings: [] };
      this.#assertCoordinator();
      const { members } = this.#options.cluster;
      if (members.others().length === 0 && !mayBeAlone) {
        throw refused('no nodes are set up: add_node comes before finish_cluster');
      }
      await this.#assertAllReached();
      await this.#createDatabases(databases);
      const { missed } = await this.#sharing.publish();
      if (missed.length > 0) throw unreached(missed);
      const told = await this.#sharing.finish();
      return { warnings: told.missed.map(({ name }) => `${name} hears of it when it is back`) };
    });
  }

  /** Removes a member by its name. Throws `BAD_REQUEST`. */
  removeNode(name: string): Promise<Done> {
    return this.#inTurn(async () => {
      this.#assertEnabled();
      if (this.state !== 'cluster_finished') this.#assertCoordinator();
      const { heldBy, cluster } = this.#options;
      const { members, records } = cluster;
      const node = members.named(name);
      if (node === undefined) throw refused(`there is no node ${name.slice(0, 200)}`);
      if (node.identity === members.self.identity) {
        throw refused('a node can not remove itself: send this to another one');
      }
      const held = heldBy(node.identity);
      if (held.length > 0) throw refused(`${name} still holds ${held.slice(0, 20).join(', ')}`);
      await members.remove(node.identity);
      const { missed } = await records.toMembers([`member/${node.identity}`], HELLO_MS);
      const others = missed.filter(({ identity }) => identity !== node.identity);
      return { warnings: others.map(({ name }) => `${name} hears of it when it is back`) };
    });
  }

  /** Resolves when what this node has heard of its cluster is in force. */
  settled(): Promise<void> {
    return this.#sharing.followLater();
  }

  async close(): Promise<void> {
    await this.#sharing.close();
    await this.#announced;
    await this.#options.http.close();
  }

  /** One change after another. Throws what `work` throws, and `UNAVAILABLE` if too many wait. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#turns.unfinished < CHANGES_MAX) return this.#turns.run(work);
    const reason = 'too many changes of the setup wait; try again later';
    return Promise.reject(new DivanError('UNAVAILABLE', reason));
  }

  get #record(): SetupState {
    return this.#options.record.state;
  }

  #assertEnabled(): void {
    if (!this.#record.isEnabled) throw refused('Cluster is not enabled.');
  }

  #assertCoordinator(): void {
    const { coordinator } = this.#record;
    if (this.state === 'cluster_finished' || coordinator === undefined) return;
    throw refused(
      `this node was added by ${coordinator.name}, which coordinates the setup: send it to ${coordinator.url}`,
    );
  }

  async #assertMayEnable({ admin, mayGoOn }: Enabling): Promise<void> {
    if (!(await mayGoOn())) throw new DivanError('UNAUTHORIZED', 'You are not a server admin.');
    if (this.isSingleNode) {
      throw refused('this node is set up as a single node; add_node makes a cluster of it');
    }
    if (this.#record.isEnabled) throw refused('Cluster is already enabled');
    if (admin === undefined && !this.#options.admins.hasConfiguredAdmin) {
      throw refused('Cluster setup requires admin account to be configured');
    }
  }

  /** Binds first, since that can fail and be undone; what is durable is in force. */
  async #bindAndKeep(
    enabling: Enabling,
    binding: Binding | undefined,
    isSingle: boolean,
  ): Promise<Done> {
    const { config, admins, records, record, log } = this.#options;
    const { admin, nodeCount } = enabling;
    const password = admin === undefined ? undefined : await this.#passwordOf(admin);
    const move =
      binding === undefined ? undefined : await this.#move(bindingInForce(config, binding));
    const change = { isEnabled: true, isSingleNode: isSingle, binding, nodeCount };
    const { record: row, done } = record.changing(change);
    try {
      if (admin === undefined || password === undefined) await records.setAll([row]);
      else await admins.put(admin.name, password, [row]);
    } catch (error) {
      await move?.undo();
      throw error;
    }
    done();
    move?.commit();
    if (move !== undefined) this.#tellUrl(move.address.port);
    const warnings = binding === undefined ? [] : overridings(config, binding);
    for (const warning of warnings) log.warn(warning);
    return { warnings };
  }

  /** Undefined if nothing listens. Throws `BAD_REQUEST` for an address that can not be had. */
  async #move({ host, port }: Binding): Promise<ListenerMove | undefined> {
    const mover = this.#mover;
    if (mover === undefined) return undefined;
    try {
      // Any free port is the one that it has.
      return await mover.move({ host, port: port === 0 ? mover.address.port : port });
    } catch (error) {
      if (!isDivanError(error, 'IO')) throw error;
      throw refused(error.message, error);
    }
  }

  /** Undefined for an admin that there is, with this very password. Throws `BAD_REQUEST`. */
  async #passwordOf({ name, text }: ChosenAdmin): Promise<PasswordRecord | undefined> {
    const { admins, hasher } = this.#options;
    if (!admins.hasConfiguredAdmin) return await admins.hash(name, text);
    const kept = admins.find(name);
    if (kept === undefined) {
      throw refused('there is an admin already: enable_cluster must name it, with its password');
    }
    // A node that enables another one sends the hash of the admin that both are to have.
    if (isHashText(text)) return await admins.hash(name, text);
    if (await hasher.verify(text, kept)) return undefined;
    throw refused(`the admin ${name} is there already, with another password`);
  }

  /** Others have known this node under another name or URL, if it was started with other settings. */
  #tellUrl(port: number): void {
    const { credentials, config, cluster, log } = this.#options;
    credentials.self = { ...credentials.self, url: advertisedUrl(config, port) };
    const announce = () => cluster.members.announce();
    this.#announced = this.#announced.then(announce).catch((err: unknown) => {
      log.error({ err }, 'the other nodes could not be told where this one is now');
    });
  }

  async #addMember(node: Node): Promise<void> {
    const { members, records } = this.#options.cluster;
    try {
      await members.add(members.self);
      await members.add(node);
    } catch (error) {
      if (isDivanError(error, 'CONFLICT')) throw refused(error.message, error);
      throw error;
    }
    // Those that do not answer hear of it later.
    await records.toMembers(records.keys('member/'), HELLO_MS);
  }

  /** Throws `BAD_REQUEST` that names those that do not answer. */
  async #assertAllReached(): Promise<void> {
    const { members, calls } = this.#options.cluster;
    const others = members.others();
    const answers = await Promise.allSettled(
      others.map((node) => calls.call(node, 'hello', {}, { timeoutMs: HELLO_MS })),
    );
    const missed = others.filter((_, index) => answers[index]?.status === 'rejected');
    if (missed.length > 0) throw unreached(missed);
  }

  async #createDatabases(names: readonly string[]): Promise<void> {
    for (const name of names) {
      try {
        await this.#options.createDatabase(name);
      } catch (error) {
        if (!isDivanError(error, 'EXISTS')) throw error;
      }
    }
  }
}

function unreached(missed: readonly Node[]): DivanError {
  const names = missed.map(({ name, url }) => `${name} (${url})`).join(', ');
  return refused(`not all nodes can be reached, so nothing is finished: ${names}`);
}
