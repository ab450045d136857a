/**
 * The node that a shard is moved to: takes its bytes, and then the shard. What it does is asked for by the node that has the shard, step by
 * step (`README.md`); each step can be asked for again after a lost answer or a crash.
 *
 * A shard that was taken takes no writes until the other node has said that it gave it up: until then it may serve readers, which would not see them.
 */
import { basename, dirname, join } from 'node:path';
import { DivanError, isDivanError } from '../../engine/errors.js';
import { DATA_START, decodeFirstBlock } from '../../engine/file/first-block.js';
import type { Storage } from '../../engine/file/storage.js';
import type { Stretch } from '../../engine/rewrite/file-copy.js';
import { formatRange } from '../../engine/shard/hash.js';
import { ReadOnlyShard } from '../../engine/shard/read-only-shard.js';
import { Shard } from '../../engine/shard/shard.js';
import type { Call, CallHandlers, PeerCalls } from '../cluster/peers.js';
import type { Membership } from '../cluster/shared-records.js';
import type { Catalog } from '../databases/catalog.js';
import type { Placements } from '../databases/placement.js';
import type { ShardHandover } from '../databases/shard-handover.js';
import type { ShardPool } from '../databases/shard-pool.js';
import { removeFile } from '../durable-names.js';
import { type JsonObject, memberOf, optionalString, requiredString } from '../http/json-value.js';
import type { NodeRecords } from '../node-records.js';
import { Turns } from '../turns.js';
import type { ServerWorld } from '../world.js';
import {
  ARRIVAL_PREFIX,
  type Arrival,
  arrivalJson,
  arrivalKey,
  nextFile,
  readArrival,
  readWanted,
  wholeOf,
} from './arrival-record.js';
import { ArrivingFile, readPiece } from './arriving-file.js';

export interface MoveTargetParts {
  readonly world: ServerWorld;
  readonly dataDir: string;
  readonly records: NodeRecords;
  readonly pool: ShardPool;
  readonly catalog: Catalog;
  readonly handover: ShardHandover;
  readonly membership: Membership;
  readonly calls: PeerCalls;
  /** Threads that look through what has come; 0 for the calling one. */
  readonly workers: number | undefined;
  /** True for a file that a job of this node still has to do with. */
  readonly isInJob: (file: string) => boolean;
  /** Told of what is tried again later. Must not throw. */
  readonly onError: (error: unknown) => void;
}

/** A node is asked what has become of a shard that it moved here, so often. */
const ASK_AGAIN_MS = 10_000;
const ASK_MS = 5000;
/** The other node says within moments that it gave a shard up. For so long writes wait for that, and are then refused. */
const WRITES_WAIT_MS = 2000;

/** A shard that arrives, while this node runs. */
interface Arriving {
  readonly turns: Turns;
  file: ArrivingFile | undefined;
}

export class MoveTarget {
  readonly #parts: MoveTargetParts;
  /** What the cluster has of databases; undefined before it is known. */
  #placements: Placements | undefined;
  readonly #arriving = new Map<string, Arriving>();
  #cancelTimer: (() => void) | undefined;
  readonly #stopListening: () => void;
  #isClosed = false;
  readonly #work = new Set<Promise<unknown>>();

