/**
 * Goal: the tour of the README and its cluster on one machine work as they are printed.
 * Method: their lines are run by a shell, against the real command on ports of its own.
 */
import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import t from 'tap';
import { CLI, temporaryDirectory } from '../support/cli.js';
import { TestServer } from '../support/server.js';

const run = promisify(execFile);

/** The lines of the blocks of code below a heading. */
function blocksBelow(heading: string): string[][] {
  const [, section = ''] = readFileSync('README.md', 'utf8').split(`\n### ${heading}\n`);
  const [text = ''] = section.split('\n### ');
  const blocks = text.split('```\n').filter((_, index) => index % 2 === 1);
  return blocks.map((block) => block.trim().split('\n'));
}

t.test('the tour with curl', async (t) => {
  const server = await TestServer.open(t, { admin: 'admin:a-good-password' });
  const [[address = '', ...lines] = []] = blocksBelow('A tour with curl');
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

t.test('three nodes on one machine', async (t) => {
  const [[start = ''] = [], lines = []] = blocksBelow('Three nodes on one machine');
  const directory = temporaryDirectory(t);
  const environment = { ...process.env, DIVAN_CHTTPD_AUTH_ITERATIONS: '1000', NODE_OPTIONS: '' };
  const options = { cwd: directory, env: environment };
  const asHere = (line: string) =>
    line.replaceAll('npx divan', `${process.execPath} ${CLI}`).replace(/^curl/, 'curl -sS');
  const shell = spawn('bash', ['-c', `${asHere(start)}; wait`], { ...options, detached: true });
  const ended = new Promise((resolve) => shell.once('close', resolve));
  t.teardown(async () => {
    // The nodes are of the group of the shell.
    if (shell.pid !== undefined) process.kill(-shell.pid, 'SIGKILL');
    await ended;
  });
  let said = '';
  await new Promise<void>((resolve, reject) => {
    shell.once('close', () => reject(new Error(`the nodes ended: ${said}`)));
    shell.stderr.on('data', (bytes) => {
      said += String(bytes);
    });
    shell.stdout.on('data', (bytes) => {
      said += String(bytes);
      if (said.split('Divan listens').length === 4) resolve();
    });
  });
  const [environmentLine = '', ...commands] = lines;
  const answers: string[] = [];
  for (const line of commands) {
    const { stdout } = await run('bash', ['-c', `${environmentLine}\n${asHere(line)}`], options);
    answers.push(stdout);
  }
  t.equal(answers.length, 6);
  t.match(answers[0], 'the cluster is set up: node1@127.0.0.1, node2@127.0.0.1, node3@127.0.0.1');
  t.match(answers[1], 'cluster_finished, 3 nodes');
  t.match(answers[2], '"ok":true');
  t.match(answers[3], '"ok":true');
  t.match(answers[4], '"people":121631');
  t.equal(answers[5]?.trim().split('\n').length, 6);
});
