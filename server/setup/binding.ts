/**
 * Where the server listens and how others reach it. What the setup was told is kept in its record; a flag or an environment variable is
 * stronger, for address and port each.
 */
import { type AddressInfo, isIP, isIPv6 } from 'node:net';
import type { Config } from '../config/config.js';
import { NO_FILE } from '../config/setting.js';
import { environmentName, SETTINGS, type SettingName } from '../config/settings.js';
import { refused } from './refused.js';

export interface Binding {
  /** An IP address, or localhost. */
  readonly host: string;
  readonly port: number;
}

/** The port on its way to another address, which is bound already. Exactly one of the two is to be called. */
export interface ListenerMove {
  readonly address: AddressInfo;
  /** Listens there from now on, and no more where it was; what is connected stays so. */
  commit(): void;
  /** Listens where it was. */
  undo(): Promise<void>;
}

/** What can move its port. */
export interface PortMover {
  readonly address: AddressInfo;
  /**
   * Binds another address. Requests that come there wait until the move is committed. Throws `IO` with `EADDRINUSE` and the like in `errno`,
   * with everything as it was, and `UNAVAILABLE` if the server moves or stops already.
   */
  move(to: Binding): Promise<ListenerMove>;
}

const ADDRESS = 'chttpd/bind_address';
const PORT = 'chttpd/port';
const EVERYWHERE = '0.0.0.0';
const PORT_MAX = 65_535;

/** Where the server listens, if its setup was told so before. */
export function bindingInForce(config: Config, kept: Binding | undefined): Binding {
  return {
    host: kept === undefined || isFixed(config, ADDRESS) ? config.get(ADDRESS) : kept.host,
    port: kept === undefined || isFixed(config, PORT) ? config.get(PORT) : kept.port,
  };
}

/** What is to be bound when a cluster is enabled: what was asked for, else every address, unless another one than loopback is configured. */
export function bindingFor(config: Config, asked: Partial<Binding>): Binding {
  const configured = config.get(ADDRESS);
  const host = asked.host ?? (isLoopback(configured) ? EVERYWHERE : configured);
  return { host, port: asked.port ?? config.get(PORT) };
}

/** Why it is not bound as it was asked for; one sentence for each. */
export function overridings(config: Config, asked: Partial<Binding>): string[] {
  const { host, port } = asked;
  const found: string[] = [];
  if (host !== undefined && isFixed(config, ADDRESS) && config.get(ADDRESS) !== host) {
    found.push(overriding(config, ADDRESS, 'bind_address', config.get(ADDRESS)));
  }
  if (port !== undefined && isFixed(config, PORT) && config.get(PORT) !== port) {
    found.push(overriding(config, PORT, 'port', String(config.get(PORT))));
  }
  return found;
}

function overriding(config: Config, name: SettingName, what: string, value: string): string {
  const by =
    config.originOf(name) === 'flag'
      ? `the flag ${SETTINGS[name].flag}`
      : `the environment variable ${environmentName(name)}`;
  return `${what} was kept, but ${by} is stronger as long as it is there: it is ${value}`;
}

function isFixed(config: Config, name: SettingName): boolean {
  const origin = config.originOf(name);
  return origin === 'flag' || origin === 'environment';
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** Throws `BAD_REQUEST` for what is no IP address. */
export function checkAddress(host: string): string {
  if (isIP(host) !== 0) return host;
  throw refused(`Setup requires a valid IP bind_address. ${host.slice(0, 100)} is invalid.`);
}

/** A port that clients can be told; a text of digits will do, as in CouchDB's documentation. Throws `BAD_REQUEST`. */
export function checkPort(value: unknown): number {
  const port = typeof value === 'string' && /^\d{1,5}$/.test(value) ? Number(value) : value;
  if (typeof port === 'number' && Number.isInteger(port) && port >= 1 && port <= PORT_MAX) {
    return port;
  }
  throw refused(`\`port\` must be an integer from 1 to ${PORT_MAX}`);
}

/**
 * The URL under which other nodes reach this one: what is configured, else the host in its name, by https if it has a certificate. `port` is the
 * one that it listens at.
 */
export function advertisedUrl(config: Config, port: number): string {
  const configured = config.get('node/advertise');
  if (configured !== '') return configured.replace(/\/$/, '');
  const name = config.get('node/name');
  const scheme = config.get('chttpd/cert_file') === NO_FILE ? 'http' : 'https';
  return urlOf(scheme, name.slice(name.indexOf('@') + 1), port);
}

/** REQUIRES: `host` is a name or an IP address. */
export function urlOf(scheme: 'http' | 'https', host: string, port: number): string {
  return `${scheme}://${isIPv6(host) ? `[${host}]` : host}:${port}`;
}
