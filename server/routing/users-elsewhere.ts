/** Users whose documents are on other nodes: read by a call. Whoever writes one tells all others, which believe what they read for seconds only. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { formatRev, parseRev } from '../../engine/shard/revision.js';
import { USERS_DATABASE } from '../auth/user-documents.js';
import type { UserRevision, UserStore, UsersElsewhere } from '../auth/user-store.js';
import type { CallHandlers, PeerCalls } from '../cluster/peers.js';
import type { Membership } from '../cluster/shared-records.js';
import type { Catalog } from '../databases/catalog.js';
import { type JsonObject, memberOf, objectOf, requiredString } from '../http/json-value.js';
import type { Owners } from './owners.js';
import { unreachable } from './passing.js';

const READ = 'users/read';
const CHANGED = 'users/changed';

export interface UsersElsewhereParts {
  readonly owners: Owners;
  readonly calls: PeerCalls;
  readonly membership: Membership;
  readonly users: UserStore;
  readonly catalog: Catalog;
}

export class RemoteUsers implements UsersElsewhere {
  readonly #parts: UsersElsewhereParts;
  /** Names that were written, of which nodes are still to be told, by the identity of the node. */
  readonly #untold = new Map<string, Set<string>>();

  constructor(parts: UsersElsewhereParts, handlers: CallHandlers) {
    const { users } = parts;
    this.#parts = parts;
    handlers.on(READ, ({ head }) => this.#read(requiredString(head, 'id')));
    handlers.on(CHANGED, async ({ head }) => {
      users.heard(requiredString(head, 'name'));
      return {};
    });
    users.attachElsewhere(this);
    users.onWritten((name) => this.#tellAll(name));
  }

  winner(id: string): Promise<UserRevision | undefined> | undefined {
    const { owners } = this.#parts;
    if (!owners.isElsewhere(USERS_DATABASE)) return undefined;
    return owners.retrying(USERS_DATABASE, async (attempt) => {
      const node = owners.ofDocument(USERS_DATABASE, Buffer.from(id), attempt);
      const isHere = node.identity === owners.self.identity;
      const head = await (isHere ? this.#read(id) : this.#call(node, id));
      const rev = memberOf(head, 'rev');
      if (typeof rev !== 'string') return undefined;
      const document = objectOf(memberOf(head, 'document') ?? null, 'the document');
      return { revision: parseRev(rev), document };
    });
  }

  async #call(node: Parameters<PeerCalls['call']>[0], id: string): Promise<JsonObject> {
    try {
      return await this.#parts.calls.call(node, READ, { id });
    } catch (error) {
      if (isDivanError(error, 'MOVED')) throw error;
      throw unreachable(node, error);
    }
  }

  async #read(id: string): Promise<JsonObject> {
    const { users, catalog } = this.#parts;
    if (catalog.find(USERS_DATABASE) === undefined) {
      throw new DivanError('MOVED', 'no users are on this node');
    }
    const winner = await users.winner(id);
    if (winner === undefined) return {};
    return { rev: formatRev(winner.revision), document: winner.document };
  }

  #tellAll(name: string): void {
    for (const { identity } of this.#parts.membership.others()) {
      const untold = this.#untold.get(identity);
      if (untold !== undefined) {
        // One at a time is told; which waits once, however often it is written.
        if (untold.size < UNTOLD_MAX) untold.add(name);
        continue;
      }
      this.#untold.set(identity, new Set([name]));
      void this.#tell(identity);
    }
  }

  async #tell(identity: string): Promise<void> {
    const untold = this.#untold.get(identity) ?? new Set();
    const { calls, membership } = this.#parts;
    for (const name of untold) {
      untold.delete(name);
      const node = membership.find(identity);
      // Who is not reached believes what it knows for no longer than some seconds.
      if (node !== undefined) await calls.call(node, CHANGED, { name }).catch(() => undefined);
    }
    this.#untold.delete(identity);
  }
}

const UNTOLD_MAX = 10_000;
