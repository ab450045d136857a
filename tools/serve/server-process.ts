/** The process of `divan serve`. */
import { readFileSync } from 'node:fs';
import pino from 'pino';
import { DivanError } from '../../engine/errors.js';
import { nodeHost } from '../../engine/file/node-host.js';
import { nodeStorage } from '../../engine/file/node-storage.js';
import { Config } from '../../server/config/config.js';
import { ADMIN_ENVIRONMENT } from '../../server/config/sources.js';
import { Listener, listenerOptions } from '../../server/listener.js';
import { DivanServer } from '../../server/server.js';
import { readCertificate } from '../../server/tls-files.js';
import type { ServerWorld } from '../../server/world.js';
import { ignoreBrokenPipe } from '../command.js';
import { processMeter, watchEventLoop } from './process-meter.js';

const WORLD: ServerWorld = {
  storage: nodeStorage,
  host: { ...nodeHost, timeOfDay: () => Date.now() },
};

/** Of the permissions of a file, all but those of its owner. */
const OTHERS_BITS = 0o077;

/** Serves until it is told to stop. Throws what is wrong with the settings, `LOCKED`, `CORRUPT`, and what listening and the disk throw. */
export async function serve(
  options: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<boolean> {
  // The records of the node hold the hashes of passwords and the key of session cookies, the shards whatever users keep in them.
  process.umask(process.umask() | OTHERS_BITS);
  // Whoever started it may not care to read what it prints.
  process.stdout.on('error', ignoreBrokenPipe);
  const config = new Config({
    environment: process.env,
    flags: flagsOf(options),
    readFile: readTextFile,
  });
  const certificate = await readCertificate(WORLD.storage, config);
  const log = pino({ level: levelOf(config) }, pino.destination({ dest: 2, sync: false }));
  config.onChange('log/level', () => {
    log.level = levelOf(config);
  });
  const server = await DivanServer.build({
    world: WORLD,
    config,
    log,
    version: packageVersion(),
    process: processMeter(),
    watchEventLoop,
    admin: process.env[ADMIN_ENVIRONMENT],
  });
  tellOfAdmin(server);
  const { setup } = server.services;
  const listener = await Listener.open(WORLD.host, server.handler, {
    ...listenerOptions(config, certificate),
    ...setup.binding,
  });
  setup.attach(listener);
  server.services.metrics.watch(listener);
  const { address, port } = listener.address;
  const scheme = certificate === undefined ? 'http' : 'https';
  process.stdout.write(`Divan listens on ${scheme}://${address}:${port}/\n`);
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  log.info('stopping');
  server.stop();
  await listener.close();
  await server.close();
  return true;
}

/** Says how to get in, where nobody has chosen an admin. */
function tellOfAdmin({ generatedAdmin, services }: DivanServer): void {
  if (generatedAdmin !== undefined) {
    const { name, password } = generatedAdmin;
    process.stdout.write(`There was no admin: ${name} was made, with the password ${password}\n`);
  } else if (!services.admins.hasConfiguredAdmin) {
    const names = services.admins.names.join();
    process.stdout.write(
      `The only admin is ${names}, whose password was printed when it was made; ` +
        `${ADMIN_ENVIRONMENT}=user:password sets another\n`,
    );
  }
}

function flagsOf(options: Readonly<Record<string, string>>): Map<string, string> {
  const flags = new Map<string, string>();
  for (const [name, value] of Object.entries(options)) {
    flags.set(`--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`, value);
  }
  return flags;
}

/** Throws `IO` for a file that is there and cannot be read. */
function readTextFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if ('code' in error && error.code === 'ENOENT') return undefined;
    const reason = `can not read the configuration file ${path}: ${error.message}`;
    throw new DivanError('IO', reason, { path }, error);
  }
}

function levelOf(config: Config): string {
  const level = config.get('log/level');
  if (level === 'none') return 'silent';
  return level === 'warning' ? 'warn' : level;
}

function packageVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return String(JSON.parse(text).version);
}
