/**
 * How records get to every member: whoever changes one tells all others at once (`PeerLink`), and every two nodes compare what they have every
 * few seconds, which brings what was missed: by a cut, a crash, a lost call.
 *
 * A push is not passed on: its maker tells everybody, and comparing does the rest where it can not. Only a union, which nobody else may have
 * yet, is news of the node that made it.
 */
import { DivanError } from '../../engine/errors.js';
import { type JsonObject, memberOf } from '../http/json-value.js';
import type { ServerHost } from '../world.js';
import { kindOf } from './cluster-record.js';
import type { ClusterRecords, Spreader } from './cluster-records.js';
import type { Members } from './members.js';
import { PeerLink } from './peer-link.js';
import type { Call, CallHandlers, Node, PeerCalls } from './peers.js';
import {
  bucketPageHead,
  fillPage,
  PAGE_RECORDS_MAX,
  pushAnswerHead,
  readBucketRequest,
  readPush,
} from './record-pages.js';
import type { Reached } from './shared-records.js';

export interface SpreadParts {
  readonly host: ServerHost;
  readonly records: ClusterRecords;
  readonly members: Members;
  readonly calls: PeerCalls;
  readonly handlers: CallHandlers;
  /** Told of a peer with which comparing or pushing failed; must not throw. */
  readonly onError?: (peer: Node, error: unknown) => void;
}

const DELIVER_MS = 10_000;

export class Spread implements Spreader {
  readonly #parts: SpreadParts;
  readonly #links = new Map<string, PeerLink>();
  readonly #stopListening: () => void;
  #isClosed = false;

  /** Begins at once, and answers the calls of others from now on. REQUIRES: the records are spread by nothing else. */
  constructor(parts: SpreadParts) {
    this.#parts = parts;
    const { handlers, records } = parts;
    // Who is believed in what is decided here, and strangers are told so: then they introduce themselves.
    const on = (name: string, answer: (head: JsonObject) => Promise<JsonObject>) =>
      handlers.on(name, (call) => this.#answer(call, answer), 'strangers too');
    on('records/push', (head) => this.#takePush(head));
    on('records/digest', (head) => this.#tellDigest(head));
    on('records/bucket', (head) => this.#tellBucket(head));
    records.spreadBy(this);
    this.#stopListening = records.onChange((key) => {
      if (key.startsWith('member/')) this.#follow();
    });
    this.#follow();
  }

  spread(keys: readonly string[]): void {
    for (const link of this.#links.values()) link.push(keys);
  }

  /**
   * Resolves when every member has the present values of these, or could not be told, or did not answer in time. This node is among the
   * reached.
   */
  toMembers(keys: readonly string[], timeoutMs = DELIVER_MS): Promise<Reached> {
    return this.#gather((link) => link.deliver(keys), timeoutMs);
  }

  /** As `SharedRecords.caughtUp`. */
  caughtUp(timeoutMs = DELIVER_MS): Promise<Reached> {
    return this.#gather((link) => link.compared(), timeoutMs);
  }

  /** What is under way is not waited for. */
  close(): void {
    this.#isClosed = true;
    this.#stopListening();
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
  }

  async #gather(ask: (link: PeerLink) => Promise<boolean>, timeoutMs: number): Promise<Reached> {
    const { host, members } = this.#parts;
    let stopTimer = () => {};
    const late = new Promise<boolean>((resolve) => {
      stopTimer = host.setTimer(() => resolve(false), timeoutMs);
    });
    const asked = members.others().map(async (node) => {
      const link = this.#links.get(node.identity);
      const has = link !== undefined && (await Promise.race([ask(link), late]));
      return { node, has };
    });
    const answers = [{ node: members.self, has: true }, ...(await Promise.all(asked))];
    stopTimer();
    const reached = answers.filter(({ has }) => has).map(({ node }) => node);
    const missed = answers.filter(({ has }) => !has).map(({ node }) => node);
    return { reached, missed, isMajority: reached.length > missed.length };
  }

  /** Has a link to each other member, and no other. */
  #follow(): void {
    if (this.#isClosed) return;
    const { members, onError = () => {}, ...parts } = this.#parts;
    const others = members.others();
    for (const [identity, link] of this.#links) {
      if (others.some((node) => node.identity === identity)) continue;
      this.#links.delete(identity);
      if (members.hasLeft(members.self.identity)) link.close();
      else this.#sayFarewell(identity, link);
    }
    for (const node of others) {
      const link = this.#links.get(node.identity);
      if (link !== undefined) link.peer = node;
      else this.#begin(node, new PeerLink(node, { ...parts, members, onError }));
    }
  }

  #begin(node: Node, link: PeerLink): void {
    this.#links.set(node.identity, link);
    link.compareNow();
  }

  /** Who has left is told so, once; if that does not reach it, it finds that nobody takes its calls. */
  #sayFarewell(identity: string, link: PeerLink): void {
    void link.deliver([`member/${identity}`]).then(() => link.close());
  }

  async #answer(
    call: Call,
    answer: (head: JsonObject) => Promise<JsonObject>,
  ): Promise<JsonObject> {
    const { members } = this.#parts;
    if (this.#isClosed) throw new DivanError('CLOSED', 'this node stops');
    if (!members.isBelieved(call.from) && !this.#isIntroduction(call)) {
      const what = members.hasLeft(call.from) ? 'has left the cluster' : 'is no member of it';
      throw new DivanError('FORBIDDEN', `a node that ${what} asked for its records`);
    }
    const reply = await answer(call.head);
    this.#links.get(call.from)?.heard();
    return reply;
  }

  #isIntroduction({ from, head }: Call): boolean {
    if (!this.#parts.members.mayIntroduceItself(from)) return false;
    const records = memberOf(head, 'records');
    if (records === undefined) return false;
    const push = readPush(head);
    return push.want.length === 0 && push.records.every(({ key }) => kindOf(key) === 'member');
  }

  async #takePush(head: JsonObject): Promise<JsonObject> {
    const { records } = this.#parts;
    const { records: sent, want } = readPush(head);
    const newer = await records.take(sent);
    // Who compares wants what it sent and this node has newer anyway.
    const told = want.length > 0 ? want : newer.map(({ key }) => key);
    const page = fillPage(told, (key) => records.record(key));
    return pushAnswerHead({ records: page.records, answered: page.keys.length });
  }

  async #tellDigest(head: JsonObject): Promise<JsonObject> {
    const { digests } = this.#parts.records.index;
    return head['digest'] === digests.total ? {} : { buckets: digests.buckets };
  }

  async #tellBucket(head: JsonObject): Promise<JsonObject> {
    const { index } = this.#parts.records;
    const { bucket, after } = readBucketRequest(head);
    const keys = index.keysOfBucket(bucket, after);
    const entries = keys
      .slice(0, PAGE_RECORDS_MAX)
      .map((key) => [key, index.hash(key) ?? ''] as const);
    return bucketPageHead({ entries, more: keys.length > PAGE_RECORDS_MAX });
  }
}
