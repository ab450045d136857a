/** What makes this node itself: its uuid, and the secret that is the key of its session cookies. Made at the first start and kept. */
import { DivanError } from '../../engine/errors.js';
import type { NodeRecords } from '../node-records.js';
import type { ServerWorld } from '../world.js';

export type IdentityRecords = Pick<NodeRecords, 'get' | 'set'>;

export interface NodeIdentity {
  /** 32 hexadecimal digits. */
  readonly uuid: string;
  /** 64 bytes that nobody can know. */
  readonly secret: Uint8Array;
  /** The name of the node that was settled on, once it was. */
  readonly name: string | undefined;
}

const RECORD = 'node';
const UUID_BYTES = 16;
const SECRET_BYTES = 64;

/**
 * The identity of this node, durable when it resolves. Throws `CORRUPT` for one that is malformed: to make another would end all sessions
 * and break off replications without a word; and what writing a record throws.
 */
export async function openIdentity(
  world: Pick<ServerWorld, 'host'>,
  records: IdentityRecords,
): Promise<NodeIdentity> {
  const record = records.get(RECORD);
  if (record !== undefined) return identityOf(record);
  const secret = world.host.randomBytes(SECRET_BYTES);
  const uuid = hex(world.host.randomBytes(UUID_BYTES));
  await records.set(RECORD, { uuid, secret: hex(secret) });
  return { uuid, secret, name: undefined };
}

function identityOf(record: unknown): NodeIdentity {
  const parts = new Map<string, unknown>(Object.entries(record ?? {}));
  const uuid = parts.get('uuid');
  const secret = parts.get('secret');
  const name = parts.get('name');
  const isWhole =
    isHex(uuid, UUID_BYTES) &&
    isHex(secret, SECRET_BYTES) &&
    (name === undefined || typeof name === 'string');
  if (isWhole) return { uuid, secret: Buffer.from(secret, 'hex'), name };
  throw new DivanError('CORRUPT', 'the record of the identity of this node is malformed');
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function isHex(value: unknown, length: number): value is string {
  return typeof value === 'string' && value.length === length * 2 && /^[0-9a-f]+$/.test(value);
}
