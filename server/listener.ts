/** The port: what may connect, for how long, and how the server stops: it finishes what it began and takes nothing new. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { DivanError } from '../engine/errors.js';
import type { ServerHost } from './world.js';

export interface ListenerOptions {
  readonly host: string;
  /** 0 for any free one. */
  readonly port: number;
  readonly connectionsMax: number;
  readonly headerBytesMax: number;
  /** How long the headers of a request may take. */
  readonly headerMs: number;
  /** How long a client may send nothing of what it began. */
  readonly bodyIdleMs: number;
  /** How long a connection is kept between requests. */
  readonly keepAliveMs: number;
}

export type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** How often node:http looks for connections that are over time. */
const CHECK_MS = 1000;
/** What is still running when the server stops has so long to finish. */
const DRAIN_MS = 10_000;

export class Listener {
  readonly #server: Server;
  readonly #host: ServerHost;
  readonly #sockets = new Set<Socket>();
  #running = 0;
  #stopping = false;
  #allDone: (() => void) | undefined;

  private constructor(server: Server, host: ServerHost) {
    this.#server = server;
    this.#host = host;
  }

  /** Listens. Throws `IO` with `EADDRINUSE`, `EACCES` and the like in `errno`. */
  static async open(
    host: ServerHost,
    handler: RequestHandler,
    options: ListenerOptions,
  ): Promise<Listener> {
    const server = createServer({
      maxHeaderSize: options.headerBytesMax,
      headersTimeout: options.headerMs,
      // A whole body may take as long as its bytes keep coming: `timeout` watches that.
      requestTimeout: 0,
      keepAliveTimeout: options.keepAliveMs,
      connectionsCheckingInterval: CHECK_MS,
      noDelay: true,
    });
    const listener = new Listener(server, host);
    server.maxConnections = options.connectionsMax;
    server.on('connection', (socket) => listener.#connected(socket));
    server.on('request', (request, response) => listener.#request(request, response, handler));
    server.on('checkContinue', (request, response) => {
      // The handler refuses a body that is too long before the client sends it.
      response.writeContinue();
      listener.#request(request, response, handler);
    });
    server.on('clientError', (error, socket) => refuse(error, socket));
    await listen(server, options);
    return listener;
  }

  get address(): AddressInfo {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') {
      throw new DivanError('CLOSED', 'the server does not listen');
    }
    return address;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Takes no more requests, waits for those that run, at most for some seconds, and closes all connections. */
  async close(): Promise<void> {
    this.#stopping = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#allDone = resolve;
        this.#host.setTimer(resolve, DRAIN_MS);
      });
    }
    this.#server.closeAllConnections();
    await closed;
  }

  #connected(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  #request(request: IncomingMessage, response: ServerResponse, handler: RequestHandler): void {
    this.#running++;
    if (this.#stopping) response.setHeader('Connection', 'close');
    response.once('close', () => {
      if (--this.#running === 0) this.#allDone?.();
    });
    handler(request, response);
  }
}

function listen(server: Server, { host, port }: ListenerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) => {
      const what = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message;
      const facts = error.code === undefined ? {} : { errno: error.code };
      reject(new DivanError('IO', `can not listen on ${host}:${port}: ${what}`, facts, error));
    };
    server.once('error', failed);
    server.listen(port, host, () => {
      server.off('error', failed);
      resolve();
    });
  });
}

const REFUSALS: ReadonlyMap<string | undefined, readonly [string, string, string]> = new Map([
  [
    'HPE_HEADER_OVERFLOW',
    ['431 Request Header Fields Too Large', 'too_large', 'headers too large'],
  ],
  ['ERR_HTTP_REQUEST_TIMEOUT', ['408 Request Timeout', 'timeout', 'the request came too slowly']],
]);

/** What can not be read as a request gets an answer nevertheless, and its connection is closed. */
function refuse(error: NodeJS.ErrnoException, socket: import('node:stream').Duplex): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const [status, name, reason] = REFUSALS.get(error.code) ?? [
    '400 Bad Request',
    'bad_request',
    'this is no request of HTTP/1.1',
  ];
  const body = `${JSON.stringify({ error: name, reason })}\n`;
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
  );
}
