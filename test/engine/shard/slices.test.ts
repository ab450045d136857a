/**
 * Goal: large documents and attachments are read in slices as if they were read at once, and others have their turn in between.
 * Method: texts whose escapes, characters and brackets lie across the ends of slices, compared with one scan and with what was put in.
 */
import t from 'tap';
import { storeAttachment } from '../../../engine/shard/attachment-upload.js';
import { Base64Text } from '../../../engine/shard/base64-text.js';
import { DocumentScanner, type ScannedDocument } from '../../../engine/shard/document.js';
import { SCAN_SLICE_BYTES } from '../../../engine/shard/json-text.js';
import { outcome, outcomeOf } from '../../support/outcome.js';

function scanInSlices(text: string | Uint8Array): { turns: number; scanned: ScannedDocument } {
  const bytes = Buffer.from(text);
  const slices = new DocumentScanner().scanInSlices(bytes, 0, bytes.length);
  for (let turns = 0; ; turns++) {
    const slice = slices.next();
    if (slice.done === true) return { turns, scanned: slice.value };
  }
}

function check(text: string): { body: Buffer; length: number | undefined } {
  const slices = Base64Text.check(Buffer.from(text));
  for (;;) {
    const slice = slices.next();
    if (slice.done !== true) continue;
    const chunks = slice.value === undefined ? [] : [...slice.value.chunks()];
    return { body: Buffer.concat(chunks), length: slice.value?.length };
  }
}

t.test('values of any shape, wherever a slice ends', async (t) => {
  const scanner = new DocumentScanner();
  const unit = ['é', '\\u00e9', '\\ud83d\\ude00', '\\"', 'x', '€'].join('');
  for (let shift = 0; shift < 24; shift++) {
    const long = 'x'.repeat(shift) + unit.repeat(60_000);
    const list = `[${Array.from({ length: 60_000 }, (_, n) => `{"n":[${n}, "é"]}`)}]`;
    const text = `{"_id":"a","_conflicts":${list},"s":"${long}","list": ${list},"_deleted":true, "e":{}}`;
    const whole = Buffer.from(text);
    const expected = scanner.scan(whole, 0, whole.length);
    const { turns, scanned } = scanInSlices(text);
    t.ok(turns >= Math.floor((whole.length / SCAN_SLICE_BYTES) * 0.8), `${turns} turns`);
    t.ok(Buffer.from(scanned.body).equals(expected.body), `shifted by ${shift}`);
    t.equal(scanned.deleted, true);
  }
});

t.test('what is refused at once is refused in slices', async (t) => {
  const filler = 'y'.repeat(SCAN_SLICE_BYTES);
  for (const bad of [
    `{"s":"${filler}`,
    `{"s":"${filler}\n"}`,
    `{"s":"${filler}\\`,
    `{"s":"${filler}\\ud800 "}`,
    `{"s":["${filler}"}`,
    `{"s":"${filler}","s":1}`,
    `{"s":["${filler}"],}`,
    `{"s":"${filler}"} 1`,
    `{"_attachments":{"f":{"data":"${filler}`,
    `{"_attachments":{"f":{"x":"${filler}","x":1,"data":""}}}`,
    `{"_attachments":{"f":{"data":""},"f":{"data":""}}}`,
  ]) {
    const bytes = Buffer.from(bad);
    const once = outcome(() => new DocumentScanner().scan(bytes, 0, bytes.length));
    t.equal(
      outcome(() => scanInSlices(bad)),
      once,
      bad.slice(0, 20),
    );
    t.equal(once, 'INVALID_JSON');
  }
  const notUtf8 = Buffer.concat([Buffer.from(`{"s":"${filler}`), Buffer.from([0xff, 0x22, 0x7d])]);
  t.equal(
    outcome(() => scanInSlices(notUtf8)),
    'INVALID_JSON',
  );
});

t.test('names and white space that can not be sliced have a bound', async (t) => {
  const much = 1024 * 1024;
  const scan = (text: string) => {
    const bytes = Buffer.from(text);
    return outcome(() => new DocumentScanner().scan(bytes, 0, bytes.length));
  };
  t.equal(scan(`{"a":${' '.repeat(much + 1)}1}`), 'INVALID_JSON');
  t.not(scan(`{"a":${' '.repeat(much - 1)}1}`), 'INVALID_JSON');
  t.equal(scan(`{"${'n'.repeat(much)}":1}`), 'INVALID_JSON');
  t.not(scan(`{"${'n'.repeat(much - 2)}":1}`), 'INVALID_JSON');
});

t.test('base64 wherever a slice ends', async (t) => {
  const slice = 256 * 1024;
  const bytes = Buffer.alloc(slice * 2 + 1);
  for (let at = 0; at < bytes.length; at++) bytes[at] = (at * 7919) >>> 5;
  const plain = bytes.toString('base64');
  t.match(check(plain), { length: bytes.length });
  t.ok(check(plain).body.equals(bytes));
  for (let shift = -8; shift <= 8; shift++) {
    const at = slice + shift;
    const before = plain.slice(0, at);
    const after = plain.slice(at + 1);
    const hex = plain.charCodeAt(at).toString(16).padStart(4, '0');
    for (const text of [`${before}\\u${hex}${after}`, `${before}\\r\\n ${plain[at]}${after}`]) {
      t.ok(check(text).body.equals(bytes), `at ${shift}`);
    }
    for (const wrong of ['\\\\', '\\"', '=', '-', 'é', '\\u00e9']) {
      t.equal(check(`${before}${wrong}${after}`).length, undefined, `${wrong} at ${shift}`);
    }
  }
});

t.test('padding', async (t) => {
  for (const [text, length] of [
    ['', 0],
    ['YQ==', 1],
    ['YQ', 1],
    ['YWI=', 2],
    ['YWI', 2],
    ['YWJj', 3],
    ['Y', undefined],
    ['YQ=', undefined],
    ['YQ===', undefined],
    ['YWJj=', undefined],
    ['=', undefined],
    ['YQ==YQ==', undefined],
  ] as const) {
    t.equal(check(text).length, length, text);
    if (length !== undefined) t.equal(check(text).body.toString(), 'abc'.slice(0, length));
  }
});

t.test('a source that fails fails its storing, and closes', async (t) => {
  let closed = 0;
  const source = async function* (bytes: Uint8Array) {
    try {
      yield bytes;
      throw new RangeError('gone');
    } finally {
      closed++;
    }
  };
  const store = {
    async store(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) {
      let length = 0;
      for await (const chunk of chunks) length += chunk.length;
      return {
        digest: Buffer.alloc(16),
        length,
        encoding: undefined,
        decodedLength: length,
        refs: [],
      };
    },
  };
  const bytes = Buffer.from('x');
  const bytesMax = 10;
  const failing = storeAttachment(store, { chunks: source(bytes), bytesMax });
  await t.rejects(failing, { message: 'gone' });
  const noGzip = source(Buffer.from('no gzip'));
  const gzip = storeAttachment(store, { chunks: noGzip, bytesMax, encoding: 'gzip' });
  t.equal(await outcomeOf(gzip), 'BAD_REQUEST', 'no gzip begins so');
  const large = storeAttachment(store, { chunks: source(Buffer.alloc(11)), bytesMax });
  t.equal(await outcomeOf(large), 'TOO_LARGE');
  t.equal(closed, 3);
});
