/** What the engine offers to those who embed it. */
export {
  DivanError,
  ERROR_CODES,
  type ErrorCode,
  type ErrorFacts,
  isDivanError,
} from './errors.js';
export type { Host } from './file/host.js';
export { MemoryStorage } from './file/memory-storage.js';
export { nodeHost } from './file/node-host.js';
export { nodeStorage } from './file/node-storage.js';
export type { OpenMode, Storage, StorageFile } from './file/storage.js';
export { AutoCompaction, type AutoCompactOptions } from './rewrite/auto-compact.js';
export { type CompactOptions, compact } from './rewrite/compact.js';
export { compactLive, type LiveCompaction } from './rewrite/compact-live.js';
export { Throttle } from './rewrite/control.js';
export type { JobOptions } from './rewrite/job.js';
export type { JobProgress } from './rewrite/job-meter.js';
export { type MergeOptions, merge } from './rewrite/merge.js';
export type { RewriteOutcome } from './rewrite/prepare.js';
export { type SplitOptions, split } from './rewrite/split.js';
export { type CheckResult, checkShard, type Problem } from './shard/check.js';
export { DocumentScanner, type ScannedDocument } from './shard/document.js';
export type { EditOutcome } from './shard/document-writer.js';
export type { DocumentEdit, EditedAttachment } from './shard/edit.js';
export {
  evenRanges,
  formatRange,
  type HashRule,
  hashOf,
  parseRange,
  type ShardRange,
} from './shard/hash.js';
export { ReadOnlyShard } from './shard/read-only-shard.js';
export { formatRev, parseRev, type Revision } from './shard/revision.js';
export { type CreateOptions, Shard, type ShardOptions, type ShardWorld } from './shard/shard.js';
export { type Change, type ChangesRange, type Document, Snapshot } from './shard/snapshot.js';
