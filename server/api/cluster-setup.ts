/** `/_cluster_setup` as CouchDB 3.5 has it, over the same state as `/_setup`; where it differs, `server/cluster/README.md` says so. */
import { DivanError } from '../../engine/errors.js';
import { isHashText } from '../auth/password.js';
import type { Exchange } from '../http/exchange.js';
import {
  type JsonObject,
  memberOf,
  optionalString,
  parseJson,
  requiredString,
} from '../http/json-value.js';
import type { Route } from '../http/router.js';
import { isLoopback } from '../setup/binding.js';
import { refused } from '../setup/refused.js';
import type { ChosenAdmin } from '../setup/setup.js';
import type { Services } from './services.js';
import { receive } from './setup.js';
import {
  actionOf,
  assertAdminUnless,
  bindingOf,
  checkHost,
  databasesOf,
  logIn,
  NOT_STORED,
  nameAndPassword,
  nodeCountOf,
  placeOf,
  replyDone,
} from './setup-answers.js';

const PATH = '/_cluster_setup';
const DEFAULT_PORT = 5984;

export function clusterSetupRoutes(services: Services): Route[] {
  const endpoint = new ClusterSetup(services);
  const access = 'setup';
  return [
    { method: 'GET', path: PATH, access, handle: (exchange) => endpoint.tell(exchange) },
    { method: 'POST', path: PATH, access, handle: (exchange) => endpoint.act(exchange) },
  ];
}

class ClusterSetup {
  readonly #services: Services;

  constructor(services: Services) {
    this.#services = services;
  }

  tell(exchange: Exchange): void {
    const { setup, catalog } = this.#services;
    const text = exchange.query.string('ensure_dbs_exist');
    const names = text === undefined ? [] : (databasesOf(parseJson(Buffer.from(text))) ?? []);
    const isComplete = names.every((name) => catalog.find(name) !== undefined);
    const state = setup.isSingleNode ? 'single_node' : setup.state;
    const states: Readonly<Record<typeof state, string>> = {
      single_node: isComplete ? 'single_node_enabled' : 'single_node_disabled',
      cluster_disabled: 'cluster_disabled',
      cluster_enabled: 'cluster_enabled',
      cluster_finished: isComplete ? 'cluster_finished' : 'cluster_enabled',
    };
    exchange.reply(200, { state: states[state] }, NOT_STORED);
  }

  async act(exchange: Exchange): Promise<void> {
    const { setup } = this.#services;
    const { action, body } = await actionOf(exchange);
    const isRemote = memberOf(body, 'remote_node') !== undefined;
    assertAdminUnless(action === 'enable_cluster' && !isRemote, exchange);
    switch (action) {
      case 'enable_cluster':
        return isRemote ? this.#enableRemote(exchange, body) : this.#enable(exchange, body);
      case 'enable_single_node':
        return this.#enableSingleNode(exchange, body);
      case 'add_node': {
        const { name: user, text: password } = nameAndPassword(
          memberOf(body, 'username'),
          memberOf(body, 'password'),
        );
        const place = placeOf(body, DEFAULT_PORT);
        // As in CouchDB nobody asks whether the cluster is finished.
        replyDone(exchange, await setup.addNode({ user, password, ...place }, true));
        return;
      }
      case 'receive_cookie':
        return receive(this.#services, exchange, body);
      case 'finish_cluster':
        return this.#finish(exchange, body);
      case 'remove_node':
        replyDone(exchange, await setup.removeNode(nodeNameOf(body)));
        return;
      default:
        throw refused('Invalid Action');
    }
  }

  async #enable(exchange: Exchange, body: JsonObject): Promise<void> {
    const { setup, config } = this.#services;
    if (setup.state !== 'cluster_disabled' && !setup.isSingleNode) {
      throw refused('Cluster is already enabled');
    }
    const admin = this.#adminOf(exchange, body);
    const binding = bindingOf(body);
    if (isLoopback(binding.host ?? config.get('chttpd/bind_address'))) {
      throw refused('Cluster setup requires a remote bind_address (not 127.0.0.1 nor ::1)');
    }
    const nodeCount = nodeCountOf(memberOf(body, 'node_count'));
    if (nodeCount === undefined) {
      throw refused('Cluster setup requires node_count to be configured');
    }
    const done = await setup.enable({ admin, binding, nodeCount, mayGoOn: exchange.mayGoOn });
    this.#logIn(exchange, admin);
    replyDone(exchange, done);
  }

  async #enableSingleNode(exchange: Exchange, body: JsonObject): Promise<void> {
    const admin = this.#adminOf(exchange, body);
    const done = await this.#services.setup.enableSingleNode(
      { admin, binding: bindingOf(body), mayGoOn: exchange.mayGoOn },
      databasesOf(memberOf(body, 'ensure_dbs_exist')),
    );
    this.#logIn(exchange, admin);
    replyDone(exchange, done);
  }

  async #enableRemote(exchange: Exchange, body: JsonObject): Promise<void> {
    const user = optionalString(body, 'remote_current_user');
    const password = optionalString(body, 'remote_current_password');
    const host = checkHost(memberOf(body, 'remote_node'));
    const { port } = placeOf({ host, ...only(body, ['port']) }, DEFAULT_PORT);
    const done = await this.#services.setup.enableRemote({
      host,
      port,
      as: user === undefined ? undefined : { user, password: password ?? '' },
      admin: requiredString(body, 'username'),
      passwordHash: optionalString(body, 'password_hash'),
      // What was not said is not said to the other node either.
      options: only(body, ['bind_address', 'port', 'node_count']),
    });
    replyDone(exchange, done);
  }

  async #finish(exchange: Exchange, body: JsonObject): Promise<void> {
    const { setup } = this.#services;
    if (setup.state === 'cluster_finished') throw refused('Cluster is already finished');
    const databases = databasesOf(memberOf(body, 'ensure_dbs_exist'));
    replyDone(exchange, await setup.finish(true, databases));
  }

  /** The admin that a body names; undefined where it names none and the caller is one already. Throws `BAD_REQUEST`. */
  #adminOf({ caller }: Exchange, body: JsonObject): ChosenAdmin | undefined {
    const name = memberOf(body, 'username');
    if (name === undefined) {
      const { admins } = this.#services;
      if (caller.isServerAdmin && admins.hasConfiguredAdmin) return undefined;
      throw refused('Cluster setup requires admin account to be configured');
    }
    const hash = optionalString(body, 'password_hash');
    if (hash !== undefined && !isHashText(hash)) {
      throw refused(
        '`password_hash` must be the text of a hash, such as CouchDB keeps in [admins]',
      );
    }
    return nameAndPassword(name, hash ?? memberOf(body, 'password'));
  }

  /** Who sent a hash need not know the password. */
  #logIn(exchange: Exchange, admin: ChosenAdmin | undefined): void {
    if (admin !== undefined && !isHashText(admin.text)) logIn(this.#services, exchange, admin);
  }
}

/** As add_node has it, or the whole name. Throws `BAD_REQUEST`. */
function nodeNameOf(body: JsonObject): string {
  const name = optionalString(body, 'name') ?? optionalString(body, 'node');
  if (name === undefined) throw new DivanError('BAD_REQUEST', '`name` must be that of a node');
  const host = optionalString(body, 'host');
  return name.includes('@') || host === undefined ? name : `${name}@${host}`;
}

/** The members of these names that are there. */
function only(body: JsonObject, names: readonly string[]): JsonObject {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = memberOf(body, name);
      return value === undefined ? [] : [[name, value]];
    }),
  );
}
