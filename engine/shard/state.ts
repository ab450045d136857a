/**
 * The state that a flush ends with: metadata, seqs, totals and the roots of all trees (FORMAT.md section 11).
 */
import type { TreeRoot } from '../btree/tree.js';
import { DivanError } from '../errors.js';
import { type Packable, pack, type Unpacked, unpack } from '../file/pack.js';
import { REF_BYTES, readRef, writeRef } from '../file/ref.js';
import type { HashRule, ShardRange } from './hash.js';

export const UUID_BYTES = 16;
export const SECURITY_BYTES_MAX = 1024 * 1024;
export const REVS_LIMIT_DEFAULT = 1000;
export const PURGE_INFOS_LIMIT_DEFAULT = 1000;
/** Both limits are from 1 to this. */
export const SETTING_MAX = 2 ** 31 - 1;

/** The trees of a shard, in the order of their roots in the state. */
export const TREE_NAMES = [
  'byId',
  'bySeq',
  'local',
  'localBySeq',
  'purgeBySeq',
  'purgeByUuid',
] as const;
export type TreeName = (typeof TREE_NAMES)[number];

/** One value for each tree of a shard. */
export type PerTree<T> = { readonly [name in TreeName]: T };

/** Makes a value for each tree. */
export function perTree<T>(make: (name: TreeName) => T): PerTree<T> {
  return {
    byId: make('byId'),
    bySeq: make('bySeq'),
    local: make('local'),
    localBySeq: make('localBySeq'),
    purgeBySeq: make('purgeBySeq'),
    purgeByUuid: make('purgeByUuid'),
  };
}

/** The counters that give numbers to what is written. */
export type Seqs = Pick<Counters, 'updateSeq' | 'purgeSeq' | 'localSeq'>;

/** A file that this one was made from, and how its seqs became those of this file. */
export interface Parent {
  readonly fileId: Uint8Array;
  readonly uuid: Uint8Array;
  readonly range: ShardRange;
  /** The parent's seqs when it was left. */
  readonly cut: Seqs;
  /** How many parents were merged. 1 for a split, where seqs stay as they are. */
  readonly parentCount: number;
  /** Which of them this is. */
  readonly parentIndex: number;
  /** Seqs up to this one stayed; a later one `s` became `base + (s - base) * parentCount + parentIndex`. */
  readonly base: Seqs;
}

export interface Metadata {
  readonly uuid: Uint8Array;
  readonly range: ShardRange;
  readonly hashRule: HashRule;
  readonly lineage: readonly Parent[];
  /** JSON text of the security object; empty when none was set. */
  readonly security: Uint8Array;
  readonly revsLimit: number;
  readonly purgeInfosLimit: number;
}

/** Counters of a shard, each the value as of some commit. */
export interface Counters {
  readonly updateSeq: number;
  readonly purgeSeq: number;
  readonly localSeq: number;
  /** How many purge infos are kept. */
  readonly purgeInfos: number;
  readonly liveDocs: number;
  readonly deletedDocs: number;
  /** Bytes of bodies and attachments that leaves refer to. */
  readonly activeBytes: number;
  /** The same with attachments decoded. */
  readonly externalBytes: number;
}

export const ZERO_COUNTERS: Counters = {
  updateSeq: 0,
  purgeSeq: 0,
  localSeq: 0,
  purgeInfos: 0,
  liveDocs: 0,
  deletedDocs: 0,
  activeBytes: 0,
  externalBytes: 0,
};

export function seqsOf({ updateSeq, purgeSeq, localSeq }: Seqs): Seqs {
  return { updateSeq, purgeSeq, localSeq };
}

export const ZERO_SEQS: Seqs = { updateSeq: 0, purgeSeq: 0, localSeq: 0 };

export type Roots = PerTree<TreeRoot | undefined>;

export interface State {
  readonly metadata: Metadata;
  readonly counters: Counters;
  readonly roots: Roots;
}

/** The counters of a shard all of whose changes are in its trees. */
export function countersOf({ updateSeq, purgeSeq, localSeq }: Seqs, roots: Roots): Counters {
  const [liveDocs = 0, deletedDocs = 0, activeBytes = 0, externalBytes = 0] =
    roots.byId?.totals ?? [];
  const purgeInfos = roots.purgeBySeq?.totals[0] ?? 0;
  const seqs = { updateSeq, purgeSeq, localSeq };
  return { ...seqs, purgeInfos, liveDocs, deletedDocs, activeBytes, externalBytes };
}

