/** The files of certificates and keys that the settings name. */
import { createSecureContext } from 'node:tls';
import { DivanError, isDivanError } from '../engine/errors.js';
import { readUpTo } from '../engine/file/file-reader.js';
import type { Storage } from '../engine/file/storage.js';
import type { Config } from './config/config.js';
import { NO_FILE } from './config/setting.js';

/** What a server shows that it is by, in PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** Chains of certificates are a hundredth of it. */
const BYTES_MAX = 1024 * 1024;

/**
 * The certificate of this server; undefined if none is configured. Throws `INVALID_SETTING` if a file is missing, can not be read, or holds
 * nothing of that kind, or if only one of the two is named.
 */
export async function readCertificate(
  storage: Storage,
  config: Config,
): Promise<Certificate | undefined> {
  const cert = await readPem(storage, config, 'chttpd/cert_file');
  const key = await readPem(storage, config, 'chttpd/key_file');
  if (cert === undefined && key === undefined) return undefined;
  if (cert === undefined || key === undefined) {
    const missing = cert === undefined ? 'chttpd/cert_file' : 'chttpd/key_file';
    throw new DivanError(
      'INVALID_SETTING',
      `${missing} is missing: a certificate and its key are needed`,
    );
  }
  const what = 'chttpd/cert_file and chttpd/key_file are no certificate and its key';
  assertUsable({ cert, key }, what);
  return { cert, key };
}

/** The authorities that vouch for other nodes, in PEM; undefined for those that Node.js trusts. Throws as `readCertificate`. */
export async function readAuthorities(
  storage: Storage,
  config: Config,
): Promise<string | undefined> {
  const ca = await readPem(storage, config, 'cluster/ca_file');
  if (ca !== undefined && !ca.includes('-----BEGIN CERTIFICATE-----')) {
    throw new DivanError('INVALID_SETTING', 'cluster/ca_file holds no certificate');
  }
  if (ca !== undefined) assertUsable({ ca }, 'cluster/ca_file holds no certificates');
  return ca;
}

/** Now, rather than at the first connection. */
function assertUsable(
  parts: { readonly cert?: string; readonly key?: string; readonly ca?: string },
  what: string,
): void {
  try {
    createSecureContext(parts);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new DivanError('INVALID_SETTING', `${what}: ${why}`, {}, error);
  }
}

async function readPem(
  storage: Storage,
  config: Config,
  name: 'chttpd/cert_file' | 'chttpd/key_file' | 'cluster/ca_file',
): Promise<string | undefined> {
  const path = config.get(name);
  if (path === NO_FILE) return undefined;
  try {
    const file = await storage.open(path, 'read');
    try {
      return (await readUpTo(file, 0, Math.min(await file.size(), BYTES_MAX))).toString();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!isDivanError(error)) throw error;
    throw new DivanError('INVALID_SETTING', `${name}: can not read ${path}`, { path }, error);
  }
}
