/**
 * Goal: the tour of the README works as it is printed.
 * Method: its lines are run by a shell, against the real command on a port of its own.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import t from 'tap';
import { TestServer } from '../support/server.js';

const run = promisify(execFile);

function tour(): string[] {
  const [, section = ''] = readFileSync('README.md', 'utf8').split('\n### A tour with curl\n');
  const [, block = ''] = section.split('```\n');
  return block.trim().split('\n');
}

t.test('the tour with curl', async (t) => {
  const server = await TestServer.open(t, { admin: 'admin:a-good-password' });
  const [address = '', ...lines] = tour();
  t.equal(address, 'D=http://admin:a-good-password@127.0.0.1:5984');
  const here = address.replace('5984', String(server.listener.address.port));
  const answers: string[] = [];
  for (const line of lines) {
    t.match(line, /^curl /);
    const { stdout } = await run('bash', ['-c', `${here}\n${line.replace('curl', 'curl -sS')}`]);
    t.notMatch(stdout, /"error":"/, line);
    answers.push(stdout);
  }
  t.equal(answers.length, 12);
  t.match(answers[2], '"name":"Bern","people":121631,"area":51.60}');
  t.match(answers[5], '"id":"lugano"');
  t.equal(answers[7], 'the map');
  t.match(answers[8], '"doc_count":4');
  t.match(answers[9], '"ok":true');
  t.match(answers[10], '"total_rows":2');
  t.match(answers[11], '"shards"');
});
