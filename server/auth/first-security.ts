/** The security object that a new database begins with. */
import type { DefaultSecurity } from '../config/settings.js';
import { isSystemName } from '../databases/database-name.js';
import { defaultSecurity } from './security.js';
import { USERS_DATABASE } from './user-documents.js';

const NO_SECURITY = new Uint8Array(0);

/** The JSON text of it; empty for none. */
export function firstSecurity(name: string, setting: DefaultSecurity): Uint8Array {
  // What users may do there is decided for each document.
  if (name === USERS_DATABASE) return NO_SECURITY;
  const { json } = defaultSecurity(isSystemName(name) ? 'admin_only' : setting);
  return Object.keys(json).length === 0 ? NO_SECURITY : Buffer.from(JSON.stringify(json));
}
