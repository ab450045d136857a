/**
 * The since token of a whole database, of those of its parts (`../databases/since-token.ts`): their entries together. Whoever has a part finds
 * what it knows in it, and leaves the rest alone.
 */
import { DivanError } from '../../engine/errors.js';

interface PartToken {
  readonly sum: number;
  readonly entries: string;
  readonly carried: string;
}

/** Of the name of a file, with which an entry begins. */
const NAME_CHARACTERS = 12;

export class MergedToken {
  readonly #parts: PartToken[];

  /** In the order of the parts. Throws `PEER` for what is no token. */
  constructor(tokens: readonly string[]) {
    this.#parts = tokens.map(parse);
  }

  /** Says how far a part is by now. Throws `PEER`. */
  set(index: number, token: string): void {
    this.#parts[index] = parse(token);
  }

  text(): string {
    let sum = 0;
    const entries: string[] = [];
    const carried: string[] = [];
    for (const part of this.#parts) {
      sum += part.sum;
      if (part.entries !== '') entries.push(part.entries);
      if (part.carried !== '') carried.push(part.carried);
    }
    const tail = carried.length > 1 ? distinct(carried.join('.')) : carried.join('');
    return `${sum}-${entries.join('.')}${tail === '' ? '' : `~${tail}`}`;
  }
}

/** An ancestor that parts of several nodes have in common is carried once. */
function distinct(entries: string): string {
  const byName = new Map<string, string>();
  for (const entry of entries.split('.')) byName.set(entry.slice(0, NAME_CHARACTERS), entry);
  return [...byName.values()].join('.');
}

function parse(token: string): PartToken {
  const match = /^([0-9]+)-([^~]*)(?:~(.*))?$/.exec(token);
  if (match === null) throw new DivanError('PEER', 'a node did not send a token');
  const [, sum = '0', entries = '', carried = ''] = match;
  return { sum: Number(sum), entries, carried };
}
