/**
 * Requests that other nodes pass on, served by the same routes as those of clients: over a connection inside the process, so that they are
 * parsed, answered and held back as any other. Who calls is bound to the connection.
 */
import {
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type RequestListener,
  request as requestOver,
  type Server,
} from 'node:http';
import { duplexPair } from 'node:stream';
import { DivanError } from '../../engine/errors.js';
import { bindPeer, ERROR_CODE_HEADER } from '../http/peer-context.js';
import {
  type HeaderList,
  type PassedReply,
  type PassedRequest,
  repliedHeaders,
} from './passed-request.js';

/** Those of a client were held to what is configured; a call has a few more around them. */
const HEADER_BYTES_MAX = 256 * 1024;

export class InnerServer {
  readonly #server: Server;

  constructor(handler: RequestListener) {
    const timeouts = { requestTimeout: 0, headersTimeout: 0 };
    // A client of HTTP/1.0 sends none.
    const options = { maxHeaderSize: HEADER_BYTES_MAX, requireHostHeader: false, ...timeouts };
    this.#server = createServer(options, handler);
  }

  /**
   * Serves a request; resolves when the reply begins. `body` is read as fast as the route takes it. Throws `ABORTED` when `signal` is aborted or
   * the route breaks off.
   */
  request(
    { method, url, headers, hasBody, caller, shape }: PassedRequest,
    body: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<PassedReply> {
    const [near, far] = duplexPair();
    far.on('error', () => far.destroy());
    let sent: ReturnType<typeof requestOver>;
    try {
      sent = requestOver({
        createConnection: () => near,
        ...{ method, path: url, headers: asObject(framed(headers, hasBody)) },
        ...{ setHost: false, signal },
      });
    } catch (error) {
      near.destroy();
      far.destroy();
      const reason = 'a request that is passed on can not be written';
      return Promise.reject(new DivanError('BAD_REQUEST', reason, {}, error));
    }
    bindPeer(far, { caller, shape });
    this.#server.emit('connection', far);
    return new Promise((resolve, reject) => {
      sent.on('response', (response) => resolve(replyOf(response, () => sent.destroy())));
      sent.on('error', (error) => reject(brokenOff(error)));
      sent.on('close', () => {
        // What was not read yet would wait for ever.
        near.destroy();
        far.destroy();
      });
      if (hasBody) send(sent, body).catch((error) => sent.destroy(error));
      else sent.end();
    });
  }
}

/**
 * The headers with what says where the body ends. Node.js says it by itself for some methods only, and of the others the body would be taken for
 * the next request on the connection, which is bound to the caller.
 */
function framed(headers: HeaderList, hasBody: boolean): HeaderList {
  const isLength = ([name]: HeaderList[number]) => name.toLowerCase() === 'content-length';
  const isCoding = ([name]: HeaderList[number]) => name.toLowerCase() === 'transfer-encoding';
  const others = headers.filter((header) => !isLength(header) && !isCoding(header));
  if (!hasBody) return others;
  const length = headers.some(isCoding) ? undefined : headers.find(isLength);
  return [...others, length ?? ['transfer-encoding', 'chunked']];
}

function replyOf(response: IncomingMessage, leave: () => void): PassedReply {
  response.on('error', () => undefined);
  const code = response.headers[ERROR_CODE_HEADER.toLowerCase()];
  return {
    status: response.statusCode ?? 0,
    headers: repliedHeaders(response),
    code: typeof code === 'string' ? code : undefined,
    body: bodyOf(response, leave),
  };
}

async function* bodyOf(
  response: IncomingMessage,
  leave: () => void,
): AsyncGenerator<Uint8Array, void> {
  try {
    const chunks: AsyncIterable<unknown> = response;
    for await (const chunk of chunks) if (chunk instanceof Uint8Array) yield chunk;
  } catch (error) {
    throw brokenOff(error);
  } finally {
    leave();
  }
  if (!response.complete) throw brokenOff(undefined);
}

function brokenOff(error: unknown): DivanError {
  return new DivanError('ABORTED', 'the reply broke off', {}, error);
}

/** As fast as it is taken, until it is no more. */
async function send(sent: ReturnType<typeof requestOver>, body: AsyncIterable<Uint8Array>) {
  for await (const chunk of body) {
    if (sent.destroyed) return;
    if (sent.write(chunk)) continue;
    await new Promise<void>((resolve) => {
      const done = () => {
        sent.off('drain', done).off('close', done);
        resolve();
      };
      sent.once('drain', done).once('close', done);
    });
  }
  sent.end();
}

function asObject(headers: HeaderList): OutgoingHttpHeaders {
  const object: Record<string, string[]> = Object.create(null);
  for (const [name, value] of headers) object[name] = [...(object[name] ?? []), value];
  const single = Object.entries(object).map(([name, values]): [string, string | string[]] => {
    const [first] = values;
    return [name, values.length === 1 && first !== undefined ? first : values];
  });
  return Object.fromEntries(single);
}
