/**
 * Hashes of passwords: what is kept of a password, and the texts and documents that CouchDB keeps of one
 * (`src/couch/src/couch_passwords.erl`). New ones are PBKDF2 with SHA-256; the older forms are read, so that users can come along.
 *
 * As in CouchDB the salt is the text itself, not the bytes that its hexadecimal digits stand for, and a derived key is as long as a digest
 * of its hash function.
 */
import { type BinaryLike, createHash, timingSafeEqual } from 'node:crypto';

/** The hash functions by CouchDB's names, with Node's names and the length of a digest in bytes. */
const PRFS = new Map([
  ['sha', { digest: 'sha1', bytes: 20 }],
  ['sha224', { digest: 'sha224', bytes: 28 }],
  ['sha256', { digest: 'sha256', bytes: 32 }],
  ['sha384', { digest: 'sha384', bytes: 48 }],
  ['sha512', { digest: 'sha512', bytes: 64 }],
]);

export interface Pbkdf2Record {
  readonly scheme: 'pbkdf2';
  /** `sha256` for those made here. */
  readonly prf: string;
  readonly iterations: number;
  readonly salt: string;
  /** Hexadecimal. */
  readonly derivedKey: string;
}

/** CouchDB before 1.3: SHA-1 of the password and then the salt. */
export interface SimpleRecord {
  readonly scheme: 'simple';
  readonly salt: string;
  /** Hexadecimal. */
  readonly derivedKey: string;
}

/** What is kept of a password. */
export type PasswordRecord = Pbkdf2Record | SimpleRecord;

/** What a thread needs to derive a key. */
export interface Derivation {
  readonly password: string;
  readonly salt: string;
  readonly iterations: number;
  readonly digest: string;
  readonly keyBytes: number;
}

/** The length of new salts, in random bytes. */
export const SALT_BYTES = 16;
/** Of what is made here. */
export const PRF = 'sha256';

const HEX = /^([0-9a-f]{2})+$/;
/** CouchDB's take any text; what is written into a hash text ends at a comma. */
const SALT = /^[^,\p{Cc}]{1,128}$/u;
const ITERATIONS_MAX = 4_294_967_295;

/** How the key of a record is derived from a password. REQUIRES: the record is valid. */
export function derivationOf(record: Pbkdf2Record, password: string): Derivation {
  const { digest, bytes } = PRFS.get(record.prf) ?? { digest: PRF, bytes: 32 };
  const { salt, iterations } = record;
  return { password, salt, iterations, digest, keyBytes: bytes };
}

/** True if a derived key is that of the record; takes as long whatever is different. */
export function isKeyOf(record: PasswordRecord, key: Uint8Array): boolean {
  const expected = Buffer.from(record.derivedKey, 'hex');
  return expected.length === key.length && timingSafeEqual(expected, key);
}

export function simpleKey(password: string, salt: string): Uint8Array {
  const input: BinaryLike = password + salt;
  return createHash('sha1').update(input).digest();
}

/**
 * A record of parts from outside, undefined if they are not one: a hash function that is not known, a key shorter than a digest, which
 * would be guessed sooner.
 */
export function recordOf(parts: {
  readonly scheme: unknown;
  readonly prf: unknown;
  readonly iterations: unknown;
  readonly salt: unknown;
  readonly derivedKey: unknown;
}): PasswordRecord | undefined {
  const { scheme, prf = 'sha', iterations, salt, derivedKey } = parts;
  if (typeof salt !== 'string' || !SALT.test(salt)) return undefined;
  if (typeof derivedKey !== 'string' || !HEX.test(derivedKey)) return undefined;
  if (scheme === 'simple')
    return derivedKey.length === 40 ? { scheme, salt, derivedKey } : undefined;
  if (scheme !== 'pbkdf2' || typeof prf !== 'string' || typeof iterations !== 'number') {
    return undefined;
  }
  if (!Number.isInteger(iterations) || iterations < 1 || iterations > ITERATIONS_MAX)
    return undefined;
  if (derivedKey.length !== (PRFS.get(prf)?.bytes ?? 0) * 2) return undefined;
  return { scheme, prf, iterations, salt, derivedKey };
}

/** A record as it is kept in the node's records, undefined if it is none. */
export function readRecord(value: unknown): PasswordRecord | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const parts = new Map<string, unknown>(Object.entries(value));
  return recordOf({
    scheme: parts.get('scheme'),
    prf: parts.get('prf'),
    iterations: parts.get('iterations'),
    salt: parts.get('salt'),
    derivedKey: parts.get('derivedKey'),
  });
}

/**
 * The record of a text as CouchDB's `[admins]` has it, `-pbkdf2:sha256-KEY,SALT,ITERATIONS`, `-pbkdf2-…` for SHA-1 and `-hashed-KEY,SALT`;
 * undefined if it is none of these.
 */
export function parseHashText(text: string): PasswordRecord | undefined {
  const [, kind = '', rest = ''] = /^-(hashed|pbkdf2(?::[a-z0-9]+)?)-(.*)$/.exec(text) ?? [];
  const [derivedKey, salt, iterations, ...more] = rest.split(',');
  if (more.length > 0) return undefined;
  if (kind === 'hashed') {
    if (iterations !== undefined) return undefined;
    return recordOf({ scheme: 'simple', prf: undefined, iterations, salt, derivedKey });
  }
  if (iterations === undefined || !/^\d{1,10}$/.test(iterations)) return undefined;
  const prf = kind.split(':')[1];
  return recordOf({ scheme: 'pbkdf2', prf, iterations: Number(iterations), salt, derivedKey });
}

/** True for a text that is meant to be a hash, be it malformed: never a password. */
export function isHashText(text: string): boolean {
  return /^-(hashed|pbkdf2)/.test(text);
}

/** The text that `parseHashText` reads. */
export function formatHashText(record: PasswordRecord): string {
  const { salt, derivedKey } = record;
  if (record.scheme === 'simple') return `-hashed-${derivedKey},${salt}`;
  const kind = record.prf === 'sha' ? 'pbkdf2' : `pbkdf2:${record.prf}`;
  return `-${kind}-${derivedKey},${salt},${record.iterations}`;
}

const WELL_KNOWN = new Set([
  'password',
  'password1',
  'passw0rd',
  '12345678',
  '123456789',
  '1234567890',
  'qwertyui',
  'qwertyuiop',
  'changeme',
  'changeit',
  'letmein1',
  'iloveyou',
  'administrator',
  'adminadmin',
]);
const LENGTH_MIN = 8;

/** Why a password may not be an admin's, undefined if it may. */
export function weaknessOf(name: string, password: string): string | undefined {
  if (password === '') return 'a password must not be empty';
  if ([...password].length < LENGTH_MIN) {
    return `a password must have at least ${LENGTH_MIN} characters`;
  }
  const lower = password.toLowerCase();
  if (lower === name.toLowerCase()) return 'a password must not be the name of the user';
  if (WELL_KNOWN.has(lower) || new Set(lower).size < 3) return 'this password is too easy to guess';
  return undefined;
}
