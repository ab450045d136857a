/** Takes connections at one address and hands them on. It can be ended without ending the connections that came by it. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { DivanError } from '../engine/errors.js';

export interface ListenAddress {
  /** An IP address, or localhost. */
  readonly host: string;
  /** 0 for any free one. */
  readonly port: number;
}

export interface AcceptorOptions extends ListenAddress {
  /** So many bytes wait in a connection before whoever writes has to wait. */
  readonly bufferedBytesMax: number;
}

export class Acceptor {
  /** Resolves when it was stopped and the last of its connections is gone. */
  readonly closed: Promise<void>;
  readonly host: string;
  readonly address: AddressInfo;
  readonly #server: Server;

  private constructor(server: Server, host: string, address: AddressInfo) {
    this.#server = server;
    this.host = host;
    this.address = address;
    this.closed = new Promise((resolve) => server.once('close', resolve));
  }

  /** Begins to listen. Throws `IO` with `EADDRINUSE`, `EACCES` and the like in `errno`. */
  static async open(
    options: AcceptorOptions,
    connected: (socket: Socket) => void,
  ): Promise<Acceptor> {
    // As node:http has it for servers of its own.
    const server = createServer(
      { allowHalfOpen: true, noDelay: true, highWaterMark: options.bufferedBytesMax },
      connected,
    );
    await listen(server, options);
    const address = server.address();
    if (address === null || typeof address === 'string') {
      throw new DivanError('CLOSED', 'the server does not listen');
    }
    return new Acceptor(server, options.host, address);
  }

  /** True if it listens there. */
  isAt({ host, port }: ListenAddress): boolean {
    return this.host === host && this.address.port === port;
  }

  /** Takes no more connections; the port is free when this returns. */
  stop(): void {
    this.#server.close();
  }
}

/** Why nothing is listened to, and what to do about it. */
const NOT_LISTENING: ReadonlyMap<string | undefined, string> = new Map([
  ['EADDRINUSE', 'the port is in use; end what uses it, or choose another port'],
  ['EACCES', 'permission denied; choose a port from 1024 on, or give this user the right to it'],
  ['EADDRNOTAVAIL', 'this machine does not have that address; choose one that it has'],
]);

function listen(server: Server, { host, port }: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) => {
      const what = NOT_LISTENING.get(error.code) ?? error.message;
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
