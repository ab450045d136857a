/** `_revs_diff` and `_missing_revs`: which revisions a replicator still has to send. Only revision trees are read. */
import { DivanError } from '../../engine/errors.js';
import type { StoredDocument } from '../../engine/shard/id-tree.js';
import { decodeTree, leavesOf, readPath } from '../../engine/shard/rev-tree.js';
import {
  compareRevisions,
  formatRev,
  parseRev,
  type Revision,
  revisionKey,
} from '../../engine/shard/revision.js';
import type { Exchange } from '../http/exchange.js';
import { type JsonMember, splitMembers } from '../http/json-members.js';
import { parseJson, stringsOf } from '../http/json-value.js';
import type { Route } from '../http/router.js';
import { REVISIONS_MAX } from './documents.js';
import type { Services } from './services.js';

/** The list of revisions of one document has at most so many bytes. */
const LIST_BYTES_MAX = 1024 * 1024;
/** Others have their turn after so many revisions. */
const SLICE_REVISIONS = 1000;

export function revisionRoutes(services: Services): Route[] {
  const revisions = new Revisions(services);
  const access = 'database_member';
  return [
    {
      method: 'POST',
      path: '/:db/_revs_diff',
      access,
      handle: (exchange) => revisions.diff(exchange),
    },
    {
      method: 'POST',
      path: '/:db/_missing_revs',
      access,
      handle: (exchange) => revisions.missing(exchange),
    },
  ];
}

/** What a database does not have of a document. */
interface Missing {
  readonly missing: readonly Revision[];
  /** Leaves that a missing revision may have come from. */
  readonly possibleAncestors: readonly Revision[];
}

class Revisions {
  readonly #services: Services;

  constructor(services: Services) {
    this.#services = services;
  }

  async diff(exchange: Exchange): Promise<void> {
    await this.#reply(exchange, '{', '}\n', ({ missing, possibleAncestors }) => {
      const ancestors =
        possibleAncestors.length === 0
          ? ''
          : `,"possible_ancestors":${listText(possibleAncestors)}`;
      return `{"missing":${listText(missing)}${ancestors}}`;
    });
  }

  async missing(exchange: Exchange): Promise<void> {
    await this.#reply(exchange, '{"missing_revs":{', '}}\n', ({ missing }) => listText(missing));
  }

  async #reply(
    exchange: Exchange,
    head: string,
    tail: string,
    textOf: (missing: Missing) => string,
  ): Promise<void> {
    const { catalog, world } = this.#services;
    const database = catalog.get(exchange.param('db'));
    exchange.assertJsonType();
    const bytes = await exchange.body(this.#services.config.get('chttpd/max_http_request_size'));
    const asked = await this.#read(bytes);
    const out = exchange.stream(200);
    await out.text(head);
    let separator = '';
    let read = 0;
    for (const [id, revisions] of asked) {
      const key = Buffer.from(id);
      const stored = await database.read(key, (snapshot) => snapshot.stored(key));
      const missing = missingOf(stored, revisions);
      read += revisions.length + 1;
      if (read >= SLICE_REVISIONS) {
        read = 0;
        await world.host.yieldTurn();
      }
      if (missing === undefined) continue;
      await out.text(`${separator}${JSON.stringify(id)}:${textOf(missing)}`);
      separator = ',';
    }
    await out.text(tail);
    await out.end();
  }

  /** The revisions that a request asks about. Throws `BAD_REQUEST`, `INVALID_JSON`, `INVALID_DOCUMENT`, `TOO_LARGE`. */
  async #read(bytes: Uint8Array): Promise<ReadonlyMap<string, readonly Revision[]>> {
    const { config, world } = this.#services;
    const yieldTurn = () => world.host.yieldTurn();
    const countMax = config.get('couchdb/max_bulk_docs_count');
    const whole = { start: 0, end: bytes.length };
    const asked = new Map<string, readonly Revision[]>();
    let read = 0;
    for (const member of await splitMembers(bytes, whole, { countMax, yieldTurn })) {
      const revisions = listOf(bytes, member);
      asked.set(member.name, revisions);
      read += revisions.length + 1;
      if (read < SLICE_REVISIONS) continue;
      read = 0;
      await yieldTurn();
    }
    return asked;
  }
}

function listOf(bytes: Uint8Array, { name, start, end }: JsonMember): readonly Revision[] {
  const what = `the revisions of ${JSON.stringify(name.slice(0, 80))}`;
  if (end - start > LIST_BYTES_MAX) {
    throw new DivanError('TOO_LARGE', `${what} have more than ${LIST_BYTES_MAX} bytes`);
  }
  return stringsOf(parseJson(bytes.subarray(start, end)), what, REVISIONS_MAX).map(parseRev);
}

/** Undefined if nothing is missing. */
function missingOf(
  stored: StoredDocument | undefined,
  revisions: readonly Revision[],
): Missing | undefined {
  if (revisions.length === 0) return undefined;
  if (stored === undefined) return { missing: distinct(revisions), possibleAncestors: [] };
  const leaf = readPath(stored.tree)?.leaf;
  // The common question is for the leaf of a document that is there: no tree is decoded for it.
  if (leaf !== undefined && revisions.every((other) => compareRevisions(other, leaf) === 0)) {
    return undefined;
  }
  const tree = decodeTree(stored.tree);
  const known = new Set(tree.map(({ revision }) => revisionKey(revision)));
  const missing = distinct(revisions.filter((revision) => !known.has(revisionKey(revision))));
  if (missing.length === 0) return undefined;
  const newest = missing.reduce((gen, revision) => Math.max(gen, revision.gen), 0);
  const possibleAncestors = leavesOf(tree)
    .map(({ revision }) => revision)
    .filter(({ gen }) => gen < newest);
  return { missing, possibleAncestors };
}

function distinct(revisions: readonly Revision[]): readonly Revision[] {
  if (revisions.length < 2) return revisions;
  return [...new Map(revisions.map((revision) => [revisionKey(revision), revision])).values()];
}

function listText(revisions: readonly Revision[]): string {
  return JSON.stringify(revisions.map(formatRev));
}
