/** `divan load`: newline-delimited JSON documents into a shard. */
import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { DivanError, isDivanError } from '../engine/errors.js';
import { ByteCopies } from '../engine/file/byte-copies.js';
import { ATTACHMENT_BYTES_MAX } from '../engine/shard/attachment-list.js';
import { inlineSource, storeAttachment } from '../engine/shard/attachment-upload.js';
import { CacheSpace } from '../engine/shard/cache-space.js';
import { DocumentScanner, isLocalId, type ScannedDocument } from '../engine/shard/document.js';
import type { EditOutcome } from '../engine/shard/document-writer.js';
import type { DocumentEdit, EditedAttachment } from '../engine/shard/edit.js';
import { FULL_RANGE, parseRange } from '../engine/shard/hash.js';
import { LOCAL_PREFIX } from '../engine/shard/local-tree.js';
import { Shard } from '../engine/shard/shard.js';
import { AllDocsRows } from './all-docs-rows.js';
import { assertNotAborted, type CommandContext, runCommand } from './command.js';
import { type Line, readLines } from './lines.js';
import { Progress } from './progress.js';

interface LoadOptions {
  readonly range?: string;
  readonly partitioned?: boolean;
  readonly batch: string;
  readonly json?: boolean;
}

const CACHE_BYTES = 128 * 1024 * 1024;
/** So many batches are on their way at a time: one is made durable while others are read and prepared. */
const BATCHES_IN_FLIGHT = 3;
/** A batch is sent early when its bodies have so many bytes. */
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** Bad lines beyond this are counted, not shown. */
const BAD_LINES_SHOWN = 100;

export function registerLoad(program: Command): void {
  program
    .command('load')
    .description(
      'load newline-delimited JSON documents into a shard, which is made if it is not there',
    )
    .argument('<shard>', 'the shard file')
    .argument('[file]', 'the documents; standard input if not given', '-')
    .option('--range <range>', 'hash range of a new shard, such as 00000000-7fffffff')
    .option('--partitioned', 'a new shard is of a partitioned database')
    .option('--batch <n>', 'documents in one commit', '1000')
    .option('--json', 'progress and result as JSON')
    .action((shard: string, file: string, options: LoadOptions) =>
      runCommand(options, (context) => load(context, shard, file, options)),
    );
}

async function load(
  context: CommandContext,
  path: string,
  file: string,
  options: LoadOptions,
): Promise<boolean> {
  const batchDocs = Number(options.batch);
  if (!Number.isInteger(batchDocs) || batchDocs < 1 || batchDocs > 100_000) {
    throw new DivanError('INVALID_SETTING', '--batch takes a whole number from 1 to 100000');
  }
  const shard = await openOrCreate(context, path, options);
  const loader = new Loader(context, shard, batchDocs, file === '-' ? 0 : await sizeOf(file));
  try {
    await loader.run(file);
  } finally {
    loader.progress.stop();
    await shard.close();
  }
  loader.report();
  return loader.badLines === 0;
}

async function openOrCreate(
  { storage, host }: CommandContext,
  path: string,
  options: LoadOptions,
): Promise<Shard> {
  const world = { storage, host };
  const cache = new CacheSpace(CACHE_BYTES);
  if ((await storage.identity(path)) !== undefined) {
    return Shard.open(world, path, { cache });
  }
  return Shard.create(world, path, {
    cache,
    range: options.range === undefined ? FULL_RANGE : parseRange(options.range),
    hashRule: options.partitioned === true ? 'partition' : 'document',
  });
}

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch {
    // Reading the file says what is wrong with it; without a size there is only no percentage.
    return 0;
  }
}

/** Edits on their way into one write, with the lines that they came from. */
interface Batch {
  readonly edits: DocumentEdit[];
  readonly lines: number[];
  bytes: number;
}

class Loader {
  readonly progress: Progress;
  docs = 0;
  badLines = 0;
  readonly #context: CommandContext;
  readonly #shard: Shard;
  readonly #batchDocs: number;
  readonly #bytesTotal: number;
  readonly #scanner = new DocumentScanner();
  readonly #rows = new AllDocsRows();
  readonly #bytes = new ByteCopies();
  readonly #startMs: number;
  #batch: Batch = { edits: [], lines: [], bytes: 0 };
  #inFlight: Promise<void>[] = [];
  #uuids = '';

  constructor(context: CommandContext, shard: Shard, batchDocs: number, bytesTotal: number) {
    this.#context = context;
    this.#shard = shard;
    this.#batchDocs = batchDocs;
    this.#bytesTotal = bytesTotal;
    this.progress = new Progress(context.host, context.json);
    this.#startMs = context.host.now();
  }

