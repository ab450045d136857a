/**
 * Watches who has which ranges of databases while a cluster of whole servers lives: no two files take writes for one hash, a range that had an owner
 * keeps one, and the epoch of a map never falls.
 */
import type { Database } from '../../server/databases/database.js';
import { formatCover, type ShardMap } from '../../server/databases/shard-map.js';
import type { RunningServer } from './whole-node.js';

interface Claim {
  readonly file: string;
  readonly start: number;
  readonly end: number;
}

/** The parts of one making of a database. */
interface Parts {
  /** The maps that nodes had last, by their identities: that of one that does not run is on its disk. */
  readonly maps: Map<string, ShardMap>;
  /** Once all ranges had an owner. */
  isWhole: boolean;
}

const FULL = '00000000-ffffffff';

export class RangeWatch {
  readonly #violate: (text: string) => void;
  readonly #count: (what: string) => void;
  /** The makings that nodes had set aside when they were looked at last, each with the node. */
  #aside = new Set<string>();
  readonly #parts = new Map<string, Parts>();
  /** The texts of maps that were looked at last, to see that there is nothing new. */
  #checked = '';

  constructor(violate: (text: string) => void, count: (what: string) => void) {
    this.#violate = violate;
    this.#count = count;
  }

  /** A node that left has nothing. */
  left(identity: string): void {
    for (const { maps } of this.#parts.values()) maps.delete(identity);
  }

  /** `lives`: the newest ones of all members, which may be over. */
  look(lives: readonly RunningServer[]): void {
    const claims = new Map<string, Claim[]>();
    const state: string[] = [];
    for (const node of lives) {
      const { catalog } = node.services;
      for (const { incarnation } of catalog.aside.all()) {
        state.push('aside', node.node.identity, incarnation);
      }
      for (const name of catalog.names()) {
        const database = catalog.find(name);
        if (database === undefined) continue;
        const { incarnation, epoch } = database.map;
        const own = claimsOf(node, database);
        claims.set(incarnation, [...(claims.get(incarnation) ?? []), ...own]);
        state.push(node.node.identity, incarnation, String(epoch), ...own.map(({ file }) => file));
      }
    }
    const text = state.join();
    if (text === this.#checked) return;
    this.#checked = text;
    for (const own of claims.values()) this.#checkApart(own);
    this.#followMaps(lives);
    this.#followAside(lives);
  }

  #followAside(lives: readonly RunningServer[]): void {
    const aside = new Set<string>();
    for (const { node, services } of lives) {
      for (const { incarnation } of services.catalog.aside.all()) {
        const entry = `${node.identity} ${incarnation}`;
        aside.add(entry);
        if (!this.#aside.has(entry)) this.#count('set aside');
      }
    }
    for (const { node, services } of lives) {
      for (const name of services.catalog.names()) {
        const entry = `${node.identity} ${services.catalog.find(name)?.map.incarnation}`;
        if (this.#aside.has(entry)) this.#count('brought back');
      }
    }
    this.#aside = aside;
  }

  #checkApart(claims: readonly Claim[]): void {
    const sorted = [...claims].sort((a, b) => a.start - b.start);
    for (const [index, claim] of sorted.entries()) {
      const before = sorted[index - 1];
      if (before !== undefined && before.end >= claim.start)
        this.#violate(`${before.file} and ${claim.file} both take writes`);
    }
  }

  #followMaps(lives: readonly RunningServer[]): void {
    for (const { node, services } of lives) {
      const { identity } = node;
      const { catalog } = services;
      const here = new Set<string>();
      for (const name of catalog.names()) {
        const map = catalog.find(name)?.map;
        if (map === undefined) continue;
        here.add(map.incarnation);
        this.#follow(identity, map);
      }
      for (const [incarnation, { maps }] of this.#parts) {
        // It was deleted, or set aside.
        if (maps.has(identity) && !here.has(incarnation)) this.#parts.delete(incarnation);
      }
    }
    for (const [incarnation, parts] of this.#parts) this.#checkWhole(incarnation, parts);
  }

  #follow(identity: string, map: ShardMap): void {
    const parts = this.#parts.get(map.incarnation) ?? { maps: new Map(), isWhole: false };
    this.#parts.set(map.incarnation, parts);
    const before = parts.maps.get(identity);
    if (before !== undefined && before.epoch > map.epoch)
      this.#violate(`the epoch of ${map.name} fell from ${before.epoch} to ${map.epoch}`);
    parts.maps.set(identity, map);
  }

  #checkWhole(incarnation: string, parts: Parts): void {
    const shards = [...parts.maps.values()].flatMap((map) => map.shards);
    const isWhole = coverOf(shards.map(({ range }) => range)) === FULL;
    if (parts.isWhole && !isWhole) {
      const maps = [...parts.maps].map(([node, map]) => `${node}: ${formatCover(map.shards)}`);
      this.#violate(`a range of ${incarnation} has no owner any more: ${maps.join('; ')}`);
    }
    parts.isWhole = isWhole;
  }
}

function claimsOf({ node, process }: RunningServer, { map, shards }: Database): Claim[] {
  if (process.isDead) return [];
  return shards.flatMap(({ range, slot }, index) => {
    if (slot.suspension !== undefined || slot.isRetired) return [];
    const file = `${node.name} ${map.shards[index]?.file}`;
    return [{ file, start: range.start, end: range.end }];
  });
}

/** What ranges cover together, which may overlap while a shard is moved. */
function coverOf(ranges: readonly { readonly start: number; readonly end: number }[]): string {
  const apart: { range: { start: number; end: number } }[] = [];
  for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) {
    const last = apart.at(-1);
    if (last !== undefined && start <= last.range.end) {
      last.range.end = Math.max(last.range.end, end);
    } else apart.push({ range: { start, end } });
  }
  return formatCover(apart);
}
