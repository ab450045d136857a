/** The requests and answers of `fixtures/shard-splits-proposal.txt`, and whether an answer looks as one there does. */
import { readFileSync } from 'node:fs';

const FILE = 'fixtures/shard-splits-proposal.txt';

/** Stands in the text so often. */
export interface Substitution {
  readonly from: string;
  readonly to: string;
  readonly times: number;
}

export interface ProposalBlock {
  /** Of the request that it is a part of: `GET /_shard_splits`. */
  readonly heading: string;
  /** What the text says of it. */
  readonly label: string;
  readonly value: unknown;
}

export interface Proposal {
  /** `METHOD /path` of each request that is described, in order. */
  readonly headings: readonly string[];
  /** All JSON values, in order. */
  readonly blocks: readonly ProposalBlock[];
}

/** Throws if a substitution does not match as often as it says. */
export function readProposal(substitutions: readonly Substitution[]): Proposal {
  let text = readFileSync(FILE, 'utf8');
  for (const { from, to, times } of substitutions) {
    const found = text.split(from).length - 1;
    if (found !== times) throw new Error(`${from} stands there ${found} times, not ${times}`);
    text = text.replaceAll(from, to);
  }
  return parseProposal(text);
}

function parseProposal(text: string): Proposal {
  const headings: string[] = [];
  const blocks: ProposalBlock[] = [];
  let label = '';
  let block: string[] | undefined;
  for (const line of text.split('\n')) {
    const heading = /^\* `([A-Z]+ \/\S+)`$/.exec(line)?.[1];
    if (heading !== undefined) headings.push(heading);
    else if (line === '{') block = [line];
    else if (block === undefined) label = line.trim() === '' ? label : line;
    else {
      block.push(line);
      if (line !== '}') continue;
      const value: unknown = JSON.parse(block.join('\n'));
      blocks.push({ heading: headings.at(-1) ?? '', label, value });
      block = undefined;
    }
  }
  return { headings, blocks };
}

/** What texts of which only the form counts look like, by name. */
const FORMS: readonly (readonly [string, RegExp])[] = [
  ['job id', /^001-[0-9a-f]{64}$/],
  ['time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/],
  ['shard', /^shards\/[0-9a-f]{8}-[0-9a-f]{8}\/[^/].*\.\d{10}$/],
  ['node', /^[a-z0-9]+@[a-z0-9.]+$/],
];

/** The shape of a value: names in their order, types, the forms of texts; of lists the shapes that their entries have. */
export function shapeOf(value: unknown): unknown {
  if (typeof value === 'string') {
    return FORMS.find(([, form]) => form.test(value))?.[0] ?? JSON.stringify(value);
  }
  if (Array.isArray(value))
    return [...new Set(value.map((entry) => JSON.stringify(shapeOf(entry))))];
  if (typeof value !== 'object' || value === null) {
    return value === null || typeof value === 'boolean' ? String(value) : typeof value;
  }
  return Object.entries(value).map(([name, member]) => [name, shapeOf(member)]);
}
