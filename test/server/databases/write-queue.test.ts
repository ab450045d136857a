/**
 * Goal: writes that nobody waits for are all tried, in order and in few portions; the queue is bounded, and a flush waits for it.
 * Method: a database whose writes end when the test says so.
 */
import t from 'tap';
import { DivanError } from '../../../engine/errors.js';
import type { EditOutcome } from '../../../engine/shard/document-writer.js';
import type { DocumentWrite } from '../../../server/databases/shard-writer.js';
import { WriteQueue } from '../../../server/databases/write-queue.js';

const REV = { gen: 1, code: new Uint8Array(17) };
const OK: EditOutcome = { ok: true, rev: REV, seq: 1 };

function write(id: string, bodyBytes = 2): DocumentWrite {
  return { id: Buffer.from(id), body: new Uint8Array(bodyBytes), deleted: false };
}

/** Lets all that is ready run. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function held() {
  const portions: string[][] = [];
  const releases: ((outcome: EditOutcome | DivanError) => void)[] = [];
  const queue = new WriteQueue((writes) => {
    portions.push(writes.map(({ id }) => Buffer.from(id).toString()));
    return new Promise((resolve, reject) => {
      releases.push((outcome) => {
        if (outcome instanceof DivanError) reject(outcome);
        else resolve(writes.map(() => outcome));
      });
    });
  });
  const release = async (outcome: EditOutcome | DivanError = OK) => {
    releases.shift()?.(outcome);
    await turn();
  };
  return { queue, portions, release };
}

/** Whether a promise has settled, told later. */
function watch(promise: Promise<void>): { done: boolean } {
  const state = { done: false };
  promise.then(() => {
    state.done = true;
  });
  return state;
}

t.test('what comes while a portion is written is the next one', async (t) => {
  const { queue, portions, release } = held();
  const refused: string[] = [];
  const add = (id: string) => queue.add(write(id), (bytes) => refused.push(String(bytes)));
  for (const id of ['a', 'b', 'c']) await add(id);
  const flushed = watch(queue.flush());
  await release();
  t.same(portions, [['a'], ['b', 'c']]);
  t.equal(flushed.done, false, 'a flush waits for all');
  await release({ ok: false, error: new DivanError('CONFLICT', 'no') });
  t.equal(flushed.done, true);
  t.same(refused, ['b', 'c']);
  await add('d');
  await release(new DivanError('NO_SPACE', 'full'));
  t.same(refused, ['b', 'c', 'd'], 'all of a portion are told when it fails');
  await add('e');
  await release();
  await queue.flush();
  t.same(portions.at(-1), ['e'], 'it goes on');
});

t.test('it is bounded by number and by bytes', async (t) => {
  for (const [count, bytes] of [
    [1000, 2],
    [16, 1024 * 1024 - 10],
  ] as const) {
    const { queue, portions, release } = held();
    for (let n = 0; n < count; n++) await queue.add(write(`${n}`, bytes), () => undefined);
    const next = watch(queue.add(write('next', bytes), () => undefined));
    await turn();
    t.equal(next.done, false, 'there is no room');
    await release();
    await release();
    t.equal(next.done, true);
    await release();
    await queue.flush();
    t.equal(portions.flat().length, count + 1);
  }
  const { queue, release } = held();
  await queue.add(write('huge', 20 * 1024 * 1024), () => undefined);
  await release();
  await queue.flush();
  t.pass('one that is larger than the bound has room when it is alone');
});

t.test('what comes while the last portion comes to its end is not forgotten', async (t) => {
  // After each number of promises that a write can be away from the end.
  for (let promises = 0; promises < 12; promises++) {
    const { queue, portions, release } = held();
    await queue.add(write('first'), () => undefined);
    const released = release();
    for (let n = 0; n < promises; n++) await Promise.resolve();
    await queue.add(write('late'), () => undefined);
    const flushed = watch(queue.flush());
    await released;
    await release();
    t.equal(flushed.done, true);
    t.same(portions, [['first'], ['late']], `${promises}`);
  }
});
