/** What nodes in one process have in common, however the test has them call each other: everything goes as JSON and bytes. */
import { DivanError } from '../../engine/errors.js';
import {
  type Call,
  type CallHandler,
  type CallOptions,
  type Node,
  type PeerCalls,
  StreamedAnswer,
} from '../../server/cluster/peers.js';
import type { Membership } from '../../server/cluster/shared-records.js';
import { isObject, type JsonObject, parseJson } from '../../server/http/json-value.js';

/** `node1@test` and so on, with identities in that order. */
export function testNodes(count: number): Node[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `node${index + 1}@test`,
    identity: String(index + 1).padStart(32, '0'),
    url: `http://node${index + 1}.test`,
  }));
}

/** Members that stay, but for those that the test has leave. */
export function fixedMembers(
  self: Node,
  nodes: readonly Node[],
  hasLeft: (identity: string) => boolean = () => false,
): Membership {
  const members = () => nodes.filter(({ identity }) => !hasLeft(identity));
  return {
    self,
    list: members,
    others: () => members().filter(({ identity }) => identity !== self.identity),
    find: (identity) => members().find((node) => node.identity === identity),
    named: (name) => members().find((node) => node.name === name),
    add: () => Promise.reject(new Error('the members stay')),
    announce: async () => undefined,
    remove: () => Promise.reject(new Error('the members stay')),
    isReached: () => true,
    hasLeft,
  };
}

/** Brings a call to a node, and its answer back. */
export type Carrier = (
  peer: Node,
  name: string,
  call: Pick<Call, 'head' | 'body' | 'signal'>,
) => ReturnType<CallHandler>;

/** Calls that are carried; `relay` is where the bytes of an answer go through. */
export function carriedCalls(
  carry: Carrier,
  relay: (peer: Node, body: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array> = (_, body) =>
    body,
): PeerCalls {
  const callOf = (head: JsonObject, body: Call['body'], options: CallOptions | undefined) => {
    const signal = options?.signal ?? new AbortController().signal;
    return { head: jsonCopy(head), body, signal };
  };
  return {
    async call(peer, name, head, options) {
      const answer = await carry(peer, name, callOf(head, noBytes(), options));
      return jsonCopy(answer instanceof StreamedAnswer ? answer.head : answer);
    },
    async open(peer, name, head, body, options) {
      const answer = await carry(peer, name, callOf(head, body, options));
      if (!(answer instanceof StreamedAnswer)) return { head: jsonCopy(answer), body: noBytes() };
      return { head: jsonCopy(answer.head), body: bytesOf(relay(peer, answer.body)) };
    },
  };
}

/** Throws `PEER` if nothing answers to the name. */
export function handlerOf(
  handlers: { find(name: string): CallHandler | undefined },
  name: string,
): CallHandler {
  const handler = handlers.find(name);
  if (handler === undefined) throw new DivanError('PEER', `nothing answers to ${name}`);
  return handler;
}

export async function* noBytes(): AsyncGenerator<Uint8Array, void> {}

async function* bytesOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  yield* body;
}

/** As it is after its way over a connection. */
export function jsonCopy(value: unknown): JsonObject {
  const copy = parseJson(Buffer.from(JSON.stringify(value)));
  if (isObject(copy)) return copy;
  throw new TypeError('no object');
}
