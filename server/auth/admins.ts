/**
 * The admins of the server: names and password hashes, all in one record, so that to replace the generated admin by a configured one is one
 * durable step, and so is every other change.
 *
 * When nothing else is configured, the first start makes the admin `admin` with a random password, which is told once and kept as a hash
 * only. It goes with the first admin that somebody chose.
 */
import { DivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';
import { ADMIN_ENVIRONMENT } from '../config/sources.js';
import type { NodeRecords, RecordChange } from '../node-records.js';
import { Turns } from '../turns.js';
import type { AdminSource, ChangeListener } from './authenticator.js';
import {
  formatHashText,
  isHashText,
  type PasswordRecord,
  parseHashText,
  readRecord,
  weaknessOf,
} from './password.js';
import type { PasswordHasher } from './password-hasher.js';

/** What the server was started with. */
export interface ConfiguredAdmins {
  /** The text of `DIVAN_ADMIN`, `user:password`. */
  readonly environment: string | undefined;
  /** Of the section `admins` of the configuration file: passwords or texts of hashes by name. */
  readonly file: ReadonlyMap<string, string>;
  /** Where the server is to listen. */
  readonly address: string;
}

export interface AdminsOptions {
  readonly host: Host;
  readonly records: Pick<NodeRecords, 'get' | 'setAll'>;
  readonly hasher: PasswordHasher;
}

/** Where the admins of all nodes are kept, if they are the same on all. */
export interface AdminSharing {
  /** Durable when it resolves; undefined for one that is removed. Throws what writing throws, with nothing changed. */
  put(name: string, password: PasswordRecord | undefined): Promise<void>;
}

export interface OpenedAdmins {
  readonly admins: Admins;
  /** The admin that was made because there was none, to be printed once. */
  readonly generated: { readonly name: string; readonly password: string } | undefined;
  /** Those that the configuration made or gave another password at this start. */
  readonly changed: readonly string[];
}

interface Admin {
  readonly password: PasswordRecord;
  /** Made because there was none. */
  readonly isGenerated: boolean;
}

type AdminMap = ReadonlyMap<string, Admin>;

const RECORD = 'admins';
const GENERATED_NAME = 'admin';
/** No letter or digit that looks like another. Each is nearly 5 bits, all together more than 115. */
const ALPHABET = '23456789abcdefghjkmnpqrstuvwxyz';
const GENERATED_GROUPS = 4;
const GENERATED_GROUP_LENGTH = 6;

export class Admins implements AdminSource {
  readonly #options: AdminsOptions;
  readonly #listeners = new Set<ChangeListener>();
  #admins: AdminMap;
  #sharing: AdminSharing | undefined;
  /** Resolves when no change is under way: they are made one after another. */
  readonly #turns = new Turns();

  private constructor(options: AdminsOptions, admins: AdminMap) {
    this.#options = options;
    this.#admins = admins;
  }

  /**
   * Opens those that are kept and brings them up to what is configured, in one durable step. Admins that are configured no longer stay until
   * they are removed over HTTP. Throws `INVALID_SETTING` for a configured admin with a weak password, a malformed hash or name, and if others
   * than this machine could reach a server that nobody chose an admin for; `CORRUPT`, and what hashing and writing throw.
   */
  static async open(options: AdminsOptions, configured: ConfiguredAdmins): Promise<OpenedAdmins> {
    const kept = readAdmins(options.records.get(RECORD));
    const admins = new Admins(options, kept);
    const next = new Map(kept);
    const changed: string[] = [];
    for (const [name, text] of textsOf(configured)) {
      const password = await admins.#recordOf(name, text, kept.get(name));
      if (password === undefined) continue;
      next.set(name, { password, isGenerated: false });
      changed.push(name);
    }
    // Before one is made: its password would never be told.
    assertReachable(next, configured.address);
    if (next.size > 0) {
      await admins.#replace(next);
      return { admins, generated: undefined, changed };
    }
    const password = readablePassword(options.host);
    const record = await options.hasher.make(password);
    await admins.#replace(new Map([[GENERATED_NAME, { password: record, isGenerated: true }]]));
    return { admins, generated: { name: GENERATED_NAME, password }, changed };
  }

  find(name: string): PasswordRecord | undefined {
    return this.#admins.get(name)?.password;
  }

  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get names(): readonly string[] {
    return [...this.#admins.keys()];
  }

  /** True if there is an admin that somebody chose; until then the server must not be reached from elsewhere. */
  get hasConfiguredAdmin(): boolean {
    return isAnyChosen(this.#admins);
  }

  /** The hash of an admin's password as CouchDB prints it, for `GET /_node/_local/_config/admins`. */
  hashText(name: string): string | undefined {
    const record = this.find(name);
    return record === undefined ? undefined : formatHashText(record);
  }

  /** Of those that somebody chose, the hashes by name. */
  get chosen(): ReadonlyMap<string, PasswordRecord> {
    const chosen = [...this.#admins].filter(([, { isGenerated }]) => !isGenerated);
    return new Map(chosen.map(([name, { password }]) => [name, password]));
  }

  /**
   * Makes an admin or gives one another password, which may be the text of a hash; a generated admin goes in the same step. Durable when it
   * resolves. Throws `BAD_REQUEST` for a weak password, a malformed hash or name; and what hashing and writing throw.
   */
  async set(name: string, text: string): Promise<void> {
    await this.put(name, await this.hash(name, text), []);
  }

  /** The record for a new password of an admin, or of the text of its hash. Throws as `set`. */
  async hash(name: string, text: string): Promise<PasswordRecord> {
    assertName(name, 'BAD_REQUEST');
    return await this.#newRecord(name, text, 'BAD_REQUEST');
  }

  /** As `set`, with what `hash` gave. Other records of the node become what they are to be in the same durable step. */
  put(name: string, password: PasswordRecord, alongside: readonly RecordChange[]): Promise<void> {
    return this.#turns.run(async () => {
      const next = new Map([...this.#admins, [name, { password, isGenerated: false }]]);
      await this.#sharing?.put(name, password);
      await this.#replace(next, alongside);
    });
  }

  /** Durable when it resolves. Throws `NOT_FOUND`, `FORBIDDEN` for the last one, and what writing throws. */
  async remove(name: string): Promise<void> {
    await this.#turns.run(async () => {
      if (!this.#admins.has(name)) throw new DivanError('NOT_FOUND', 'unknown_config_value');
      if (this.#admins.size === 1) {
        throw new DivanError('FORBIDDEN', 'The last admin cannot be removed.');
      }
      const next = new Map(this.#admins);
      next.delete(name);
      await this.#sharing?.put(name, undefined);
      await this.#replace(next);
    });
  }

  /** From now on every change goes to all nodes, before it is in force here. */
  share(sharing: AdminSharing): void {
    this.#sharing = sharing;
  }

  /**
   * Has exactly those admins that `read` gives when it is its turn, unless those are none, and writes other records in the same durable step.
   * Returns the names of those that are gone. Throws what writing throws.
   */
  async follow(
    read: () => ReadonlyMap<string, PasswordRecord>,
    alongside: readonly RecordChange[],
  ): Promise<readonly string[]> {
    let gone: readonly string[] = [];
    await this.#turns.run(async () => {
      const wanted = read();
      const next = new Map(
        [...wanted].map(([name, password]) => [name, this.#kept(name, password)]),
      );
      gone = next.size === 0 ? [] : this.names.filter((name) => !next.has(name));
      await this.#replace(next.size === 0 ? this.#admins : next, alongside);
    });
    return gone;
  }

  /** The admin that there is, if it is the same one: its sessions go on. */
  #kept(name: string, password: PasswordRecord): Admin {
    const kept = this.#admins.get(name);
    const isSame =
      kept?.isGenerated === false && formatHashText(kept.password) === formatHashText(password);
    return isSame ? kept : { password, isGenerated: false };
  }

  /** The record for what is configured; undefined if the admin is as it should be, so that its sessions go on over a restart. */
  async #recordOf(
    name: string,
    text: string,
    kept: Admin | undefined,
  ): Promise<PasswordRecord | undefined> {
    assertName(name, 'INVALID_SETTING');
    const isUnchanged = isHashText(text)
      ? kept !== undefined && text === formatHashText(kept.password)
      : kept !== undefined && (await this.#options.hasher.verify(text, kept.password));
    if (!isUnchanged) return await this.#newRecord(name, text, 'INVALID_SETTING');
    return kept?.isGenerated === true ? kept.password : undefined;
  }

  async #newRecord(
    name: string,
    text: string,
    code: 'BAD_REQUEST' | 'INVALID_SETTING',
  ): Promise<PasswordRecord> {
    if (isHashText(text)) {
      const record = parseHashText(text);
      if (record !== undefined && this.#options.hasher.takes(record)) return record;
      throw new DivanError(
        code,
        `the hash of the password of the admin ${name} is malformed or has too many iterations`,
      );
    }
    const weakness = weaknessOf(name, text);
    if (weakness !== undefined) throw new DivanError(code, `the admin ${name}: ${weakness}`);
    return await this.#options.hasher.make(text);
  }

  /** Replaces all, without the generated one if there is another. */
  async #replace(wanted: AdminMap, alongside: readonly RecordChange[] = []): Promise<void> {
    const chosen = [...wanted].filter(([, { isGenerated }]) => !isGenerated);
    const next = chosen.length > 0 ? new Map(chosen) : wanted;
    const changed = [...new Set([...this.#admins.keys(), ...next.keys()])].filter(
      (name) => this.#admins.get(name) !== next.get(name),
    );
    if (changed.length === 0 && alongside.length === 0) return;
    const entries = [...next].map(
      ([name, { password, isGenerated }]) =>
        [name, { ...password, generated: isGenerated }] as const,
    );
    await this.#options.records.setAll([[RECORD, Object.fromEntries(entries)], ...alongside]);
    this.#admins = next;
    for (const name of changed) for (const listener of this.#listeners) listener(name);
  }
}

function isAnyChosen(admins: AdminMap): boolean {
  return [...admins.values()].some(({ isGenerated }) => !isGenerated);
}

/** Nobody elsewhere reaches a server that has no admin but the one that it made itself. Throws `INVALID_SETTING`. */
function assertReachable(admins: AdminMap, address: string): void {
  const isLoopback = address === 'localhost' || address === '::1' || address.startsWith('127.');
  if (isLoopback || isAnyChosen(admins)) return;
  throw new DivanError(
    'INVALID_SETTING',
    `to listen at ${address} needs an admin: set ${ADMIN_ENVIRONMENT} to user:password`,
  );
}

/** What is configured, the environment before the file. Throws `INVALID_SETTING`. */
function textsOf({ environment, file }: ConfiguredAdmins): Map<string, string> {
  const texts = new Map(file);
  if (environment === undefined || environment === '') return texts;
  const colon = environment.indexOf(':');
  // Nothing of it is shown: all of it may be the password.
  if (colon <= 0) {
    throw new DivanError('INVALID_SETTING', 'DIVAN_ADMIN must be `user:password`');
  }
  const [name, password] = [environment.slice(0, colon), environment.slice(colon + 1)];
  return texts.set(name, password);
}

/** Basic credentials end a name at `:`, and `_` begins what is CouchDB's own. */
function assertName(name: string, code: 'BAD_REQUEST' | 'INVALID_SETTING'): void {
  if (/^[^_:\p{Cc}][^:\p{Cc}]{0,127}$/u.test(name)) return;
  throw new DivanError(
    code,
    'the name of an admin has 1 to 128 characters, none of them `:`, and does not begin with `_`',
  );
}

function readablePassword(host: Host): string {
  const groups = Array.from({ length: GENERATED_GROUPS }, () =>
    Array.from(host.randomBytes(GENERATED_GROUP_LENGTH), (byte) =>
      ALPHABET.charAt(byte % ALPHABET.length),
    ).join(''),
  );
  return groups.join('-');
}

function readAdmins(record: unknown): AdminMap {
  const admins = new Map<string, Admin>();
  if (record === undefined) return admins;
  for (const [name, value] of Object.entries(record ?? {})) {
    const password = readRecord(value);
    const isGenerated = new Map<string, unknown>(Object.entries(value ?? {})).get('generated');
    if (password === undefined || typeof isGenerated !== 'boolean') {
      throw new DivanError('CORRUPT', 'the record of the admins of this server is malformed');
    }
    admins.set(name, { password, isGenerated });
  }
  return admins;
}
