/**
 * `npm run profile -- [split|merge|compact] [--docs N] [--size BYTES] [--out DIR]`: one rewrite under each profiler, and where what
 * they say is found.
 *
 * Clinic's doctor and flame see the main thread only, so that they are given a rewrite without workers. Node's own profiler writes a
 * file for every thread, and is given one with a worker.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { program } from './child.js';
import { halvesOf, type Command as Rewrite } from './rewrite.js';
import type { ChildInput } from './rewrite-child.js';
import { makeSource } from './sources.js';

const COMMANDS: readonly Rewrite[] = ['split', 'merge', 'compact'];
const CHILD = program('rewrite-child.js');
/** Beside the compiled bench: a package of its own. */
const CLINIC = program('../../bench/profile/node_modules/clinic/bin.js');

interface ProfileOptions {
  readonly docs: number;
  readonly size: number;
  readonly out: string;
}

/** One rewrite under a profiler. */
interface Profiling {
  readonly name: string;
  readonly workers: number;
  /** What comes before the program in the command line of Node. */
  readonly args: readonly string[];
}

function positive(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new InvalidArgumentError('It must be a whole number, 1 or more.');
}

function profilings(out: string): Profiling[] {
  const clinic = (tool: string): Profiling => ({
    name: tool,
    workers: 0,
    args: [CLINIC, tool, '--open=false', '--dest', out, '--', process.execPath],
  });
  const node: Profiling = {
    name: 'cpu-prof',
    workers: 1,
    args: ['--cpu-prof', `--cpu-prof-dir=${out}`],
  };
  return existsSync(CLINIC) ? [clinic('doctor'), clinic('flame'), node] : [node];
}

/** The files and directories that the profiler left in `out`. */
function profile(
  { name, workers, args }: Profiling,
  command: Rewrite,
  sources: readonly string[],
  out: string,
): string[] {
  const place = mkdtempSync(join(tmpdir(), 'divan-profile-'));
  try {
    const before = readdirSync(out);
    const input = inputOf(command, sources, place, workers);
    const { status, stderr } = spawnSync(
      process.execPath,
      [...args, CHILD, command, JSON.stringify(input)],
      // Without this Clinic asks whether it may collect statistics, and ends where there is nobody to answer.
      { encoding: 'utf8', env: { ...process.env, NO_INSIGHT: 'true' } },
    );
    if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr}`);
    return readdirSync(out).filter((entry) => !before.includes(entry));
  } finally {
    rmSync(place, { recursive: true });
  }
}

function inputOf(
  command: Rewrite,
  sources: readonly string[],
  place: string,
  workers: number,
): ChildInput {
  const made = join(place, 'made.divan');
  const [source = ''] = sources;
  // A compaction takes the place of its source.
  if (command === 'compact') copyFileSync(source, made);
  return {
    sources: command === 'compact' ? [made] : sources,
    out: made,
    parts: 2,
    workers,
    verify: false,
    checkpoints: true,
  };
}

async function main(command: Rewrite, { docs, size, out }: ProfileOptions): Promise<void> {
  mkdirSync(out, { recursive: true });
  if (!existsSync(CLINIC)) {
    process.stderr.write(
      'no doctor and flame: run npm ci --prefix bench/profile to install them\n',
    );
  }
  const sourceDirectory = mkdtempSync(join(tmpdir(), 'divan-profile-'));
  try {
    const source = await makeSource({ sourceDirectory, docs, size, worn: false });
    const sources = command === 'merge' ? halvesOf(source, sourceDirectory, 1) : [source];
    for (const profiling of profilings(out)) {
      const { name, workers } = profiling;
      const made = profile(profiling, command, sources, out).map((entry) => join(out, entry));
      const reports = made.filter((path) => /\.(html|cpuprofile)$/.test(path));
      process.stdout.write(`${name} of a ${command}, ${workers} worker(s): ${reports.join(' ')}\n`);
    }
  } finally {
    rmSync(sourceDirectory, { recursive: true });
  }
}

const cli = new Command('npm run profile --')
  .description('Runs a rewrite under profilers, and says where their reports are.')
  .argument('[rewrite]', `of ${COMMANDS.join(', ')}`, 'split')
  .option('--docs <n>', 'how many documents', positive, 300_000)
  .option('--size <bytes>', "of each document's JSON", positive, 200)
  .option('--out <path>', 'where reports are written', '.clinic')
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'profile: ')) })
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2));
cli.parse();
const command =
  COMMANDS.find((name) => name === cli.processedArgs[0]) ??
  cli.error(`profile: the rewrite is of ${COMMANDS.join(', ')}`);
const given = cli.opts<ProfileOptions>();
await main(command, { ...given, out: resolve(given.out) });
