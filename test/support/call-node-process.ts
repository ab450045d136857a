/** A node in a process of its own, which tests stop and go on with. Prints its `Node` as JSON; ends with its standard input. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { nodeStorage } from '../../engine/file/node-storage.js';
import { Config } from '../../server/config/config.js';
import { Listener, listenerOptions } from '../../server/listener.js';
import { DivanServer } from '../../server/server.js';
import { ADMIN, realServerHost } from './server.js';

const dataDir = await mkdtemp(join(tmpdir(), 'divan-'));
const config = new Config({
  environment: { DIVAN_CHTTPD_AUTH_ITERATIONS: '3' },
  flags: new Map([['--data-dir', dataDir]]),
  readFile: () => undefined,
});
const server = await DivanServer.build({
  world: { storage: nodeStorage, host: realServerHost },
  config,
  log: pino({ level: 'silent' }),
  version: '0.0.0-test',
  admin: ADMIN,
  hashThreads: 0,
});
const options = { ...listenerOptions(config), host: '127.0.0.1', port: 0 };
const listener = await Listener.open(realServerHost, server.handler, options);
const { credentials, handlers } = server.services.cluster;
credentials.cookie = process.argv[2];
credentials.mayCall = () => true;
credentials.self = {
  name: 'process@127.0.0.1',
  identity: credentials.self.identity,
  url: `http://127.0.0.1:${listener.address.port}`,
};
handlers.on('head', async ({ head }) => head);
process.stdout.write(`${JSON.stringify(credentials.self)}\n`);
process.stdin.resume();
process.stdin.on('end', async () => {
  await listener.close();
  await server.close();
  await rm(dataDir, { recursive: true });
});
