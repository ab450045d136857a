/**
 * What the work of a rewrite costs, and how fast it goes. Work with documents (rows of by-seq with bodies and attachments) and with
 * ids (documents of by-id) have speeds of their own: in a worn source, rows lie scattered and have several leaves, while ids hardly
 * differ from those of a fresh one.
 */

/** Of each kind of work: what it costs, or how many times its cost it takes. */
export interface Work {
  readonly documents: number;
  readonly ids: number;
}

export const NO_WORK: Work = { documents: 0, ids: 0 };

/** What there is of documents, and how many of their ids. */
export interface Amount {
  readonly rows: number;
  readonly bodyBytes: number;
  readonly ids: number;
}

/** Nanoseconds that things took where they were measured: on another machine all of them take about as many times as long. */
const COSTS = {
  write: { row: 330, bodyByte: 0.7, id: 210 },
  verify: { row: 410, bodyByte: 1.15, id: 315 },
} as const;

export type Stage = keyof typeof COSTS;

/** A guess counts like a measurement of so many milliseconds of cost, or of this share of what is left of the work, if that is more. */
const GUESS_MS = 50;
const GUESS_SHARE = 0.6;
/**
 * If documents are slow, a part of it is the machine, which ids suffer from as well, and the other the source, which they know little
 * of. As long as ids were not measured, the parts are taken to be about the same.
 */
const IDS_EXPONENT = 0.6;

/** Milliseconds for an amount. */
export function costOf(stage: Stage, { rows, bodyBytes, ids }: Amount): Work {
  const { row, bodyByte, id } = COSTS[stage];
  return { documents: (rows * row + bodyBytes * bodyByte) / 1e6, ids: (ids * id) / 1e6 };
}

export function minus(a: Work, b: Work): Work {
  return { documents: a.documents - b.documents, ids: a.ids - b.ids };
}

export function plus(a: Work, b: Work): Work {
  return { documents: a.documents + b.documents, ids: a.ids + b.ids };
}

export function times(work: Work, factor: number): Work {
  return { documents: work.documents * factor, ids: work.ids * factor };
}

/** Milliseconds for work at a speed; none for work that is overdone. */
export function timeOf({ documents, ids }: Work, pace: Work): number {
  return Math.max(0, documents) * pace.documents + Math.max(0, ids) * pace.ids;
}

/** Takes what work took, and says how many times its cost that is. */
export class Pace {
  #took = NO_WORK;
  #cost = NO_WORK;
  readonly #whole: Work;

  /** `whole` is the work whose guess is as good as a long measurement. */
  constructor(whole: Work) {
    this.#whole = whole;
  }

  /** Work of both kinds shares the time as `guess` says. */
  add(ms: number, work: Work, guess: Work): void {
    // There may have been less of it than was thought.
    const cost = { documents: Math.max(0, work.documents), ids: Math.max(0, work.ids) };
    const expected = timeOf(cost, guess);
    if (expected === 0) return;
    const took = (ms * cost.documents * guess.documents) / expected;
    this.#took = plus(this.#took, { documents: took, ids: ms - took });
    this.#cost = plus(this.#cost, cost);
  }

  /** From what was guessed and what was measured; what is undefined of the guess is told from the pace of documents. */
  after(guess: { readonly documents: number; readonly ids: number | undefined }): Work {
    const documents = this.#blend('documents', guess.documents);
    return { documents, ids: this.#blend('ids', guess.ids ?? documents ** IDS_EXPONENT) };
  }

  #blend(kind: keyof Work, guess: number): number {
    const cost = this.#cost[kind];
    const guessed = Math.max(GUESS_MS, (this.#whole[kind] - cost) * GUESS_SHARE);
    return (guess * guessed + this.#took[kind]) / (guessed + cost);
  }
}
