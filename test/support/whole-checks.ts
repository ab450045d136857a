/** What must be so when a cluster of whole servers had time to heal. */
import { join } from 'node:path';
import { hashOf, isInRange } from '../../engine/shard/hash.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import { readRow } from '../../server/databases/database-row.js';
import { formatCover, type ShardMap } from '../../server/databases/shard-map.js';
import { isObject, memberOf, parseJson } from '../../server/http/json-value.js';
import type { FoundLeaf } from './document-model.js';
import type { WholeCluster } from './whole-cluster.js';
import { DATA_DIR, type RunningServer } from './whole-node.js';

const FULL = '00000000-ffffffff';

/** What still goes on, in words; nothing once all is done. */
export function unfinished(running: readonly RunningServer[]): string[] {
  const found: string[] = [];
  const [first] = running;
  for (const { node, services, records } of running) {
    const { jobs, catalog, directory } = services;
    const note = (text: string) => found.push(`${node.name}: ${text}`);
    for (const { job, state } of jobs.list())
      if (state !== 'completed' && state !== 'failed')
        note(`${job.type} ${job.id} of ${job.database} is ${state} in ${job.phase}: ${job.error}`);
    for (const key of services.records.keys('shard-arrival/')) note(key);
    for (const { name, incarnation } of catalog.aside.all()) note(`aside ${name} ${incarnation}`);
    for (const name of directory.names()) {
      const shards = directory.find(name)?.parts.flatMap((part) => part.shards) ?? [];
      const cover = formatCover([...shards].sort((a, b) => a.range.start - b.range.start));
      if (cover !== FULL) note(`${name} covers ${cover}`);
    }
    if (records.index.digests.total !== first?.records.index.digests.total)
      note('has other records');
  }
  return found;
}

/** REQUIRES: nothing is unfinished. */
export async function checkEnd(cluster: WholeCluster): Promise<void> {
  const { running, model } = cluster;
  const [first] = running;
  if (first === undefined) return model.violate('nobody runs');
  for (const other of running) checkSame(cluster, first, other);
  const databases = model.checkDatabases(first.records);
  for (const node of running) {
    checkNames(cluster, node, [...databases.keys()]);
    checkRows(cluster, node);
    checkFiles(cluster, node);
  }
  for (const [name, { force, live }] of databases) {
    const leaves: FoundLeaf[] = [];
    for (const node of running) leaves.push(...(await leavesOf(cluster, node, name, force)));
    const gone = model.making(force)?.deletedBefore ?? new Set<string>();
    model.documents.check({ name, live, gone, leaves });
  }
}

function checkSame({ model }: WholeCluster, a: RunningServer, b: RunningServer): void {
  const names = `${a.node.name} and ${b.node.name}`;
  const keys = (node: RunningServer) =>
    ['member/', 'splits/', 'database/', 'row/'].flatMap((prefix) => node.records.keys(prefix));
  for (const key of new Set([...keys(a), ...keys(b)])) {
    const [left, right] = [a.records.record(key), b.records.record(key)];
    if (left?.counter === right?.counter && left?.text === right?.text) continue;
    model.violate(`${names} differ in ${key}: ${left?.text} and ${right?.text}`);
  }
  const [list, other] = [a, b].map(placesOf);
  if (list !== other) model.violate(`${names} differ in where databases are: ${list} ${other}`);
}

/** Where a node says that databases are. */
function placesOf({ services: { directory } }: RunningServer): string {
  const placements = directory.names().map((name) => {
    const { incarnation, parts = [] } = directory.find(name) ?? {};
    return [
      ...[name, incarnation],
      parts.map(({ node, epoch, shards }) => [node.identity, epoch, shards]),
    ];
  });
  return JSON.stringify(placements);
}

function checkNames({ model }: WholeCluster, node: RunningServer, names: readonly string[]): void {
  const found = node.services.directory.names().join();
  const expected = [...names].sort().join();
  if (found !== expected)
    model.violate(`${node.node.name} has the databases ${found}, not ${expected}`);
}

/** Each row of a database in force is what the map of its node says. */
function checkRows({ model }: WholeCluster, { node, services, records }: RunningServer): void {
  const { directory } = services;
  const isInForce = (name: string, incarnation: string) =>
    directory.find(name)?.incarnation === incarnation;
  const maps = new Map<string, ShardMap>();
  for (const name of services.catalog.names()) {
    const map = services.catalog.find(name)?.map;
    if (map !== undefined) maps.set(map.incarnation, map);
  }
  for (const key of records.keys(`row/${node.identity}/`)) {
    const { database, incarnation, shards, epoch } = readRow(records.get(key) ?? {});
    if (!isInForce(database, incarnation)) continue;
    const map = maps.get(incarnation);
    const [told, kept = ''] = [shards, map?.shards].map((places) =>
      places?.map(({ file }) => file).join(),
    );
    if (told !== kept || epoch !== map?.epoch)
      model.violate(`${node.name} tells of ${told} ${epoch}, and has ${kept} ${map?.epoch}`);
    maps.delete(incarnation);
  }
  for (const { name } of maps.values()) model.violate(`${node.name} has no row for ${name}`);
}

function checkFiles({ model }: WholeCluster, { node, whole, services }: RunningServer): void {
  const { catalog, jobs } = services;
  const files = catalog.names().flatMap((name) => catalog.find(name)?.map.shards ?? []);
  const known = new Set(files.map(({ file }) => join(DATA_DIR, file)));
  known.add(join(DATA_DIR, 'node.divan'));
  const there = new Set(whole.machine.files);
  for (const path of there) {
    if (known.has(path)) continue;
    const names = jobs
      .list()
      .map(({ job }) => `${job.type} ${job.state} ${job.phase} ${job.sources}`);
    model.violate(`${path} is left on ${node.name}; its jobs: ${names.join('; ')}`);
  }
  for (const path of known)
    if (!there.has(path)) model.violate(`${path} is not on the disk of ${node.name}`);
}

async function leavesOf(
  { scheduler, model }: WholeCluster,
  { node, services }: RunningServer,
  name: string,
  incarnation: string,
): Promise<FoundLeaf[]> {
  const database = services.catalog.find(name);
  if (database === undefined) return [];
  if (database.map.incarnation !== incarnation) {
    model.violate(`${node.name} has another ${name}`);
    return [];
  }
  const leaves: FoundLeaf[] = [];
  const read = database.readAll(async (snapshots, { map, shards }) => {
    for (const [index, snapshot] of snapshots.entries()) {
      const range = shards[index]?.range;
      for await (const leaf of leavesIn(snapshot)) {
        const hash = hashOf(Buffer.from(leaf.id), map.hashRule);
        if (range === undefined || !isInRange(hash, range))
          model.violate(`${leaf.id} is in another range of ${name} on ${node.name}`);
        leaves.push(leaf);
      }
    }
  });
  await scheduler.until(read);
  return leaves;
}

async function* leavesIn(snapshot: Snapshot): AsyncGenerator<FoundLeaf, void> {
  for await (const { id, leaves } of snapshot.documents({})) {
    for (const leaf of leaves) {
      const number = numberIn(await snapshot.body(leaf));
      yield { id: Buffer.from(id).toString(), number, isDeletion: leaf.deleted };
    }
  }
}

/** The number that a write had, -1 for what no write of a life can have been. */
export function numberIn(body: Uint8Array): number {
  const json = parseJson(body);
  const number = isObject(json) ? memberOf(json, 'number') : undefined;
  return typeof number === 'number' ? number : -1;
}
