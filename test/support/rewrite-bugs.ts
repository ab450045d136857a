/** What is changed in copies of the compiled engine to test rewrites: sizes that are small, and bugs that must be found. */
import type { Edit, PlantedBug } from './edited-copy.js';

/** A constant of a module with another value. */
export function constant(file: string, name: string, value: number): Edit {
  const find = new RegExp(`const ${name} = [^;]+;`);
  return { file, find, replace: `const ${name} = ${value};` };
}

/** Buffers that are as small as the files of the power-loss tests, which spend their time clearing them otherwise. */
export const SMALL_BUFFERS: readonly Edit[] = [
  constant('file/radix-order.js', 'DIGIT_BITS', 6),
  constant('file/file-reader.js', 'BLOCK_BYTES', 8192),
];

/** So that tiny files take many steps, and checkpoints fall into the middle of trees. */
export const SMALL_STEPS: readonly Edit[] = [
  ...SMALL_BUFFERS,
  constant('rewrite/extents.js', 'RUNS_FIRST', 8),
  constant('rewrite/row-windows.js', 'WINDOW_ROWS', 5),
  constant('rewrite/row-windows.js', 'WINDOW_BYTES', 400),
  constant('rewrite/entries-pass.js', 'STEP_ENTRIES', 4),
  constant('rewrite/leaf-scan.js', 'PIECE_BYTES', 500),
  constant('rewrite/pipeline.js', 'PIECE_BYTES_MIN', 800),
  constant('rewrite/pipeline.js', 'PIECE_BYTES_MAX', 800),
];

export const REWRITE_BUGS: readonly PlantedBug[] = [
  {
    name: 'targets not synced before the checkpoint',
    file: 'rewrite/target.js',
    find: 'await this.#file.sync();',
    replace: '',
  },
  {
    name: 'the sync of targets before the checkpoint not awaited',
    file: 'rewrite/target.js',
    find: 'await this.#file.sync();',
    replace: 'void this.#file.sync();',
  },
  {
    name: 'no directory sync after the rename of a checkpoint',
    file: 'rewrite/checkpoint.js',
    find: /await storage\.rename\(temporaryPath, path\);\s+await storage\.syncDirectory\(dirname\(path\)\);/,
    replace: 'await storage.rename(temporaryPath, path);',
  },
  {
    name: 'checkpoint not synced before its rename',
    file: 'rewrite/checkpoint.js',
    find: 'await file.sync();',
    replace: '',
  },
  {
    name: 'no checkpoint before the first byte of a target',
    file: 'rewrite/job.js',
    find: 'await writer.write();',
    replace: '',
  },
  {
    name: 'no checkpoint "finishing"',
    file: 'rewrite/job.js',
    find: /await writeCheckpoint\(storage, files\.checkpointPath, \{[^}]+\}\);/,
    replace: '',
  },
  {
    name: 'temporary names not durable before "finishing"',
    file: 'rewrite/job.js',
    find: 'await syncDirectories(storage, files.targets);',
    replace: '',
  },
  {
    name: 'no directory sync after targets get their names',
    file: 'rewrite/job-files.js',
    find: 'await syncDirectories(storage, targets);',
    replace: '',
  },
  {
    name: 'temporary names removed before that directory sync',
    file: 'rewrite/job-files.js',
    find: /await syncDirectories\(storage, targets\);\s+await removeTemporaries\(storage, targets\);/,
    replace: 'await removeTemporaries(storage, targets); await syncDirectories(storage, targets);',
  },
  {
    name: 'temporary names not removed for good',
    file: 'rewrite/job-files.js',
    find: 'await syncDirectories(storage, removed);',
    replace: '',
  },
  {
    name: 'checkpoint removed before names are durable',
    file: 'rewrite/job-files.js',
    find: 'await syncDirectories(storage, targets);',
    replace:
      'await removeCheckpoint(storage, checkpointPath); await syncDirectories(storage, targets);',
  },
  {
    name: 'compaction without a directory sync after its rename',
    file: 'rewrite/job-files.js',
    find: 'await syncDirectories(storage, targets);',
    replace: "if (plan.kind !== 'compact') await syncDirectories(storage, targets);",
  },
  {
    name: 'a resumed target goes on behind whatever is in its file',
    file: 'file/append-file.js',
    find: 'await file.truncate(length);',
    replace: 'length = filePos(await file.size());',
  },
  {
    name: 'cursor off by one',
    file: 'rewrite/row-windows.js',
    find: 'this.lastSeq = readSeq(bytes, node.keyStart(index - 1));',
    replace: 'this.lastSeq = readSeq(bytes, node.keyStart(index - 1)) - 1;',
  },
  {
    name: 'bytes counted in a checkpoint that are not written yet',
    file: 'rewrite/target.js',
    find: /this\.#writePiece\(\);\s+const state = \{/,
    replace: 'const state = {',
  },
  {
    name: 'a target without a state gone on with',
    file: 'rewrite/job.js',
    find: /else if \(isThere\)\s+await removeTemporaries\(storage, \[target\]\);/,
    replace: '',
  },
  {
    name: 'a state without its target gone on with',
    file: 'rewrite/job.js',
    find: 'if (isThere && state !== undefined)',
    replace: 'if (state !== undefined)',
  },
  {
    name: 'a finishing run begun anew',
    file: 'rewrite/job.js',
    find: 'if (job.checkpoint?.finishing !== true)',
    replace: 'if (true)',
  },
  {
    name: 'a discarded run loses its checkpoint first',
    file: 'rewrite/job-files.js',
    find: /await removeTemporaries\(storage, targets\);\s+\/\/ Last/,
    replace:
      'await removeCheckpoint(storage, checkpointPath); await removeTemporaries(storage, targets); // Last',
  },
];
