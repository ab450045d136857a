/** The entry of the thread that derives keys. On a thread of its own the blocking call holds up nobody, and takes none of libuv's threads. */
import { pbkdf2Sync } from 'node:crypto';
import type { Derivation } from './password.js';

/** The derived key. Its buffer is its own. */
export default function derive(derivation: Derivation): Uint8Array {
  const { password, salt, iterations, keyBytes, digest } = derivation;
  return Uint8Array.from(pbkdf2Sync(password, salt, iterations, keyBytes, digest));
}
