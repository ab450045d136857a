/**
 * Goal: whatever is done to a shard, in whatever order, it holds what a plain Map holds after the same.
 * Method: fast-check makes lists of commands (put, edit, delete, conflict, attach, purge, local, snapshot, flush, reopen, split)
 * and shrinks the ones that fail; the model knows leaves and nothing of trees, files or commits.
 */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { isDivanError } from '../../../engine/errors.js';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import { split } from '../../../engine/rewrite/split.js';
import { CacheSpace } from '../../../engine/shard/cache-space.js';
import { checkShard } from '../../../engine/shard/check.js';
import type { EditedAttachment } from '../../../engine/shard/edit.js';
import { hashOf, isInRange } from '../../../engine/shard/hash.js';
import { ReadOnlyShard } from '../../../engine/shard/read-only-shard.js';
import { formatRev, parseRev } from '../../../engine/shard/revision.js';
import { Shard } from '../../../engine/shard/shard.js';
import {
  type Described,
  type DescribedLeaf,
  describeDocuments,
  describeLocals,
} from '../../support/describe.js';
import { seedOf } from '../../support/seed.js';
import { VirtualHost } from '../../support/virtual-host.js';

const PATH = '/model.divan';
const OPTIONS = { overlayBytes: 3000, nodeBytes: 256, cache: new CacheSpace(8192) };

type Command =
  | { readonly kind: 'put'; readonly id: number; readonly value: number }
  | { readonly kind: 'edit'; readonly id: number; readonly leaf: number; readonly value: number }
  | { readonly kind: 'delete'; readonly id: number; readonly leaf: number }
  | { readonly kind: 'conflict'; readonly id: number; readonly gen: number; readonly value: number }
  | { readonly kind: 'attach'; readonly id: number; readonly size: number; readonly keep: boolean }
  | { readonly kind: 'purge'; readonly id: number; readonly leaf: number }
  | { readonly kind: 'local'; readonly id: number; readonly value: number }
  | { readonly kind: 'snapshot' | 'flush' | 'reopen' | 'kill' | 'split' };

const id = fc.nat(7);
const leaf = fc.nat(3);
const value = fc.nat(1_000_000);
const COMMAND: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('put' as const), id, value }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('edit' as const), id, leaf, value }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('delete' as const), id, leaf }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('conflict' as const),
      id,
      gen: fc.integer({ min: 1, max: 4 }),
      value,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('attach' as const),
      id,
      size: fc.nat(3000),
      keep: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('purge' as const), id, leaf }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('local' as const), id, value }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'snapshot' as const,
        'flush' as const,
        'reopen' as const,
        'kill' as const,
        'split' as const,
      ),
    }),
  },
);

/** The winner first, as CouchDB defines it; written anew here so as not to test the engine with itself. */
function inOrder(leaves: readonly DescribedLeaf[]): DescribedLeaf[] {
  const rank = ({ rev, deleted }: DescribedLeaf) =>
    `${deleted ? 0 : 1} ${rev.split('-')[0]?.padStart(12, '0')} ${rev.slice(rev.indexOf('-') + 1)}`;
  return [...leaves].sort((a, b) => (rank(a) < rank(b) ? 1 : -1));
}

/** A shard and the plain Maps that it must agree with. */
class Run {
  readonly #storage = new MemoryStorage();
  readonly #host = new VirtualHost(1);
  readonly #docs = new Map<string, DescribedLeaf[]>();
  readonly #locals = new Map<string, string>();
  /** Every revision ever seen of a document: merging one again changes nothing. */
  readonly #known = new Map<string, Set<string>>();
  readonly #snapshots: { readonly check: () => Promise<void> }[] = [];
  #shard: Shard | undefined;
  #count = 0;

  async open(): Promise<void> {
    this.#shard = await Shard.create(this.#world, PATH, OPTIONS);
  }

  get #world() {
    return { storage: this.#storage, host: this.#host };
  }

  get #open(): Shard {
    if (this.#shard === undefined) throw new Error('not open');
    return this.#shard;
  }

  async perform(command: Command): Promise<void> {
    this.#count++;
    switch (command.kind) {
      case 'put':
        return this.#put(`doc ${command.id}`, command.value);
      case 'edit':
        return this.#edit(`doc ${command.id}`, command.leaf, `{"v":${command.value}}`, false);
      case 'delete':
        return this.#edit(`doc ${command.id}`, command.leaf, '{}', true);
      case 'conflict':
        return this.#conflict(`doc ${command.id}`, command.gen, command.value);
      case 'attach':
        return this.#attach(`doc ${command.id}`, command.size, command.keep);
      case 'purge':
        return this.#purge(`doc ${command.id}`, command.leaf);
      case 'local':
        return this.#local(`local ${command.id}`, command.value);
      case 'snapshot':
        return this.#snapshot();
      case 'flush':
        return this.#open.flush();
      case 'reopen':
        return this.#reopen(true);
      case 'kill':
        return this.#reopen(false);
      case 'split':
        return this.#split();
    }
  }

