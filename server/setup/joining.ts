/**
 * How a node gets into a cluster. The coordinator hands the cookie over; before the new node keeps it, it calls back with it, and the
 * coordinator, within that call, calls the new node where it says that it can be reached. So when anything is wrong nothing is durable on
 * either side, and a node counts only when both see each other.
 *
 * Durable steps, each of which may be the last one before a crash: the coordinator's cookie, the new node's cookie, the new member. What was
 * done is found done when the request is repeated.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { type ClusterCredentials, isInTheClear } from '../cluster/credentials.js';
import type { ClusterParts } from '../cluster/parts.js';
import type { Call, Node } from '../cluster/peers.js';
import { isObject, type JsonObject, type JsonValue, memberOf } from '../http/json-value.js';
import type { ServerHost } from '../world.js';
import { urlOf } from './binding.js';
import { assertProtocol, nodeJson, nodeOf } from './node-json.js';
import { refused } from './refused.js';
import type { SetupHttp, SetupReply } from './setup-http.js';
import type { SetupRecord } from './setup-record.js';

export interface NodeToAdd {
  readonly user: string;
  readonly password: string;
  readonly host: string;
  readonly port: number;
  /** Undefined for that of this node's own URL. */
  readonly scheme?: 'http' | 'https' | undefined;
}

export interface HandedCookie {
  readonly cookie: string;
  /** The coordinator. */
  readonly from: JsonValue | undefined;
}

export interface JoiningParts {
  readonly host: ServerHost;
  readonly record: SetupRecord;
  readonly credentials: ClusterCredentials;
  readonly cluster: Pick<
    ClusterParts,
    'calls' | 'handlers' | 'members' | 'records' | 'protocol' | 'trust' | 'yieldToOthers'
  >;
  readonly http: SetupHttp;
  readonly isFinished: () => boolean;
  /** The names of the databases of this node. */
  readonly databases: () => readonly string[];
}

/** The call with which a new node shows that it has the cookie and reaches the coordinator. */
export const JOIN_CALL = 'setup/join';
/** Answered by every node: what it is. */
const HELLO_CALL = 'hello';
const COOKIE_BYTES = 32;
/** The coordinator calls the new node within this call. */
const JOIN_MS = 15_000;
const HELLO_MS = 5000;

export class Joining {
  readonly #parts: JoiningParts;
  /** While a node is being added: the one that has called back, once it has. */
  #adding: { admitted: Node | undefined } | undefined;