  /** Throws `CORRUPT`. Nothing is served before: shards that this node may not write to yet are held back from now on. */
  constructor(parts: MoveTargetParts, handlers: CallHandlers) {
    this.#parts = parts;
    this.#holdBack();
    // One that was set aside is back.
    this.#stopListening = parts.catalog.onChange((_name, what) => {
      if (what === 'created') this.#holdBack();
    });
    const on = (name: string, answer: (call: Call) => Promise<JsonObject>) =>
      handlers.on(`move/${name}`, (call) => this.#inTurn(call, answer, name === 'begin'));
    on('room', () => this.#room());
    on('begin', (call) => this.#begin(call));
    on('bytes', (call) => this.#bytes(call));
    on('hashes', (call) => this.#hashes(call));
    on('check', (call) => this.#check(call));
    on('take', (call) => this.#take(call));
    on('confirm', (call) => this.#confirm(call));
    on('cancel', (call) => this.#cancel(call));
  }

  /** Asks what has become of shards that were on their way when this node stopped. */
  begin(placements: Placements): void {
    this.#placements = placements;
    this.#run(this.#askAll());
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stopListening();
    this.#cancelTimer?.();
    await Promise.allSettled([...this.#work]);
    for (const arriving of this.#arriving.values()) {
      await arriving.turns.run(() => closeFile(arriving));
    }
  }

  /** Shards that the other node has not given up yet, as far as is known here, take no writes. */
  #holdBack(): void {
    for (const arrival of this.#all()) {
      const isHeld = this.#parts.pool.slot(this.#path(arrival.file)).suspension !== undefined;
      if (this.#isTaken(arrival) && !isHeld) this.#suspend(arrival);
    }
  }

  #all(): Arrival[] {
    const { records } = this.#parts;
    return records.keys(ARRIVAL_PREFIX).map((key) => readArrival(records.get(key)));
  }

  #run(work: Promise<unknown>): void {
    this.#work.add(work);
    work.finally(() => this.#work.delete(work)).catch((error) => this.#parts.onError(error));
  }

  #arrivingOf(key: string): Arriving {
    let arriving = this.#arriving.get(key);
    if (arriving === undefined) {
      arriving = { turns: new Turns(), file: undefined };
      this.#arriving.set(key, arriving);
    }
    return arriving;
  }

  /** What is asked for one shard is done one after another. */
  async #inTurn(
    call: Call,
    answer: (call: Call) => Promise<JsonObject>,
    isBeginning: boolean,
  ): Promise<JsonObject> {
    const job = optionalString(call.head, 'id');
    if (job === undefined) return answer(call);
    const key = arrivalKey({ from: call.from, job });
    if (!this.#arriving.has(key) && this.#find(key) === undefined) {
      // Nothing is kept for what was never begun, or could not be.
      if (!isBeginning) return answer(call);
      this.#assertWanted(readWanted(call.from, call.head));
    }
    const { turns } = this.#arrivingOf(key);
    return await turns.run(() => {
      if (this.#isClosed) throw new DivanError('UNAVAILABLE', 'the node is about to stop');
      return answer(call);
    });
  }

  async #room(): Promise<JsonObject> {
    const { world, dataDir } = this.#parts;
    return { freeBytes: await world.storage.freeBytes(join(dataDir, 'shards')) };
  }

  /** A shard is about to come. Answers how much of it is here, and that it was taken already if it was. */
  async #begin({ from, head }: Call): Promise<JsonObject> {
    const key = arrivalKey({ from, job: requiredString(head, 'id') });
    const found = this.#find(key);
    if (found !== undefined && this.#isTaken(found)) return { taken: true };
    if (found?.state === 'taking') await this.#discard(found);
    const wanted = readWanted(from, head);
    this.#assertWanted(wanted);
    const file = found?.file ?? (await this.#freeFile(wanted.file));
    const arrival: Arrival = { ...wanted, file };
    await this.#put(arrival);
    this.#later();
    const arriving = this.#arrivingOf(key);
    await closeFile(arriving);
    await this.#removeNamed(arrival);
    const { world, workers } = this.#parts;
    arriving.file = await ArrivingFile.open(world, this.#temporaryPath(arrival), workers);
    return { file, length: await arriving.file.size() };
  }

  #assertWanted({ database, part, from }: Arrival): void {
    if (this.#placements === undefined) throw new DivanError('UNAVAILABLE', 'the node is starting');
    // A node that was removed knows no members but itself: what it took would be lost.
    if (this.#parts.membership.find(from) === undefined) {
      throw new DivanError('CONFLICT', 'the two nodes are not members of one cluster');
    }
    const found = this.#placements.find(database)?.incarnation;
    if (found === part.incarnation) return;
    if (found === undefined) throw new DivanError('UNAVAILABLE', `no ${database} is known here`);
    throw new DivanError('CONFLICT', `another database ${database} is on the node`);
  }

  /** The name of a file that nothing else has, nor will have: the wanted one, or with a later number. */
  async #freeFile(wanted: string): Promise<string> {
    const { isInJob } = this.#parts;
    const arrivals = new Set(this.#all().map(({ file }) => file));
    for (let file = wanted; ; file = nextFile(file)) {
      if (isInJob(file) || arrivals.has(file)) continue;
      if ((await this.#storage.identity(this.#path(file))) === undefined) return file;
    }
  }

  async #bytes(call: Call): Promise<JsonObject> {
    const file = this.#receiving(call);
    await file.write(stretchOf(call.head), call.body);
    if (memberOf(call.head, 'sync') === true) await file.sync();
    return {};
  }

  async #hashes(call: Call): Promise<JsonObject> {
    return { hashes: await this.#receiving(call).hashes(stretchOf(call.head)) };
  }

  /** Looks through the whole shard; to be asked until it is done. */
  async #check(call: Call): Promise<JsonObject> {
    const problem = await this.#receiving(call).check();
    return problem === undefined ? { done: false } : { done: true, problem };
  }

  /** The shard is this node's when this resolves, as of the commit that is named. */
  async #take({ from, head }: Call): Promise<JsonObject> {
    const key = arrivalKey({ from, job: requiredString(head, 'id') });
    const arrival = this.#find(key);
    if (arrival === undefined) throw new DivanError('NOT_FOUND', 'no such shard is on its way');
    if (this.#isTaken(arrival)) return { taken: true };
    assertRun(arrival, head);
    this.#assertWanted(arrival);
    await closeFile(this.#arrivingOf(key));
    const length = wholeOf(head, 'length');
    const crc = wholeOf(head, 'crc');
    const shard = await this.#named(arrival, length, crc);
    try {
      const taking: Arrival = { ...arrival, state: 'taking' };
      await this.#put(taking);
      this.#suspend(taking);
      const { database, part, range, file } = taking;
      await this.#parts.handover.take(database, { ...part, ranges: [] }, { range, file }, shard);
    } catch (error) {
      this.#parts.pool.drop(this.#path(arrival.file));
      await shard.close().catch(() => undefined);
      throw error;
    }
    return { taken: true };
  }

  /** The shard, open under its name, holding exactly what was sent. */
  async #named(arrival: Arrival, length: number, crc: number): Promise<Shard> {
    const { world, pool } = this.#parts;
    const path = this.#path(arrival.file);
    const temporary = this.#temporaryPath(arrival);
    if ((await this.#storage.identity(temporary)) !== undefined) {
      await this.#cutTo(temporary, length, crc);
      if ((await this.#storage.identity(path)) !== undefined) {
        throw new DivanError('EXISTS', `${path} is there already`, { path });
      }
      await this.#storage.rename(temporary, path);
    }
    await this.#storage.syncDirectory(dirname(path));
    return Shard.open(world, path, pool.options);
  }

  /** Removes what is behind a commit, which must be the newest one. Throws `VERIFY_FAILED`. */
  async #cutTo(path: string, length: number, crc: number): Promise<void> {
    const file = await this.#storage.open(path, 'write');
    try {
      if ((await file.size()) > length) {
        await file.truncate(length);
        await file.sync();
      }
    } finally {
      await file.close();
    }
    await using shard = await ReadOnlyShard.open(this.#parts.world, path);
    const { newest } = shard.recovered;
    if ((await shard.size()) === length && newest.crc === crc) return;
    throw new DivanError('VERIFY_FAILED', `${path} is not what was sent`, { path });
  }

  /** The other node has given the shard up. */
  async #confirm({ from, head }: Call): Promise<JsonObject> {
    const arrival = this.#find(arrivalKey({ from, job: requiredString(head, 'id') }));
    if (arrival !== undefined && this.#isTaken(arrival)) await this.#confirmed(arrival);
    return {};
  }

  async #confirmed(arrival: Arrival): Promise<void> {
    // From now on others may write here, whatever becomes of the record.
    this.#parts.pool.slot(this.#path(arrival.file)).resume();
    await this.#forget(arrival);
  }

  /** The shard is not to come. Answers that it was taken already if it was: then it stays. */
  async #cancel({ from, head }: Call): Promise<JsonObject> {
    const arrival = this.#find(arrivalKey({ from, job: requiredString(head, 'id') }));
    if (arrival === undefined) return { taken: false };
    if (this.#isTaken(arrival)) return { taken: true };
    await this.#discard(arrival);
    return { taken: false };
  }

  async #discard(arrival: Arrival): Promise<void> {
    const { handover, pool } = this.#parts;
    await closeFile(this.#arrivingOf(arrivalKey(arrival)));
    if (arrival.state === 'taking') {
      await handover.restore(arrival.database, { ...arrival.part, ranges: [] });
    }
    if (this.#isTaken(arrival)) return;
    pool.drop(this.#path(arrival.file));
    await removeFile(this.#storage, this.#temporaryPath(arrival));
    await this.#removeNamed(arrival);
    await this.#forget(arrival);
  }

  /** A crash may have come between the name of a shard and the map that has it. */
  async #removeNamed(arrival: Arrival): Promise<void> {
    const path = this.#path(arrival.file);
    if ((await this.#storage.identity(path)) === undefined) return;
    const file = await this.#storage.open(path, 'read');
    let isOurs = false;
    try {
      const { fileId } = decodeFirstBlock(await readPiece(file, 0, DATA_START), path, false);
      isOurs = Buffer.from(fileId).toString('hex') === arrival.fileId;
    } finally {
      await file.close();
    }
    if (isOurs) await removeFile(this.#storage, path);
  }

  #suspend({ file, from }: Arrival): void {
    const name = this.#parts.membership.find(from)?.name ?? from;
    const reason = `the shard has come from ${name}, which has not said yet that it takes no writes`;
    const error = new DivanError('UNAVAILABLE', reason);
    this.#parts.pool.slot(this.#path(file)).suspend(error, error, WRITES_WAIT_MS);
  }

  #later(): void {
    if (this.#cancelTimer !== undefined || this.#isClosed) return;
    this.#cancelTimer = this.#parts.world.host.setTimer(() => {
      this.#cancelTimer = undefined;
      this.#run(this.#askAll());
    }, ASK_AGAIN_MS);
  }

  /** Finishes what nobody asks for any more: the other node may have been killed, or its database deleted. */
  async #askAll(): Promise<void> {
    for (const arrival of this.#all()) {
      if (this.#isClosed) return;
      await this.#settle(arrival).catch((error) => this.#parts.onError(error));
    }
    if (this.#all().length > 0) this.#later();
  }

  async #settle(arrival: Arrival): Promise<void> {
    const { isNeeded, isGiven } = await this.#ask(arrival);
    const key = arrivalKey(arrival);
    await this.#arrivingOf(key).turns.run(async () => {
      const now = this.#find(key);
      // What was begun anew since is not what was asked for.
      if (now === undefined || now.run !== arrival.run) return;
      if (this.#isTaken(now)) {
        if (isGiven) await this.#confirmed(now);
      } else if (!isNeeded) await this.#discard(now);
    });
  }

  async #ask(arrival: Arrival): Promise<{ isNeeded: boolean; isGiven: boolean }> {
    const { membership, calls } = this.#parts;
    const { from, job: id, database, part, range } = arrival;
    const node = membership.find(from);
    // One that is no member has given up all that it had before it left.
    if (node === undefined) return { isNeeded: false, isGiven: true };
    try {
      const head = { id, database, incarnation: part.incarnation, range: formatRange(range) };
      const answer = await calls.call(node, 'move/state', head, { timeoutMs: ASK_MS });
      const isGiven = memberOf(answer, 'given') === true;
      return { isNeeded: memberOf(answer, 'needed') !== false, isGiven };
    } catch (error) {
      if (!isDivanError(error)) throw error;
      return { isNeeded: true, isGiven: false };
    }
  }

  #receiving(call: Call): ArrivingFile {
    const key = arrivalKey({ from: call.from, job: requiredString(call.head, 'id') });
    const arrival = this.#find(key);
    if (arrival === undefined) throw new DivanError('NOT_FOUND', 'no such shard is on its way');
    assertRun(arrival, call.head);
    const { file } = this.#arrivingOf(key);
    if (file !== undefined && arrival.state === 'receiving') return file;
    throw new DivanError('CONFLICT', 'the shard is to be begun again');
  }

  #find(key: string): Arrival | undefined {
    const record = this.#parts.records.get(key);
    return record === undefined ? undefined : readArrival(record);
  }

  #put(arrival: Arrival): Promise<void> {
    return this.#parts.records.set(arrivalKey(arrival), arrivalJson(arrival));
  }

  async #forget(arrival: Arrival): Promise<void> {
    const key = arrivalKey(arrival);
    await this.#parts.records.remove(key);
    this.#arriving.delete(key);
  }

  /** The map is what says so. */
  #isTaken({ database, part, file }: Arrival): boolean {
    return this.#parts.handover.has(database, part.incarnation, file);
  }

  get #storage(): Storage {
    return this.#parts.world.storage;
  }

  #path(file: string): string {
    return join(this.#parts.dataDir, ...file.split('/'));
  }

  #temporaryPath({ file }: Arrival): string {
    const path = this.#path(file);
    return join(dirname(path), `.${basename(path)}.arriving`);
  }
}

async function closeFile(arriving: Arriving): Promise<void> {
  const { file } = arriving;
  arriving.file = undefined;
  await file?.close();
}

function stretchOf(head: JsonObject): Stretch {
  return { from: wholeOf(head, 'from'), to: wholeOf(head, 'to') };
}

function assertRun({ run }: Arrival, head: JsonObject): void {
  if (run === requiredString(head, 'run')) return;
  throw new DivanError('CONFLICT', 'the move of the shard was begun anew since');
}
