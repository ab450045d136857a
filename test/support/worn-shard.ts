/** A shard with everything that a shard can hold, worn by updates; and what it holds as a plain value. */
import { parseRev } from '../../engine/shard/revision.js';
import { Shard, type ShardOptions, type ShardWorld } from '../../engine/shard/shard.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import { describeDocuments, describeLocals } from './describe.js';

const edit = (id: string, body: string, more: object = {}) => ({
  id: Buffer.from(id),
  body: Buffer.from(body),
  deleted: false,
  ...more,
});

/** Makes a shard of about `documents` documents: with conflicts, tombstones, attachments, local docs and purges among them. */
export async function wornShard(
  world: ShardWorld,
  path: string,
  documents: number,
  options: ShardOptions = {},
): Promise<void> {
  const shard = await Shard.create(world, path, options);
  const revs = new Map<string, Awaited<ReturnType<Shard['put']>>['rev']>();
  for (let n = 0; n < documents; n++) {
    const id = `document ${n}`;
    const { rev } = await shard.put(edit(id, `{"n":${n},"text":"${'x'.repeat(n % 97)}"}`));
    revs.set(id, rev);
    if (n % 7 === 0) await shard.put(edit(id, `{"n":${n}.5}`, { parent: rev }));
    if (n % 11 === 0) {
      const path = [`3-${n}`, `2-${n}`, `1-${n}`].map(parseRev);
      await shard.put(edit(id, `{"conflict":${n}}`, { path }));
    }
    if (n % 13 === 0) await attach(shard, n);
    if (n % 17 === 1) await shard.putLocal(local(`checkpoint ${n}`, `{"n":${n}}`));
    if (n % 19 === 2) await shard.put(edit(id, '{}', { parent: rev, deleted: true })).catch(ignore);
    if (n % 23 === 3) {
      await shard.purge({ uuid: Buffer.from(`purge ${n}`), id: Buffer.from(id), revs: [rev] });
    }
  }
  await shard.setMetadata({ security: Buffer.from('{"members":{"roles":["worn"]}}') });
  await shard.putLocal({ ...local('checkpoint 1', ''), revision: 'any', body: undefined });
  await shard.close();
}

/** An edit of what was edited meanwhile is a conflict, which is as good for this. */
function ignore(): void {}

function local(id: string, body: string) {
  return { id: Buffer.from(id), body: Buffer.from(body), revision: undefined };
}

async function attach(shard: Shard, n: number): Promise<void> {
  const stored = await shard.store([Buffer.alloc(100 + n * 10, `${n}`)]);
  const kept = { contentType: 'text/plain', revpos: undefined };
  const attachments = new Map([['file', { ...kept, stored }]]);
  const { rev } = await shard.put(edit(`attached ${n}`, '{}', { attachments }));
  const stub = new Map([['file', { ...kept, stored: undefined }]]);
  await shard.put(edit(`attached ${n}`, '{"again":true}', { parent: rev, attachments: stub }));
}

/** Everything that a rewrite must keep, but seqs. */
export async function contentOf(snapshots: readonly Snapshot[]): Promise<{
  readonly documents: Record<string, unknown>;
  readonly locals: Record<string, string>;
  readonly purges: readonly string[];
}> {
  const documents: Record<string, unknown> = {};
  const locals: Record<string, string> = {};
  const purges: string[] = [];
  for (const snapshot of snapshots) {
    Object.assign(documents, await describeDocuments(snapshot));
    Object.assign(locals, await describeLocals(snapshot));
    for await (const { uuid, id, revs } of snapshot.purges()) {
      purges.push(`${Buffer.from(uuid).toString('hex')} ${id} ${revs.join(' ')}`);
    }
  }
  const sorted = <T>(record: Record<string, T>): Record<string, T> =>
    Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { documents: sorted(documents), locals: sorted(locals), purges: purges.sort() };
}
