/**
 * Where the texts of settings come from at the start: a configuration file, the environment, flags. Nothing in them is passed over: what
 * is unknown or malformed is refused with where it stands.
 */
import { DivanError } from '../../engine/errors.js';
import { invalid, parseIni } from './ini.js';
import {
  environmentName,
  isSettingName,
  partsOf,
  SETTING_NAMES,
  SETTINGS,
  type SettingName,
} from './settings.js';

/** What the process was started with. */
export interface ConfigSources {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The values of flags by name, such as `--port`. */
  readonly flags: ReadonlyMap<string, string>;
  /** The text of a configuration file, undefined if there is no such file. */
  readonly readFile: (path: string) => string | undefined;
}

/** Where the file is said to be. */
export const CONFIG_FILE = { flag: '--config', env: 'DIVAN_CONFIG' } as const;

/** The first admin, `user:password`. It is no setting, so that nothing can print it. */
export const ADMIN_ENVIRONMENT = 'DIVAN_ADMIN';

/** The section of a file that holds, as in CouchDB, the admins: `name = password` or a hash of it. */
export const ADMINS_SECTION = 'admins';

export type Texts = Map<SettingName, string>;

export interface FileTexts {
  readonly texts: Texts;
  /** By name: passwords, or the texts of their hashes. */
  readonly admins: ReadonlyMap<string, string>;
}

/** What the configuration file says. Throws `INVALID_SETTING`. */
export function readFileTexts({ environment, flags, readFile }: ConfigSources): FileTexts {
  const texts: Texts = new Map();
  const admins = new Map<string, string>();
  const path = flags.get(CONFIG_FILE.flag) ?? environment[CONFIG_FILE.env] ?? '';
  if (path === '') return { texts, admins };
  const content = readFile(path);
  if (content === undefined) {
    throw new DivanError('INVALID_SETTING', `there is no configuration file ${path}`, { path });
  }
  for (const { section, key, value, line } of parseIni(content, path)) {
    const name = `${section}/${key}`;
    if (section === ADMINS_SECTION) {
      if (admins.has(key)) throw invalid(path, line, `the admin ${key} is there twice`);
      admins.set(key, value);
    } else if (!isSettingName(name)) {
      throw invalid(path, line, unknown(section, key));
    } else if (texts.has(name)) {
      throw invalid(path, line, `${name} is set twice`);
    } else if (SETTINGS[name].parse(value) === undefined) {
      throw invalid(path, line, malformed(name, name, value));
    } else {
      texts.set(name, value);
    }
  }
  return { texts, admins };
}

/** What the environment says; a variable that is empty says nothing. Throws `INVALID_SETTING`. */
export function readEnvironment(environment: ConfigSources['environment']): Texts {
  const names = new Map(SETTING_NAMES.map((name) => [environmentName(name), name]));
  const prefixes = SETTING_NAMES.map((name) => `DIVAN_${partsOf(name)[0].toUpperCase()}_`);
  const texts: Texts = new Map();
  for (const [variable, value = ''] of Object.entries(environment)) {
    if (value === '') continue;
    const name = names.get(variable);
    if (name !== undefined) texts.set(name, checked(name, variable, value));
    else if (prefixes.some((prefix) => variable.startsWith(prefix))) {
      const reason = `the environment variable ${variable} is for no setting that there is`;
      throw new DivanError('INVALID_SETTING', reason);
    }
  }
  return texts;
}

/** What the flags say. Throws `INVALID_SETTING`. */
export function readFlags(flags: ConfigSources['flags']): Texts {
  const texts: Texts = new Map();
  for (const [flag, value] of flags) {
    if (flag === CONFIG_FILE.flag) continue;
    const name = SETTING_NAMES.find((name) => SETTINGS[name].flag === flag);
    if (name === undefined) throw new DivanError('INVALID_SETTING', `there is no flag ${flag}`);
    texts.set(name, checked(name, flag, value));
  }
  return texts;
}

/** Why a value is refused; `what` is how the setting was called there. */
export function malformed(name: SettingName, what: string, value: string): string {
  const shown = value.length > 80 ? `${value.slice(0, 80)}…` : value;
  return `${what} must be ${SETTINGS[name].expects}, not ${JSON.stringify(shown)}`;
}

function checked(name: SettingName, what: string, value: string): string {
  if (SETTINGS[name].parse(value) !== undefined) return value;
  throw new DivanError('INVALID_SETTING', malformed(name, what, value));
}

/** Why a key is refused, with the keys that there are, or the sections if it is not even in one of those. */
export function unknown(section: string, key: string): string {
  const parts = SETTING_NAMES.map((name) => partsOf(name));
  const keys = parts.filter(([known]) => known === section).map(([, known]) => known);
  if (keys.length > 0) {
    return `there is no setting ${section}/${key}; this section has ${keys.join(', ')}`;
  }
  const sections = [...new Set(parts.map(([known]) => known)), ADMINS_SECTION];
  return `there is no section ${section}; there are ${sections.join(', ')}`;
}
