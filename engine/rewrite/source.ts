/** A source of a rewrite: a shard file as of one flushed state, read beside whoever writes it. */
import { openNode, type TreeNode } from '../btree/node.js';
import type { NodeSource } from '../btree/tree.js';
import { DivanError } from '../errors.js';
import { readRun, readUpTo } from '../file/file-reader.js';
import { DATA_START, decodeFirstBlock } from '../file/first-block.js';
import type { Ref } from '../file/ref.js';
import type { Storage, StorageFile } from '../file/storage.js';
import { decodeState, type State } from '../shard/state.js';
import type { SourcePlan } from './plan.js';

export class Source implements NodeSource {
  readonly file: StorageFile;
  readonly state: State;
  readonly plan: SourcePlan;
  readonly #end: number;

  private constructor(file: StorageFile, state: State, plan: SourcePlan, end: number) {
    this.file = file;
    this.state = state;
    this.plan = plan;
    this.#end = end;
  }

  /** Throws `REPLACED` if the path names another file than the plan, and what reading throws. */
  static async open(storage: Storage, path: string, plan: SourcePlan): Promise<Source> {
    const file = await storage.open(path, 'read');
    try {
      const block = decodeFirstBlock(await readUpTo(file, 0, DATA_START), path, false);
      if (Buffer.compare(block.fileId, plan.fileId) !== 0) {
        throw new DivanError('REPLACED', `${path} is another file than when this began`, { path });
      }
      const end = await file.size();
      return new Source(file, decodeState(await readRun(file, plan.state, end)), plan, end);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Reads and checks the run of a ref. Throws `CHECKSUM` or `IO`. */
  read(ref: Ref): Promise<Buffer> {
    return readRun(this.file, ref, this.#end);
  }

  /** Of `NodeSource`: a rewrite reads every node once, so that none is kept. */
  cached(): undefined {
    return undefined;
  }

  async load(ref: Ref, level: number): Promise<TreeNode> {
    return openNode(await this.read(ref), level);
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
