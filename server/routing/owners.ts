/** Which nodes serve which parts of a database. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';
import {
  FULL_RANGE,
  formatRange,
  hashOf,
  isInRange,
  type ShardRange,
} from '../../engine/shard/hash.js';
import type { Node } from '../cluster/peers.js';
import type { PlacedPart, Placement, Placements } from '../databases/placement.js';
import { formatCover } from '../databases/shard-map.js';

/** A part of a database, and the ranges of it as a text. */
export interface OwnedPart {
  readonly node: Node;
  readonly ranges: readonly ShardRange[];
  readonly cover: string;
}

/** How often a request is sent again when documents were moved meanwhile. */
const ATTEMPTS_MAX = 7;
/** So long it is waited for word of where they are now, after the first attempt; each time twice as long. */
const CHANGE_WAIT_MS = 50;

const FULL = formatRange(FULL_RANGE);

export class Owners {
  readonly #host: Host;
  readonly #placements: Placements;
  readonly #self: () => Node;
  readonly #isLeaving: (name: string) => boolean;
  /** For names that were asked for and are databases, whether all of it is here. */
  readonly #isElsewhere = new Map<string, boolean>();

  /** `isLeaving` tells of databases that are all here, as far as others know, whether some of it is about to go, or has just gone. */
  constructor(
    host: Host,
    placements: Placements,
    self: () => Node,
    isLeaving: (name: string) => boolean,
  ) {
    this.#host = host;
    this.#placements = placements;
    this.#self = self;
    this.#isLeaving = isLeaving;
    placements.onChange((name) => this.#isElsewhere.delete(name));
  }

  get self(): Node {
    return this.#self();
  }

  /** True for a database of which some is on other nodes, or nowhere yet, or soon may be. Asked for with every request. */
  isElsewhere(name: string): boolean {
    return this.#isPlacedElsewhere(name) || this.#isLeaving(name);
  }

  #isPlacedElsewhere(name: string): boolean {
    const known = this.#isElsewhere.get(name);
    if (known !== undefined) return known;
    const placement = this.#placements.find(name);
    if (placement === undefined) return false;
    const [part, ...others] = placement.parts;
    const isHere =
      part !== undefined &&
      others.length === 0 &&
      part.node.identity === this.self.identity &&
      formatCover(part.shards) === FULL;
    this.#isElsewhere.set(name, !isHere);
    return !isHere;
  }

  /** Throws `NOT_FOUND`. */
  placement(name: string): Placement {
    const placement = this.#placements.find(name);
    if (placement !== undefined) return placement;
    throw new DivanError('NOT_FOUND', 'Database does not exist.');
  }

  /** The node of a document; `id` in UTF-8, `attempt`: how often it was not there. Throws `NOT_FOUND`, `MOVED` if no node has its range. */
  ofDocument(name: string, id: Uint8Array, attempt: number): Node {
    return ownerOf(this.placement(name), id, attempt);
  }

  /** All parts. Throws `NOT_FOUND`, and `MOVED` if some range is on no node, or on two. */
  parts(name: string): readonly OwnedPart[] {
    const { parts } = this.placement(name);
    const shards = parts.flatMap((part) => part.shards);
    shards.sort((a, b) => a.range.start - b.range.start);
    let end = -1;
    for (const { range } of shards) {
      if (range.start !== end + 1) throw notPlaced();
      end = range.end;
    }
    if (end !== FULL_RANGE.end) throw notPlaced();
    return parts.filter(hasShards).map(({ node, shards }) => {
      return { node, ranges: shards.map(({ range }) => range), cover: formatCover(shards) };
    });
  }

  /** Which of the parts has a document; `id` in UTF-8. REQUIRES: they are all parts of the database. */
  indexOf(name: string, parts: readonly OwnedPart[], id: Uint8Array): number {
    const hash = hashOf(id, this.placement(name).hashRule);
    return parts.findIndex(({ ranges }) => ranges.some((range) => isInRange(hash, range)));
  }

  /**
   * Does `work`, and again when it throws `MOVED`, once it is known where the documents are now, as often as it makes sense. `work` is told how
   * often it was tried before. Throws `UNAVAILABLE` when they are nowhere.
   */
  async retrying<T>(name: string, work: (attempt: number) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      const before = this.placement(name);
      try {
        return await work(attempt);
      } catch (error) {
        if (!isDivanError(error, 'MOVED')) throw error;
        if (attempt + 1 >= ATTEMPTS_MAX) {
          const reason = `some of ${name} is on no node that is known, or is being moved; try again later`;
          throw new DivanError('UNAVAILABLE', reason, {}, error);
        }
        await this.#changed(name, before, CHANGE_WAIT_MS * 2 ** attempt);
      }
    }
  }

  /** Resolves when the placement is another one, or after a while. */
  #changed(name: string, before: Placement, waitMs: number): Promise<void> {
    const isOther = () => this.#placements.find(name)?.parts !== before.parts;
    if (isOther()) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        stop();
        cancelTimer();
        resolve();
      };
      const cancelTimer = this.#host.setTimer(done, waitMs);
      const stop = this.#placements.onChange((changed) => {
        if (changed === name) done();
      });
    });
  }
}

function ownerOf({ parts, hashRule }: Placement, id: Uint8Array, attempt: number): Node {
  const hash = hashOf(id, hashRule);
  const nodes = parts
    .filter(({ shards }) => shards.some(({ range }) => isInRange(hash, range)))
    .map(({ node }) => node);
  // While a shard is moved two nodes may say that they have it, of which one takes writes.
  const node = nodes[attempt % Math.max(1, nodes.length)];
  if (node === undefined) throw notPlaced();
  return node;
}

function hasShards({ shards }: PlacedPart): boolean {
  return shards.length > 0;
}

function notPlaced(): DivanError {
  return new DivanError('MOVED', 'some ranges are on no node that is known, or on two');
}
