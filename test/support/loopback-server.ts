/** A `TestServer` with its files in memory, whose time may run faster than ours, and a client that gives answers as they come. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { Test } from 'tap';
import { MemoryStorage } from '../../engine/file/memory-storage.js';
import type { SettingName } from '../../server/config/settings.js';
import type { DivanServer } from '../../server/server.js';
import type { ServerHost } from '../../server/world.js';
import { ADMIN, basic, realServerHost, TestServer } from './server.js';

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

/** Where the files are in memory. */
const DATA_DIR = '/data';

export class LoopbackServer {
  readonly server: DivanServer;
  readonly #running: TestServer;

  private constructor(running: TestServer) {
    this.server = running.server;
    this.#running = running;
  }

  /** Runs until the test ends. */
  static async start(t: Test, options: LoopbackOptions = {}): Promise<LoopbackServer> {
    const { settings = {}, speed = 1 } = options;
    const world = { storage: new MemoryStorage(), host: hostOf(speed), dataDir: DATA_DIR };
    return new LoopbackServer(await TestServer.open(t, { ...world, settings }));
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
    const { port } = this.#running.listener.address;
    const type = body === undefined ? {} : { 'content-type': 'application/json' };
    const authorization = basic(ADMIN);
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

function hostOf(speed: number): ServerHost {
  return {
    ...realServerHost,
    now: () => performance.now() * speed,
    setTimer: (run, delayMs) => realServerHost.setTimer(run, delayMs / speed),
  };
}
