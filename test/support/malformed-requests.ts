/**
 * A generator of requests that break the rules of HTTP, of JSON or of a route, made from the table of routes so that each route is met
 * equally often. Everything follows from a seed and the number of the request.
 */
import type { Route } from '../../server/http/router.js';
import { FRAMING, PARTINGS } from './broken-framing.js';
import { MUTATIONS } from './broken-requests.js';
import { pick, type Template } from './malformed-json.js';
import { bytesOf, type Expectation, type Mutation, type Parts } from './request-parts.js';
import { seededRandom } from './seed.js';
import { basic } from './server.js';

export interface MalformedRequest {
  readonly number: number;
  /** What is wrong with it. */
  readonly what: string;
  readonly route: Route;
  readonly bytes: Buffer;
  readonly isHead: boolean;
  readonly expect: Expectation;
}

const ALL: readonly Mutation[] = [...MUTATIONS, ...MUTATIONS, ...FRAMING, ...PARTINGS];

/** No request that could do something meets this database, unless it must be refused. */
export const KEPT = 'kept';
export const SCRATCH = ['scratch0', 'scratch1', 'scratch2'];

const REV = '1-967a00dff5e02add41819138abb3284d';
const BODIES: readonly (readonly [suffix: RegExp, body: Template])[] = [
  [
    /\/_bulk_docs$/,
    {
      docs: [
        { _id: 'd0', a: 1 },
        { _id: 'd1', _rev: REV },
      ],
      new_edits: true,
    },
  ],
  [/\/_bulk_get$/, { docs: [{ id: 'd0', rev: REV, atts_since: [REV] }, { id: 'd1' }] }],
  [
    /\/(_all_docs|_design_docs|_local_docs)$/,
    { keys: ['d0'], limit: 1, skip: 0, include_docs: true },
  ],
  [
    /\/queries$/,
    { queries: [{ keys: ['d0'] }, { startkey: 'a', endkey: 'b', descending: false }] },
  ],
  [/\/(_revs_diff|_missing_revs|_purge)$/, { d0: [REV], d1: [REV, '2-x'] }],
  [/\/_security$/, { admins: { names: ['a'], roles: [] }, members: { names: [], roles: ['b'] } }],
  [/\/_changes$/, { doc_ids: ['d0'], since: 0, limit: 1 }],
  [/_limit$/, 10],
  [/\/_dbs_info$/, { keys: ['kept'] }],
  [/\/_session$/, { name: 'nobody', password: 'wrong' }],
  [/\/_config\//, 'text'],
  [
    /./,
    {
      _id: 'd0',
      _rev: REV,
      _deleted: false,
      _attachments: { a: { content_type: 'text/plain', data: 'eA==', revpos: 1, stub: false } },
      _revisions: { start: 1, ids: ['967a00dff5e02add41819138abb3284d'] },
      a: { b: [1, 2, { c: 'd' }] },
    },
  ],
];
/** Where JSON is read whatever else is wrong, so that what is none is refused. */
const READS_JSON =
  /^(PUT \/:db\/(:doc|_design\/:ddoc|_local\/:local)|POST \/:db(\/_(bulk|all|design|local)_docs(\/queries)?)?)$/;

export class MalformedRequests {
  readonly #routes: readonly Route[];
  readonly #seed: number;
  readonly #admin: string;

  constructor(routes: readonly Route[], seed: number, admin: string) {
    this.#routes = routes;
    this.#seed = seed;
    this.#admin = admin;
  }

  request(number: number): MalformedRequest {
    const random = seededRandom(this.#seed + number * 7919);
    const route = this.#routes[number % this.#routes.length];
    if (route === undefined) throw new RangeError('there are no routes');
    const mutation = pick(random, ALL);
    const { what } = mutation;
    // A body that nobody reads may be whatever it likes.
    const readsJson = READS_JSON.test(`${route.method} ${route.path}`);
    const expect = what.startsWith('JSON: ') && !readsJson ? 'answered' : mutation.expect;
    const parts = this.#parts(route, expect, random);
    const spoilt = mutation.apply(parts, random);
    const bytes = 'method' in spoilt ? bytesOf(spoilt) : spoilt;
    const isHead = bytes.subarray(0, 5).toString('latin1') === 'HEAD ';
    return { number, what, route, bytes, isHead, expect };
  }

  /** A request that its route might serve. What is sure to be refused is about that which must not change. */
  #parts(route: Route, expect: Expectation, random: () => number): Parts {
    const isKept = expect === 'refused' || expect === 'ended';
    const isRead = route.method === 'GET';
    const db = isKept ? KEPT : pick(random, isRead ? [KEPT, ...SCRATCH] : SCRATCH);
    const target = route.path
      .replace(':db', db)
      .replace(/:(ddoc|local)/, 'd3')
      .replace(/:\w+/g, () => pick(random, ['d0', 'd1', 'd2', 'new']))
      .replace('*', () => pick(random, ['a', 'a/b.txt']));
    const method = isRead && random() < 0.2 ? 'HEAD' : route.method;
    const template = BODIES.find(([suffix]) => suffix.test(target))?.[1] ?? {};
    const hasBody = method === 'PUT' || method === 'POST';
    // What changes the server itself has no credentials, and what takes long has them rarely.
    const changesServer = !isRead && !route.path.startsWith('/:db');
    const isCostly = route.path.includes('_compact');
    const isAdmin = !changesServer && random() < (isCostly ? 0.1 : 0.9);
    const headers: Parts['headers'] = [
      ['Host', 'localhost'],
      ...(isAdmin ? [['Authorization', basic(this.#admin)] as const] : []),
      ...(hasBody ? [['Content-Type', 'application/json'] as const] : []),
      ...(method === 'COPY' ? [['Destination', 'copied'] as const] : []),
    ];
    const text = JSON.stringify(template);
    return { method, target, headers, body: Buffer.from(hasBody ? text : '') };
  }
}
