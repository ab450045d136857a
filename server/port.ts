/**
 * Where the server listens, which can change while it runs. Connections go on wherever they came in.
 *
 * A move is: the other address bound, its requests held -> committed or undone. Where both cannot be bound at once, such as one address and
 * all addresses with the same port, the old one makes room first, and is bound again if that was for nothing.
 */
import type { AddressInfo, Socket } from 'node:net';
import { DivanError, isDivanError } from '../engine/errors.js';
import { Acceptor, type ListenAddress } from './acceptor.js';
import type { ListenerMove, PortMover } from './setup/binding.js';
import type { ServerHost } from './world.js';

/** Whether the requests of a connection must wait: it came where the server may not stay. */
export interface Hold {
  isOn: boolean;
}

export interface PortOptions {
  readonly host: ServerHost;
  /** So many bytes wait in a connection before whoever writes has to wait. */
  readonly bufferedBytesMax: number;
  readonly connected: (socket: Socket, hold: Hold) => void;
  /** Called when a move is committed: what was held goes on. */
  readonly released: () => void;
}

/** If it cannot listen again where it did it tries so often. */
const REOPEN_MS = 1000;

export class Port implements PortMover {
  readonly #options: PortOptions;
  /** Of those that take no more connections, until their last one is gone. */
  readonly #stopped = new Set<Promise<void>>();
  /** Of the connections that came while a move was under way. */
  readonly #held = new Set<Socket>();
  #acceptor: Acceptor | undefined;
  #isMoving = false;
  #isClosed = false;

  constructor(options: PortOptions) {
    this.#options = options;
  }

  /** Listens. Throws `IO` with `EADDRINUSE`, `EACCES` and the like in `errno`. */
  async open(at: ListenAddress): Promise<void> {
    this.#acceptor = await this.#accept(at, { isOn: false });
  }

  get address(): AddressInfo {
    if (this.#acceptor === undefined) throw new DivanError('CLOSED', 'the server does not listen');
    return this.#acceptor.address;
  }

  async move(to: ListenAddress): Promise<ListenerMove> {
    const before = this.#acceptor;
    if (this.#isMoving || this.#isClosed || before === undefined) {
      throw new DivanError('UNAVAILABLE', 'the server is changing where it listens, or stops');
    }
    if (before.isAt(to)) {
      return { address: before.address, commit: () => undefined, undo: async () => undefined };
    }
    this.#isMoving = true;
    const hold = { isOn: true };
    try {
      return this.#moveOf(before, await this.#bindBeside(before, to, hold), hold);
    } catch (error) {
      this.#isMoving = false;
      throw error;
    }
  }

  /** Takes no more connections. */
  stop(): void {
    this.#isClosed = true;
    if (this.#acceptor !== undefined) this.#stop(this.#acceptor);
  }

  /** Resolves when all connections are gone. REQUIRES: it was stopped. */
  async closed(): Promise<void> {
    await Promise.all(this.#stopped);
  }

  async #bindBeside(before: Acceptor, to: ListenAddress, hold: Hold): Promise<Acceptor> {
    try {
      return await this.#accept(to, hold);
    } catch (error) {
      const collides = isDivanError(error) && error.facts.errno === 'EADDRINUSE';
      if (!collides || before.address.port !== to.port) throw error;
    }
    this.#stop(before);
    try {
      return await this.#accept(to, hold);
    } catch (error) {
      await this.#reopen(before);
      throw error;
    }
  }

  #moveOf(before: Acceptor, next: Acceptor, hold: Hold): ListenerMove {
    const ended = () => {
      this.#isMoving = false;
      this.#held.clear();
    };
    return {
      address: next.address,
      commit: () => {
        hold.isOn = false;
        if (this.#acceptor === before) this.#stop(before);
        if (this.#isClosed) this.#stop(next);
        else this.#acceptor = next;
        ended();
        this.#options.released();
      },
      undo: async () => {
        this.#stop(next);
        for (const socket of this.#held) socket.destroy();
        if (this.#acceptor === undefined) await this.#reopen(before);
        ended();
      },
    };
  }

  #accept(at: ListenAddress, hold: Hold): Promise<Acceptor> {
    const { bufferedBytesMax, connected } = this.#options;
    return Acceptor.open({ ...at, bufferedBytesMax }, (socket) => {
      if (hold.isOn) {
        this.#held.add(socket);
        socket.once('close', () => this.#held.delete(socket));
      }
      connected(socket, hold);
    });
  }

  /** Listens again where it did; if it cannot, it goes on trying. */
  async #reopen({ host, address }: Pick<Acceptor, 'host' | 'address'>): Promise<void> {
    if (this.#isClosed) return;
    try {
      const acceptor = await this.#accept({ host, port: address.port }, { isOn: false });
      this.#acceptor = acceptor;
      if (this.#isClosed) this.#stop(acceptor);
    } catch {
      this.#options.host.setTimer(() => void this.#reopen({ host, address }), REOPEN_MS);
    }
  }

  #stop(acceptor: Acceptor): void {
    if (this.#acceptor === acceptor) this.#acceptor = undefined;
    const { closed } = acceptor;
    this.#stopped.add(closed);
    void closed.then(() => this.#stopped.delete(closed));
    acceptor.stop();
  }
}
