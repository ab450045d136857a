/** Jobs that split and merge the shards of the database `db`, as a client has them made. */
import type { Test } from 'tap';
import { memberOf, type TestServer } from './server.js';

const NODE = 'node1@127.0.0.1';

/** The shards of the database as jobs name them, in the order of their ranges. */
export function shardsOf(server: TestServer): string[] {
  const { shards } = server.server.services.catalog.get('db').map;
  return shards.map(({ file }) => file.replace(/\.divan$/, ''));
}

export async function runJob(t: Test, server: TestServer, job: object): Promise<void> {
  const made = await server.post('/_shard_splits/jobs', { node: NODE, ...job });
  t.equal(made.status, 201, made.text);
  const id = String(memberOf(made.body, 'id'));
  for (;;) {
    const { body, text } = await server.get(`/_shard_splits/jobs/${id}`);
    const state = memberOf(body, 'job_state');
    if (state === 'completed') return;
    if (state === 'failed') throw new Error(text);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Five splits and two merges, two of them at once. */
export async function splitAndMerge(t: Test, server: TestServer): Promise<void> {
  const [whole = ''] = shardsOf(server);
  await runJob(t, server, { shard: whole });
  t.equal(shardsOf(server).length, 2);
  // Two jobs at once, on two shards.
  await Promise.all(shardsOf(server).map((shard) => runJob(t, server, { shard })));
  t.equal(shardsOf(server).length, 4);
  await runJob(t, server, { type: 'merge', shards: shardsOf(server) });
  t.equal(shardsOf(server).length, 1);
  await runJob(t, server, { shard: shardsOf(server)[0], parts: 3 });
  await runJob(t, server, { type: 'merge', shards: shardsOf(server).slice(0, 2) });
  t.equal(shardsOf(server).length, 2);
}
