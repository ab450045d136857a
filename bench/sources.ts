/** The shard files that rewrites are measured on. */
import { join } from 'node:path';
import { nodeHost } from '../engine/file/node-host.js';
import { nodeStorage } from '../engine/file/node-storage.js';
import { DocumentScanner } from '../engine/shard/document.js';
import type { DocumentEdit } from '../engine/shard/edit.js';
import { parseRev } from '../engine/shard/revision.js';
import { Shard } from '../engine/shard/shard.js';
import { syntheticLines } from '../fixtures/synthetic.js';
import type { BenchInput } from './result.js';

const WORLD = { storage: nodeStorage, host: nodeHost };
const BATCH = 2000;
/** Of a worn source: so many updates of random documents for each document. */
const UPDATES = 3;

/** Makes the source of a bench and returns its path. */
export async function makeSource(input: BenchInput): Promise<string> {
  const { directory, docs, size, worn } = input;
  const path = join(directory, 'source.divan');
  const shard = await Shard.create(WORLD, path);
  const ids: Uint8Array[] | undefined = worn ? [] : undefined;
  await update(shard, edits(docs, size, 1, ids));
  if (ids !== undefined) await wear(shard, input, ids);
  await shard.close();
  return path;
}

function* edits(
  docs: number,
  size: number,
  seed: number,
  ids: Uint8Array[] | undefined,
): Generator<DocumentEdit> {
  const scanner = new DocumentScanner();
  for (const line of syntheticLines(docs, size, seed)) {
    const bytes = Buffer.from(line);
    const { id, body } = scanner.scan(bytes, 0, bytes.length);
    const edit = { id: Buffer.from(id ?? []), body: Buffer.from(body), deleted: false };
    ids?.push(edit.id);
    yield edit;
  }
}

async function update(shard: Shard, all: Iterable<DocumentEdit>): Promise<void> {
  let batch: DocumentEdit[] = [];
  const write = async () => {
    for (const outcome of await shard.update(batch)) if (!outcome.ok) throw outcome.error;
    batch = [];
  };
  for (const edit of all) {
    batch.push(edit);
    if (batch.length === BATCH) await write();
  }
  await write();
}

/** Updates of random documents, 5 % of them with a conflict, and an attachment that is kept on 1 %. */
async function wear(
  shard: Shard,
  { docs, size }: BenchInput,
  ids: readonly Uint8Array[],
): Promise<void> {
  const bodies = [...edits(Math.min(docs, 1000), size, 2, undefined)].map(({ body }) => body);
  let state = 1;
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let done = 0; done < docs * UPDATES; done += BATCH) {
    const chosen = new Set(Array.from({ length: BATCH }, () => random(docs)));
    const batch: DocumentEdit[] = [];
    for (const index of chosen) batch.push(await nextEdit(shard, ids[index], bodies, random));
    for (const outcome of await shard.update(batch)) if (!outcome.ok) throw outcome.error;
  }
}

async function nextEdit(
  shard: Shard,
  id: Uint8Array = new Uint8Array(0),
  bodies: readonly Uint8Array[],
  random: (below: number) => number,
): Promise<DocumentEdit> {
  const body = bodies[random(bodies.length)] ?? new Uint8Array(0);
  const document = await shard.snapshot().document(id);
  const parent = document?.leaves[0]?.revision;
  if (parent === undefined) return { id, body, deleted: false };
  const chance = random(100);
  if (chance < 5 / UPDATES) {
    const path = [parseRev(`2-${random(2 ** 31)}`), parseRev('1-abc')];
    return { id, body, deleted: false, path };
  }
  if (chance > 98) {
    const stored = await shard.store([Buffer.alloc(4096, random(256))]);
    const file = { contentType: 'application/octet-stream', revpos: undefined, stored };
    return { id, body, deleted: false, parent, attachments: new Map([['file', file]]) };
  }
  const kept = document?.leaves[0]?.attachments.map(
    ({ name, contentType }) =>
      [name, { contentType, revpos: undefined, stored: undefined }] as const,
  );
  const edit = { id, body, deleted: false, parent };
  return kept === undefined || kept.length === 0 ? edit : { ...edit, attachments: new Map(kept) };
}
