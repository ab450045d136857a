/** `/_node/{node}/_config`: the settings in force, and those that may be changed while the server runs. */
import { DivanError } from '../../engine/errors.js';
import { ADMINS_SECTION } from '../config/sources.js';
import type { Exchange } from '../http/exchange.js';
import { type JsonValue, parseJson } from '../http/json-value.js';
import type { Route } from '../http/router.js';
import { nodeRoute } from './node-name.js';
import type { Services } from './services.js';

/** More than the text of any setting needs. */
const VALUE_BYTES_MAX = 16 * 1024;

export function nodeConfigRoutes(services: Services): Route[] {
  const config = new NodeConfig(services);
  const path = '_config/:section/:key';
  return [
    nodeRoute(services, 'GET', '_config', (exchange) => config.all(exchange)),
    nodeRoute(services, 'GET', '_config/:section', (exchange) => config.section(exchange)),
    nodeRoute(services, 'GET', path, (exchange) => config.value(exchange)),
    nodeRoute(services, 'PUT', path, (exchange) => config.write(exchange)),
    nodeRoute(services, 'DELETE', path, (exchange) => config.erase(exchange)),
  ];
}

class NodeConfig {
  readonly #services: Services;

  constructor(services: Services) {
    this.#services = services;
  }

  all(exchange: Exchange): void {
    exchange.reply(200, Object.fromEntries(this.#sections()));
  }

  /** As in CouchDB, a section that is not there is one without keys. */
  section(exchange: Exchange): void {
    exchange.reply(200, this.#sections().get(exchange.param('section')) ?? {});
  }

  value(exchange: Exchange): void {
    const value = this.#textOf(exchange.param('section'), exchange.param('key'));
    if (value === undefined) throw new DivanError('NOT_FOUND', 'unknown_config_value');
    exchange.reply(200, value);
  }

  /** Answers what was in force before. */
  async write(exchange: Exchange): Promise<void> {
    const { config, admins } = this.#services;
    const section = exchange.param('section');
    const key = exchange.param('key');
    const value = parseJson(await exchange.body(VALUE_BYTES_MAX));
    if (typeof value !== 'string') {
      throw new DivanError('BAD_REQUEST', 'the value of a setting must be a JSON string');
    }
    if (section !== ADMINS_SECTION) {
      exchange.reply(200, await config.write(section, key, value));
      return;
    }
    const before = admins.hashText(key) ?? '';
    await admins.set(key, value);
    exchange.reply(200, before);
  }

  /** Answers what was in force before. */
  async erase(exchange: Exchange): Promise<void> {
    const { config, admins } = this.#services;
    const section = exchange.param('section');
    const key = exchange.param('key');
    if (section !== ADMINS_SECTION) {
      exchange.reply(200, await config.erase(section, key));
      return;
    }
    const before = admins.hashText(key) ?? '';
    await admins.remove(key);
    exchange.reply(200, before);
  }

  #textOf(section: string, key: string): string | undefined {
    const { config, admins } = this.#services;
    return section === ADMINS_SECTION ? admins.hashText(key) : config.textOf(section, key);
  }

  #sections(): Map<string, JsonValue> {
    const { config, admins } = this.#services;
    const hashes = admins.names.map((name): [string, string] => [
      name,
      admins.hashText(name) ?? '',
    ]);
    const sections = new Map<string, JsonValue>(Object.entries(config.toObject()));
    return sections.set(ADMINS_SECTION, Object.fromEntries(hashes));
  }
}
