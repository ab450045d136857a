/** `/_setup`: the state machine of the setup, with the bodies and answers of its plan. */
import type { Exchange } from '../http/exchange.js';
import { isObject, type JsonObject, type JsonValue, memberOf } from '../http/json-value.js';
import type { Route } from '../http/router.js';
import type { NodeToAdd } from '../setup/joining.js';
import { refused } from '../setup/refused.js';
import type { Services } from './services.js';
import {
  actionOf,
  assertAdminUnless,
  bindingOf,
  logIn,
  NOT_STORED,
  nameAndPassword,
  placeOf,
  replyDone,
} from './setup-answers.js';

const PATH = '/_setup';
const DEFAULT_PORT = 5984;

export function setupRoutes(services: Services): Route[] {
  const access = 'setup';
  return [
    { method: 'GET', path: PATH, access, handle: (exchange) => tell(services, exchange) },
    { method: 'POST', path: PATH, access, handle: (exchange) => act(services, exchange) },
  ];
}

function tell({ setup }: Services, exchange: Exchange): void {
  const { state, nodes } = setup;
  const body = state === 'cluster_disabled' ? { state } : { state, nodes };
  exchange.reply(200, body, NOT_STORED);
}

async function act(services: Services, exchange: Exchange): Promise<void> {
  const { setup } = services;
  const { action, body } = await actionOf(exchange);
  assertAdminUnless(action === 'enable_cluster', exchange);
  switch (action) {
    case 'enable_cluster':
      await enable(services, exchange, body);
      return;
    case 'add_node': {
      const isSure = exchange.query.boolean('i_know_what_i_am_doing') === true;
      replyDone(exchange, await setup.addNode(nodeToAdd(body), isSure));
      return;
    }
    case 'receive_cookie':
      await receive(services, exchange, body);
      return;
    // The plan has both names.
    case 'finish_cluster':
    case 'finish_setup':
      replyDone(exchange, await setup.finish(false));
      return;
    case 'remove_node':
      replyDone(exchange, await setup.removeNode(nodeName(memberOf(body, 'node'))));
      return;
    default:
      throw refused(
        'Invalid Action: it is one of enable_cluster, add_node, finish_cluster, remove_node',
      );
  }
}

async function enable(services: Services, exchange: Exchange, body: JsonObject): Promise<void> {
  const admin = adminOf(body);
  const done = await services.setup.enable({
    admin,
    binding: bindingOf(body),
    mayGoOn: exchange.mayGoOn,
  });
  logIn(services, exchange, admin);
  replyDone(exchange, done);
}

/** Of both endpoints. */
export async function receive(
  { setup }: Services,
  exchange: Exchange,
  body: JsonObject,
): Promise<void> {
  const cookie = memberOf(body, 'cookie');
  if (typeof cookie !== 'string' || cookie.length < 16 || cookie.length > 1024) {
    throw refused('`cookie` must be a text of 16 to 1024 characters');
  }
  exchange.reply(201, await setup.receiveCookie(cookie, memberOf(body, 'from')), NOT_STORED);
}

function adminOf(body: JsonObject): { name: string; text: string } {
  const admin = memberOf(body, 'admin');
  if (!isObject(admin)) throw refused('`admin` must be an object with `user` and `pass`');
  return nameAndPassword(memberOf(admin, 'user'), memberOf(admin, 'pass'));
}

function nodeToAdd(body: JsonObject): NodeToAdd {
  const { name, text } = adminOf(body);
  const node = memberOf(body, 'node');
  if (!isObject(node)) throw refused('`node` must be an object with `host`, and `port` if need be');
  return { user: name, password: text, ...placeOf(node, DEFAULT_PORT) };
}

function nodeName(node: JsonValue | undefined): string {
  const name = isObject(node) ? memberOf(node, 'name') : node;
  if (typeof name === 'string' && name !== '') return name;
  throw refused('`node` must be the name of a node, such as node2@10.0.0.2');
}
