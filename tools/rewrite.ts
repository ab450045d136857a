/** What the commands that rewrite shard files share: `split`, `merge` and `compact`. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import { DivanError } from '../engine/errors.js';
import { Throttle } from '../engine/rewrite/control.js';
import { megabytes } from '../engine/rewrite/estimate.js';
import type { JobOptions } from '../engine/rewrite/job.js';
import { decodePlan, encodePlan, type RewritePlan } from '../engine/rewrite/plan.js';
import type { Preview, RewriteOutcome } from '../engine/rewrite/prepare.js';
import { parseRate, RATE_EXPECTS } from '../engine/rewrite/rate.js';
import { formatRange } from '../engine/shard/hash.js';
import type { CommandContext } from './command.js';
import { Progress } from './progress.js';

export interface RewriteCommandOptions {
  readonly workers?: string;
  readonly rate?: string;
  readonly plan?: string;
  readonly verify: boolean;
  readonly resume?: boolean;
  readonly discard?: boolean;
  readonly dryRun?: boolean;
  readonly keepPartial?: boolean;
  readonly json?: boolean;
}

const WORKERS_MAX = 64;

export function addRewriteOptions(command: Command): Command {
  return command
    .option('--workers <n>', `worker threads (${defaultWorkers()} on this machine)`)
    .option('--rate <rate>', 'write at most so much a second, such as 50MB/s')
    .option('--plan <file>', 'use the plan in this file, or write it there if there is none')
    .option(
      '--dry-run',
      'say what would be made, how large and in what time; make nothing (changes of the source are flushed)',
    )
    .option('--no-verify', 'do not compare the result with the source before it gets its name')
    .option('--resume', 'go on with an interrupted run, and with nothing else')
    .option('--discard', 'remove what an interrupted run left, and do nothing else')
    .option('--keep-partial', 'on Ctrl-C keep what is done for a later run')
    .option('--json', 'progress and result as JSON');
}

type RunOptions = JobOptions & { readonly plan: RewritePlan | undefined };

/** A rewrite as its command knows it. */
export interface RewriteWork {
  /** What was done to the documents: `split`. */
  readonly verb: string;
  readonly run: (options: RunOptions) => Promise<RewriteOutcome>;
  readonly preview: (options: RunOptions) => Promise<Preview>;
}

/** Runs a rewrite with progress, or only looks ahead, and says what came of it. */
export async function rewriteCommand(
  context: CommandContext,
  options: RewriteCommandOptions,
  { verb, run, preview }: RewriteWork,
): Promise<boolean> {
  const workers = workersOf(options.workers);
  const throttle = new Throttle();
  throttle.setRate(rateOf(options.rate), workers);
  if (options.dryRun === true) {
    reportPreview(await preview({ plan: readPlan(options.plan), verify: options.verify }), context);
    return true;
  }
  const progress = new Progress(context.host, context.json);
  const startMs = context.host.now();
  try {
    const outcome = await run({
      workers,
      throttle,
      plan: readPlan(options.plan),
      signal: context.signal,
      verify: options.verify,
      keepPartial: options.keepPartial === true,
      onBegin: async (plan, resumed) => begin(options, plan, resumed),
      onProgress: (report) => progress.show(report),
    });
    progress.stop();
    report(outcome, verb, (context.host.now() - startMs) / 1000, options);
    return true;
  } finally {
    progress.stop();
  }
}

function reportPreview(ahead: Preview, { json }: CommandContext): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(ahead)}\n`);
    return;
  }
  const { sources, targets, docs, bytes, freeBytes, seconds, resumes } = ahead;
  const lines = [
    ...sources.map(({ path }) => `from ${path}`),
    ...targets.map(
      (target) => `to   ${target.path}: about ${target.docs} documents, ${megabytes(target.bytes)}`,
    ),
    `${docs} documents; needs about ${megabytes(bytes)}, ${megabytes(freeBytes)} are free`,
    `about ${seconds.toFixed(seconds < 10 ? 1 : 0)} s${resumes ? '; goes on with an interrupted run' : ''}`,
  ];
  if (bytes > freeBytes) lines.push('it would be refused: there is not enough room');
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** Says what happened to `--discard`. */
export function reportDiscarded(found: boolean, json: boolean): void {
  const text = found ? 'what an interrupted run left is removed' : 'there was nothing to discard';
  process.stdout.write(json ? `${JSON.stringify({ discarded: found })}\n` : `${text}\n`);
}

/** Half of the processors: the other half is busy with what the workers read and write. */
function defaultWorkers(): number {
  return Math.max(1, Math.min(WORKERS_MAX, Math.floor(availableParallelism() / 2)));
}

function workersOf(text: string | undefined): number {
  if (text === undefined) return defaultWorkers();
  const workers = Number(text);
  if (Number.isInteger(workers) && workers >= 1 && workers <= WORKERS_MAX) return workers;
  throw new DivanError(
    'INVALID_SETTING',
    `--workers takes a whole number from 1 to ${WORKERS_MAX}`,
  );
}

/** Bytes a second, from a text such as `50MB/s`. */
function rateOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const rate = parseRate(text);
  if (rate !== undefined) return rate;
  throw new DivanError('INVALID_SETTING', `--rate takes a rate ${RATE_EXPECTS}`);
}

function readPlan(path: string | undefined): RewritePlan | undefined {
  if (path === undefined || !existsSync(path)) return undefined;
  return decodePlan(withPlanFile(path, 'read', () => readFileSync(path, 'utf8')));
}

function writePlan(path: string, plan: RewritePlan): void {
  withPlanFile(path, 'write', () => writeFileSync(path, encodePlan(plan)));
}

function withPlanFile<T>(path: string, what: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new DivanError('IO', `can not ${what} the plan ${path}: ${reason}`, { path }, error);
  }
}

function begin(options: RewriteCommandOptions, plan: RewritePlan, resumed: boolean): void {
  if (options.resume === true && !resumed) {
    throw new DivanError('CHECKPOINT', 'there is no interrupted run to resume; leave out --resume');
  }
  if (options.plan !== undefined && !existsSync(options.plan)) {
    writePlan(options.plan, plan);
  }
  if (options.json === true) {
    process.stderr.write(`${JSON.stringify({ resumed, verify: options.verify })}\n`);
    return;
  }
  if (resumed) process.stderr.write('going on with an interrupted run\n');
  if (!options.verify) process.stderr.write('the result is not compared with the source\n');
}

function report(
  { sources, targets, resumed }: RewriteOutcome,
  verb: string,
  seconds: number,
  { json, verify }: RewriteCommandOptions,
): void {
  const docs = sources.reduce(
    (sum, { counters }) => sum + counters.liveDocs + counters.deletedDocs,
    0,
  );
  const docsPerSecond = Math.round(docs / seconds);
  if (json === true) {
    const described = targets.map(({ path, range, counters }) => ({
      path,
      range: formatRange(range),
      ...counters,
    }));
    const result = { docs, seconds, docsPerSecond, resumed, verified: verify, targets: described };
    process.stdout.write(`${JSON.stringify(result)}\n`);
    return;
  }
  for (const { path, counters } of targets) {
    process.stdout.write(
      `${path}: ${counters.liveDocs} documents, ${counters.deletedDocs} deleted\n`,
    );
  }
  const checked = verify ? ' and verified' : '';
  process.stdout.write(
    `${docs} documents ${verb}${checked} in ${seconds.toFixed(1)} s, ${docsPerSecond} docs/s\n`,
  );
}
