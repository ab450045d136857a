/**
 * Goal: what the tests say is counted as it was meant.
 * Method: TAP as the library prints it.
 */
import t from 'tap';
import { TapReader } from './support/tap-reader.js';

function read(text: string): TapReader {
  const reader = new TapReader();
  for (const line of text.split('\n')) reader.line(line);
  return reader;
}

t.test('assertions are counted, and not what sums them up', async (t) => {
  const { passed, failed, shown } = read(
    [
      ...['TAP version 14', '# Subtest: one', '    # DIVAN_SEED=7', '    ok 1 - a', '    ok 2 - b'],
      ...['    1..2', 'ok 1 - one # time=3ms', '', 'ok 2 - c', 'ok 3 - d # SKIP', '1..3'],
      ...['# { total: 4 }', '# time=5ms'],
    ].join('\n'),
  );
  t.strictSame([passed, failed], [3, 0]);
  t.strictSame(shown, ['    # DIVAN_SEED=7']);
});

t.test('a failure is shown with what is known of it', async (t) => {
  const { passed, failed, shown } = read(
    [
      ...['# Subtest: one', '    not ok 1 - a', '      ---', '      found: 1', '      ...'],
      ...['    ok 2 - b', '    1..2', 'not ok 1 - one # time=3ms'],
    ].join('\n'),
  );
  t.strictSame([passed, failed], [1, 1]);
  t.match(shown.join('\n'), /not ok 1 - a\n.*---\n.*found: 1\n/);
});
