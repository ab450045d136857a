/** `_security`, `_revs_limit`, `_purged_infos_limit`: what a database says of itself. */
import { DivanError } from '../../engine/errors.js';
import { canonicalJson } from '../../engine/shard/json-text.js';
import { SETTING_MAX } from '../../engine/shard/state.js';
import { parseSecurity } from '../auth/security.js';
import type { DatabaseSettings } from '../databases/database-settings.js';
import type { Exchange } from '../http/exchange.js';
import { parseJson } from '../http/json-value.js';
import type { Route } from '../http/router.js';
import type { Services } from './services.js';

/** More than the text of any limit needs. */
const LIMIT_BYTES_MAX = 64;
const EMPTY = Buffer.from('{}');

type LimitName = 'revsLimit' | 'purgeInfosLimit';

const LIMITS: readonly (readonly [path: string, name: LimitName])[] = [
  ['_revs_limit', 'revsLimit'],
  ['_purged_infos_limit', 'purgeInfosLimit'],
];

export function databaseSettingsRoutes(services: Services): Route[] {
  const settings = new Settings(services);
  const limits = LIMITS.flatMap(([path, name]): Route[] => [
    {
      method: 'GET',
      path: `/:db/${path}`,
      access: 'database_member',
      handle: (exchange) => settings.limit(exchange, name),
    },
    {
      method: 'PUT',
      path: `/:db/${path}`,
      access: 'database_admin',
      handle: (exchange) => settings.setLimit(exchange, path, name),
    },
  ]);
  return [
    {
      method: 'GET',
      path: '/:db/_security',
      access: 'database_member',
      handle: (exchange) => settings.security(exchange),
    },
    {
      method: 'PUT',
      path: '/:db/_security',
      access: 'database_admin',
      handle: (exchange) => settings.setSecurity(exchange),
    },
    ...limits,
  ];
}

class Settings {
  readonly #services: Services;

  constructor(services: Services) {
    this.#services = services;
  }

  async security(exchange: Exchange): Promise<void> {
    const { security } = await this.#settings(exchange).current();
    exchange.replyText(200, security.length === 0 ? EMPTY : security);
  }

  async setSecurity(exchange: Exchange): Promise<void> {
    const settings = this.#settings(exchange);
    const bytes = await exchange.body(exchange.limits.documentBytesMax);
    parseSecurity(parseJson(bytes));
    await settings.change({ security: canonicalJson(bytes) });
    exchange.reply(200, { ok: true });
  }

  async limit(exchange: Exchange, name: LimitName): Promise<void> {
    exchange.reply(200, (await this.#settings(exchange).current())[name]);
  }

  async setLimit(exchange: Exchange, path: string, name: LimitName): Promise<void> {
    const settings = this.#settings(exchange);
    const value = parseJson(await exchange.body(LIMIT_BYTES_MAX));
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > SETTING_MAX) {
      const reason = `\`${path}\` must be an integer from 1 to ${SETTING_MAX}`;
      throw new DivanError('BAD_REQUEST', reason);
    }
    await settings.change(name === 'revsLimit' ? { revsLimit: value } : { purgeInfosLimit: value });
    exchange.reply(200, { ok: true });
  }

  #settings(exchange: Exchange): {
    current(): Promise<DatabaseSettings>;
    change(edit: Partial<DatabaseSettings>): Promise<void>;
  } {
    return this.#services.catalog.get(exchange.param('db')).settings;
  }
}
