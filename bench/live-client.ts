/**
 * A program: writers and readers without pause, for the families live-split and live-move, in a process of their own.
 *
 * `node live-client.js PORT[,PORT…] DATABASE DOCS SIZE SEED`, with the ids of documents that are there. Requests go to the ports by turns. It says
 * `ready`, answers each `LiveQuestion` with a `LiveAnswer`, and ends when the channel is closed.
 */
import { Agent } from 'node:http';
import { syntheticLines } from '../fixtures/synthetic.js';
import { LiveReader, LiveWriter } from './live-load.js';
import { LiveRequests } from './live-requests.js';
import type { Cutover, Latencies, Stretch } from './live-times.js';

export interface LiveQuestion {
  /** Over which requests are counted: for each, several stretches of time. */
  readonly phases: readonly (readonly Stretch[])[];
  readonly cutovers: readonly Stretch[];
}

export interface LiveAnswer {
  readonly phases: readonly { readonly reads: Latencies; readonly writes: Latencies }[];
  readonly cutovers: readonly Cutover[];
  /** Requests that were not answered as they should be. */
  readonly failures: readonly string[];
}

const WRITERS = 4;
const READERS = 8;
/** More ids than that would only take memory. */
const IDS_MAX = 100_000;
const ID = /"_id":"(\w+)"/;

const [, , ports = '', database = '', ...numbers] = process.argv;
const [docs = 0, size = 0, seed = 1] = numbers.map(Number);
const ids = Array.from(
  syntheticLines(Math.min(docs, IDS_MAX), size, seed),
  (line) => ID.exec(line)?.[1] ?? '',
);
const agent = new Agent({ keepAlive: true, maxSockets: WRITERS + READERS });
const requests = new LiveRequests(agent, ports.split(',').map(Number));

process.on('message', ({ phases, cutovers }: LiveQuestion) => {
  const { reads, writes, failures } = requests;
  const answer: LiveAnswer = {
    phases: phases.map((stretches) => ({
      reads: reads.latenciesIn(stretches),
      writes: writes.latenciesIn(stretches),
    })),
    cutovers: cutovers.map((stretch) => writes.cutoverIn(stretch)),
    failures,
  };
  process.send?.(answer);
});
process.once('disconnect', () => process.exit(0));

const path = `/${database}`;
for (let number = 0; number < WRITERS; number++) {
  void new LiveWriter(requests, path, `${process.pid}-${number}`).run();
}
for (let number = 0; number < READERS; number++) void new LiveReader(requests, path, ids).run();
process.send?.('ready');
