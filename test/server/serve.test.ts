/**
 * Goal: `divan serve` says in one line why it does not start and what to do, goes on when nobody reads what it prints, and keeps what it
 * writes to itself.
 * Method: the real command as a process of its own, with directories, files, ports and pipes that are not as they should be.
 */
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { divan, divanStart, temporaryDirectory } from '../support/cli.js';

/** Starts it where it can not start; its one line. */
function refusal(t: Parameters<typeof temporaryDirectory>[0], ...args: string[]): string {
  const { code, stdout, stderr } = divan('serve', '--port', '0', ...args);
  t.equal(code, 1, args.join(' '));
  t.equal(stdout, '');
  t.match(stderr, /^divan: [^\n]+\n$/);
  return stderr;
}

t.test('a data directory that cannot be one', async (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'file');
  writeFileSync(file, '');
  t.match(refusal(t, '--data-dir', file), /data directory .*file: it is a file; name a directory/);
  for (const path of [join(directory, 'no', 'such'), join(file, 'below')]) {
    t.match(refusal(t, '--data-dir', path), /the directory to make it in is not there/);
  }
});

t.test('a configuration file that cannot be read is not called missing', async (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, 'local.ini'));
  const path = join(directory, 'local.ini');
  t.match(refusal(t, '--config', path), /can not read the configuration file .*EISDIR/);
  const missing = join(directory, 'other.ini');
  const { code, stderr } = divan('serve', '--port', '0', '--config', missing);
  t.equal(code, 2, 'wrong usage');
  t.match(stderr, /^divan: there is no configuration file[^\n]+\n$/);
});

t.test('a port that is in use', async (t) => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  t.teardown(() => other.close());
  const address = other.address();
  const port = typeof address === 'object' ? String(address?.port) : '';
  const dataDir = join(temporaryDirectory(t), 'data');
  const { code, stderr } = divan('serve', '--port', port, '--data-dir', dataDir);
  t.equal(code, 1);
  t.match(stderr, /the port is in use; end what uses it, or choose another port \(IO\)\n$/);
});

t.test('nobody reads what it prints', async (t) => {
  const dataDir = join(temporaryDirectory(t), 'data');
  const child = divanStart('serve', '--port', '0', '--data-dir', dataDir, '--log-level', 'debug');
  child.stdout.destroy();
  let log = '';
  child.stderr.on('data', (bytes) => {
    log += String(bytes);
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const timer = setTimeout(() => child.kill('SIGTERM'), 3000);
  t.equal(await ended, 0, 'it runs until it is told to stop');
  clearTimeout(timer);
  t.match(log, /"msg":"stopping"/);
  t.notMatch(log, /EPIPE/);
});

t.test('the binding that its setup was told is the one of the next start', async (t) => {
  const directory = temporaryDirectory(t);
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const address = other.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  await new Promise((resolve) => other.close(resolve));
  const config = join(directory, 'local.ini');
  writeFileSync(config, `[chttpd]\nport = ${port}\n[chttpd_auth]\niterations = 3\n`);
  const begin = async (): Promise<{ text: string; end: () => Promise<number | null> }> => {
    const args = ['--config', config, '--data-dir', join(directory, 'data'), '--log-level', 'none'];
    const child = divanStart('serve', ...args);
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    let text = '';
    await new Promise<void>((resolve) => {
      child.stdout.on('data', (bytes) => {
        text += String(bytes);
        if (text.includes('Divan listens')) resolve();
      });
    });
    return { text, end: () => (child.kill('SIGTERM') ? ended : ended) };
  };
  const first = await begin();
  t.match(first.text, `http://127.0.0.1:${port}/`);
  const admin = { user: 'operator', pass: 'a-good-password' };
  const enabled = await fetch(`http://127.0.0.1:${port}/_setup`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ action: 'enable_cluster', admin }),
  });
  t.equal(enabled.status, 201, await enabled.text());
  t.equal(await first.end(), 0);
  const second = await begin();
  t.match(second.text, `http://0.0.0.0:${port}/`);
  t.notMatch(second.text, /admin/, 'there is nobody to be told of');
  t.equal((await fetch(`http://127.0.0.1:${port}/_setup`)).status, 401);
  t.equal(await second.end(), 0);
});

t.test('what it writes is for its own user only', async (t) => {
  const dataDir = join(temporaryDirectory(t), 'data');
  const child = divanStart('serve', '--port', '0', '--data-dir', dataDir);
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  await new Promise((resolve) => child.stdout.on('data', resolve));
  child.kill('SIGTERM');
  t.equal(await ended, 0);
  // The hashes of passwords and the key of session cookies are in there.
  for (const name of ['.', 'node.divan', 'shards']) {
    t.equal(statSync(join(dataDir, name)).mode & 0o077, 0, name);
  }
});
