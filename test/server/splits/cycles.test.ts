/**
 * Goal: a database that is split and merged back again and again while it is used loses no change for anybody who reads on from where it
 * stopped at any moment, and its seqs stay about as small as its writes are many.
 * Method: jobs of a real server, writers, and clients that read a few changes at a time and note now and then what they had by then; in the
 * end each note is read on from.
 */
import t, { type Test } from 'tap';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';
import { memberOf, TestServer } from '../../support/server.js';
import { runJob, shardsOf } from '../../support/split-jobs.js';

const CYCLES = 2;
const DOCUMENTS = 60;
const READERS = 2;
const NOTES_MAX = 60;
const GROWTH = 4;
/** So that writing takes no more than its share of the time. */
const PAUSE_MS = 5;

interface Reply {
  readonly results: readonly {
    readonly id: string;
    readonly changes: readonly { rev: string }[];
  }[];
  readonly last_seq: string;
  readonly pending: number;
}

/** What a client has read: of each document its revision. */
interface Note {
  readonly since: string;
  readonly revs: ReadonlyMap<string, string>;
}

async function readOn(server: TestServer, note: Note, limit: number): Promise<Note> {
  const since = encodeURIComponent(note.since);
  const { text, status } = await server.get(`/db/_changes?limit=${limit}&since=${since}`);
  if (status !== 200) throw new Error(text);
  const { results, last_seq }: Reply = JSON.parse(text);
  const revs = new Map(note.revs);
  for (const { id, changes } of results) revs.set(id, changes[0]?.rev ?? '');
  return { since: last_seq, revs };
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
}

/** Writes, deletes and purges documents and writes local docs until told to stop; returns how many writes there were. */
async function writeUntil(
  server: TestServer,
  random: () => number,
  isOver: () => boolean,
): Promise<number> {
  const revs = new Map<string, string>();
  let writes = 0;
  while (!isOver()) {
    const id = `document-${randomInt(random, DOCUMENTS)}`;
    const rev = revs.get(id);
    const dice = random();
    if (dice < 0.1 && rev !== undefined) {
      const { status, text } = await server.post('/db/_purge', { [id]: [rev] });
      if (status !== 201) throw new Error(text);
      revs.delete(id);
    } else if (dice < 0.2) {
      const { status, text } = await server.put(`/db/_local/${id}`, { n: writes });
      if (status !== 201 && status !== 409) throw new Error(text);
    } else {
      const isDeleted = dice < 0.3 && rev !== undefined;
      const edit = { n: writes, _rev: rev, ...(isDeleted ? { _deleted: true } : {}) };
      const { status, body, text } = await server.put(`/db/${id}`, edit);
      if (status !== 201 && status !== 200) throw new Error(text);
      if (isDeleted) revs.delete(id);
      else revs.set(id, String(memberOf(body, 'rev')));
    }
    writes++;
    await pause();
  }
  return writes;
}

async function readUntil(
  server: TestServer,
  random: () => number,
  isOver: () => boolean,
): Promise<Note[]> {
  const notes: Note[] = [];
  let note: Note = { since: '0', revs: new Map() };
  while (!isOver()) {
    note = await readOn(server, note, 1 + randomInt(random, 9));
    if (random() < 0.2 && notes.length < NOTES_MAX) notes.push(note);
    // A client that comes back after long.
    const [old] = notes.slice(randomInt(random, notes.length + 1));
    if (random() < 0.05 && old !== undefined) note = old;
    await pause();
  }
  return notes;
}

async function cycle(t: Test, server: TestServer): Promise<void> {
  const [whole = ''] = shardsOf(server);
  await runJob(t, server, { shard: whole });
  await Promise.all(shardsOf(server).map((shard) => runJob(t, server, { shard })));
  const quarters = shardsOf(server);
  await runJob(t, server, { type: 'merge', shards: quarters.slice(0, 2) });
  await runJob(t, server, { type: 'merge', shards: quarters.slice(2) });
  await runJob(t, server, { type: 'merge', shards: shardsOf(server) });
  t.equal(shardsOf(server).length, 1);
}

t.test('split, split again and merged back, under writers and readers', async (t) => {
  const seed = seedOf(t);
  const server = await TestServer.open(t, { settings: { 'compaction/dead_percent': '0' } });
  await server.put('/db?q=1');
  let isOver = false;
  const writing = writeUntil(server, seededRandom(seed), () => isOver);
  const reading = Array.from({ length: READERS }, (_, n) =>
    readUntil(server, seededRandom(seed + 1 + n), () => isOver),
  );
  try {
    for (let n = 0; n < CYCLES; n++) await cycle(t, server);
  } finally {
    isOver = true;
  }
  const writes = await writing;
  const notes = (await Promise.all(reading)).flat();
  const { revs: expected } = await readOn(server, { since: '0', revs: new Map() }, 100_000);
  const missed = new Map<string, string>();
  for (const note of notes) {
    const { revs } = await readOn(server, note, 100_000);
    for (const [id, rev] of expected) if (revs.get(id) !== rev) missed.set(note.since, id);
  }
  t.ok(notes.length > CYCLES, `${notes.length} notes, ${writes} writes`);
  t.strictSame([...missed], [], 'no note lacks a change');
  const { body } = await server.get('/db');
  for (const name of ['update_seq', 'purge_seq']) {
    const seq = Number.parseInt(String(memberOf(body, name)), 10);
    t.ok(seq > 0 && seq <= GROWTH * writes, `the ${name} is ${seq} after ${writes} writes`);
  }
});
