/** Requests from wrk, a load generator that takes less of the machine than any server. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AUTHORIZATION } from './http-servers.js';
import type { BenchRun } from './result.js';

/** What is in the way of using wrk, if anything is. */
export function wrkProblem(): string | undefined {
  // It knows no option that only prints something and succeeds.
  if (spawnSync('wrk', ['--version'], { encoding: 'utf8' }).error === undefined) return undefined;
  return 'wrk is not installed, so that GET and PUT are not measured; run apt-get install wrk';
}

export interface WrkLoad {
  readonly port: number;
  readonly connections: number;
  readonly seconds: number;
  /** An empty place for the script. */
  readonly directory: string;
  /** Lua that defines `request`, which returns the bytes of the next request. */
  readonly script: string;
}

/** wrk stops by itself so long after it should have been stopped. */
const SPARE_SECONDS = 10;
/** A machine may be so busy that wrk is not running when it is to stop. Then it gets this much more time, a few times. */
const MORE = 4;
const TRIES = 4;

/** Writes what was measured to a file, as JSON: microseconds, and counts. */
function doneScript(path: string): string {
  return `
function done(summary, latency)
  local e, file = summary.errors, io.open(${lua(path)}, "w")
  file:write(string.format(
    '{"requests":%.0f,"duration":%.0f,"p50":%.0f,"p99":%.0f,"failed":%.0f}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
  file:close()
end
`;
}

interface WrkResult {
  readonly requests: number;
  readonly duration: number;
  readonly p50: number;
  readonly p99: number;
  readonly failed: number;
}

/** Sends requests over some connections, each the next as soon as the one before is answered. Throws unless all succeed. */
export function runWrk(load: WrkLoad): BenchRun {
  let { seconds } = load;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const result = runOnce({ ...load, seconds });
    if (result !== undefined && result.requests > 0) return runOf(result);
    seconds *= MORE;
  }
  throw new Error('wrk came to no result');
}

function runOf({ requests, duration, p50, p99, failed }: WrkResult): BenchRun {
  if (failed > 0) throw new Error(`${failed} of ${requests} requests failed`);
  return { docs: requests, seconds: duration / 1e6, p50Ms: p50 / 1000, p99Ms: p99 / 1000 };
}

function runOnce({ port, connections, seconds, directory, script }: WrkLoad) {
  const path = join(directory, 'load.lua');
  const resultPath = join(directory, 'result.json');
  writeFileSync(path, script + doneScript(resultPath));
  const duration = `${Math.ceil(seconds) + SPARE_SECONDS}s`;
  const { stderr } = spawnSync(
    'wrk',
    ['-t1', `-c${connections}`, '-d', duration, '-s', path, `http://127.0.0.1:${port}/`],
    {
      encoding: 'utf8',
      // It takes whole seconds only, and says what it found when it is interrupted. Node closes pipes then, hence the file.
      ...{ timeout: seconds * 1000, killSignal: 'SIGINT' },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  if (stderr !== '') throw new Error(`wrk failed: ${stderr}`);
  if (!existsSync(resultPath)) return undefined;
  const result: WrkResult = JSON.parse(readFileSync(resultPath, 'utf8'));
  rmSync(resultPath);
  return result;
}

/** Strings of JSON are strings of Lua as long as they are plain ASCII. */
const lua = JSON.stringify;

const HEAD_END = ` HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: ${AUTHORIZATION}\r\n`;

/** GETs of one path. */
export function getOne(path: string): string {
  return `local text = ${lua(`GET ${path}${HEAD_END}\r\n`)}\nfunction request() return text end`;
}

/** GETs below a path, of random ids of a file that has one on each line. */
export function getRandom(path: string, idsPath: string, seed: number): string {
  return `
math.randomseed(${seed})
local ids = {}
for id in io.lines(${lua(idsPath)}) do ids[#ids + 1] = id end
local head, tail = ${lua(`GET ${path}`)}, ${lua(`${HEAD_END}\r\n`)}
function request() return head .. ids[math.random(#ids)] .. tail end`;
}

/** PUTs below a path, each of a new random id with the same body. */
export function putNew(path: string, body: string, seed: number): string {
  const headers = `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
  return `
math.randomseed(${seed})
local head, tail = ${lua(`PUT ${path}`)}, ${lua(HEAD_END + headers + body)}
local most, format = 2147483647, "%08x%08x%08x%08x"
local function id()
  local random = math.random
  return string.format(format, random(0, most), random(0, most), random(0, most), random(0, most))
end
function request() return head .. id() .. tail end`;
}
