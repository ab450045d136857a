/**
 * What documents are to be. Every write has a number of its own, which is its body, and the number that it was written over; so all that was ever
 * tried of a document is a tree, whichever making of the database it was written to. Of each branch that was acknowledged the end is to be there.
 */

/** A write that was tried. */
interface Version {
  readonly number: number;
  readonly database: string;
  readonly incarnation: string;
  readonly id: string;
  /** Undefined where there was nothing. */
  readonly parent: number | undefined;
  readonly isDeletion: boolean;
  isAcked: boolean;
}

/** A leaf revision that is there. */
export interface FoundLeaf {
  readonly id: string;
  /** As it stands in the body. */
  readonly number: number;
  readonly isDeletion: boolean;
}

export interface DatabaseInForce {
  readonly name: string;
  /** All makings whose documents are to be in it, itself among them. */
  readonly live: ReadonlySet<string>;
  /** Makings of which nothing may be in it. */
  readonly gone: ReadonlySet<string>;
  readonly leaves: readonly FoundLeaf[];
}

export class DocumentModel {
  readonly #violate: (text: string) => void;
  readonly #versions: Version[] = [];

  constructor(violate: (text: string) => void) {
    this.#violate = violate;
  }

  /** A write is about to be tried; its number, which is to be its body. */
  tried(write: Omit<Version, 'number' | 'isAcked'>): number {
    const number = this.#versions.length;
    this.#versions.push({ ...write, number, isAcked: false });
    return number;
  }

  acked(number: number): void {
    const version = this.#versions[number];
    if (version !== undefined) version.isAcked = true;
  }

  get ackedCount(): number {
    return this.#versions.filter(({ isAcked }) => isAcked).length;
  }

  check(database: DatabaseInForce): void {
    const reached = new Set<number>();
    for (const leaf of database.leaves) {
      this.#checkLeaf(database, leaf);
      // What stands below a leaf was replaced.
      let at = this.#versions[leaf.number];
      while (at !== undefined && !reached.has(at.number)) {
        reached.add(at.number);
        at = at.parent === undefined ? undefined : this.#versions[at.parent];
      }
    }
    const { name, live } = database;
    for (const { number, database: of, incarnation, id, isAcked } of this.#versions) {
      const mustBe = of === name && isAcked && live.has(incarnation);
      if (mustBe && !reached.has(number))
        this.#violate(`${name}: the write ${number} of ${id} is lost`);
    }
  }

  #checkLeaf({ name, live, gone, leaves }: DatabaseInForce, leaf: FoundLeaf): void {
    const { id, number, isDeletion } = leaf;
    const version = this.#versions[number];
    const isKnown =
      version?.database === name && version.id === id && version.isDeletion === isDeletion;
    if (!isKnown) {
      this.#violate(`${name}: nobody wrote ${number} to ${id}`);
      return;
    }
    if (gone.has(version.incarnation))
      this.#violate(`${name}: ${number} of ${id} is from a database that was deleted before`);
    if (leaves.filter((other) => other.number === number).length > 1)
      this.#violate(`${name}: ${number} of ${id} is there more than once`);
    const later = this.#versions.find(
      (one) => one.parent === number && one.isAcked && live.has(one.incarnation),
    );
    if (later !== undefined)
      this.#violate(`${name}: ${number} of ${id} is there, and ${later.number} replaced it`);
  }
}
