/**
 * Goal: the parts of calls each do what the others rely on: frames, breaker, numbers that were seen, waiting calls, the identity of a node.
 * Method: each alone, with a virtual clock.
 */
import t from 'tap';
import { Breaker } from '../../../server/cluster/breaker.js';
import { FrameReader, FrameWriter, PULSE_MS, pulsed } from '../../../server/cluster/call-frames.js';
import { CallSlots } from '../../../server/cluster/call-slots.js';
import { isInTheClear, openNodeIdentity } from '../../../server/cluster/credentials.js';
import { SeenCalls } from '../../../server/cluster/seen-calls.js';
import { VirtualServerHost, VirtualWorld } from '../../support/server-world.js';

const KEY = Buffer.alloc(32, 1);
const START = Buffer.alloc(32, 2);

t.test('frames come out as they went in, however they are cut into chunks', async (t) => {
  const writer = new FrameWriter(KEY, START);
  const body = Buffer.alloc(150_000, 'xyz');
  const message = Buffer.concat([
    writer.frame('head', Buffer.from('{}')),
    ...writer.bodies(body),
    writer.pulse(),
    writer.frame('end'),
  ]);
  for (const size of [1, 7, 4096, message.length]) {
    const reader = new FrameReader(piecesOf(message, size), KEY, START);
    t.match(await reader.next(), { kind: 'head', payload: Buffer.from('{}') });
    const parts: Uint8Array[] = [];
    for await (const part of reader.bodies(() => new Error())) parts.push(part);
    t.ok(Buffer.concat(parts).equals(body), `in chunks of ${size}`);
  }
});

async function* piecesOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

t.test('a source that has nothing to say is heard of nevertheless', async (t) => {
  const host = new VirtualServerHost(1);
  let say = (_: Uint8Array) => {};
  let left = 0;
  async function* source(): AsyncGenerator<Uint8Array, void> {
    try {
      for (;;) yield await new Promise<Uint8Array>((resolve) => (say = resolve));
    } finally {
      left++;
    }
  }
  const abort = new AbortController();
  const chunks = pulsed(source(), host, abort.signal);
  for (let i = 0; i < 3; i++) {
    const next = chunks.next();
    await host.yieldTurn();
    host.advance(PULSE_MS);
    t.equal((await next).value?.length, 0);
  }
  const next = chunks.next();
  await host.yieldTurn();
  say(Buffer.from('it'));
  t.same((await next).value, Buffer.from('it'));
  const last = chunks.next();
  await host.yieldTurn();
  abort.abort(new Error('enough'));
  await t.rejects(last, { message: 'enough' });
  say(Buffer.from('too late'));
  await host.yieldTurn();
  t.equal(left, 1, 'it is left when it lets itself be');
  t.equal(host.timers, 0);
});

t.test('the breaker', async (t) => {
  const host = new VirtualServerHost(1);
  const breaker = new Breaker(host);
  const pass = () => {
    const admitted = breaker.admit();
    if (admitted === undefined) throw new Error('not let through');
    return admitted;
  };
  breaker.failed(pass());
  breaker.failed(pass());
  breaker.succeeded(pass());
  const late = pass();
  for (let i = 0; i < 3; i++) breaker.failed(pass());
  t.ok(breaker.isOpen);
  breaker.failed(late);
  for (const pauseMs of [1000, 2000, 4000, 8000, 15_000, 15_000]) {
    host.advance(pauseMs - 1);
    t.equal(breaker.admit(), undefined, `not before ${pauseMs} ms`);
    host.advance(1);
    const probe = pass();
    t.ok(probe.isProbe);
    t.equal(breaker.admit(), undefined, 'one at a time');
    breaker.failed(probe);
  }
  host.advance(15_000);
  breaker.abandoned(pass());
  const probe = pass();
  t.ok(probe.isProbe, 'one that was given up makes room for another');
  breaker.succeeded(probe);
  t.notOk(breaker.isOpen);
  for (let i = 0; i < 3; i++) breaker.failed(pass());
  host.advance(1000);
  t.ok(pass().isProbe, 'the pause is short again');
});