  constructor(parts: JoiningParts) {
    this.#parts = parts;
    parts.cluster.handlers.on(JOIN_CALL, (call) => this.#joined(call), 'strangers too');
  }

  /**
   * Of the coordinator: hands the cookie to a node and waits until it has called back. Returns the node and warnings. Throws `BAD_REQUEST`
   * with why it can not be added, with nothing changed on either side. REQUIRES: no other change of the setup is under way.
   */
  async handOver(wanted: NodeToAdd): Promise<{ node: Node; warnings: string[] }> {
    const { credentials } = this.#parts;
    const scheme = wanted.scheme ?? (credentials.self.url.startsWith('https:') ? 'https' : 'http');
    const origin = urlOf(scheme, wanted.host, wanted.port);
    const isNewCookie = await this.#makeCookie();
    const adding: { admitted: Node | undefined } = { admitted: undefined };
    this.#adding = adding;
    let isSurelyNotKept = false;
    try {
      const reply = await this.#post(origin, wanted).catch((error: unknown) => {
        isSurelyNotKept = isDivanError(error) && error.facts.errno !== undefined;
        throw refused(`Add node failed. Invalid Host and/or Port: ${messageOf(error)}`, error);
      });
      // A disk that fails does not say what is on it.
      isSurelyNotKept = reply.status >= 300 && reply.status < 500;
      const node = admittedOf(reply, adding.admitted);
      return { node, warnings: warningsOf(origin, node) };
    } catch (error) {
      if (isNewCookie && isSurelyNotKept) await this.#dropCookie();
      throw error;
    } finally {
      this.#adding = undefined;
    }
  }

  /**
   * Of the new node: keeps the cookie, durable when it resolves with what the coordinator is answered. Throws `BAD_REQUEST` with why it does
   * not, with nothing changed. REQUIRES: no other change of the setup is under way.
   */
  async receive({ cookie, from }: HandedCookie): Promise<JsonObject> {
    const { record, credentials, cluster } = this.#parts;
    const coordinator = nodeOf(from, '`from`');
    const isKnown = this.#assertMayReceive(cookie, coordinator);
    assertProtocol(coordinator, cluster.protocol);
    const before = credentials.cookie;
    credentials.cookie = cookie;
    try {
      await this.#callBack(coordinator);
      const { name, identity, url } = coordinator;
      if (!isKnown) {
        await cluster.yieldToOthers();
        await record.change({ cookie, coordinator: { name, identity, url } });
      }
    } catch (error) {
      credentials.cookie = before;
      throw error;
    }
    cluster.trust(coordinator.identity);
    return { ok: true, ...nodeJson(credentials.self, cluster.protocol) };
  }

  /** Throws `BAD_REQUEST`; true if the node has this cookie already. */
  #assertMayReceive(cookie: string, from: Node): boolean {
    const { record, isFinished, databases } = this.#parts;
    const { state } = record;
    if (!state.isEnabled) throw refused('Cluster is not enabled.');
    if (state.isSingleNode) {
      throw refused('this node is set up as a single node; only it can make a cluster of itself');
    }
    // The comparison tells nobody anything: only an admin gets here, who may read the answers of this node anyway.
    if (state.cookie === cookie) return true;
    if (state.cookie !== undefined) {
      if (isFinished()) throw refused('this node is part of another cluster already');
      const { coordinator } = state;
      throw refused(
        coordinator === undefined
          ? 'this node is the coordinator of another setup'
          : `this node was added by another coordinator already: ${coordinator.name}`,
      );
    }
    const own = databases();
    if (own.length === 0) return false;
    const shown = own.slice(0, 5).join(', ');
    throw refused(
      `this node has databases of its own (${shown}${own.length > 5 ? ', …' : ''}): ` +
        `replicate them and delete them first. ${from.name} would not see them`,
    );
  }

  /** Shows the coordinator that this node has the cookie and reaches it. Throws `BAD_REQUEST`. */
  async #callBack(coordinator: Node): Promise<void> {
    const { credentials, cluster } = this.#parts;
    const head = nodeJson(credentials.self, cluster.protocol);
    try {
      await cluster.calls.call(coordinator, JOIN_CALL, head, { timeoutMs: JOIN_MS });
    } catch (error) {
      if (!isDivanError(error)) throw error;
      const { name, url } = coordinator;
      if (error.code === 'BAD_REQUEST') throw refused(error.message, error);
      throw refused(
        `it can not reach ${name} back at ${url}, which that node advertises: ${error.message}`,
        error,
      );
    }
  }

  /** Of the coordinator: a node calls that was handed the cookie. Throws `BAD_REQUEST`, which has the node keep nothing. */
  async #joined({ from, head }: Call): Promise<JsonObject> {
    const { credentials, cluster } = this.#parts;
    const adding = this.#adding;
    if (adding === undefined) throw refused('this node is not adding a node');
    const node = nodeOf(head, 'the call');
    if (node.identity !== from) throw refused('the node is not the one that calls');
    assertProtocol(node, cluster.protocol);
    const { name, identity, url } = node;
    this.#assertNew(node);
    const isSelf = (answer: JsonObject) => memberOf(answer, 'identity') === identity;
    const answer = await cluster.calls
      .call({ name, identity, url }, HELLO_CALL, nodeJson(credentials.self, cluster.protocol), {
        timeoutMs: HELLO_MS,
      })
      .catch((error: unknown) => {
        const why = messageOf(error);
        throw refused(`${name} can not be reached at ${url}, which it advertises: ${why}`, error);
      });
    if (!isSelf(answer)) throw refused(`at ${url}, which ${name} advertises, is another node`);
    // What was begun meanwhile is another matter.
    if (this.#adding === adding) adding.admitted = { name, identity, url };
    return { ok: true };
  }

  /** Throws `BAD_REQUEST` for this node itself, a name that another node has, and a node that was removed. */
  #assertNew({ name, identity }: Node): void {
    const { credentials, cluster } = this.#parts;
    if (identity === credentials.self.identity) throw refused('that is this node itself');
    const named = name === credentials.self.name ? credentials.self : cluster.members.named(name);
    if (named !== undefined && named.identity !== identity) {
      throw refused(`there is a node of the name ${name} already; start it with another --name`);
    }
    const record = cluster.records.get(`member/${identity}`);
    if (record !== undefined && memberOf(record, 'state') === 'left') {
      throw refused(
        `${name} was removed from this cluster; it can come back with an empty data directory only`,
      );
    }
  }

  /** True if there was none. */
  async #makeCookie(): Promise<boolean> {
    const { host, record, credentials } = this.#parts;
    if (record.state.cookie !== undefined) return false;
    const cookie = Buffer.from(host.randomBytes(COOKIE_BYTES)).toString('hex');
    // Durable before anybody else has it: a node that has a cookie must not be left alone with it.
    await record.change({ cookie });
    credentials.cookie = cookie;
    return true;
  }

  async #dropCookie(): Promise<void> {
    const { record, credentials } = this.#parts;
    await record.change({ cookie: undefined });
    credentials.cookie = undefined;
  }

  #post(origin: string, { user, password }: NodeToAdd): Promise<SetupReply> {
    const { record, credentials, cluster, http } = this.#parts;
    const { cookie } = record.state;
    if (cookie === undefined) throw new DivanError('UNAVAILABLE', 'there is no cookie yet');
    const from = nodeJson(credentials.self, cluster.protocol);
    return http.post({
      origin,
      path: '/_setup',
      as: { user, password },
      body: { action: 'receive_cookie', cookie, from },
    });
  }
}

/** The node that was added. Throws `BAD_REQUEST` if it was not. */
function admittedOf({ status, body }: SetupReply, admitted: Node | undefined): Node {
  if (status === 401 || status === 403) {
    throw refused(`Add node failed. Invalid admin credentials: ${reasonOf(body, status)}`);
  }
  if (status < 200 || status >= 300) throw refused(`Add node failed: ${reasonOf(body, status)}`);
  const node = nodeOf(body, 'Add node failed: what answers there');
  if (admitted?.identity === node.identity) return admitted;
  throw refused('Add node failed: the node has the cookie, but did not call back');
}

function reasonOf(body: JsonValue | undefined, status: number): string {
  const reason = isObject(body) ? memberOf(body, 'reason') : undefined;
  return typeof reason === 'string' ? reason.slice(0, 1000) : `it answered ${status}`;
}

function warningsOf(origin: string, { name, url }: Node): string[] {
  const clear = [...new Set([origin, url])].filter(isInTheClear);
  return clear.map(
    (where) =>
      `the secret of the cluster and the password went to ${name} at ${where} unencrypted: ` +
      'whoever could listen on the way has them. Use https beyond networks that you trust',
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