  async finish(): Promise<void> {
    for (const { check } of this.#snapshots) await check();
    await this.#compare();
    await this.#reopen(true);
    await this.#compare();
    await this.#open.close();
    const shard = await ReadOnlyShard.open(this.#world, PATH);
    const { problems } = await checkShard(shard);
    await shard.close();
    if (problems.length > 0) throw new Error(`check says ${problems[0]?.text}`);
  }

  #leaves(id: string): DescribedLeaf[] {
    return inOrder(this.#docs.get(id) ?? []);
  }

  #replace(id: string, old: DescribedLeaf | undefined, leaf: DescribedLeaf): void {
    const others = (this.#docs.get(id) ?? []).filter(({ rev }) => rev !== old?.rev);
    this.#docs.set(id, [...others, leaf]);
    this.#know(id, leaf.rev);
  }

  #know(id: string, rev: string): void {
    const known = this.#known.get(id) ?? new Set();
    known.add(rev);
    this.#known.set(id, known);
  }

  async #put(id: string, value: number): Promise<void> {
    const body = `{"v":${value},"n":1.0}`;
    const [winner] = this.#leaves(id);
    const outcome = await this.#open
      .put({ id: Buffer.from(id), body: Buffer.from(body), deleted: false })
      .catch((error: unknown) => error);
    if (winner !== undefined && !winner.deleted) {
      if (!isDivanError(outcome, 'CONFLICT'))
        throw new Error('a put over a living document was accepted');
      return;
    }
    if (typeof outcome !== 'object' || outcome === null || !('rev' in outcome)) throw outcome;
    const rev = (await this.#winnerOf(id)) ?? '';
    this.#replace(id, winner, { rev, deleted: false, body, attachments: [] });
  }

  async #winnerOf(id: string): Promise<string | undefined> {
    const document = await this.#open.snapshot().document(Buffer.from(id));
    const revision = document?.leaves[0]?.revision;
    return revision === undefined ? undefined : formatRev(revision);
  }

