/**
 * The connections: what may connect, for how long, and how the server stops: it finishes what it began and takes nothing new.
 *
 * They come by a port and are served by one node:http server that listens nowhere itself, so that the port can move while requests run.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ListenAddress } from './acceptor.js';
import type { Config } from './config/config.js';
import { hasBody } from './http/request-body.js';
import { type Hold, Port } from './port.js';
import type { ListenerMove, PortMover } from './setup/binding.js';
import type { Certificate } from './tls-files.js';
import type { ServerHost } from './world.js';

export interface ListenerOptions extends ListenAddress {
  readonly connectionsMax: number;
  readonly headerBytesMax: number;
  /** How long the headers of a request may take. */
  readonly headerMs: number;
  /** How long a client may send nothing of what it began. */
  readonly bodyIdleMs: number;
  /** How long a connection is kept between requests. */
  readonly keepAliveMs: number;
  /** How long a client may read nothing of a reply. */
  readonly stalledMs: number;
  /** So many bytes of a reply wait for a client; whoever writes more has to wait itself. */
  readonly bufferedBytesMax: number;
  /** Undefined to serve http, not https. */
  readonly certificate?: Certificate | undefined;
}

/** As it is configured; `certificate` as `readCertificate` gives it. */
export function listenerOptions(config: Config, certificate?: Certificate): ListenerOptions {
  return {
    host: config.get('chttpd/bind_address'),
    port: config.get('chttpd/port'),
    connectionsMax: config.get('chttpd/max_connections'),
    headerBytesMax: config.get('chttpd/max_header_size'),
    headerMs: config.get('chttpd/header_timeout'),
    bodyIdleMs: config.get('chttpd/body_timeout'),
    keepAliveMs: config.get('chttpd/idle_timeout'),
    stalledMs: config.get('chttpd/slow_reader_timeout'),
    bufferedBytesMax: config.get('chttpd/max_buffered_response'),
    certificate,
  };
}

export type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** How often node:http looks for connections that are over time. */
const CHECK_MS = 1000;
/** What is still running when the server stops has so long to finish. */
const DRAIN_MS = 10_000;

/** A client that was refused has so long to read why. */
const REFUSED_MS = 1000;

const NO_PROXY = { code: 'ERR_METHOD' };
/** Node's own. */
const TOO_SLOW = 'ERR_HTTP_REQUEST_TIMEOUT';
/** A client that sends so many requests without waiting for replies is cut off. */
const PIPELINED_MAX = 1000;

interface Job {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** What is known of a connection. Its requests are served one after another, so that each sees what those before it did. */
interface Connection {
  running: Job | undefined;
  readonly waiting: Job[];
  /** What is said to what came last and is no request. */
  refusal: string | undefined;
  /** Its requests wait as long as that is on; undefined for never. */
  readonly hold: Hold | undefined;
}

export class Listener implements PortMover {
  readonly #server: Server;
  readonly #host: ServerHost;
  readonly #handler: RequestHandler;
  readonly #options: ListenerOptions;
  readonly #connections = new Map<Duplex, Connection>();
  readonly #sockets = new Set<Socket>();
  /** Under those that are encrypted. */
  readonly #shaking = new Map<string, { readonly socket: Socket; readonly hold: Hold }>();
  /** Of connections that are closed. */
  #bytesIn = 0;
  #bytesOut = 0;
  #running = 0;
  #stopping = false;
  readonly #port: Port;
  #allDone: (() => void) | undefined;