  async run(file: string): Promise<void> {
    for await (const lines of readLines(file)) {
      for (const line of lines) {
        // Most lines only join a batch; a promise for each of a million would be felt.
        const waiting = this.#line(line);
        if (waiting !== undefined) await waiting;
      }
      assertNotAborted(this.#context.signal);
      const read = lines[lines.length - 1]?.read ?? 0;
      const bytesTotal = Math.max(this.#bytesTotal, read);
      this.progress.show({
        phase: 'load',
        docsDone: this.docs,
        docsTotal: 0,
        bytesDone: read,
        bytesTotal,
      });
    }
    this.#send();
    await Promise.all(this.#inFlight);
  }

  report(): void {
    const seconds = (this.#context.host.now() - this.#startMs) / 1000;
    const docsPerSecond = Math.round(this.docs / seconds);
    if (this.badLines > BAD_LINES_SHOWN) {
      process.stderr.write(`divan: ${this.badLines - BAD_LINES_SHOWN} more bad lines\n`);
    }
    const { docs, badLines } = this;
    process.stdout.write(
      this.#context.json
        ? `${JSON.stringify({ docs, badLines, seconds, docsPerSecond })}\n`
        : `${docs} documents loaded in ${seconds.toFixed(1)} s, ${docsPerSecond} docs/s${badLines > 0 ? `; ${badLines} lines refused` : ''}\n`,
    );
  }

  /** Takes a line; a promise if the next one must wait. */
  #line(line: Line): Promise<void> | undefined {
    try {
      const part = this.#rows.documentIn(line);
      if (part === undefined) return undefined;
      const doc = this.#scanner.scan(part.bytes, part.start, part.end);
      if (doc.attachments === undefined && !(doc.id !== undefined && isLocalId(doc.id))) {
        this.#add(doc, undefined, line.number);
        return this.#sendIfFull();
      }
      return this.#addSlowly(doc, line.number).catch((error) => this.#refuse(error, line.number));
    } catch (error) {
      this.#refuse(error, line.number);
      return undefined;
    }
  }

  #refuse(error: unknown, line: number): void {
    if (!isDivanError(error) || this.#shard.file.failed) throw error;
    this.#bad(line, error);
  }

  /** Documents with attachments, which are stored first, and local docs. */
  async #addSlowly(doc: ScannedDocument, line: number): Promise<void> {
    if (doc.id !== undefined && isLocalId(doc.id)) {
      await this.#local(this.#bytes.copy(doc.id), this.#bytes.copy(doc.body), doc);
      return;
    }
    const { id, body } = doc;
    // The scanner's views would be gone once the attachments are stored.
    const kept = {
      ...doc,
      id: id === undefined ? id : this.#bytes.copy(id),
      body: this.#bytes.copy(body),
    };
    this.#add(kept, await this.#store(kept), line);
    await this.#sendIfFull();
  }

  #add(
    doc: ScannedDocument,
    attachments: Map<string, EditedAttachment> | undefined,
    line: number,
  ): void {
    const id = doc.id === undefined ? this.#uuid() : this.#bytes.copy(doc.id);
    const body = this.#bytes.copy(doc.body);
    const path = doc.path ?? (doc.rev === undefined ? undefined : [doc.rev]);
    const batch = this.#batch;
    batch.edits.push({ id, body, deleted: doc.deleted, path, attachments });
    batch.lines.push(line);
    batch.bytes += body.length;
  }

  /** Sends a full batch; a promise if too many are on their way. */
  #sendIfFull(): Promise<void> | undefined {
    const { edits, bytes } = this.#batch;
    if (edits.length < this.#batchDocs && bytes < BATCH_BYTES_MAX) return undefined;
    this.#send();
    return this.#inFlight.length >= BATCHES_IN_FLIGHT ? this.#inFlight.shift() : undefined;
  }

  async #store(doc: ScannedDocument): Promise<Map<string, EditedAttachment>> {
    const attachments = new Map<string, EditedAttachment>();
    for (const [name, input] of doc.attachments ?? []) {
      const { contentType, revpos } = input;
      const source = inlineSource(name, input, ATTACHMENT_BYTES_MAX);
      const stored = source === undefined ? source : await storeAttachment(this.#shard, source);
      attachments.set(name, { contentType, revpos, stored });
    }
    return attachments;
  }

  async #local(id: Uint8Array, body: Uint8Array, doc: ScannedDocument): Promise<void> {
    const key = id.subarray(LOCAL_PREFIX.length);
    await this.#shard.putLocal({
      id: key,
      body: doc.deleted ? undefined : body,
      revision: 'any',
      newRevision: doc.localRevision,
    });
    this.docs++;
  }

  #send(): void {
    const { edits, lines } = this.#batch;
    if (edits.length === 0) return;
    this.#batch = { edits: [], lines: [], bytes: 0 };
    const sent = this.#shard.update(edits).then((outcomes) => this.#count(outcomes, lines));
    // Its failure is seen when it is awaited; until then it must not end the process.
    sent.catch(() => undefined);
    this.#inFlight.push(sent);
  }

  #count(outcomes: readonly EditOutcome[], lines: readonly number[]): void {
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome.ok) this.docs++;
      else this.#bad(lines[index] ?? 0, outcome.error);
    }
  }

  #bad(line: number, error: DivanError): void {
    if (++this.badLines > BAD_LINES_SHOWN) return;
    const { code, message } = error;
    process.stderr.write(
      this.#context.json
        ? `${JSON.stringify({ line, error: code, reason: message })}\n`
        : `divan: line ${line}: ${message} (${code})\n`,
    );
  }

  #uuid(): Uint8Array {
    if (this.#uuids.length === 0) {
      this.#uuids = Buffer.from(this.#context.host.randomBytes(16_384)).toString('hex');
    }
    const uuid = this.#uuids.slice(0, 32);
    this.#uuids = this.#uuids.slice(32);
    return Buffer.from(uuid);
  }
}
