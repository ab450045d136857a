// Goal: replies of nodes are taken apart rightly wherever they are cut. Method: texts in pieces of every size.
import t from 'tap';
import { ByteFeed } from '../../../server/routing/byte-feed.js';
import { KEPT_BYTES_MAX, KeptBody } from '../../../server/routing/kept-body.js';
import { MergedToken } from '../../../server/routing/merged-token.js';

async function* inPieces(text: string, size: number): AsyncGenerator<Uint8Array, void> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function textOf(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(Buffer.from(chunk));
  return Buffer.concat(all).toString();
}

t.test('values, lines and texts, however they are cut', async (t) => {
  const values = ['{"a":"]}\\"","b":[{}]}', '[]', '{"é":"\\\\"}', '{"x":[1,[2,{"y":"["}]]}'];
  const text = `{"rows":[\n${values.join(',\n')}\n]}\n~one\n\n{"seq":"t","id":1}\nrest`;
  for (let size = 1; size <= 70; size++) {
    const feed = new ByteFeed(inPieces(text, size));
    t.equal(await feed.until('"rows":[', 100), '{"rows":[');
    for (const value of values) {
      t.ok(await feed.nextElement());
      t.equal(await textOf(feed.value()), value);
    }
    t.notOk(await feed.nextElement());
    t.equal(await feed.until('\n', 100), '}\n');
    t.equal(await textOf(feed.line()), '~one');
    t.equal(await textOf(feed.line()), '');
    const [head, token] = await feed.lookAt(/^\{"seq":"([^"]*)"/, 100);
    t.equal(token, 't');
    feed.pass(head.length);
    t.equal(await textOf(feed.line()), ',"id":1}');
    t.equal((await feed.rest(4)).toString(), 'rest');
    t.equal(await feed.peek(), undefined);
  }
});

t.test('what breaks off, or is more than was agreed upon, is an error of the node', async (t) => {
  const feed = (text: string) => new ByteFeed(inPieces(text, 3));
  await t.rejects(feed('abc').until('x', 100), { code: 'PEER' });
  await t.rejects(feed('a'.repeat(50)).until('x', 10), { code: 'PEER' });
  await t.rejects(textOf(feed('{"a":[}').value()), { code: 'PEER' });
  await t.rejects(textOf(feed('line').line()), { code: 'PEER' });
  await t.rejects(feed('abcdef').rest(5), { code: 'PEER' });
  await t.rejects(feed('abcdef').lookAt(/x/, 4), { code: 'PEER' });
  await t.rejects(feed('').nextElement(), { code: 'PEER' });
});

t.test('tokens together', async (t) => {
  const name = (letter: string) => letter.repeat(12);
  const token = new MergedToken([`3-${name('a')}1.${name('b')}2~${name('x')}9`, `4-${name('c')}4`]);
  t.equal(token.text(), `7-${name('a')}1.${name('b')}2.${name('c')}4~${name('x')}9`);
  token.set(1, `5-${name('c')}5~${name('x')}9.${name('y')}1`);
  t.equal(token.text(), `8-${name('a')}1.${name('b')}2.${name('c')}5~${name('x')}9.${name('y')}1`);
  t.throws(() => new MergedToken(['x']), { code: 'PEER' });
});

t.test('a body that is kept can be sent again, a larger one can not', async (t) => {
  const small = new KeptBody(inPieces('abcdefgh', 2));
  const first = small.chunks();
  t.equal(Buffer.from((await first.next()).value ?? []).toString(), 'ab');
  const left = first.next();
  await first.return();
  await left;
  t.equal(await textOf(small.chunks()), 'abcdefgh');
  t.equal(await textOf(small.chunks()), 'abcdefgh');
  const text = 'x'.repeat(KEPT_BYTES_MAX + 1);
  const large = new KeptBody(inPieces(text, 64 * 1024));
  t.equal((await textOf(large.chunks())).length, text.length);
  t.notOk(large.canBeSentAgain);
  t.throws(() => large.chunks(), { code: 'UNAVAILABLE' });
});