  async #edit(id: string, index: number, body: string, deleted: boolean): Promise<void> {
    const leaves = this.#leaves(id);
    const leaf = leaves[index % Math.max(leaves.length, 1)];
    if (leaf === undefined) return;
    const edit = {
      id: Buffer.from(id),
      body: Buffer.from(body),
      deleted,
      parent: parseRev(leaf.rev),
    };
    const { rev } = await this.#open.put(edit);
    this.#replace(id, leaf, { rev: formatRev(rev), deleted, body, attachments: [] });
  }

  /** A replicated revision that extends nothing. */
  async #conflict(id: string, gen: number, value: number): Promise<void> {
    const body = `{"c":${value}}`;
    const hash = createHash('md5').update(`${gen} ${value}`).digest('hex');
    const rev = `${gen}-${hash}`;
    const path = [parseRev(rev)];
    await this.#open.put({ id: Buffer.from(id), body: Buffer.from(body), deleted: false, path });
    if (this.#known.get(id)?.has(rev) === true && this.#docs.has(id)) return;
    this.#replace(id, undefined, { rev, deleted: false, body, attachments: [] });
  }

  async #attach(id: string, size: number, keep: boolean): Promise<void> {
    const [leaf] = this.#leaves(id);
    const stored = await this.#open.store([Buffer.alloc(size, this.#count)]);
    const attachments = new Map<string, EditedAttachment>([
      [`new ${this.#count % 3}`, { contentType: 'a/b', revpos: undefined, stored }],
    ]);
    const kept = keep && leaf !== undefined ? leaf.attachments : [];
    const names = kept.map((text) => text.replace(/ a\/b [0-9a-f]+$/, ''));
    for (const name of names) {
      if (!attachments.has(name))
        attachments.set(name, { contentType: 'a/b', revpos: undefined, stored: undefined });
    }
    const parent = leaf === undefined ? undefined : parseRev(leaf.rev);
    const body = `{"attached":${this.#count}}`;
    const edit = {
      id: Buffer.from(id),
      body: Buffer.from(body),
      deleted: false,
      attachments,
      parent,
    };
    const { rev } = await this.#open.put(edit);
    const digest = Buffer.from(stored.digest).toString('hex');
    const fresh = `new ${this.#count % 3}`;
    const others = kept.filter((text) => !text.startsWith(`${fresh} `));
    const described = [...others, `${fresh} a/b ${digest}`].sort();
    this.#replace(id, leaf, { rev: formatRev(rev), deleted: false, body, attachments: described });
  }

  async #purge(id: string, index: number): Promise<void> {
    const leaves = this.#leaves(id);
    const leaf = leaves[index % Math.max(leaves.length, 1)];
    if (leaf === undefined) return;
    const uuid = Buffer.from(`purge ${this.#count}`);
    await this.#open.purge({ uuid, id: Buffer.from(id), revs: [parseRev(leaf.rev)] });
    const rest = leaves.filter(({ rev }) => rev !== leaf.rev);
    if (rest.length > 0) this.#docs.set(id, rest);
    else this.#docs.delete(id);
    // What was purged may come back by replication, but which ancestors went with it only the tree knows.
    const known = await this.#revisionsOf(id);
    this.#known.set(id, known);
  }

  async #revisionsOf(id: string): Promise<Set<string>> {
    const document = await this.#open.snapshot().document(Buffer.from(id));
    return new Set((document?.tree ?? []).map(({ revision }) => formatRev(revision)));
  }

  async #local(id: string, value: number): Promise<void> {
    const body = value % 3 === 0 ? undefined : `{"l":${value}}`;
    const before = this.#locals.get(id);
    const known = before === undefined ? 0 : Number(/^0-(\d+)/.exec(before)?.[1]);
    await this.#open.putLocal({
      id: Buffer.from(id),
      body: body === undefined ? undefined : Buffer.from(body),
      revision: 'any',
    });
    if (body === undefined) this.#locals.delete(id);
    else this.#locals.set(id, `0-${known + 1} ${body}`);
  }

  #snapshot(): Promise<void> {
    const snapshot = this.#open.snapshot();
    const wanted = this.#wanted();
    const shard = this.#open;
    this.#snapshots.push({
      check: async () => {
        if (shard !== this.#shard) return;
        assertSame(await describeDocuments(snapshot), wanted, 'an old snapshot');
      },
    });
    return Promise.resolve();
  }

  async #reopen(cleanly: boolean): Promise<void> {
    for (const { check } of this.#snapshots.splice(0)) await check();
    if (cleanly) await this.#open.close();
    else await this.#open.file.close();
    this.#shard = await Shard.open(this.#world, PATH, OPTIONS);
    await this.#compare();
  }

  async #split(): Promise<void> {
    await this.#open.close();
    const out = `/out${this.#count}`;
    const into = { parts: 2 + (this.#count % 3) };
    const { targets } = await split(this.#world, PATH, { out, into, workers: 0 });
    const union: Described = Object.create(null);
    const locals: Record<string, string> = Object.create(null);
    for (const { path, range } of targets) {
      const shard = await ReadOnlyShard.open(this.#world, path);
      const part = await describeDocuments(shard.snapshot);
      for (const id of Object.keys(part)) {
        if (!isInRange(hashOf(Buffer.from(id), 'document'), range))
          throw new Error(`${id} is misplaced`);
      }
      Object.assign(union, part);
      Object.assign(locals, await describeLocals(shard.snapshot));
      const { problems } = await checkShard(shard);
      if (problems.length > 0) throw new Error(`check of a target says ${problems[0]?.text}`);
      await shard.close();
    }
    assertSame(union, this.#wanted(), 'the targets of a split');
    assertSame(locals, Object.fromEntries(this.#locals), 'the local docs of the targets');
    this.#shard = await Shard.open(this.#world, PATH, OPTIONS);
  }

  #wanted(): Described {
    return Object.fromEntries([...this.#docs.keys()].map((id) => [id, this.#leaves(id)]));
  }

  async #compare(): Promise<void> {
    const snapshot = this.#open.snapshot();
    assertSame(await describeDocuments(snapshot), this.#wanted(), 'the documents');
    assertSame(await describeLocals(snapshot), Object.fromEntries(this.#locals), 'the local docs');
    const changed: string[] = [];
    for await (const change of snapshot.changes()) changed.push(Buffer.from(change.id).toString());
    assertSame(changed.sort(), [...this.#docs.keys()].sort(), 'the changes');
  }
}

function assertSame(actual: unknown, wanted: unknown, what: string): void {
  const [a, b] = [stable(actual), stable(wanted)];
  if (a !== b) throw new Error(`${what} differ:\n  found  ${a}\n  wanted ${b}`);
}

function stable(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

t.test('a shard is the Map that its commands make', async (t) => {
  const seed = seedOf(t);
  const property = fc.asyncProperty(
    fc.array(COMMAND, { minLength: 5, maxLength: 60 }),
    async (commands) => {
      const run = new Run();
      await run.open();
      for (const command of commands) await run.perform(command);
      await run.finish();
    },
  );
  await fc.assert(property, { seed, numRuns: 800 });
  t.pass('800 lists of commands');
});