t.test('numbers that were seen', async (t) => {
  const host = new VirtualServerHost(1);
  const seen = new SeenCalls(host);
  const { boot } = seen;
  t.match(boot, /^[0-9a-f]{32}$/);
  for (const number of [1, 3, 2, 100, 70_000, 70_000 - 65_535]) {
    t.equal(seen.take('s', number), 'new', `${number}`);
    t.equal(seen.take('s', number), 'repeated', `${number} again`);
  }
  for (const number of [0, 50, 100, 70_000 - 65_536])
    t.equal(seen.take('s', number), 'repeated', `${number} is too old`);
  t.equal(seen.take('s', 1_000_000), 'new');
  t.equal(seen.take('s', 999_999), 'new', 'what was skipped was not seen');
  t.equal(seen.take('s', 70_000), 'repeated');
  for (let i = 1; i < 1000; i++) t.equal(seen.take(`s${i}`, 1), 'new');
  t.equal(seen.take('other', 1), 'full');
  host.advance(179_000);
  t.equal(seen.take('other', 1), 'full', 'nothing is forgotten that the clock does not refuse');
  t.equal(seen.take('s', 1_000_000), 'repeated');
  host.advance(2000);
  t.equal(seen.take('other', 1), 'new');
  t.equal(seen.boot, boot);
  let setBackMs = 0;
  const moved = { ...seenHost(host), timeOfDay: () => host.timeOfDay() - setBackMs };
  const other = new SeenCalls(moved);
  const first = other.boot;
  t.equal(other.take('s', 7), 'new');
  setBackMs = 50_000;
  t.equal(other.boot, first, 'clocks are set right a little');
  setBackMs = 70_000;
  t.not(other.boot, first, 'what was recorded before could be of now again');
});

function seenHost(host: VirtualServerHost) {
  return {
    now: () => host.now(),
    randomBytes: (length: number) => host.randomBytes(length),
    setTimer: (run: () => void, delayMs: number) => host.setTimer(run, delayMs),
    yieldTurn: () => host.yieldTurn(),
  };
}

t.test('slots', async (t) => {
  const slots = new CallSlots(2, 2);
  const { signal } = new AbortController();
  await slots.take(signal);
  await slots.take(signal);
  const order: number[] = [];
  const third = slots.take(signal).then(() => order.push(3));
  const abort = new AbortController();
  const fourth = slots.take(abort.signal);
  await t.rejects(slots.take(signal), { code: 'UNAVAILABLE' });
  abort.abort(new Error('given up'));
  await t.rejects(fourth, { message: 'given up' });
  const fifth = slots.take(signal).then(() => order.push(5));
  slots.give();
  slots.give();
  await Promise.all([third, fifth]);
  t.same(order, [3, 5], 'in the order in which they came');
  const failed = slots.take(signal);
  slots.failWaiting(new Error('all of them'));
  await t.rejects(failed, { message: 'all of them' });
});

t.test('the identity of a node', async (t) => {
  const world = new VirtualWorld();
  const records = await world.openRecords();
  const identity = await openNodeIdentity(world, records);
  t.match(identity, /^[0-9a-f]{32}$/);
  await records.close();
  const again = await world.openRecords();
  t.equal(await openNodeIdentity(world, again), identity);
  for (const value of [{}, { identity: 7 }, { identity: 'x'.repeat(32) }, { identity: '' }]) {
    await again.set('identity', value);
    await t.rejects(openNodeIdentity(world, again), { code: 'CORRUPT' });
  }
  await again.close();
});

t.test('where a secret could be read on its way', async (t) => {
  for (const url of [
    'http://10.0.0.1:5984',
    'http://a.example',
    'http://[fe80::1]:1',
    'http://127.a.b',
  ]) {
    t.ok(isInTheClear(url), url);
  }
  for (const url of [
    'https://a.example',
    'http://127.0.0.1:1',
    'http://[::1]:1',
    'http://localhost',
  ]) {
    t.notOk(isInTheClear(url), url);
  }
});
