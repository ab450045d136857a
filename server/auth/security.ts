/**
 * Security objects of databases: who may read and write one, and who may change its design documents and its security. By the rules of
 * CouchDB 3 (`src/couch/src/couch_db.erl`): without members a database is public, admins count as members, and the role `_admin`, which
 * none but the admins of the server have, shuts everybody else out.
 */
import { DivanError } from '../../engine/errors.js';
import type { DefaultSecurity } from '../config/settings.js';
import {
  isObject,
  type JsonObject,
  type JsonValue,
  memberOf,
  objectOf,
} from '../http/json-value.js';
import type { Caller } from './caller.js';

/** Some users: by their names, or by a role that they have. */
interface Group {
  readonly names: ReadonlySet<string>;
  readonly roles: ReadonlySet<string>;
}

/** A security object that was found well-formed. */
export interface Security {
  /** As it was put, other members included. */
  readonly json: JsonObject;
  readonly admins: Group;
  readonly members: Group;
}

/** What somebody is to a database. */
export interface DatabaseAccess {
  readonly isMember: boolean;
  readonly isAdmin: boolean;
}

const ADMINS_ONLY = { members: { roles: ['_admin'] }, admins: { roles: ['_admin'] } };
const EVERYONE = {};
const NOT_A_LIST = 'must be a JSON list of strings';

/**
 * What a `PUT /{db}/_security` brings, strictly: `admins` and `members`, or `readers` as it was called before CouchDB 1.1, are objects whose
 * `names` and `roles` are arrays of strings. Throws `BAD_REQUEST`.
 */
export function parseSecurity(value: JsonValue): Security {
  const json = objectOf(value, 'the security object');
  const members = memberOf(json, 'members') === undefined ? 'readers' : 'members';
  // Both are held to the rules: which of them counts must not decide whether a mistake is seen.
  groupOf(json, 'readers');
  return { json, admins: groupOf(json, 'admins'), members: groupOf(json, members) };
}

/** The security object that a new database is given by the setting. */
export function defaultSecurity(setting: DefaultSecurity): Security {
  // For `admin_local` only databases that are not sharded are the admins' own, and none is reached over HTTP.
  return parseSecurity(setting === 'admin_only' ? ADMINS_ONLY : EVERYONE);
}

export function accessOf({ admins, members }: Security, caller: Caller): DatabaseAccess {
  const isAdmin = caller.isServerAdmin || isIn(admins, caller);
  const isPublic = members.names.size === 0 && members.roles.size === 0;
  return { isAdmin, isMember: isAdmin || isPublic || isIn(members, caller) };
}

/** Throws `UNAUTHORIZED` for somebody who may yet say who it is, `FORBIDDEN` for a user who is no member; with CouchDB's words. */
export function assertMember(security: Security, caller: Caller): void {
  if (accessOf(security, caller).isMember) return;
  if (caller.name === undefined) {
    throw new DivanError('UNAUTHORIZED', 'You are not authorized to access this db.');
  }
  throw new DivanError('FORBIDDEN', 'You are not allowed to access this db.');
}

/** Throws `UNAUTHORIZED` for anybody but an admin of the database or the server, with CouchDB's words. */
export function assertDatabaseAdmin(security: Security, caller: Caller): void {
  if (accessOf(security, caller).isAdmin) return;
  throw new DivanError('UNAUTHORIZED', 'You are not a db or server admin.');
}

function isIn({ names, roles }: Group, caller: Caller): boolean {
  if (caller.name !== undefined && names.has(caller.name)) return true;
  return caller.roles.some((role) => roles.has(role));
}

function groupOf(json: JsonObject, name: string): Group {
  const group = memberOf(json, name);
  if (group === undefined) return { names: new Set(), roles: new Set() };
  if (!isObject(group)) throw new DivanError('BAD_REQUEST', `\`${name}\` must be a JSON object`);
  return { names: stringsIn(group, 'names'), roles: stringsIn(group, 'roles') };
}

function stringsIn(group: JsonObject, name: string): ReadonlySet<string> {
  const value = memberOf(group, name);
  const strings = new Set<string>();
  if (value === undefined) return strings;
  const isList = Array.isArray(value);
  for (const entry of isList ? value : []) {
    if (typeof entry !== 'string') throw new DivanError('BAD_REQUEST', `${name} ${NOT_A_LIST}`);
    strings.add(entry);
  }
  if (!isList) throw new DivanError('BAD_REQUEST', `${name} ${NOT_A_LIST}`);
  return strings;
}