const HASH_RULES: readonly HashRule[] = ['document', 'partition'];

export function encodeState(state: State): Uint8Array {
  const { counters } = state;
  return pack([
    metadataParts(state.metadata),
    [
      counters.updateSeq,
      counters.purgeSeq,
      counters.localSeq,
      counters.purgeInfos,
      counters.liveDocs,
      counters.deletedDocs,
      counters.activeBytes,
      counters.externalBytes,
    ],
    TREE_NAMES.map((name) => rootParts(state.roots[name])),
  ]);
}

/** Throws `CORRUPT`. */
export function decodeState(bytes: Uint8Array): State {
  const parts = unpack(bytes);
  const metadata = readMetadata(parts.array());
  const seqs = parts.array();
  const counters: Counters = {
    updateSeq: seqs.int(),
    purgeSeq: seqs.int(),
    localSeq: seqs.int(),
    purgeInfos: seqs.int(),
    liveDocs: seqs.int(),
    deletedDocs: seqs.int(),
    activeBytes: seqs.int(),
    externalBytes: seqs.int(),
  };
  const roots = parts.array();
  return { metadata, counters, roots: perTree(() => readRoot(roots.arrayOrNull())) };
}

export function encodeMetadata(metadata: Metadata): Uint8Array {
  return pack(metadataParts(metadata));
}

/** Throws `CORRUPT`. */
export function decodeMetadata(bytes: Uint8Array): Metadata {
  return readMetadata(unpack(bytes));
}

function metadataParts(metadata: Metadata): Packable {
  return [
    metadata.uuid,
    metadata.range.start,
    metadata.range.end,
    HASH_RULES.indexOf(metadata.hashRule),
    metadata.lineage.map((parent) => [
      parent.fileId,
      parent.uuid,
      parent.range.start,
      parent.range.end,
      parent.cut.updateSeq,
      parent.parentCount,
      parent.parentIndex,
      parent.base.updateSeq,
      parent.cut.purgeSeq,
      parent.cut.localSeq,
      parent.base.purgeSeq,
      parent.base.localSeq,
    ]),
    metadata.security,
    metadata.revsLimit,
    metadata.purgeInfosLimit,
  ];
}

function readMetadata(parts: Unpacked): Metadata {
  return {
    uuid: parts.binary(UUID_BYTES),
    range: { start: parts.int(), end: parts.int() },
    hashRule: readHashRule(parts.int()),
    lineage: parts.array().each((list) => readParent(list.array())),
    security: parts.binary(),
    revsLimit: parts.int(),
    purgeInfosLimit: parts.int(),
  };
}

function readHashRule(code: number): HashRule {
  const rule = HASH_RULES[code];
  if (rule === undefined) throw new DivanError('CORRUPT', `the hash rule ${code} is unknown`);
  return rule;
}

function readParent(parts: Unpacked): Parent {
  const fileId = parts.binary(UUID_BYTES);
  const uuid = parts.binary(UUID_BYTES);
  const range = { start: parts.int(), end: parts.int() };
  const cutUpdateSeq = parts.int();
  const parentCount = parts.int();
  const parentIndex = parts.int();
  const baseUpdateSeq = parts.int();
  // Files of before these were written mapped purge and local seqs with base 0.
  const later = () => (parts.remaining > 0 ? parts.int() : 0);
  const cut = { updateSeq: cutUpdateSeq, purgeSeq: later(), localSeq: later() };
  const base = { updateSeq: baseUpdateSeq, purgeSeq: later(), localSeq: later() };
  return { fileId, uuid, range, cut, parentCount, parentIndex, base };
}

/** A root as it is packed in states and checkpoints. */
export function rootParts(root: TreeRoot | undefined): Packable {
  if (root === undefined) return null;
  const ref = new Uint8Array(REF_BYTES);
  writeRef(ref, 0, root.ref);
  return [ref, root.level, root.totals];
}

/** Throws `CORRUPT`. */
export function readRoot(parts: Unpacked | undefined): TreeRoot | undefined {
  if (parts === undefined) return undefined;
  const ref = readRef(parts.binary(REF_BYTES), 0);
  const level = parts.int();
  return { ref, level, totals: parts.array().each((total) => total.int()) };
}
