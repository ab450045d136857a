/**
 * Documents of the database `_users`: who may read and write which, and what becomes of a write before it is stored. By the rules of CouchDB
 * (`src/couch/src/couch_users_db.erl` and the validation function in `couch_js_functions.hrl`), stricter in two ways: nobody but an admin
 * makes users, and a user cannot hand in a hash, only a password.
 *
 * All is decided on the very object that is then serialised and stored (CVE-2017-12635).
 */
import { DivanError } from '../../engine/errors.js';
import { type JsonObject, type JsonValue, memberOf } from '../http/json-value.js';
import type { StoredUser } from './authenticator.js';
import type { Caller } from './caller.js';
import { type PasswordRecord, type Pbkdf2Record, recordOf } from './password.js';
import type { PasswordHasher } from './password-hasher.js';

export const USERS_DATABASE = '_users';
export const USER_PREFIX = 'org.couchdb.user:';

/** A write of a document of `_users`. */
export interface UserEdit {
  readonly id: string;
  /** What was sent, with `_deleted` if it is a deletion. */
  readonly document: JsonObject;
  /** The winning revision before, if there is one that is not deleted. */
  readonly previous: JsonObject | undefined;
  readonly caller: Caller;
  /** True for a write with `new_edits=false`. */
  readonly isReplicated: boolean;
}

/** Where the hash of a password is; a new password replaces them all. */
const HASH_MEMBERS = [
  'password_scheme',
  'pbkdf2_prf',
  'iterations',
  'derived_key',
  'password_sha',
  'salt',
];

/** The name of the user whose document has this id, undefined if it is none of a user. */
export function userNameOf(id: string): string | undefined {
  return id.startsWith(USER_PREFIX) ? id.slice(USER_PREFIX.length) : undefined;
}

/**
 * Throws unless somebody may read a document of `_users`: admins each, a user its own. Of others it is not told whether they are there:
 * `NOT_FOUND`, for anybody who did not say who it is `UNAUTHORIZED`, for a design document `FORBIDDEN`.
 */
export function assertMayReadUser(id: string, caller: Caller): void {
  if (caller.isServerAdmin) return;
  if (caller.name === undefined) throw notAuthorized();
  if (id.startsWith('_design/')) {
    throw forbidden('Only administrators can view design docs in the users database.');
  }
  if (userNameOf(id) !== caller.name) throw new DivanError('NOT_FOUND', 'missing');
}

/** Throws unless somebody may read lists of `_users`, such as its `_all_docs` and `_changes`: admins only. */
export function assertMayListUsers(caller: Caller): void {
  if (caller.isServerAdmin) return;
  if (caller.name === undefined) throw notAuthorized();
  throw forbidden('You are not allowed to access this db.');
}

/**
 * The document to store for a write: without its password, which is hashed. Throws `FORBIDDEN` with CouchDB's words for what may not be
 * written, `UNAUTHORIZED` for a caller who did not say who it is, and what hashing throws.
 */
export async function prepareUserDocument(
  edit: UserEdit,
  hasher: PasswordHasher,
): Promise<JsonObject> {
  const { id, document, caller, isReplicated } = edit;
  if (!caller.isServerAdmin) {
    if (caller.name === undefined) throw notAuthorized();
    if (isReplicated) throw forbidden('Only administrators may write with new_edits=false here.');
    if (memberOf(document, '_deleted') === true && userNameOf(id) !== caller.name) {
      throw forbidden('Only admins may delete other user docs.');
    }
    if (userNameOf(id) !== caller.name) {
      throw forbidden('You may only update your own user document.');
    }
  }
  const isFree = id.startsWith('_design/') || id.startsWith('_local/');
  if (isFree || memberOf(document, '_deleted') === true) return without(document, ['password']);
  assertShape(id, document);
  assertRoles(edit);
  const password = memberOf(document, 'password');
  if (password === undefined || password === null) {
    assertHash(edit, hasher);
    return without(document, ['password']);
  }
  if (typeof password !== 'string') throw forbidden('doc.password must be a string');
  if (password === '') throw forbidden('doc.password must not be empty');
  const rest = without(document, ['password', ...HASH_MEMBERS]);
  return { ...rest, ...hashMembers(await hasher.make(password)) };
}

