/**
 * Kills a rewrite command (SIGKILL) at random moments and starts it again, and tells from its `--json` progress lines how much of the
 * writing was done twice. (A verify pass that is killed begins anew: that is another matter.)
 */
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { divanStart } from './cli.js';

export interface KillLoopOptions {
  readonly command: readonly string[];
  /** The rate that the command is held to. */
  readonly bytesPerSecond: number;
  readonly kills: number;
  /** A run lives for a random time below this, unless it ends before. */
  readonly lifeMsMax: number;
  readonly random: () => number;
  /** Called when a run has come to its end; makes the next one possible. */
  readonly onEnded: () => void;
}

export interface KillLoopResult {
  /** Kills before the first progress, while it wrote, and while it verified. */
  readonly early: number;
  readonly writing: number;
  readonly verifying: number;
  /** For each resumption, seconds of writing that were done again. */
  readonly repeated: readonly number[];
}

interface Line {
  readonly atMs: number;
  readonly phase: string;
  /** Written so far, by earlier lives too. */
  readonly bytes: number;
}

interface Life {
  readonly lines: readonly Line[];
  /** Undefined for one that came to its end. */
  readonly killedAtMs: number | undefined;
}

export async function killLoop(options: KillLoopOptions): Promise<KillLoopResult> {
  const lives: Life[] = [];
  for (let kills = 0; kills < options.kills; ) {
    const life = await live(options.command, options.random() * options.lifeMsMax);
    lives.push(life);
    if (life.killedAtMs === undefined) options.onEnded();
    else kills++;
  }
  const phases = lives.flatMap(({ lines, killedAtMs }) =>
    killedAtMs === undefined ? [] : [lines.at(-1)?.phase],
  );
  const early = phases.filter((phase) => phase === undefined).length;
  const verifying = phases.filter((phase) => phase === 'verify').length;
  const writing = phases.length - early - verifying;
  return { early, writing, verifying, repeated: repeatedSeconds(lives, options.bytesPerSecond) };
}

async function live(command: readonly string[], lifeMs: number): Promise<Life> {
  const child = divanStart(...command, '--json');
  const lines: Line[] = [];
  createInterface({ input: child.stderr }).on('line', (text) => {
    const line = parseLine(text);
    if (line !== undefined) lines.push(line);
  });
  child.stdout.resume();
  const ended = new Promise<NodeJS.Signals | null>((resolve, reject) => {
    child.on('close', (code, signal) => {
      if (code === null || code === 0) resolve(signal);
      else reject(new Error(`${command.join(' ')} ended with ${code}`));
    });
  });
  const timer = new AbortController();
  await Promise.race([delay(lifeMs, undefined, { signal: timer.signal }), ended]);
  timer.abort();
  const killedAtMs = performance.now();
  child.kill('SIGKILL');
  return { lines, killedAtMs: (await ended) === 'SIGKILL' ? killedAtMs : undefined };
}

function parseLine(text: string): Line | undefined {
  const { phase, bytesDone }: { phase?: unknown; bytesDone?: unknown } = JSON.parse(text);
  if (typeof phase !== 'string' || typeof bytesDone !== 'number') return undefined;
  return { atMs: performance.now(), phase, bytes: bytesDone };
}

/** What each life had reached when it was killed, at the speed that it is held to since its last line, less where the next one began. */
function repeatedSeconds(lives: readonly Life[], bytesPerSecond: number): number[] {
  const perMs = bytesPerSecond / 1000;
  const repeated: number[] = [];
  let reached: number | undefined;
  for (const { lines, killedAtMs } of lives) {
    const first = lines[0];
    if (first !== undefined && reached !== undefined) {
      repeated.push(Math.max(0, reached - first.bytes) / perMs / 1000);
      reached = undefined;
    }
    const last = lines.findLast(({ phase }) => phase !== 'verify');
    const isVerifying = lines.at(-1)?.phase === 'verify';
    if (killedAtMs === undefined) reached = undefined;
    else if (last !== undefined) {
      const since = isVerifying ? 0 : (killedAtMs - last.atMs) * perMs;
      reached = Math.max(reached ?? 0, last.bytes + since);
    }
  }
  return repeated;
}

/** As a line for people. */
export function describeKills({ early, writing, verifying, repeated }: KillLoopResult): string {
  const worst = Math.max(...repeated).toFixed(2);
  const mean = repeated.reduce((sum, seconds) => sum + seconds, 0) / repeated.length;
  return (
    `killed ${early} times before it wrote, ${writing} times writing, ${verifying} times verifying; ` +
    `of the writing repeated: ${mean.toFixed(2)} s on average, at most ${worst} s in ${repeated.length} resumptions`
  );
}
