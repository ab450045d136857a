/** The requests of the client of the families live-split and live-move: sent, timed, and checked. */
import { type Agent, request } from 'node:http';
import { AUTHORIZATION } from './http-servers.js';
import { Times, timeOfDay } from './live-times.js';

/** A request that is not answered for so long has failed. */
const TIMEOUT_MS = 30_000;
/** After more the rest says nothing new. */
const FAILURES_MAX = 100;

export interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

export class LiveRequests {
  readonly reads = new Times();
  readonly writes = new Times();
  readonly failures: string[] = [];
  readonly #agent: Agent;
  readonly #ports: readonly number[];
  #sent = 0;

  /** Requests go to the ports by turns. */
  constructor(agent: Agent, ports: readonly number[]) {
    this.#agent = agent;
    this.#ports = ports;
  }

  /** Reads something that must be there. */
  async read(path: string): Promise<Answer> {
    const start = timeOfDay();
    const answer = await this.#checked('GET', path, undefined, 200);
    this.reads.add(start, 1);
    return answer;
  }

  /** Sees to it that something is not there. */
  async readMissing(path: string): Promise<void> {
    const start = timeOfDay();
    await this.#checked('GET', path, undefined, 404);
    this.reads.add(start, 1);
  }

  /** Writes something; `documents` says how many are acknowledged by that. */
  async write(method: string, path: string, body: Buffer, documents: number): Promise<Answer> {
    const start = timeOfDay();
    const answer = await this.#checked(method, path, body, 201);
    this.writes.add(start, documents);
    return answer;
  }

  fail(text: string): void {
    if (this.failures.length < FAILURES_MAX) this.failures.push(text);
  }

  async #checked(
    method: string,
    path: string,
    body: Buffer | undefined,
    expected: number,
  ): Promise<Answer> {
    try {
      const answer = await this.#send(method, path, body);
      if (answer.status !== expected) {
        this.fail(`${method} ${path}: ${answer.status} ${answer.body.subarray(0, 200)}`);
      }
      return answer;
    } catch (error) {
      this.fail(`${method} ${path}: ${error}`);
      return { status: 0, body: Buffer.from('{}') };
    }
  }

  #send(method: string, path: string, body: Buffer | undefined): Promise<Answer> {
    const headers = {
      Authorization: AUTHORIZATION,
      ...(body && { 'Content-Type': 'application/json', 'Content-Length': body.length }),
    };
    const port = this.#ports[this.#sent++ % this.#ports.length];
    const options = { agent: this.#agent, host: '127.0.0.1', port, path, method };
    return new Promise((resolve, reject) => {
      const sent = request({ ...options, headers, timeout: TIMEOUT_MS }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('error', reject);
        response.once('end', () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }),
        );
      });
      sent.on('error', reject);
      sent.once('timeout', () => sent.destroy(new Error('timed out')));
      sent.end(body);
    });
  }
}
