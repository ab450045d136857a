/** Kills a server under load, starts it again, and judges what is there: as often as is wanted. */
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { temporaryDirectory } from './cli.js';
import { KillLoad } from './kill-load.js';
import { seededRandom } from './seed.js';
import { ServerProcess } from './server-process.js';

/** A round with fewer acknowledged writes a second shows nothing, and is repeated. */
const WRITES_PER_SECOND_MIN = 500;
const VOID_MAX = 5;
/** Of each database. */
const SHARDS = 2;
const LIFE_MS = { min: 400, max: 1400 };

export interface KillRounds {
  readonly kills: number;
  readonly voided: number;
  readonly problems: readonly string[];
  /** From the start to the first answer, after each kill. */
  readonly startMs: readonly number[];
  readonly writesPerSecond: readonly number[];
  readonly documents: number;
}

export async function killRounds(t: Test, kills: number, seed: number): Promise<KillRounds> {
  const random = seededRandom(seed);
  const dataDir = join(temporaryDirectory(t), 'data');
  const load = new KillLoad(random);
  const problems: string[] = [];
  const startMs: number[] = [];
  const writesPerSecond: number[] = [];
  let voided = 0;
  let server = await ServerProcess.start({ dataDir });
  try {
    await load.prepare(server);
    while (startMs.length < kills && problems.length === 0 && voided <= VOID_MAX) {
      const lifeMs = LIFE_MS.min + random() * (LIFE_MS.max - LIFE_MS.min);
      const rate = await load.run(server, async () => {
        await delay(lifeMs);
        await server.end('SIGKILL');
      });
      server = await ServerProcess.start({ dataDir });
      problems.push(
        ...(await load.problems(server)),
        ...(await strayFiles(server, dataDir, false)),
      );
      if (rate < WRITES_PER_SECOND_MIN) voided++;
      else {
        writesPerSecond.push(rate);
        startMs.push(server.startMs);
      }
    }
    problems.push(...(await afterCompaction(server, dataDir)));
    const { code } = await server.end('SIGTERM');
    if (code !== 0) problems.push(`the server ended with ${code}`);
    if (/"level":[56]0/.test(server.log)) problems.push(`it logged ${server.log.slice(0, 1000)}`);
  } finally {
    await server.end('SIGKILL');
  }
  const documents = load.documents.size;
  return { kills: startMs.length, voided, problems, startMs, writesPerSecond, documents };
}

/**
 * Files that belong to no database. What an interrupted compaction leaves of one that is there is for the next compaction to go on with;
 * unless `isCompacted`, when there was one.
 */
async function strayFiles(
  server: ServerProcess,
  dataDir: string,
  isCompacted: boolean,
): Promise<string[]> {
  const { text } = await server.client().call('GET', '/_all_dbs');
  const names: string[] = JSON.parse(text);
  const files = readdirSync(dataDir, { recursive: true, encoding: 'utf8' }).filter(
    (entry) => statSync(join(dataDir, entry)).isFile() && entry !== 'node.divan',
  );
  const shards = files.filter((entry) => names.includes(databaseOf(entry)));
  const stray = files.filter((entry) => {
    const [, base] =
      /^\.(.+\.divan)\.(compact|(compact|[0-9a-f]{12})\.new)$/.exec(basename(entry)) ?? [];
    const isPartial = base !== undefined && shards.includes(join(dirname(entry), base));
    return !shards.includes(entry) && (isCompacted || !isPartial);
  });
  const problems = stray.map((entry) => `a stray file: ${entry}`);
  for (const name of names) {
    const count = shards.filter((entry) => databaseOf(entry) === name).length;
    if (count !== SHARDS) problems.push(`${name} has ${count} files`);
  }
  return problems;
}

/** The database that the name of a file names; '' if it names none. */
function databaseOf(entry: string): string {
  return /^([^.]+)\.[0-9]+\.divan$/.exec(basename(entry))?.[1] ?? '';
}

/** Compacts all databases; resolves with the files that are left besides them. */
async function afterCompaction(server: ServerProcess, dataDir: string): Promise<string[]> {
  const client = server.client();
  const { text } = await client.call('GET', '/_all_dbs');
  const names: string[] = JSON.parse(text);
  for (const name of names) await client.call('POST', `/${name}/_compact`, {});
  for (let tries = 0; ; tries++) {
    await delay(100);
    const infos = await Promise.all(names.map((name) => client.call('GET', `/${name}`)));
    const isRunning = infos.some(({ text }) => text.includes('"compact_running":true'));
    if (!isRunning || tries > 100) return strayFiles(server, dataDir, true);
  }
}

/** As a line for people. */
export function describeRounds({
  kills,
  voided,
  startMs,
  writesPerSecond,
  documents,
}: KillRounds): string {
  const mean = writesPerSecond.reduce((sum, rate) => sum + rate, 0) / writesPerSecond.length;
  return (
    `killed ${kills} times (${voided} void) at ${mean.toFixed(0)} acknowledged writes a second; ${documents} documents; ` +
    `first answers after at most ${Math.max(...startMs).toFixed(0)} ms`
  );
}