  private constructor(
    server: Server,
    host: ServerHost,
    handler: RequestHandler,
    options: ListenerOptions,
  ) {
    this.#server = server;
    this.#handler = handler;
    this.#host = host;
    this.#options = options;
    this.#port = new Port({
      host,
      bufferedBytesMax: options.bufferedBytesMax,
      connected: (socket, hold) => this.#take(socket, hold),
      released: () => this.#release(),
    });
  }

  /** Listens. Throws `IO` with `EADDRINUSE`, `EACCES` and the like in `errno`. */
  static async open(
    host: ServerHost,
    handler: RequestHandler,
    options: ListenerOptions,
  ): Promise<Listener> {
    const server = newServer(options);
    const listener = new Listener(server, host, handler, options);
    server.timeout = options.stalledMs;
    const onRequest = (request: IncomingMessage, response: ServerResponse) =>
      listener.#request({ request, response });
    server.on('secureConnection', (socket) => listener.#shook(socket));
    server.on('request', onRequest);
    // Whoever reads the body asks for it then: one that is refused need not be sent.
    server.on('checkContinue', onRequest);
    server.on('checkExpectation', (_, response) => {
      response.writeHead(417, { 'Content-Type': 'application/json' });
      response.end(errorText('expectation_failed', 'only 100-continue can be expected'));
    });
    server.on('clientError', (error: NodeJS.ErrnoException, socket) =>
      listener.#refuse(error, socket),
    );
    // Unless somebody hears of it Node ends the connection at once, and with it replies that are on their way.
    server.on('connect', (_, socket) => listener.#refuse(NO_PROXY, socket));
    server.on('timeout', (socket) => listener.#idle(socket));
    await listener.#port.open(options);
    // The server takes itself for one that listens, and watches how long headers take.
    server.emit('listening');
    return listener;
  }

  get address(): AddressInfo {
    return this.#port.address;
  }

  move(to: ListenAddress): Promise<ListenerMove> {
    return this.#port.move(to);
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Bytes that came over all connections so far. */
  get bytesIn(): number {
    let bytes = this.#bytesIn;
    for (const { bytesRead } of this.#sockets) bytes += bytesRead;
    return bytes;
  }

  get bytesOut(): number {
    let bytes = this.#bytesOut;
    for (const { bytesWritten } of this.#sockets) bytes += bytesWritten;
    return bytes;
  }

  /** Takes no more requests, waits for those that run, at most for some seconds, and closes all connections. */
  async close(): Promise<void> {
    this.#stopping = true;
    this.#port.stop();
    // It never listened itself, but has timers.
    this.#server.close();
    this.#server.closeIdleConnections();
    if (this.#running > 0) {
      let cancelTimer: (() => void) | undefined;
      await new Promise<void>((resolve) => {
        this.#allDone = resolve;
        cancelTimer = this.#host.setTimer(resolve, DRAIN_MS);
      });
      cancelTimer?.();
    }
    this.#server.closeAllConnections();
    for (const { socket } of this.#shaking.values()) socket.destroy();
    await this.#port.closed();
  }

  #take(socket: Socket, hold: Hold): void {
    if (this.#connections.size + this.#shaking.size >= this.#options.connectionsMax) {
      socket.destroy();
      return;
    }
    if (this.#options.certificate === undefined) this.#connected(socket, hold);
    else this.#shakesHands(socket, hold);
    this.#server.emit('connection', socket);
  }

  /** Node itself watches how long that takes. Nothing is known of the connection yet but that it must not outlive the server. */
  #shakesHands(socket: Socket, hold: Hold): void {
    const from = originOf(socket);
    this.#shaking.set(from, { socket, hold });
    socket.once('close', () => this.#shaking.delete(from));
  }

  /** The same connection goes on as another socket. */
  #shook(socket: Socket): void {
    const from = originOf(socket);
    const shaking = this.#shaking.get(from);
    this.#shaking.delete(from);
    if (shaking === undefined) socket.destroy();
    else this.#connected(socket, shaking.hold);
  }

  #connected(socket: Socket, hold: Hold): void {
    const held = hold.isOn ? hold : undefined;
    this.#connections.set(socket, {
      running: undefined,
      waiting: [],
      refusal: undefined,
      hold: held,
    });
    // Node forgets to listen for errors of a socket that it hands over.
    socket.on('error', () => socket.destroy());
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#connections.delete(socket);
      this.#sockets.delete(socket);
      this.#bytesIn += socket.bytesRead;
      this.#bytesOut += socket.bytesWritten;
    });
  }

  /** Serves the requests that waited for the end of a move. */
  #release(): void {
    for (const socket of this.#sockets) {
      const connection = this.#connections.get(socket);
      if (connection === undefined || connection.hold === undefined) continue;
      if (connection.running === undefined && connection.waiting.length > 0) {
        this.#next(socket, connection);
      }
    }
  }

  #request(job: Job): void {
    const { socket } = job.request;
    const connection = this.#connections.get(socket);
    if (connection === undefined) return;
    connection.waiting.push(job);
    if (connection.waiting.length > PIPELINED_MAX) socket.destroy();
    else if (connection.running === undefined && connection.hold?.isOn !== true) {
      this.#next(socket, connection);
    }
  }

  /** Serves what waits, or says the last word. */
  #next(socket: Socket, connection: Connection): void {
    const job = this.#stopping ? undefined : connection.waiting.shift();
    const { refusal } = connection;
    connection.running = job;
    if (job === undefined) {
      if (refusal !== undefined) this.#end(socket, refusal);
      else if (this.#stopping) socket.end();
    } else if (refusal !== undefined && !job.request.complete) {
      this.#end(socket, refusal);
    } else {
      this.#serve(socket, connection, job);
    }
  }

  #serve(socket: Socket, connection: Connection, { request, response }: Job): void {
    this.#running++;
    if (hasBody(request)) {
      socket.setTimeout(this.#options.bodyIdleMs);
      request.once('end', () => socket.setTimeout(this.#options.stalledMs));
    }
    response.once('close', () => {
      if (--this.#running === 0) this.#allDone?.();
      // It is not after a reply that was to be the last.
      if (socket.writable) this.#next(socket, connection);
    });
    this.#handler(request, response);
  }

  /** What can not be read as a request gets an answer nevertheless, in its turn, and its connection is closed. */
  #refuse({ code }: { readonly code?: string | undefined }, socket: Duplex): void {
    const connection = this.#connections.get(socket);
    if (connection === undefined || !socket.writable || code === 'ECONNRESET') {
      socket.destroy();
      return;
    }
    // Whatever follows what could not be read is no better.
    if (connection.refusal !== undefined) return;
    connection.refusal = refusalText(code);
    if (connection.running === undefined) this.#end(socket, connection.refusal);
    else if (!connection.running.request.complete) this.#cutOff(socket, connection.running, code);
  }

  /** Nothing was sent or received for a while. */
  #idle(socket: Socket): void {
    const job = this.#connections.get(socket)?.running;
    if (job === undefined) {
      // Node itself watches how long the headers of a request take.
      if (socket.bytesRead > 0) socket.destroy();
    } else if (socket.writableLength > 0) {
      socket.destroy();
    } else if (!job.request.complete && !isFull(job.request)) {
      this.#cutOff(socket, job, TOO_SLOW);
    } else {
      // It is the server that takes its time.
      socket.setTimeout(this.#options.stalledMs);
    }
  }

  /** Ends a connection whose request will never be whole. */
  #cutOff(socket: Duplex, { response }: Job, code: string | undefined): void {
    if (response.headersSent) socket.destroy();
    else this.#end(socket, refusalText(code));
  }

  /** Says a last word. */
  #end(socket: Duplex, text: string): void {
    const cancelTimer = this.#host.setTimer(() => socket.destroy(), REFUSED_MS);
    socket.once('close', cancelTimer);
    if (socket.writable) socket.end(text);
  }
}

