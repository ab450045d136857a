/**
 * Names of databases: CouchDB's rules, and what they are called on disk. A name is checked before anything is made of it, so no path ever
 * holds what a client wrote unchecked.
 */
import { DivanError } from '../../engine/errors.js';

/** As in CouchDB (fabric:create_db): file names have room for the rest. */
const NAME_LENGTH_MAX = 238;
const NAME = /^[a-z][a-z0-9_$()+/-]*$/;
/** Those of CouchDB that begin with an underscore. */
const SYSTEM_NAMES: ReadonlySet<string> = new Set(['_users', '_replicator', '_global_changes']);

export function isSystemName(name: string): boolean {
  return SYSTEM_NAMES.has(name);
}

/** Refuses names that no database may have. Throws `INVALID_NAME`. */
export function checkDatabaseName(name: string): void {
  if (isSystemName(name)) return;
  const shown = `Name: '${name.slice(0, NAME_LENGTH_MAX)}'`;
  if (name.length > NAME_LENGTH_MAX) {
    throw new DivanError(
      'INVALID_NAME',
      `${shown}… is too long: at most ${NAME_LENGTH_MAX} characters`,
    );
  }
  if (!NAME.test(name)) {
    throw new DivanError(
      'INVALID_NAME',
      `${shown}. Only lowercase characters (a-z), digits (0-9), and any of the ` +
        'characters _, $, (, ), +, -, and / are allowed. Must begin with a letter.',
    );
  }
  if (hasEmptyPart(name)) {
    throw new DivanError('INVALID_NAME', `${shown}. There must be something behind each /.`);
  }
}

function hasEmptyPart(name: string): boolean {
  return name.endsWith('/') || name.includes('//');
}

/** What a database is called in file names: a name that passed the check has no other character that paths give a meaning. */
export function fileNameOf(name: string): string {
  return name.replaceAll('/', '%2f');
}
