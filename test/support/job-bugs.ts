/** What is changed in copies of the compiled program to test jobs: steps that are small, and bugs that must be found. */
import type { Edit, PlantedBug } from './edited-copy.js';
import type { Scenario } from './job-life.js';
import type { Course } from './job-power-loss.js';
import { constant, SMALL_STEPS } from './rewrite-bugs.js';

/** So that a few writes take rounds of catching up, in which writers are slowed down. */
export const JOB_STEPS: readonly Edit[] = [
  ...SMALL_STEPS,
  constant('rewrite/move-live.js', 'BEHIND_MAX', 2),
  constant('rewrite/move-live.js', 'FREE_ROUNDS', 2),
  constant('rewrite/catch-up.js', 'DOCUMENTS_AT_ONCE', 2),
  constant('rewrite/copies.js', 'BATCH_BYTES', 300),
  constant('rewrite/copies.js', 'RUNS_BYTES', 500),
];

const MOVE_LIVE = 'rewrite/move-live.js';
const CATCH_UP = 'rewrite/catch-up.js';
const CATALOG = 'server/databases/catalog.js';
const RUNNER = 'server/splits/live-job-runner.js';
const SHARD_MOVE = 'server/splits/shard-move.js';
const MANAGER = 'server/splits/job-manager.js';

export interface PlantedJobBug extends PlantedBug {
  /** In which it shows; undefined for any. */
  readonly scenario?: Scenario;
  /** What must be done after a crash for it to show; undefined for whatever is done. */
  readonly course?: Course;
}

export const JOB_BUGS: readonly PlantedJobBug[] = [
  {
    name: 'what the copies get while writes wait is not synced',
    file: 'rewrite/copies.js',
    find: 'await copy.shard.absorb(copy.batch, this.#seqs, this.#metadataOf(copy));',
    replace:
      'const { file } = copy.shard, sync = file.sync; file.sync = async () => undefined;' +
      'await copy.shard.absorb(copy.batch, this.#seqs, this.#metadataOf(copy)); file.sync = sync;',
  },
  {
    name: 'the map is in force before it is durable',
    scenario: 'undisturbed',
    file: CATALOG,
    find: /const map = movedShardMap\(database\.map, from, to\);\s+try \{\s+await this\.#store\(map\);/,
    replace:
      'const map = movedShardMap(database.map, from, to); try { void this.#store(map).catch(() => undefined);',
  },
  {
    name: 'the map is written before the copies have everything',
    file: MOVE_LIVE,
    find: 'if (!(await this.#lastRound(() => waited() > capMs)))\n                return false;',
    replace: '',
  },
  {
    name: 'sources are removed before the map is written',
    file: SHARD_MOVE,
    find: 'const writePauseMs = await this.#tryToCut(followers, stop);',
    replace:
      'const { world, pathOf } = this.#input;' +
      'for (const file of context.job().sources) await world.storage.remove(pathOf(file));' +
      'const writePauseMs = await this.#tryToCut(followers, stop);',
  },
  {
    name: 'it is not kept that the map is about to be written',
    course: 'removed',
    scenario: 'undisturbed',
    file: SHARD_MOVE,
    find: "await context.update({ phase: 'update_shardmap', copied: followers.seqs });",
    replace: '',
  },
  {
    name: 'a copy is said to be as new as its source',
    file: MOVE_LIVE,
    find: 'return job.seqs;',
    replace: 'return move.sources.map((source) => source.snapshot().counters);',
  },
  {
    name: 'what was caught up is counted before it is there',
    file: CATCH_UP,
    find: 'this.#copies.expect(this.#sources, snapshots);',
    replace:
      'this.#copies.expect(this.#sources, snapshots);' +
      'for (const [index, source] of this.#sources.entries()) source.has = snapshots[index].counters;',
  },
  {
    name: 'local docs are not caught up',
    scenario: 'undisturbed',
    file: CATCH_UP,
    find: 'await round.localDocs(source.has.localSeq);',
    replace: '',
  },
  {
    name: 'purges are not caught up',
    file: CATCH_UP,
    find: 'await round.purges(source.has.purgeSeq);',
    replace: '',
  },
  {
    name: 'settings are not caught up',
    file: 'rewrite/copies.js',
    find: 'return { ...metadata, uuid, range, lineage',
    replace: 'return { ...own, uuid, range, lineage',
  },
  {
    name: 'a job is complete before the sources are gone for good',
    file: RUNNER,
    find: /if \(!job\.keepSource\)\s+await this\.#removeFiles\(job\);/,
    replace: 'if (!job.keepSource) void this.#removeFiles(job).catch(() => undefined);',
  },
  {
    name: 'a job whose map is written copies once more',
    file: RUNNER,
    find: 'if (!hasMoved(database, job))',
    replace: '',
  },
  {
    name: 'a job that went past the map is undone',
    file: 'server/splits/phases.js',
    find: "indexOf('update_shardmap')",
    replace: "indexOf('wait_source_close')",
  },
  {
    name: 'a job goes before what it copied',
    scenario: 'removed',
    file: MANAGER,
    find: "await this.#undo(job, 'it was being removed');",
    replace: '',
  },
  {
    name: 'what jobs of a deleted database copied is left',
    file: MANAGER,
    find: 'await this.#undo(job, DATABASE_DELETED);',
    replace: ';',
  },
  {
    name: 'a job is acknowledged before it is durable',
    file: MANAGER,
    find: 'await this.#store.put(job);',
    replace: 'void this.#store.put(job).catch(() => undefined);',
  },
  {
    name: 'jobs do not go on at a start',
    file: MANAGER,
    find: 'this.#scheduler.open();',
    replace: '',
  },
  {
    name: 'a failed job is left as it is at a start',
    scenario: 'removed',
    file: MANAGER,
    find: /this\.#settle\(managed\.turns\.run\(\(\) => this\.#scheduler\.discard\(managed\)\)\);/,
    replace: ';',
  },
];
