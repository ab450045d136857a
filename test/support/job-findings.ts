/** What a node has after a crash: everything that can be found, once, under the names by which it was noted when it was written. */
import { createHash } from 'node:crypto';
import { checkShard } from '../../engine/shard/check.js';
import { FULL_RANGE, isInRange } from '../../engine/shard/hash.js';
import { ReadOnlyShard } from '../../engine/shard/read-only-shard.js';
import type { Leaf } from '../../engine/shard/seq-tree.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import type { Database } from '../../server/databases/database.js';
import type { DatabaseShard } from '../../server/databases/shard-set.js';
import { NAME } from './job-life.js';
import type { JobNode } from './job-node.js';
import { DELETED } from './job-writer.js';
import type { SimulatedDisk } from './simulated-disk.js';

export class Found {
  readonly #node: JobNode;
  readonly #found = new Map<string, string>();

  constructor(node: JobNode) {
    this.#node = node;
  }

  async read(problems: string[]): Promise<Map<string, string>> {
    const { catalog, jobs } = this.#node;
    const database = catalog.find(NAME);
    this.#found.set('database', database === undefined ? '' : NAME);
    for (const { job } of jobs.list()) this.#add(job.type, 'there', problems);
    if (database !== undefined) await this.#readShards(database, problems);
    return this.#found;
  }

  #add(key: string, content: string, problems: string[]): void {
    const known = this.#found.get(key);
    if (known !== undefined) problems.push(`${key} is there twice: ${known} and ${content}`);
    this.#found.set(key, content);
  }

  async #readShards({ shards }: Database, problems: string[]): Promise<void> {
    let next = 0;
    for (const shard of shards) {
      const { start, end } = shard.range;
      if (start !== next) problems.push(`a range begins with ${start}, not with ${next}`);
      next = end + 1;
      await shard.slot.read((reader) => this.#readShard(shard, reader.snapshot(), problems));
    }
    if (next !== FULL_RANGE.end + 1) problems.push(`the ranges end before ${next}`);
  }

  async #readShard(
    { range }: DatabaseShard,
    snapshot: Snapshot,
    problems: string[],
  ): Promise<void> {
    const { security, revsLimit } = snapshot.metadata;
    const settings = security.length === 0 ? '' : `${Buffer.from(security)} ${revsLimit}`;
    const others = this.#found.get('settings') ?? settings;
    if (others !== settings) problems.push(`shards say ${others} and ${settings}`);
    this.#found.set('settings', settings);
    const listed = new Map<string, string>();
    for await (const { id, leaves } of snapshot.documents({})) {
      const [leaf] = leaves;
      if (leaf === undefined || leaves.length > 1) problems.push(`${id} has not one leaf`);
      listed.set(Buffer.from(id).toString(), await contentOfLeaf(snapshot, leaf));
    }
    for await (const { id, hash } of snapshot.changes()) {
      const key = Buffer.from(id).toString();
      if (!isInRange(hash, range)) problems.push(`${key} is in a shard of others`);
      this.#add(`document ${key}`, listed.get(key) ?? 'not in by-id', problems);
      listed.delete(key);
    }
    for (const key of listed.keys()) problems.push(`${key} is not among the changes`);
    for await (const { id, body } of snapshot.localDocs({})) {
      this.#add(`local ${Buffer.from(id)}`, Buffer.from(body).toString(), problems);
    }
    for await (const { uuid, id, revs } of snapshot.purges()) {
      this.#add(Buffer.from(uuid).toString(), `${id} ${revs.join()}`, problems);
    }
  }
}

/** As the writer notes it. */
async function contentOfLeaf(snapshot: Snapshot, leaf: Leaf | undefined): Promise<string> {
  if (leaf === undefined) return '';
  if (leaf.deleted) return DELETED;
  let text = Buffer.from(await snapshot.body(leaf)).toString();
  for (const attachment of leaf.attachments) {
    const md5 = createHash('md5');
    for await (const piece of snapshot.attachment(attachment)) md5.update(piece);
    text += ` ${md5.digest('hex')}`;
  }
  return text;
}

/** What the thorough check says of the files of a node that is closed. */
export async function damages(disk: SimulatedDisk, { catalog }: JobNode): Promise<string[]> {
  const damages: string[] = [];
  for (const { slot } of catalog.find(NAME)?.shards ?? []) {
    await using shard = await ReadOnlyShard.open({ storage: disk }, slot.path);
    const { problems } = await checkShard(shard);
    damages.push(...problems.map(({ text }) => `${slot.path}: ${text}`));
  }
  return damages;
}
