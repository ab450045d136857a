/** What is asked of all nodes of a database and summed or agreed upon: `GET /{db}`, settings, upkeep. */
import { DivanError } from '../../engine/errors.js';
import type { Exchange } from '../http/exchange.js';
import {
  isObject,
  type JsonObject,
  type JsonValue,
  memberOf,
  parseJson,
} from '../http/json-value.js';
import { MergedToken } from './merged-token.js';
import type { Owners } from './owners.js';
import type { PassedReply } from './passed-request.js';
import { assertServed, sendOn, wholeReply } from './replies.js';
import type { Instead, Requests } from './requests.js';

const INFO_BYTES_MAX = 1024 * 1024;

export class WholeDatabase {
  readonly #owners: Owners;
  readonly #requests: Requests;

  constructor(owners: Owners, requests: Requests) {
    this.#owners = owners;
    this.#requests = requests;
  }

  /** What `GET /{db}` tells. Throws `Refusal`, `NOT_FOUND`, `UNREACHABLE`. */
  async info(exchange: Exchange, name: string): Promise<JsonValue> {
    const instead = { method: 'GET', url: `/${encodeURIComponent(name)}` };
    const replies = await this.#requests.ofAll(exchange, () => instead, { name });
    const infos: JsonObject[] = [];
    for (const { reply } of replies) {
      const info = parseJson(await wholeReply(reply, INFO_BYTES_MAX));
      if (isObject(info)) infos.push(info);
    }
    const [first] = infos;
    if (first === undefined) throw new DivanError('PEER', `no node told of ${name}`);
    return summed(first, infos);
  }

  /**
   * Resolves if the caller may read the database, as the node says whose word counts. Throws `Refusal` if not, `NOT_FOUND`, `UNREACHABLE`,
   * `UNAVAILABLE`.
   */
  async assertReader(exchange: Exchange): Promise<void> {
    const name = exchange.param('db');
    const url = `/${encodeURIComponent(name)}`;
    const reply = await this.#fromFirst(exchange, { method: 'GET', url });
    await wholeReply(reply, INFO_BYTES_MAX);
  }

  /** Passes a read on to the node whose word counts, the first one. */
  async ofFirst(exchange: Exchange): Promise<void> {
    const { url = '', method = '' } = exchange.request;
    await sendOn(exchange, await this.#fromFirst(exchange, { method, url }));
  }

  #fromFirst(exchange: Exchange, instead: Instead): Promise<PassedReply> {
    const name = exchange.param('db');
    return this.#owners.retrying(name, async () => {
      const [first] = this.#owners.parts(name);
      if (first === undefined) throw new DivanError('MOVED', `${name} is on no node`);
      return this.#requests.toNode(exchange, first.node, instead);
    });
  }

  /**
   * Has all nodes do the same, one after another, the first one, whose word counts, last: what fails before that is not in force. Replies as
   * that one does.
   */
  async ofEach(exchange: Exchange): Promise<void> {
    const name = exchange.param('db');
    const { url = '', method = '' } = exchange.request;
    const type = exchange.header('content-type') ?? '';
    const bytes = await exchange.body();
    const instead = { method, url, body: [bytes], type };
    const done = new Set<string>();
    const last = await this.#owners.retrying(name, async () => {
      let reply: PassedReply | undefined;
      for (const { node } of [...this.#owners.parts(name)].reverse()) {
        if (done.has(node.identity)) continue;
        await reply?.body.return();
        reply = await this.#requests.writeTo(exchange, node, instead);
        await assertServed(reply);
        done.add(node.identity);
      }
      if (reply === undefined)
        throw new DivanError('UNAVAILABLE', `${name} was moved; send it again`);
      return reply;
    });
    await sendOn(exchange, last);
  }
}

function summed(first: JsonObject, infos: readonly JsonObject[]): JsonObject {
  const sum = (of: (info: JsonObject) => JsonValue | undefined) =>
    infos.reduce((total, info) => total + Number(of(info) ?? 0), 0);
  const inner = (name: string, member: string) => (info: JsonObject) => {
    const value = memberOf(info, name);
    return isObject(value) ? memberOf(value, member) : undefined;
  };
  const size = (member: string) => sum(inner('sizes', member));
  const tokens = infos.map((info) => String(memberOf(info, 'update_seq') ?? '0-'));
  const cluster = memberOf(first, 'cluster');
  return {
    ...first,
    purge_seq: String(sum((info) => memberOf(info, 'purge_seq'))),
    update_seq: new MergedToken(tokens).text(),
    sizes: { file: size('file'), external: size('external'), active: size('active') },
    doc_del_count: sum((info) => memberOf(info, 'doc_del_count')),
    doc_count: sum((info) => memberOf(info, 'doc_count')),
    compact_running: infos.some((info) => memberOf(info, 'compact_running') === true),
    cluster: { ...(isObject(cluster) ? cluster : {}), q: sum(inner('cluster', 'q')) },
  };
}