/**
 * The user that a document of `_users` stands for; undefined if it has no password, or is malformed, as one can be that was written
 * elsewhere.
 */
export function storedUserOf(id: string, document: JsonObject): StoredUser | undefined {
  const name = userNameOf(id);
  const isUser =
    name !== undefined &&
    memberOf(document, 'type') === 'user' &&
    memberOf(document, 'name') === name &&
    memberOf(document, '_deleted') !== true;
  const password = isUser ? hashOf(document) : undefined;
  if (password === undefined) return undefined;
  return { roles: rolesOf(document).filter((role) => !role.startsWith('_')), password };
}

function assertShape(id: string, document: JsonObject): void {
  if (memberOf(document, 'type') !== 'user') throw forbidden('doc.type must be user');
  const name = memberOf(document, 'name');
  if (typeof name !== 'string' || name === '') throw forbidden('doc.name is required');
  const ownId = memberOf(document, '_id') ?? id;
  if (id !== USER_PREFIX + name || ownId !== id) {
    throw forbidden('Doc ID must be of the form org.couchdb.user:name');
  }
  if (name.startsWith('_')) throw forbidden('Username may not start with underscore.');
  if (name.includes(':')) throw forbidden('Character `:` is not allowed in usernames.');
}

function assertRoles({ document, previous, caller }: UserEdit): void {
  const value = memberOf(document, 'roles');
  if (value === undefined) throw forbidden('doc.roles must exist');
  if (!Array.isArray(value)) throw forbidden('doc.roles must be an array');
  const roles = rolesOf(document);
  if (roles.length !== value.length) throw forbidden('doc.roles can only contain strings');
  if (roles.some((role) => role.startsWith('_'))) {
    throw forbidden('No system roles (starting with underscore) in users db.');
  }
  if (caller.isServerAdmin) return;
  const before = previous === undefined ? [] : rolesOf(previous);
  const isSame =
    roles.length === before.length && roles.every((role, index) => role === before[index]);
  if (!isSame) throw forbidden('Only _admin may edit roles');
}

/** A hash that is sent instead of a password: from a user what was there before, from an admin one that can be verified. */
function assertHash({ document, previous, caller }: UserEdit, hasher: PasswordHasher): void {
  const sent = HASH_MEMBERS.filter((name) => memberOf(document, name) !== undefined);
  if (!caller.isServerAdmin) {
    const isChanged = HASH_MEMBERS.some(
      (name) => memberOf(document, name) !== memberOf(previous ?? {}, name),
    );
    if (isChanged) throw forbidden('A password is changed by sending the new one as doc.password.');
    return;
  }
  const record = sent.length === 0 ? undefined : hashOf(document);
  if (sent.length === 0 || (record !== undefined && hasher.takes(record))) return;
  throw forbidden(`The password hash in ${sent.join(', ')} is not one that can be verified.`);
}

/** The hash that a document holds, undefined if it holds none that can be verified. */
function hashOf(document: JsonObject): PasswordRecord | undefined {
  const scheme = memberOf(document, 'password_scheme') ?? 'simple';
  return recordOf({
    scheme,
    prf: memberOf(document, 'pbkdf2_prf'),
    iterations: memberOf(document, 'iterations'),
    salt: memberOf(document, 'salt'),
    derivedKey: memberOf(document, scheme === 'simple' ? 'password_sha' : 'derived_key'),
  });
}

/** A hash under CouchDB's names. */
function hashMembers({ scheme, prf, iterations, salt, derivedKey }: Pbkdf2Record): JsonObject {
  return {
    password_scheme: scheme,
    pbkdf2_prf: prf,
    iterations,
    derived_key: derivedKey,
    salt,
  };
}

/** Those of its roles that are strings. */
function rolesOf(document: JsonObject): string[] {
  const roles = memberOf(document, 'roles');
  if (!Array.isArray(roles)) return [];
  return roles.filter((role: JsonValue): role is string => typeof role === 'string');
}

/** Built from entries, so that a member `__proto__` stays a member. */
function without(document: JsonObject, names: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(document).filter(([name]) => !names.includes(name)));
}

function forbidden(reason: string): DivanError {
  return new DivanError('FORBIDDEN', reason);
}

function notAuthorized(): DivanError {
  return new DivanError('UNAUTHORIZED', 'You are not authorized to access this db.');
}
