/** How the golden shard files are made: one for each thing that the format can hold. Each is a list of steps on a new shard. */
import { MemoryStorage } from '../../engine/file/memory-storage.js';
import { split } from '../../engine/rewrite/split.js';
import { hashOf } from '../../engine/shard/hash.js';
import { parseRev } from '../../engine/shard/revision.js';
import { type CreateOptions, Shard } from '../../engine/shard/shard.js';
import { VirtualHost } from './virtual-host.js';

const PATH = '/golden.divan';

interface GoldenCase {
  readonly options?: CreateOptions;
  readonly steps: (shard: Shard) => Promise<void>;
  /** True for a file as a kill leaves it: changes not flushed, not sealed. */
  readonly killed?: boolean;
  /** Bytes behind the last commit, as a torn write leaves them. */
  readonly tail?: number;
  /** The file is the second half of a split. */
  readonly half?: boolean;
}

const edit = (id: string, body: string, more: object = {}) => ({
  id: Buffer.from(id),
  body: Buffer.from(body),
  deleted: false,
  ...more,
});

async function documents(shard: Shard): Promise<void> {
  for (let number = 0; number < 40; number++) {
    await shard.put(edit(`doc ${number}`, `{"number":${number}.0,"__proto__":[]}`));
  }
}

async function conflicts(shard: Shard): Promise<void> {
  const path = (...revs: string[]) => ({ path: revs.map(parseRev) });
  await shard.put(edit('a', '{"v":"3-a"}', path('3-a', '2-a', '1-a')));
  await shard.put(edit('a', '{"v":"3-b"}', path('3-b', '2-b', '1-a')));
  await shard.put(edit('a', '{"v":"2-z"}', path('2-z', '1-z')));
  await shard.put(edit('a', '{"gone":true}', { ...path('4-b', '3-b'), deleted: true }));
  const { rev } = await shard.put(edit('deleted', '{}'));
  await shard.put(edit('deleted', '{}', { parent: rev, deleted: true }));
}

async function attachments(shard: Shard): Promise<void> {
  const attach = async (bytes: Buffer) => ({
    contentType: 'text/plain',
    revpos: undefined,
    stored: await shard.store([bytes]),
  });
  const names = new Map([
    ['small', await attach(Buffer.from('hello'))],
    ['empty', await attach(Buffer.alloc(0))],
    ['in two pieces', await attach(Buffer.alloc(1024 * 1024 + 10, 'ab'))],
  ]);
  const { rev } = await shard.put(edit('a', '{}', { attachments: names }));
  const kept = { contentType: 'text/plain', revpos: undefined, stored: undefined };
  await shard.put(edit('a', '{"n":2}', { parent: rev, attachments: new Map([['small', kept]]) }));
}

async function locals(shard: Shard): Promise<void> {
  const put = (id: string, revision: number | undefined, body: string | undefined) =>
    shard.putLocal({
      id: Buffer.from(id),
      revision,
      body: body === undefined ? undefined : Buffer.from(body),
    });
  const revision = await put('checkpoint', undefined, '{"seq":1}');
  await put('checkpoint', revision, '{"seq":2}');
  await put('gone', await put('gone', undefined, '{}'), undefined);
}

async function purges(shard: Shard): Promise<void> {
  await conflicts(shard);
  const purge = (uuid: string, id: string, ...revs: string[]) =>
    shard.purge({ uuid: Buffer.from(uuid), id: Buffer.from(id), revs: revs.map(parseRev) });
  await purge('purge 1', 'a', '3-a');
  await purge('purge 2', 'never there', '1-abc');
}

async function settings(shard: Shard): Promise<void> {
  const security = Buffer.from('{"admins":{"names":["ann"],"roles":[]}}');
  await shard.setMetadata({ security, revsLimit: 3, purgeInfosLimit: 7 });
  let { rev } = await shard.put(edit('stemmed', '{}'));
  for (let n = 0; n < 5; n++) {
    rev = (await shard.put(edit('stemmed', `{"n":${n}}`, { parent: rev }))).rev;
  }
}

export const GOLDEN_CASES: ReadonlyMap<string, GoldenCase> = new Map<string, GoldenCase>([
  ['empty', { steps: async () => {} }],
  ['documents', { steps: documents }],
  ['unflushed', { steps: documents, killed: true }],
  ['torn-tail', { steps: documents, killed: true, tail: 777 }],
  ['conflicts', { steps: conflicts }],
  ['attachments', { steps: attachments }],
  ['local-docs', { steps: locals }],
  ['purges', { steps: purges }],
  ['settings', { steps: settings }],
  [
    'partitioned',
    {
      options: { hashRule: 'partition' },
      steps: async (shard) => {
        await shard.put(edit('sensor:1', '{}'));
        await shard.put(edit('sensor:2', '{}'));
      },
    },
  ],
  ['deep-trees', { options: { nodeBytes: 128 }, steps: documents }],
  [
    'wide-nodes',
    {
      steps: async (shard) => {
        const long = 'x'.repeat(4000);
        for (let n = 0; n < 17; n++) await shard.put(edit(`${n} ${long}`, '{}'));
      },
      options: { nodeBytes: 100_000 },
    },
  ],
  [
    'large-body',
    {
      steps: async (shard) =>
        void (await shard.put(edit('a', `{"z":"${'z'.repeat(1024 * 1024)}"}`))),
    },
  ],
  ['split-half', { steps: purges, half: true }],
]);

/** The bytes of a golden file, the same each time it is made by the same code. */
export async function makeGolden(golden: GoldenCase): Promise<Uint8Array> {
  const storage = new MemoryStorage();
  const world = { storage, host: new VirtualHost(1) };
  const shard = await Shard.create(world, PATH, golden.options);
  await golden.steps(shard);
  if (golden.killed === true) await shard.file.close();
  else await shard.close();
  let path = PATH;
  if (golden.half === true) {
    const into = { parts: 2 };
    const { targets } = await split(world, PATH, { out: '/', into, workers: 0 });
    const hash = hashOf(Buffer.from('deleted'), 'document');
    path = targets.find(({ range }) => hash >= range.start && hash <= range.end)?.path ?? '';
  }
  const file = await storage.open(path, 'read');
  const bytes = Buffer.alloc(await file.size());
  await file.read(bytes, 0);
  await file.close();
  return golden.tail === undefined ? bytes : bytes.subarray(0, bytes.length - golden.tail);
}
