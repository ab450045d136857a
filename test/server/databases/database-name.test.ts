/**
 * Goal: a name that no database may have is refused with the rule that it breaks.
 * Method: names at the bounds and beyond, each with what it is told.
 */
import t from 'tap';
import { isDivanError } from '../../../engine/errors.js';
import { checkDatabaseName } from '../../../server/databases/database-name.js';

function refusal(name: string): string | undefined {
  try {
    checkDatabaseName(name);
    return undefined;
  } catch (error) {
    if (!isDivanError(error, 'INVALID_NAME')) throw error;
    return error.message;
  }
}

t.test('names of databases', async (t) => {
  for (const name of ['a', 'a/b', 'a0_$()+-', '_users', 'x'.repeat(238)]) {
    t.equal(refusal(name), undefined, name);
  }
  const long = refusal('x'.repeat(239));
  t.match(long, /is too long: at most 238 characters$/);
  t.notMatch(long, 'lowercase');
  for (const name of ['', 'A', '0a', '_other', 'a.b', '../a', 'a\\b', 'a%2f', 'ä', 'a\0', 'a\n']) {
    t.match(refusal(name), /^Name: '.*'\. Only lowercase characters/s, JSON.stringify(name));
  }
  for (const name of ['a/', 'a//b']) t.match(refusal(name), /something behind each \/\.$/, name);
});
