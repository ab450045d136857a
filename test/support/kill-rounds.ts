/** Kills a server under load, starts it again, and judges what is there: as often as is wanted. */
import { readdirSync, statSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { temporaryDirectory } from './cli.js';
import { KillLoad } from './kill-load.js';
import { seededRandom } from './seed.js';
import { ServerProcess } from './server-process.js';

/** A round with fewer acknowledged writes a second shows nothing, and is repeated. */
const WRITES_PER_SECOND_MIN = 500;
const VOID_MAX = 5;
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
      problems.push(...(await load.problems(server)), ...(await strayFiles(server, dataDir)));
      if (rate < WRITES_PER_SECOND_MIN) voided++;
      else {
        writesPerSecond.push(rate);
        startMs.push(server.startMs);
      }
    }
    const { code } = await server.end('SIGTERM');
    if (code !== 0) problems.push(`the server ended with ${code}`);
    if (/"level":[56]0/.test(server.log)) problems.push(`it logged ${server.log.slice(0, 1000)}`);
  } finally {
    await server.end('SIGKILL');
  }
  const documents = load.documents.size;
  return { kills: startMs.length, voided, problems, startMs, writesPerSecond, documents };
}

/** Files that belong to no database. */
async function strayFiles(server: ServerProcess, dataDir: string): Promise<string[]> {
  const { text } = await server.client().call('GET', '/_all_dbs');
  const names: string[] = JSON.parse(text);
  const counts = new Map(names.map((name) => [name, 0]));
  const stray: string[] = [];
  for (const entry of readdirSync(dataDir, { recursive: true, encoding: 'utf8' })) {
    const path = join(dataDir, entry);
    if (!statSync(path).isFile() || relative(dataDir, path) === 'node.divan') continue;
    const [, name = ''] = /^([^.]+)\.[0-9]+\.divan$/.exec(basename(path)) ?? [];
    const count = counts.get(name);
    if (count === undefined) stray.push(`a stray file: ${entry}`);
    else counts.set(name, count + 1);
  }
  for (const [name, count] of counts) {
    if (count !== 2) stray.push(`${name} has ${count} files`);
  }
  return stray;
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
