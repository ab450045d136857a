/** A real server on a loopback port, with its files in memory, and a client for it. Its time may run faster than ours. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import pino from 'pino';
import type { Test } from 'tap';
import { MemoryStorage } from '../../engine/file/memory-storage.js';
import { nodeHost } from '../../engine/file/node-host.js';
import { Config } from '../../server/config/config.js';
import { environmentName, SETTING_NAMES, type SettingName } from '../../server/config/settings.js';
import { Listener, listenerOptions } from '../../server/listener.js';
import { DivanServer } from '../../server/server.js';
import type { ServerHost } from '../../server/world.js';

export interface LoopbackOptions {
  /** Texts of settings. */
  readonly settings?: Readonly<Partial<Record<SettingName, string>>>;
  /** How many of its seconds pass in one of ours. */
  readonly speed?: number;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
}

/** Hashes that take a fifth of a second are for those who have something to hide. */
const QUICK = { 'chttpd_auth/iterations': '3' };
const ADMIN = 'admin:secret-of-the-tests';

export class LoopbackServer {
  readonly server: DivanServer;
  readonly #listener: Listener;

  private constructor(server: DivanServer, listener: Listener) {
    this.server = server;
    this.#listener = listener;
  }

  /** Runs until the test ends. */
  static async start(t: Test, options: LoopbackOptions = {}): Promise<LoopbackServer> {
    const { settings = {}, speed = 1 } = options;
    const host = hostOf(speed);
    const config = new Config({
      environment: Object.fromEntries(
        SETTING_NAMES.map((name) => [environmentName(name), { ...QUICK, ...settings }[name]]),
      ),
      flags: new Map([['--data-dir', '/data']]),
      readFile: () => undefined,
    });
    const server = await DivanServer.build({
      world: { storage: new MemoryStorage(), host },
      config,
      log: pino({ level: 'silent' }),
      version: '0.0.0',
      admin: ADMIN,
      hashThreads: 0,
      rewriteWorkers: 0,
    });
    const listener = await Listener.open(nodeHostWithTime, server.handler, {
      ...listenerOptions(config),
      host: '127.0.0.1',
      port: 0,
    });
    t.teardown(async () => {
      server.stop();
      await listener.close();
      await server.close();
    });
    return new LoopbackServer(server, listener);
  }

  /** The whole answer to a request; a body that is no text is sent as JSON. */
  async ask(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await this.open(method, path, body, headers);
    let text = '';
    for await (const part of response.setEncoding('utf8')) text += part;
    return { status: response.statusCode ?? 0, headers: response.headers, text };
  }

  /** As `ask`, with the answer as JSON. */
  async json(method: string, path: string, body?: unknown): Promise<JsonAnswer> {
    return JSON.parse((await this.ask(method, path, body)).text);
  }

  /** The answer as it comes. */
  open(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<IncomingMessage> {
    const { port } = this.#listener.address;
    const type = body === undefined ? {} : { 'content-type': 'application/json' };
    const authorization = `Basic ${Buffer.from(ADMIN).toString('base64')}`;
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        ...{ host: '127.0.0.1', port, method, path, agent: false },
        headers: { authorization, ...type, ...headers },
      });
      request.on('response', resolve).on('error', reject);
      request.end(typeof body === 'string' || body === undefined ? body : JSON.stringify(body));
    });
  }
}

/** What tests read of answers. */
export interface JsonAnswer {
  readonly [name: string]: JsonAnswer;
  readonly [index: number]: JsonAnswer;
}

const nodeHostWithTime: ServerHost = { ...nodeHost, timeOfDay: () => Date.now() };

function hostOf(speed: number): ServerHost {
  return {
    ...nodeHostWithTime,
    now: () => performance.now() * speed,
    setTimer: (run, delayMs) => nodeHost.setTimer(run, delayMs / speed),
  };
}
