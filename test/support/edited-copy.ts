/**
 * Copies of the compiled engine in which something is changed: bugs that a test must find, and steps so small that a tiny file takes
 * many of them.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { runApart } from './apart.js';

const DIST = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** In one compiled file of the engine, or of the server (`server/…`), one text, which must be there once, in place of another. */
export interface Edit {
  readonly file: string;
  readonly find: string | RegExp;
  readonly replace: string;
}

export interface PlantedBug extends Edit {
  readonly name: string;
}

/**
 * Calls an exported function of a module of `test/support`, in a thread of its own, of a copy of the compiled program in which the edits
 * were made. What goes in and comes out is plain data.
 */
export async function runEdited<Input, Output>(
  edits: readonly Edit[],
  moduleName: string,
  functionName: string,
  input: Input,
): Promise<Output> {
  const copy = mkdtempSync(join(tmpdir(), 'divan-edited-'));
  try {
    cpSync(join(DIST, 'engine'), join(copy, 'engine'), { recursive: true });
    cpSync(join(DIST, 'server'), join(copy, 'server'), { recursive: true });
    cpSync(join(DIST, 'fixtures'), join(copy, 'fixtures'), { recursive: true });
    cpSync(join(DIST, 'test', 'support'), join(copy, 'test', 'support'), { recursive: true });
    symlinkSync(join(DIST, '..', 'node_modules'), join(copy, 'node_modules'));
    writeFileSync(join(copy, 'package.json'), '{"type":"module"}');
    for (const edit of edits) {
      const folder = edit.file.startsWith('server/') ? copy : join(copy, 'engine');
      makeEdit(join(folder, edit.file), edit);
    }
    const module = pathToFileURL(join(copy, 'test', 'support', moduleName)).href;
    return await runApart<Input, Output>(module, functionName, input);
  } finally {
    rmSync(copy, { recursive: true });
  }
}

function makeEdit(path: string, { file, find, replace }: Edit): void {
  const source = readFileSync(path, 'utf8');
  if (source.split(find).length !== 2) throw new Error(`${file} does not have ${find} once`);
  writeFileSync(
    path,
    source.replace(find, () => replace),
  );
}