function newServer(options: ListenerOptions): Server {
  const common = {
    maxHeaderSize: options.headerBytesMax,
    headersTimeout: options.headerMs,
    // A whole body may take as long as its bytes keep coming: `#idle` watches that.
    requestTimeout: 0,
    keepAliveTimeout: options.keepAliveMs,
    connectionsCheckingInterval: Math.min(CHECK_MS, options.headerMs),
    noDelay: true,
    highWaterMark: options.bufferedBytesMax,
  };
  const { certificate } = options;
  if (certificate === undefined) return createServer(common);
  return createTlsServer({ ...common, ...certificate, handshakeTimeout: options.headerMs });
}

/** Of a connection, whichever socket it is seen through. */
function originOf({ remoteAddress, remotePort, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localPort}`;
}

/** Whether a request waits for somebody to read it. */
function isFull(request: IncomingMessage): boolean {
  return request.readableLength >= request.readableHighWaterMark;
}

const REFUSALS: ReadonlyMap<string | undefined, readonly [string, string, string]> = new Map([
  [
    'HPE_HEADER_OVERFLOW',
    ['431 Request Header Fields Too Large', 'too_large', 'headers too large'],
  ],
  ['ERR_METHOD', ['405 Method Not Allowed', 'method_not_allowed', 'Divan is no proxy']],
  [TOO_SLOW, ['408 Request Timeout', 'timeout', 'the request came too slowly']],
]);

function refusalText(code: string | undefined): string {
  const [status, name, reason] = REFUSALS.get(code) ?? [
    '400 Bad Request',
    'bad_request',
    'this is no request of HTTP/1.1',
  ];
  const body = errorText(name, reason);
  return `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
}

function errorText(error: string, reason: string): string {
  return `${JSON.stringify({ error, reason })}\n`;
}
