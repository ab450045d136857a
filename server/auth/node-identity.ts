/**
 * The uuid of the server and the secret that signs its session cookies. Made at the first start and kept, until the node takes over those of
 * its cluster, which all nodes share.
 */
import { DivanError } from '../../engine/errors.js';
import type { NodeRecords, RecordChange } from '../node-records.js';
import type { ServerWorld } from '../world.js';

export type IdentityRecords = Pick<NodeRecords, 'get' | 'set'>;

const RECORD = 'node';
const UUID_BYTES = 16;
const SECRET_BYTES = 64;

interface Parts {
  readonly uuid: string;
  readonly secret: Uint8Array;
  readonly name: string | undefined;
}

export class NodeIdentity {
  #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** 32 hexadecimal digits. */
  get uuid(): string {
    return this.#parts.uuid;
  }

  /** 64 bytes that nobody can know. */
  get secret(): Uint8Array {
    return this.#parts.secret;
  }

  /** The name of the node that was settled on, once it was. */
  get name(): string | undefined {
    return this.#parts.name;
  }

  /** As all nodes of a cluster are told of it. */
  get shared(): { readonly uuid: string; readonly secret: string } {
    return { uuid: this.uuid, secret: hex(this.secret) };
  }

  /**
   * How to take over what all nodes share: the record to be written, and what to call when that is durable. Undefined if there is nothing to
   * change. Throws `CORRUPT` for what can be no identity.
   */
  taking(
    shared: unknown,
  ): { readonly record: RecordChange; readonly done: () => void } | undefined {
    const { uuid, secret } = identityOf(shared);
    if (uuid === this.uuid && Buffer.compare(secret, this.secret) === 0) return undefined;
    const { name } = this;
    const value = { uuid, secret: hex(secret), ...(name === undefined ? {} : { name }) };
    return {
      record: [RECORD, value],
      done: () => {
        this.#parts = { uuid, secret, name };
      },
    };
  }
}

/**
 * The identity of this node, durable when it resolves. Throws `CORRUPT` for one that is malformed: to make another would end all sessions
 * and break off replications without a word; and what writing a record throws.
 */
export async function openIdentity(
  world: Pick<ServerWorld, 'host'>,
  records: IdentityRecords,
): Promise<NodeIdentity> {
  const record = records.get(RECORD);
  if (record !== undefined) return new NodeIdentity(identityOf(record));
  const secret = world.host.randomBytes(SECRET_BYTES);
  const uuid = hex(world.host.randomBytes(UUID_BYTES));
  await records.set(RECORD, { uuid, secret: hex(secret) });
  return new NodeIdentity({ uuid, secret, name: undefined });
}

function identityOf(record: unknown): Parts {
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
