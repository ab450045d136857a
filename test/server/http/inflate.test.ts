/**
 * Goal: gzip bodies are inflated whole or refused, within the limit, and nothing stays open.
 * Method: bodies made by zlib, damaged and cut; sources that count what is asked of them.
 */
import { deflateSync, gzipSync } from 'node:zlib';
import t from 'tap';
import { inflated } from '../../../server/http/inflate.js';
import { collect, Source } from '../../support/byte-sources.js';
import { outcome, outcomeOf } from '../../support/outcome.js';

const MIB = 1024 * 1024;

async function textOf(bytes: AsyncIterable<Uint8Array>): Promise<string> {
  return (await collect(bytes)).toString('latin1');
}

function outcomeOfGzip(chunks: Iterable<Uint8Array>, bytesMax = MIB): Promise<unknown> {
  return outcomeOf(textOf(inflated(new Source(chunks), 'gzip', bytesMax)));
}

const text = 'hello '.repeat(1000);
const zipped = gzipSync(text);
const bytewise = [...zipped].map((byte) => Uint8Array.of(byte));

t.test('encodings', async (t) => {
  for (const encoding of [undefined, '', 'identity', ' Identity ']) {
    const body = new Source([Buffer.from('as it is')]);
    t.equal(inflated(body, encoding, 1), body, 'the source itself');
  }
  for (const encoding of ['gzip', 'GZIP', ' x-gzip']) {
    t.equal(await textOf(inflated(new Source([zipped]), encoding, MIB)), text);
  }
  for (const encoding of ['deflate', 'br', 'gzip, gzip', 'identity, gzip', 'gzip;q=1']) {
    t.equal(
      outcome(() => inflated(new Source([]), encoding, MIB)),
      'UNSUPPORTED_TYPE',
      encoding,
    );
  }
});

t.test('whole bodies', async (t) => {
  t.equal(await outcomeOfGzip(bytewise), text, 'a byte at a time');
  t.equal(await outcomeOfGzip([zipped, new Uint8Array(0), zipped]), text + text, 'of two members');
  t.equal(await outcomeOfGzip([Buffer.concat([zipped, zipped])]), text + text, 'in one chunk');
  t.equal(await outcomeOfGzip([gzipSync('')]), '', 'of nothing');
});

t.test('bodies that are damaged', async (t) => {
  for (const length of [0, 1, 5, 10, 11, 20, zipped.length - 8, zipped.length - 1]) {
    t.equal(await outcomeOfGzip([zipped.subarray(0, length)]), 'BAD_REQUEST', `cut at ${length}`);
    t.equal(
      await outcomeOfGzip(bytewise.slice(0, length)),
      'BAD_REQUEST',
      `cut at ${length}, bytewise`,
    );
  }
  for (const tail of ['x', '\0', '\0\0\0\0', '\x1f', '\x1f\x8b', 'garbage'.repeat(30_000)]) {
    const bytes = Buffer.from(tail, 'latin1');
    t.equal(
      await outcomeOfGzip([Buffer.concat([zipped, bytes])]),
      'BAD_REQUEST',
      'more in the chunk',
    );
    t.equal(await outcomeOfGzip([zipped, bytes]), 'BAD_REQUEST', 'more in the next chunk');
  }
  let refused = 0;
  for (let at = 10; at < zipped.length; at++) {
    const flipped = Buffer.from(zipped);
    flipped[at] = (flipped[at] ?? 0) ^ 0x10;
    // Some bits stand for nothing, such as those that fill up the last byte of the data.
    const found = await outcomeOfGzip([flipped]);
    t.ok(found === 'BAD_REQUEST' || found === text, `bit flip at ${at}`);
    refused += found === 'BAD_REQUEST' ? 1 : 0;
  }
  t.ok(refused >= zipped.length - 15, `${refused} flips were refused`);
  for (const bytes of [Buffer.from(text), deflateSync(text)]) {
    t.equal(await outcomeOfGzip([bytes]), 'BAD_REQUEST', 'no gzip at all');
  }
});

t.test('a little that stands for a lot', async (t) => {
  t.equal(await outcomeOfGzip([zipped], text.length), text, 'up to the limit');
  t.equal(await outcomeOfGzip([zipped], text.length - 1), 'TOO_LARGE');
  const bomb = gzipSync(Buffer.alloc(64 * MIB));
  const seen = new Source([bomb]);
  let most = 0;
  const reading = async () => {
    for await (const chunk of inflated(seen, 'gzip', MIB)) most += chunk.length;
  };
  t.equal(await outcomeOf(reading()), 'TOO_LARGE');
  t.ok(most <= MIB, 'nothing beyond the limit is handed on');
  t.equal(seen.isOpen, false);
});

t.test('a slow reader holds up the source, and one that leaves off closes it', async (t) => {
  const random = Buffer.alloc(8 * MIB, 'incompressible?');
  for (let at = 0; at < random.length; at += 4)
    random.writeUInt32LE((at * 2654435761) % 2 ** 32, at);
  const bytes = gzipSync(random, { level: 0 });
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 16_384) chunks.push(bytes.subarray(at, at + 16_384));
  const seen = new Source(chunks);
  const body = inflated(seen, 'gzip', 100 * MIB);
  for await (const _ of body) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    t.ok(seen.asked < 40, `${seen.asked} of ${chunks.length} chunks were asked for`);
    break;
  }
  for (let wait = 0; seen.isOpen && wait < 100; wait++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  t.equal(seen.isOpen, false);
});

t.test('a source that fails', async (t) => {
  const failure = new Error('the client is gone');
  const failing = new Source([zipped.subarray(0, 20)], failure);
  await t.rejects(collect(inflated(failing, 'gzip', MIB)), failure);
  t.equal(failing.isOpen, false);
});
