/**
 * The family http: requests to `divan serve` over loopback, each as an admin, next to a bare server of node:http that does the least for
 * the same. The clients run on the same processors.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { syntheticLines } from '../fixtures/synthetic.js';
import { program, runChild } from './child.js';
import { type BenchServer, type ServerKind, Servers, WRITTEN } from './http-servers.js';
import { getOne, getRandom, putNew, runWrk, wrkProblem } from './http-wrk.js';
import { type BenchInput, type BenchResult, type BenchRun, isBenchRun, spread } from './result.js';
import { type Contender, compared, takeTurns } from './turns.js';

/** Bytes of the documents that are read and written one at a time. */
const DOCUMENT_BYTES = 1024;
const DOCUMENTS_MAX = 100_000;
const BULK_MIN = 1000;
/** Of `docs`: how many are posted in bulk in each run. */
const BULK_SHARE = 0.2;
/**
 * How many connections there are before what is measured, whatever comes then: over one alone there would be too few requests for V8 to
 * compile what is run often.
 */
const WARM_UP_CONNECTIONS = 16;
const SEEDS = { documents: 1, rows: 2, written: 3, warmUp: 4 } as const;
/** Of a line of JSON of a synthetic document. */
const ID = /"_id":"(\w+)",/;
const ID_BYTES = 41;

const OF_BARE = 'of a bare server';

/** Something that clients ask for. */
interface Workload {
  readonly label: string;
  /** Of what is read. As many as could be in the time, if it is left out. */
  readonly docs?: number;
  readonly size: number;
  /** Whether a bare server is asked, too, and what its row is called. */
  readonly bare?: string;
  readonly writes?: boolean;
  /** What is asked before that and does not count. `place` is an empty directory. */
  readonly warm?: (port: number, place: string) => unknown;
  readonly run: (port: number, place: string) => BenchRun;
}

export async function http(input: BenchInput): Promise<BenchResult[]> {
  const { directory, smoke } = input;
  const servers = new Servers(directory, smoke);
  try {
    await servers.use('divan', (server) => fill(server, servers, input));
    const problem = wrkProblem();
    if (problem !== undefined) process.stderr.write(`bench: ${problem}\n`);
    const single = problem === undefined ? singleWorkloads(input) : [];
    return await measureAll(input, servers, [...single, ...manyWorkloads(input)]);
  } finally {
    await servers.close();
  }
}

function documentCount({ docs }: BenchInput): number {
  return Math.min(docs, DOCUMENTS_MAX);
}

function idsPath({ directory }: BenchInput): string {
  return join(directory, 'ids');
}

/** Makes the databases that are read: single documents, and those of the lists. */
async function fill(server: BenchServer, servers: Servers, input: BenchInput): Promise<void> {
  const { port } = server;
  for (const name of ['documents', 'rows']) await server.call('PUT', `/${name}`);
  const count = documentCount(input);
  post(port, '/documents', count, DOCUMENT_BYTES, SEEDS.documents);
  post(port, '/rows', input.docs, input.size, SEEDS.rows);
  const lines = syntheticLines(count, DOCUMENT_BYTES, SEEDS.documents);
  const ids = Array.from(lines, idOf);
  writeFileSync(idsPath(input), `${ids.join('\n')}\n`);
  servers.bareBytes = Buffer.byteLength(await server.call('GET', `/documents/${ids[0]}`));
}

function idOf(line: string): string {
  return ID.exec(line)?.[1] ?? '';
}

function post(port: number, path: string, docs: number, size: number, seed: number): BenchRun {
  return client('bulk', port, `${path}/_bulk_docs`, docs, size, seed);
}

function client(way: 'bulk' | 'rows', port: number, path: string, ...numbers: number[]): BenchRun {
  const args = [way, String(port), path, ...numbers.map(String)];
  const run: unknown = runChild(program('http-client.js'), args);
  if (isBenchRun(run)) return run;
  throw new TypeError(`the client printed ${JSON.stringify(run)}`);
}

