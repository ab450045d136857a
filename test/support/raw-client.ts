/** A client that sends whatever bytes it is told to over a socket of its own, and takes the replies apart. */
import { connect, type Socket } from 'node:net';

export interface RawReply {
  readonly status: number;
  /** By name in lower case; of headers of one name the last. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

const HEAD_END = Buffer.from('\r\n\r\n');
const LINE_END = Buffer.from('\r\n');

export class RawClient {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #closed = false;
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (bytes) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      this.#wake?.();
    });
    // A reset is one way in which a server ends a connection.
    socket.on('error', () => undefined);
    for (const event of ['end', 'close'] as const) {
      socket.on(event, () => {
        this.#closed = true;
        this.#wake?.();
      });
    }
  }

  static async open(port: number): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    const client = new RawClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return client;
  }

  /** True once the server has ended the connection. */
  get closed(): boolean {
    return this.#closed;
  }

  send(bytes: string | Uint8Array): void {
    // An early answer may have closed the socket.
    if (this.socket.writable) this.socket.write(bytes);
  }

  /** Says that nothing more comes; replies still do. */
  halfClose(): void {
    this.socket.end();
  }

  /** Goes away, without a word if `abruptly`. */
  close(abruptly = false): void {
    if (abruptly) this.socket.resetAndDestroy();
    else this.socket.destroy();
  }

  /**
   * The next reply, those of status 1xx left out; undefined if the server ended the connection before it was whole. Rejects if neither
   * happens in time.
   */
  async reply(isHead = false, withinMs = 20_000): Promise<RawReply | undefined> {
    const end = performance.now() + withinMs;
    for (;;) {
      const found = parseReply(this.#received, isHead, this.#closed);
      if (found !== undefined) {
        this.#received = this.#received.subarray(found.length);
        if (found.reply.status >= 200) return found.reply;
        continue;
      }
      if (this.#closed) return undefined;
      await this.#more(end - performance.now());
    }
  }

  /** Resolves when the server has ended the connection. Rejects if that does not happen in time. */
  async ended(withinMs = 20_000): Promise<void> {
    const end = performance.now() + withinMs;
    while (!this.#closed) await this.#more(end - performance.now());
  }

  /** What came and is not part of a reply that was asked for. */
  get rest(): Buffer {
    return this.#received;
  }

  #more(withinMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the server says nothing')), withinMs);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }
}

interface Parsed {
  readonly reply: RawReply;
  /** How many bytes it takes. */
  readonly length: number;
}

function parseReply(bytes: Buffer, isHead: boolean, isClosed: boolean): Parsed | undefined {
  const headEnd = bytes.indexOf(HEAD_END);
  if (headEnd < 0) return undefined;
  const [first = '', ...lines] = bytes.subarray(0, headEnd).toString('latin1').split('\r\n');
  const status = Number(/^HTTP\/1\.1 ([1-5][0-9][0-9]) /.exec(first)?.[1]);
  if (Number.isNaN(status)) throw new Error(`no reply of HTTP/1.1: ${first.slice(0, 100)}`);
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
    }),
  );
  const start = headEnd + HEAD_END.length;
  const of = (body: Buffer, length: number) => ({ reply: { status, headers, body }, length });
  if (isHead || status < 200 || status === 204 || status === 304) return of(Buffer.alloc(0), start);
  if (headers.get('transfer-encoding') === 'chunked') {
    const chunked = parseChunks(bytes, start);
    return chunked === undefined ? undefined : of(chunked.body, chunked.end);
  }
  const length = headers.get('content-length');
  const end = length === undefined ? bytes.length : start + Number(length);
  if (length === undefined && !isClosed) return undefined;
  return bytes.length < end ? undefined : of(bytes.subarray(start, end), end);
}

function parseChunks(bytes: Buffer, start: number): { body: Buffer; end: number } | undefined {
  const chunks: Buffer[] = [];
  for (let at = start; ; ) {
    const lineEnd = bytes.indexOf(LINE_END, at);
    if (lineEnd < 0) return undefined;
    const length = Number.parseInt(bytes.subarray(at, lineEnd).toString('latin1'), 16);
    const from = lineEnd + LINE_END.length;
    const to = from + length;
    if (bytes.length < to + LINE_END.length) return undefined;
    if (length === 0) return { body: Buffer.concat(chunks), end: to + LINE_END.length };
    chunks.push(bytes.subarray(from, to));
    at = to + LINE_END.length;
  }
}
