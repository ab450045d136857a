/**
 * Goal: every file that a released version wrote can be read for ever.
 * Method: golden files, one for each thing that the format can hold, with their SHA-256 and what must be read from them.
 * `DIVAN_GOLDEN=write` makes those that are missing; none is ever changed.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { nodeHost } from '../../../engine/file/node-host.js';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import { checkShard } from '../../../engine/shard/check.js';
import { ReadOnlyShard } from '../../../engine/shard/read-only-shard.js';
import { Shard } from '../../../engine/shard/shard.js';
import type { Snapshot } from '../../../engine/shard/snapshot.js';
import { describeDocuments, describeLocals } from '../../support/describe.js';
import { GOLDEN_CASES, makeGolden } from '../../support/golden-files.js';

const ROOT = join(fileURLToPath(import.meta.url), '..', '..', '..', '..', '..');
const FOLDER = join(ROOT, 'fixtures', 'golden');
const LIST = join(FOLDER, 'golden.json');

interface Golden {
  readonly sha256: string;
  readonly content: unknown;
}

function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Long texts as their length and SHA-256, so that the list stays readable. */
function shorten(text: string): string {
  return text.length <= 200 ? text : `${text.length} bytes, SHA-256 ${sha256(text)}`;
}

async function contentOf(snapshot: Snapshot): Promise<unknown> {
  const documents: Record<string, unknown> = {};
  for (const [id, leaves] of Object.entries(await describeDocuments(snapshot))) {
    documents[shorten(id)] = leaves.map((leaf) => ({ ...leaf, body: shorten(leaf.body) }));
  }
  const purges: string[] = [];
  for await (const { seq, id, revs } of snapshot.purges()) {
    purges.push(`${seq} ${id} ${revs.join(' ')}`);
  }
  const changes: number[] = [];
  for await (const { seq } of snapshot.changes()) changes.push(seq);
  const { counters, metadata } = snapshot;
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  return {
    counters,
    metadata: {
      ...metadata,
      uuid: hex(metadata.uuid),
      security: Buffer.from(metadata.security).toString(),
      lineage: metadata.lineage.map(({ cut, base, ...parent }) => ({
        ...parent,
        uuid: hex(parent.uuid),
        fileId: hex(parent.fileId),
        cutSeq: cut.updateSeq,
        base: base.updateSeq,
        // Files of before these were written have them all 0.
        ...named({ purgeCut: cut.purgeSeq, localCut: cut.localSeq }),
        ...named({ purgeBase: base.purgeSeq, localBase: base.localSeq }),
      })),
    },
    changes,
    documents,
    locals: await describeLocals(snapshot),
    purges,
  };
}

/** Those that are not 0. */
function named(seqs: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(seqs).filter(([, seq]) => seq > 0));
}

/** As it stands in the list. */
async function readContent(path: string): Promise<unknown> {
  await using shard = await ReadOnlyShard.open({ storage: nodeStorage }, path);
  return JSON.parse(JSON.stringify(await contentOf(shard.snapshot)));
}

async function problemsOf(path: string): Promise<unknown> {
  await using shard = await ReadOnlyShard.open({ storage: nodeStorage }, path);
  return (await checkShard(shard)).problems;
}

async function writeMissing(list: Record<string, Golden>): Promise<void> {
  mkdirSync(FOLDER, { recursive: true });
  for (const [name, golden] of GOLDEN_CASES) {
    const path = join(FOLDER, `${name}.divan`);
    if (existsSync(path)) continue;
    const bytes = await makeGolden(golden);
    writeFileSync(path, bytes);
    list[name] = { sha256: sha256(bytes), content: await readContent(path) };
  }
  writeFileSync(LIST, `${JSON.stringify(list, undefined, 2)}\n`);
}

const list: Record<string, Golden> = existsSync(LIST) ? JSON.parse(readFileSync(LIST, 'utf8')) : {};
if (process.env['DIVAN_GOLDEN'] === 'write') await writeMissing(list);

t.strictSame(Object.keys(list), [...GOLDEN_CASES.keys()], 'there is a file for every case');

for (const [name, { sha256: expected, content }] of Object.entries(list)) {
  t.test(name, async (t) => {
    const path = join(FOLDER, `${name}.divan`);
    const bytes = readFileSync(path);
    t.equal(sha256(bytes), expected, 'the file was not changed');
    t.strictSame(await problemsOf(path), []);
    t.strictSame(await readContent(path), content);

    const directory = await mkdtemp(join(tmpdir(), 'divan-golden-'));
    t.teardown(() => rm(directory, { recursive: true }));
    const copy = join(directory, 'copy.divan');
    writeFileSync(copy, bytes);
    const shard = await Shard.open({ storage: nodeStorage, host: nodeHost }, copy);
    await shard.put({ id: Buffer.from('one more'), body: Buffer.from('{}'), deleted: false }).then(
      () => {},
      (error: unknown) => t.match(error, { code: 'OUT_OF_RANGE' }),
    );
    await shard.close();
    t.strictSame(await problemsOf(copy), [], 'and goes on');
  });
}
