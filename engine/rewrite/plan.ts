/**
 * The plan of a rewrite: everything that its targets' bytes depend on besides the bytes of its sources. Two runs of one plan
 * make the same files, byte for byte, however often they are interrupted and with however many workers.
 */
import { DivanError } from '../errors.js';
import { FILE_ID_BYTES, SALT_BYTES } from '../file/first-block.js';
import { filePos, type Ref } from '../file/ref.js';
import { formatRange, parseRange, type ShardRange } from '../shard/hash.js';
import { UUID_BYTES } from '../shard/state.js';

export const REWRITE_KINDS = ['split', 'merge', 'compact'] as const;
export type RewriteKind = (typeof REWRITE_KINDS)[number];

/** A source: which file, and which flushed state of it. */
export interface SourcePlan {
  readonly fileId: Uint8Array;
  readonly state: Ref;
}

/** A target: everything about it that is not copied. */
export interface TargetPlan {
  readonly range: ShardRange;
  readonly fileId: Uint8Array;
  readonly salt: Uint8Array;
  /** Of the shard; a compaction keeps that of its source. */
  readonly uuid: Uint8Array;
}

export interface RewritePlan {
  readonly kind: RewriteKind;
  /** In the order of their ranges. */
  readonly sources: readonly SourcePlan[];
  /** In the order of their ranges. */
  readonly targets: readonly TargetPlan[];
  /** The index of the source whose security and limits the targets take. */
  readonly settingsFrom: number;
}

/** Of a plan of each kind. A merge of version 1 had other bases (`commonCuts`): one that was interrupted can not be gone on with. */
const VERSIONS: { readonly [kind in RewriteKind]: number } = { split: 1, merge: 2, compact: 1 };

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** The plan as JSON text: the same text for the same plan. */
export function encodePlan(plan: RewritePlan): string {
  const { kind, sources, targets, settingsFrom } = plan;
  return `${JSON.stringify(
    {
      divanPlan: VERSIONS[kind],
      kind,
      sources: sources.map(({ fileId, state }) => ({ fileId: hex(fileId), state })),
      targets: targets.map(({ range, fileId, salt, uuid }) => ({
        range: formatRange(range),
        fileId: hex(fileId),
        salt: hex(salt),
        uuid: hex(uuid),
      })),
      settingsFrom,
    },
    undefined,
    2,
  )}\n`;
}

/** Throws `INVALID_PLAN`. */
export function decodePlan(text: string): RewritePlan {
  const plan = new Fields(parse(text), 'the plan');
  const version = plan.integer('divanPlan');
  const kind = REWRITE_KINDS.find((known) => known === plan.text('kind'));
  if (kind === undefined) throw invalid('is of an unknown kind');
  if (version !== VERSIONS[kind]) throw invalid('is of another version');
  const sources = plan.list('sources').map((source): SourcePlan => {
    const state = source.fields('state');
    return {
      fileId: source.hex('fileId', FILE_ID_BYTES),
      state: {
        pos: filePos(state.integer('pos')),
        length: state.integer('length'),
        crc: state.integer('crc'),
        codec: state.integer('codec'),
      },
    };
  });
  const targets = plan.list('targets').map(
    (target): TargetPlan => ({
      range: parseRange(target.text('range')),
      fileId: target.hex('fileId', FILE_ID_BYTES),
      salt: target.hex('salt', SALT_BYTES),
      uuid: target.hex('uuid', UUID_BYTES),
    }),
  );
  const settingsFrom = plan.integer('settingsFrom');
  if (settingsFrom >= sources.length || targets.length === 0) throw invalid('is not complete');
  return { kind, sources, targets, settingsFrom };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DivanError('INVALID_PLAN', 'the plan is not JSON', {}, error);
  }
}

/** Members of an object, each read as what it must be. */
class Fields {
  readonly #members: ReadonlyMap<string, unknown>;
  readonly #what: string;

  constructor(value: unknown, what: string) {
    if (typeof value !== 'object' || value === null) throw invalid(`has ${what} that is no object`);
    this.#members = new Map(Object.entries(value));
    this.#what = what;
  }

  integer(name: string): number {
    const value = this.#members.get(name);
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    throw this.#wrong(name);
  }

  text(name: string): string {
    const value = this.#members.get(name);
    if (typeof value === 'string') return value;
    throw this.#wrong(name);
  }

  hex(name: string, length: number): Uint8Array {
    const bytes = Buffer.from(this.text(name), 'hex');
    if (bytes.length !== length) throw this.#wrong(name);
    return Uint8Array.from(bytes);
  }

  fields(name: string): Fields {
    return new Fields(this.#members.get(name), name);
  }

  list(name: string): Fields[] {
    const value = this.#members.get(name);
    if (!Array.isArray(value) || value.length === 0) throw this.#wrong(name);
    return value.map((element: unknown) => new Fields(element, name));
  }

  #wrong(name: string): DivanError {
    return invalid(`has a wrong ${name} in ${this.#what}`);
  }
}

function invalid(what: string): DivanError {
  return new DivanError('INVALID_PLAN', `the plan ${what}`);
}
