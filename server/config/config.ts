/**
 * The settings as they are in force: the default, or what says otherwise, the later the stronger: the configuration file, what was written
 * over HTTP, the environment, the flags.
 *
 * What was written over HTTP is kept in the node's records, which are opened only when it is known where: until `useRecords` the rest is
 * in force. Only settings that the table calls writable can be written, so that none of those needed until then is among them.
 */
import { DivanError } from '../../engine/errors.js';
import type { NodeRecords } from '../node-records.js';
import { Turns } from '../turns.js';
import {
  environmentName,
  isSettingName,
  partsOf,
  SETTING_NAMES,
  SETTINGS,
  type SettingName,
  type SettingValues,
} from './settings.js';
import {
  ADMIN_ENVIRONMENT,
  CONFIG_FILE,
  type ConfigSources,
  malformed,
  readEnvironment,
  readFileTexts,
  readFlags,
  type Texts,
  unknown,
} from './sources.js';

export type ConfigRecords = Pick<NodeRecords, 'get' | 'keys' | 'set' | 'remove'>;

/** Where the value of a setting comes from; the later the stronger. */
export const ORIGINS = ['default', 'file', 'http', 'environment', 'flag'] as const;
export type Origin = (typeof ORIGINS)[number];

/** A row of the help of `divan serve`. */
export interface SettingRow {
  /** `section/key`, as in the configuration file; undefined for what cannot be said there. */
  readonly name: string | undefined;
  readonly flag: string | undefined;
  readonly env: string;
  readonly default: string;
  readonly about: string;
}

type NumberName = {
  [N in SettingName]: SettingValues[N] extends number ? N : never;
}[SettingName];

/** The first may not be more than the second: it could never be reached. */
const AT_MOST: readonly (readonly [NumberName, NumberName])[] = [
  ['chttpd/max_http_request_size', 'chttpd/max_request_bytes_in_flight'],
  ['chttpd_auth/iterations', 'chttpd_auth/max_iterations'],
];

const RECORD_PREFIX = 'config/';

export class Config {
  /** The admins of the file: passwords, or the texts of their hashes, by name. */
  readonly fileAdmins: ReadonlyMap<string, string>;
  readonly #texts: Readonly<Record<Exclude<Origin, 'default'>, Texts>>;
  /** Of all that are not at their default. */
  readonly #values: Partial<SettingValues> = {};
  readonly #listeners = new Map<SettingName, Set<() => void>>();
  #records: ConfigRecords | undefined;
  /** Resolves when no write is under way: they are made one after another. */
  readonly #turns = new Turns();

