/** The command line of the bench. */
import { statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { Command, InvalidArgumentError } from 'commander';
import { FAMILIES } from './families.js';
import { PEERS, peersProblem } from './peers.js';

/** How many documents, of how many bytes. */
export interface DocumentCount {
  readonly docs: number;
  readonly size: number;
}

export interface BenchOptions {
  readonly families: readonly string[];
  readonly docs?: number;
  readonly size?: number;
  readonly sizes?: readonly DocumentCount[];
  readonly runs: number;
  readonly seconds: number;
  readonly localDocs: number;
  readonly parts: readonly number[];
  readonly workers: number;
  readonly worn: boolean;
  readonly peers: readonly string[];
  readonly smoke: boolean;
  readonly dir: string;
  readonly out?: string;
}

/** As the command line has them. */
interface GivenOptions
  extends Omit<BenchOptions, 'families' | 'parts' | 'worn' | 'smoke' | 'peers'>,
    Partial<Pick<BenchOptions, 'parts' | 'worn' | 'smoke'>> {
  readonly peers?: true | readonly string[];
}

const USAGE_ERROR = 2;
/** Of a synthetic document. */
const SIZE_MIN = 130;
const PARTS_MAX = 1024;

function whole(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    const upTo = most === Number.MAX_SAFE_INTEGER ? 'or more' : `to ${most}`;
    throw new InvalidArgumentError(`It must be a whole number, ${least} ${upTo}.`);
  };
}

function listOf<T>(one: (text: string) => T): (text: string) => T[] {
  return (text) => text.split(',').map(one);
}

function documentCount(text: string): DocumentCount {
  const [, docs, size] = /^(\d+)x(\d+)$/.exec(text) ?? [];
  if (docs === undefined || size === undefined) {
    throw new InvalidArgumentError('It must be like 1000000x200,400000x1024.');
  }
  return { docs: whole(1)(docs), size: whole(SIZE_MIN)(size) };
}

function peerName(text: string): string {
  if (PEERS.includes(text)) return text;
  throw new InvalidArgumentError(`It must be of ${PEERS.join(', ')}.`);
}

function command(): Command {
  return new Command('npm run bench --')
    .description('Measures how fast Divan is on this machine, next to copying files.')
    .argument('[families...]', `of ${[...FAMILIES.keys()].join(', ')}; all if none is given`)
    .option('--docs <n>', 'how many documents', whole(1))
    .option('--size <bytes>', `of each document's JSON, ${SIZE_MIN} or more`, whole(SIZE_MIN))
    .option('--sizes <list>', 'several: 1000000x200,400000x1024', listOf(documentCount))
    .option('--runs <n>', 'how often each is measured', whole(1), 7)
    .option(
      '--parts <list>',
      'of the split family: 2,4,8,64 (default: 2)',
      listOf(whole(2, PARTS_MAX)),
    )
    .option('--seconds <n>', 'how long requests are sent, each time', whole(1), 3)
    .option('--local-docs <n>', 'of the live-split family: besides the others', whole(0), 0)
    .option('--workers <n>', 'threads of a rewrite', whole(0), 1)
    .option('--worn', 'a worn source: updates, conflicts, attachments, dead bytes')
    .option('--peers [names]', `splits by ${PEERS.join(', ')}, too`, listOf(peerName))
    .option('--smoke', 'the least that shows that it works')
    .option('--dir <path>', 'where files are made', tmpdir())
    .option('--out <path>', 'write results.json, results.md and results.svg there')
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'bench: ')) })
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : USAGE_ERROR));
}

/** What the command line asks for. Ends the process with a line that says what is wrong with it. */
export function readOptions(argv: readonly string[]): BenchOptions {
  const program = command();
  program.parse(argv, { from: 'user' });
  const given = program.opts<GivenOptions>();
  const { parts = [2], worn = false, smoke = false, peers = [] } = given;
  const families = familiesOf(program);
  const options = { ...given, families, parts, worn, smoke, peers: peers === true ? PEERS : peers };
  if (worn && options.peers.length > 0) program.error('bench: peers know no worn sources');
  const problem = options.peers.length > 0 ? peersProblem() : undefined;
  if (problem !== undefined) program.error(`bench: ${problem}`);
  if (given.sizes !== undefined && (given.docs !== undefined || given.size !== undefined)) {
    program.error('bench: --sizes is instead of --docs and --size');
  }
  if (statSync(given.dir, { throwIfNoEntry: false })?.isDirectory() !== true) {
    program.error(`bench: --dir: ${given.dir} is no directory`);
  }
  return options;
}

function familiesOf(program: Command): string[] {
  const names = program.args.length > 0 ? program.args : [...FAMILIES.keys()];
  for (const name of names) {
    if (FAMILIES.has(name)) continue;
    program.error(
      `bench: there is no family ${name}; there are ${[...FAMILIES.keys()].join(', ')}`,
    );
  }
  return names;
}
