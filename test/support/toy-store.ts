/**
 * The smallest store that survives a loss of power, with a switch for each thing that it must not leave out: a test of the
 * simulated disk, which must find every bug and blame no store without one.
 *
 * A file of records: length, CRC-32, text.
 */
import { crc32 } from 'node:zlib';
import { isDivanError } from '../../engine/errors.js';
import type { Storage, StorageFile } from '../../engine/file/storage.js';

const HEAD_BYTES = 8;
const PATH = '/store/log';
const BORN = '/store/log.new';

export const TOY_BUGS = [
  'acknowledges without a sync',
  'does not await its sync',
  'does not await its write',
  'has no checksum',
  'does not sync its directory',
  'does not sync the parent of its directory',
  'gives the name before the content is synced',
  'leaves a torn tail and appends to it',
  'trusts the cache after a failed sync',
] as const;
export type ToyBug = (typeof TOY_BUGS)[number];

export class ToyStore {
  readonly texts: string[];
  readonly #file: StorageFile;
  readonly #bug: ToyBug | undefined;
  #end: number;

  private constructor(file: StorageFile, texts: string[], end: number, bug: ToyBug | undefined) {
    this.#file = file;
    this.texts = texts;
    this.#end = end;
    this.#bug = bug;
  }

  static async create(storage: Storage, bug?: ToyBug): Promise<ToyStore> {
    await storage.makeDirectory('/store');
    if (bug !== 'does not sync the parent of its directory') await storage.syncDirectory('/');
    const file = await storage.open(BORN, 'create');
    await file.write(encode('born'), 0);
    const named = async () => {
      await storage.rename(BORN, PATH);
      if (bug !== 'does not sync its directory') await storage.syncDirectory('/store');
    };
    if (bug === 'gives the name before the content is synced') await named();
    else await file.sync();
    if (bug !== 'gives the name before the content is synced') await named();
    return new ToyStore(file, ['born'], encode('born').length, bug);
  }

  /** Reads the texts of a store; undefined if there is none. A torn end is cut off, and what is found is made durable. */
  static async open(storage: Storage, bug?: ToyBug): Promise<ToyStore | undefined> {
    const file = await openIfThere(storage);
    if (file === undefined) return undefined;
    const bytes = Buffer.alloc(await file.size());
    await file.read(bytes, 0);
    const { texts, end } = decode(bytes, bug === 'has no checksum');
    // After a failed sync the cache can hold what the disk never got: it has to be written again.
    if (bug !== 'trusts the cache after a failed sync') await file.write(bytes.subarray(0, end), 0);
    const tail = bug === 'leaves a torn tail and appends to it' ? bytes.length : end;
    if (bytes.length > tail) await file.truncate(tail);
    await file.sync();
    await storage.syncDirectory('/store');
    return new ToyStore(file, texts, tail, bug);
  }

  /** Resolves when the text is safe. */
  async put(text: string): Promise<void> {
    const record = encode(text);
    const position = this.#end;
    this.#end += record.length;
    const written = this.#file.write(record, position);
    if (this.#bug !== 'does not await its write') await written;
    if (this.#bug === 'does not await its sync') this.#file.sync().catch(() => undefined);
    else if (this.#bug !== 'acknowledges without a sync') await this.#file.sync();
    await written;
    this.texts.push(text);
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

async function openIfThere(storage: Storage): Promise<StorageFile | undefined> {
  try {
    return await storage.open(PATH, 'write');
  } catch (error) {
    if (isDivanError(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

function encode(text: string): Buffer {
  const record = Buffer.alloc(HEAD_BYTES + text.length);
  record.writeUInt32LE(text.length, 0);
  record.write(text, HEAD_BYTES, 'latin1');
  record.writeUInt32LE(crc32(record.subarray(HEAD_BYTES)), 4);
  return record;
}

function decode(bytes: Buffer, trusting: boolean): { texts: string[]; end: number } {
  const texts: string[] = [];
  let end = 0;
  while (end + HEAD_BYTES <= bytes.length) {
    const length = bytes.readUInt32LE(end);
    const text = bytes.subarray(end + HEAD_BYTES, end + HEAD_BYTES + length);
    if (length === 0 || text.length < length) break;
    if (!trusting && crc32(text) !== bytes.readUInt32LE(end + 4)) break;
    texts.push(text.toString('latin1'));
    end += HEAD_BYTES + length;
  }
  return { texts, end };
}