  /** Throws `INVALID_SETTING` with where the mistake stands. */
  constructor(sources: ConfigSources) {
    const { texts: file, admins } = readFileTexts(sources);
    this.fileAdmins = admins;
    this.#texts = {
      file,
      http: new Map(),
      environment: readEnvironment(sources.environment),
      flag: readFlags(sources.flags),
    };
    for (const name of SETTING_NAMES) this.#refresh(name);
    const reason = this.#contradiction((name) => this.get(name));
    if (reason !== undefined) throw new DivanError('INVALID_SETTING', reason);
  }

  get<N extends SettingName>(name: N): SettingValues[N] {
    return this.#values[name] ?? SETTINGS[name].default;
  }

  /** Calls `listener` with the new value whenever it changes, until the returned function is called. */
  onChange<N extends SettingName>(
    name: N,
    listener: (value: SettingValues[N]) => void,
  ): () => void {
    const call = () => listener(this.get(name));
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(call));
    return () => listeners.delete(call);
  }

  /** Where the value in force comes from. */
  originOf(name: SettingName): Origin {
    return ORIGINS.findLast((origin) => this.#textFrom(origin, name) !== undefined) ?? 'default';
  }

  /**
   * Takes over what was written over HTTP, and keeps there what will be. Returns why some of it is not in force, for the log: another
   * version of the server may have written what this one does not take.
   */
  useRecords(records: ConfigRecords): string[] {
    this.#records = records;
    const problems: string[] = [];
    for (const key of records.keys(RECORD_PREFIX)) {
      const name = key.slice(RECORD_PREFIX.length);
      const text = textOf(records.get(key));
      const reason = text === undefined ? 'its record has no value' : this.#refusal(name, text);
      if (reason !== undefined) problems.push(`${name}, written over HTTP, is left out: ${reason}`);
      else if (text !== undefined && isSettingName(name)) this.#put(name, text);
    }
    return problems;
  }

  /** The text in force of one setting, undefined if there is no such setting. */
  textOf(section: string, key: string): string | undefined {
    const name = `${section}/${key}`;
    return isSettingName(name) ? this.#text(name) : undefined;
  }

  /**
   * Writes a setting over HTTP, durable and in force when it resolves. Returns the text that was in force before, as CouchDB answers a
   * `PUT`. Throws `INVALID_SETTING` if there is no such setting, it may not be written, its value is malformed, or a flag or an environment
   * variable has a say that is stronger; and what writing a record throws.
   */
  write(section: string, key: string, text: string): Promise<string> {
    return this.#turns.run(async () => {
      const name = this.#writable(section, key);
      const reason = this.#refusal(name, text);
      if (reason !== undefined) throw new DivanError('INVALID_SETTING', reason);
      const before = this.#text(name);
      await this.#recordsInUse().set(RECORD_PREFIX + name, { value: text });
      this.#put(name, text);
      return before;
    });
  }

  /**
   * Takes back what was written over HTTP. Returns the text that was in force before. Throws `NOT_FOUND` if nothing was written, else as
   * `write`.
   */
  erase(section: string, key: string): Promise<string> {
    return this.#turns.run(async () => {
      const name = this.#writable(section, key);
      if (!this.#texts.http.has(name)) throw new DivanError('NOT_FOUND', 'unknown_config_value');
      const before = this.#text(name);
      await this.#recordsInUse().remove(RECORD_PREFIX + name);
      this.#texts.http.delete(name);
      this.#refresh(name);
      return before;
    });
  }

  /** The texts in force, by section and key. Secrets and admins are no settings, so they are not among them. */
  toObject(): Record<string, Record<string, string>> {
    const sections: Record<string, Record<string, string>> = {};
    for (const name of SETTING_NAMES) {
      const [section, key] = partsOf(name);
      const keys = sections[section] ?? {};
      sections[section] = keys;
      keys[key] = this.#text(name);
    }
    return sections;
  }

  /** The canonical text of the value in force. */
  #text<N extends SettingName>(name: N): string {
    return SETTINGS[name].format(this.get(name));
  }

  #textFrom(origin: Origin, name: SettingName): string | undefined {
    return origin === 'default' ? undefined : this.#texts[origin].get(name);
  }

  #put(name: SettingName, text: string): void {
    this.#texts.http.set(name, text);
    this.#refresh(name);
  }

  /** Brings the value of a setting up to date with the texts. */
  #refresh<N extends SettingName>(name: N): void {
    const before = this.get(name);
    const text = this.#textFrom(this.originOf(name), name);
    const value = text === undefined ? undefined : SETTINGS[name].parse(text);
    this.#values[name] = value ?? SETTINGS[name].default;
    if (this.get(name) === before) return;
    for (const call of [...(this.#listeners.get(name) ?? [])]) call();
  }

  /** Throws `INVALID_SETTING` unless a setting may be written over HTTP. */
  #writable(section: string, key: string): SettingName {
    const name = `${section}/${key}`;
    if (!isSettingName(name)) throw new DivanError('INVALID_SETTING', unknown(section, key));
    const origin = this.originOf(name);
    if (!SETTINGS[name].isWritable) {
      throw new DivanError('INVALID_SETTING', `${name} cannot be changed over HTTP`);
    }
    if (origin !== 'environment' && origin !== 'flag') return name;
    const by =
      origin === 'flag'
        ? `the flag ${SETTINGS[name].flag}`
        : `the variable ${environmentName(name)}`;
    throw new DivanError(
      'INVALID_SETTING',
      `${name} is set by ${by}, which is stronger than what is written over HTTP`,
    );
  }

  /** Why a text may not be written to a setting. */
  #refusal(name: string, text: string): string | undefined {
    if (!isSettingName(name)) return 'there is no such setting';
    if (!SETTINGS[name].isWritable) return `${name} cannot be changed over HTTP`;
    const value = SETTINGS[name].parse(text);
    if (value === undefined) return malformed(name, name, text);
    return this.#contradiction((other) =>
      other === name && typeof value === 'number' ? value : this.get(other),
    );
  }

  #contradiction(read: (name: NumberName) => number): string | undefined {
    const pair = AT_MOST.find(([less, more]) => read(less) > read(more));
    if (pair === undefined) return undefined;
    const [less, more] = pair;
    return `${less}, ${read(less)}, is more than ${more}, ${read(more)}`;
  }

  #recordsInUse(): ConfigRecords {
    if (this.#records === undefined) throw new RangeError('the settings have no records yet');
    return this.#records;
  }
}

/** The help of `divan serve`: the settings in the order of the table, those with a flag first. */
export function describeSettings(): SettingRow[] {
  const rows = SETTING_NAMES.map((name) => describe(name));
  const others: SettingRow[] = [
    {
      name: undefined,
      ...CONFIG_FILE,
      default: '',
      about: 'A file of settings in the form of CouchDB’s local.ini.',
    },
    {
      name: undefined,
      flag: undefined,
      env: ADMIN_ENVIRONMENT,
      default: '',
      about: 'An admin, user:password, which is made or given this password at the start.',
    },
  ];
  const all = [...others, ...rows];
  return [
    ...all.filter(({ flag }) => flag !== undefined),
    ...all.filter(({ flag }) => flag === undefined),
  ];
}

function describe<N extends SettingName>(name: N): SettingRow {
  const setting = SETTINGS[name];
  return {
    name,
    flag: setting.flag,
    env: environmentName(name),
    default: setting.format(setting.default),
    about: setting.about,
  };
}

/** The value of a record that `write` made. */
function textOf(record: unknown): string | undefined {
  if (typeof record !== 'object' || record === null || !('value' in record)) return undefined;
  return typeof record.value === 'string' ? record.value : undefined;
}