/** One document in each request. */
function singleWorkloads(input: BenchInput): Workload[] {
  const { seconds } = input;
  const [hot = ''] = syntheticLines(1, DOCUMENT_BYTES, SEEDS.documents);
  const [written = ''] = syntheticLines(1, DOCUMENT_BYTES + ID_BYTES, SEEDS.written);
  const sending = (connections: number, script: (seed: number) => string) => ({
    warm: (port: number, directory: string) =>
      runWrk({
        ...{ port, connections: WARM_UP_CONNECTIONS, directory, seconds },
        script: script(SEEDS.warmUp),
      }),
    run: (port: number, directory: string) =>
      runWrk({ port, connections, directory, seconds, script: script(SEEDS.written) }),
  });
  const one = () => getOne(`/documents/${idOf(hot)}`);
  const random = (seed: number) => getRandom('/documents/', idsPath(input), seed);
  const put = (seed: number) => putNew(`/${WRITTEN}/`, written.replace(ID, ''), seed);
  const read = { docs: documentCount(input), size: DOCUMENT_BYTES };
  const write = { size: DOCUMENT_BYTES, writes: true } as const;
  return [
    { ...read, label: 'GET of one, x 16', bare: 'bare GET, x 16', ...sending(16, one) },
    { ...read, label: 'GET at random, x 16', ...sending(16, random) },
    { ...write, label: 'PUT, x 16', bare: 'bare PUT, x 16', ...sending(16, put) },
    { ...write, label: 'PUT, x 1', bare: 'bare PUT, x 1', ...sending(1, put) },
  ];
}

/** Many documents in each request. */
function manyWorkloads({ docs, size }: BenchInput): Workload[] {
  const posted = Math.max(BULK_MIN, Math.round(docs * BULK_SHARE));
  const list = (name: string) => ({
    // What opening the shards takes is not what a list takes.
    warm: (port: number) => client('rows', port, `/rows/${name}?limit=1`, 1),
    run: (port: number) => client('rows', port, `/rows/${name}`, docs),
  });
  return [
    {
      ...{ label: '_bulk_docs, x 4', bare: 'bare POST, x 4', docs: posted, size, writes: true },
      warm: (port) => post(port, `/${WRITTEN}`, posted, size, SEEDS.warmUp),
      run: (port) => post(port, `/${WRITTEN}`, posted, size, SEEDS.written),
    },
    { label: '_all_docs', docs, size, ...list('_all_docs') },
    { label: '_changes', docs, size, ...list('_changes') },
  ];
}

/** Each workload, and before it the same for a bare server if there is such a thing, in turns. */
async function measureAll(
  input: BenchInput,
  servers: Servers,
  workloads: readonly Workload[],
): Promise<BenchResult[]> {
  const plan = workloads.flatMap((workload) => {
    const divan = { workload, label: workload.label, kind: 'divan' } as const;
    if (workload.bare === undefined) return [divan];
    return [{ workload, label: workload.bare, kind: 'bare' } as const, divan];
  });
  const contenders = plan.map(
    ({ workload, kind }): Contender => ({
      sources: [],
      run: (place) => measure(servers, kind, workload, { place, smoke: input.smoke }),
    }),
  );
  const measured = await takeTurns(input, contenders);
  let bare: readonly BenchRun[] = [];
  return plan.map(({ workload, label, kind }, index) => {
    const runs = measured[index] ?? [];
    if (kind === 'bare') bare = runs;
    const { docs = Math.round(spread(runs, (run) => run.docs)?.median ?? 0), size } = workload;
    return {
      ...{ family: 'http', label, docs, size, isPeer: kind === 'bare', sourceBytes: 0 },
      runs:
        kind === 'bare' || workload.bare === undefined
          ? runs
          : compared(runs, OF_BARE, bare, speed),
    };
  });
}

function speed({ docs = 0, seconds }: BenchRun): number {
  return docs / seconds;
}

function measure(
  servers: Servers,
  kind: ServerKind,
  { warm, run, writes = false }: Workload,
  { place, smoke }: { readonly place: string; readonly smoke: boolean },
): Promise<BenchRun> {
  return servers.use(kind, async (server) => {
    const { port } = server;
    const created = kind === 'divan' && writes;
    if (created) await server.call('PUT', `/${WRITTEN}`);
    if (!smoke) warm?.(port, place);
    const found = await server.observe(() => run(port, place));
    if (!created) return found;
    const { doc_count: stored } = JSON.parse(await server.call('GET', `/${WRITTEN}`));
    if (stored < (found.docs ?? 0)) throw new Error(`${stored} documents were stored`);
    await server.call('DELETE', `/${WRITTEN}`);
    return found;
  });
}
