/**
 * Who belongs to the cluster: the records `member/<identity>`. Before there are any, this node is the only one.
 *
 * A new node has no members but itself and would take records from nobody. Its setup says whom to believe (`trust`), which holds until there is a
 * record of that node, as there is once it has told what it knows: from then on the records decide. A node that has left takes nothing from
 * anybody, and nobody takes anything from it.
 */
import { DivanError } from '../../engine/errors.js';
import { type JsonObject, memberOf } from '../http/json-value.js';
import type { ClusterCredentials } from './credentials.js';
import type { CallAccess, Node } from './peers.js';
import { compareBytes } from './record-index.js';
import type { Membership, SharedRecords } from './shared-records.js';

const PREFIX = 'member/';

export class Members implements Membership {
  readonly #credentials: Pick<ClusterCredentials, 'self'>;
  readonly #records: SharedRecords;
  readonly #unreached = new Set<string>();
  #trusted: string | undefined;
  /** What was read of the records, until one changes: it is asked for with every request. */
  #known: { readonly nodes: readonly Node[]; readonly left: ReadonlySet<string> } | undefined;
  /** The members, until one changes, or what this node is. */
  #list: { readonly self: Node; readonly nodes: readonly Node[] } | undefined;

  /** REQUIRES: the records are those of the node. */
  constructor(credentials: Pick<ClusterCredentials, 'self'>, records: SharedRecords) {
    this.#credentials = credentials;
    this.#records = records;
    records.onChange((key) => {
      if (!key.startsWith(PREFIX)) return;
      this.#known = undefined;
      this.#list = undefined;
    });
  }

  get self(): Node {
    return this.#credentials.self;
  }

  list(): readonly Node[] {
    const { self } = this;
    if (this.#list?.self !== self) this.#list = { self, nodes: this.#nodesWith(self) };
    return this.#list.nodes;
  }

  others(): readonly Node[] {
    return this.list().filter(({ identity }) => identity !== this.self.identity);
  }

  find(identity: string): Node | undefined {
    return this.list().find((node) => node.identity === identity);
  }

  /** Of two that were added under one name on two sides of a cut, always the same one. */
  named(name: string): Node | undefined {
    return this.list().find((node) => node.name === name);
  }

  async add(node: Node): Promise<void> {
    this.#checkName(node);
    await this.#write(this.self);
    await this.#write(node);
  }

  async announce(): Promise<void> {
    const value = this.#records.get(PREFIX + this.self.identity);
    if (value !== undefined && isMember(value)) await this.#write(this.self);
  }

  async remove(identity: string): Promise<void> {
    await this.#records.change(PREFIX + identity, (value) => {
      if (value === undefined || !isMember(value)) {
        throw new DivanError('NOT_FOUND', 'there is no such member of the cluster');
      }
      return { ...value, state: 'left' };
    });
  }

  isReached(identity: string): boolean {
    return !this.#unreached.has(identity);
  }

  /** That a call was answered, or was not. */
  noteReached(identity: string, isReached: boolean): void {
    if (isReached) this.#unreached.delete(identity);
    else this.#unreached.add(identity);
  }

  /** Records are taken from that node, though it is no member yet. */
  trust(identity: string): void {
    this.#trusted = identity;
  }

  /** True if what a node says of records is believed. */
  isBelieved(identity: string): boolean {
    if (this.hasLeft(this.self.identity)) return false;
    if (this.find(identity) !== undefined) return identity !== this.self.identity;
    return identity === this.#trusted && !this.hasLeft(identity);
  }

  /**
   * True if a node may tell this one who the members are, though it is not known: it may have been added while this node was away. That it has
   * the cookie is all that is ever known of a node; one that left is believed in nothing.
   */
  mayIntroduceItself(identity: string): boolean {
    return this.others().length > 0 && this.find(identity) === undefined && !this.hasLeft(identity);
  }

  /**
   * Whether a call is taken of a node that has the cookie. A new one, and one that was added while this node was away, is no member yet as far as
   * this one knows; it makes itself known by calls that are for strangers too.
   */
  mayCall(identity: string, access: CallAccess): boolean {
    if (this.find(identity) !== undefined) return true;
    if (this.hasLeft(identity)) return false;
    return access === 'strangers too' || identity === this.#trusted;
  }

  hasLeft(identity: string): boolean {
    return this.#read().left.has(identity);
  }

  #checkName({ name, identity }: Node): void {
    if (this.hasLeft(identity)) {
      throw new DivanError('CONFLICT', `${name} has left the cluster, and needs a new identity`);
    }
    const other = this.list().find((node) => node.name === name && node.identity !== identity);
    if (other === undefined) return;
    throw new DivanError('CONFLICT', `another node of the cluster has the name ${name}`);
  }

  async #write(node: Node): Promise<void> {
    const { name, identity, url } = node;
    await this.#records.change(PREFIX + identity, (value) => {
      this.#checkName(node);
      const made = { name, url, state: 'member' };
      const isSame = memberOf(value ?? {}, 'name') === name && memberOf(value ?? {}, 'url') === url;
      return isSame ? undefined : made;
    });
  }

  #nodesWith(self: Node): Node[] {
    // Who has left is alone.
    const others = this.hasLeft(self.identity) ? [] : this.#read().nodes;
    return [self, ...others.filter(({ identity }) => identity !== self.identity)].sort(
      (a, b) => compareBytes(a.name, b.name) || (a.identity < b.identity ? -1 : 1),
    );
  }

  #read() {
    if (this.#known !== undefined) return this.#known;
    const nodes: Node[] = [];
    const left = new Set<string>();
    for (const key of this.#records.keys(PREFIX)) {
      const value = this.#records.get(key);
      const identity = key.slice(PREFIX.length);
      if (value === undefined) continue;
      if (!isMember(value)) left.add(identity);
      else nodes.push({ identity, name: textOf(value, 'name'), url: textOf(value, 'url') });
    }
    this.#known = { nodes, left };
    return this.#known;
  }
}

function isMember(value: JsonObject): boolean {
  return memberOf(value, 'state') === 'member';
}

function textOf(value: JsonObject, name: string): string {
  const text = memberOf(value, name);
  return typeof text === 'string' ? text : '';
}
