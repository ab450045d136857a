/**
 * What was written, for those who judge what a crash left: for each thing the versions in the order in which they were written, and from
 * which point of the log of the disk each was acknowledged.
 */
export interface Version {
  readonly content: string;
  readonly submitted: number;
  acknowledged: number;
}

export class VersionLog {
  readonly #versions = new Map<string, Version[]>();
  readonly #now: () => number;

  /** `now`: how long the log of the disk is. */
  constructor(now: () => number) {
    this.#now = now;
  }

  get keys(): Iterable<string> {
    return this.#versions.keys();
  }

  /** Does a write that gives a thing a content; it is acknowledged when the write resolves. */
  async write<T>(key: string, content: string, work: () => Promise<T>): Promise<T> {
    const version = { content, submitted: this.#now(), acknowledged: Number.POSITIVE_INFINITY };
    this.#versions.set(key, [...(this.#versions.get(key) ?? []), version]);
    const result = await work();
    version.acknowledged = this.#now();
    return result;
  }

  /** How many versions were acknowledged by a point. */
  acknowledgedBy(at: number): number {
    let count = 0;
    for (const versions of this.#versions.values()) {
      for (const { acknowledged } of versions) if (acknowledged <= at) count++;
    }
    return count;
  }

  /** What a thing may be after a crash at a point: not older than what was acknowledged; '' if nothing was. */
  allowed(key: string, at: number): string[] {
    const versions = this.#versions.get(key) ?? [];
    const oldest = versions.findLastIndex(({ acknowledged }) => acknowledged <= at);
    const allowed = versions
      .slice(Math.max(oldest, 0))
      .filter(({ submitted }) => submitted <= at)
      .map(({ content }) => content);
    return oldest < 0 ? [...allowed, ''] : allowed;
  }
}
