/** What nodes tell each other of themselves in the setup. What comes from elsewhere is checked before anything is done with it. */

import { isIdentity } from '../cluster/incarnations.js';
import { isNodeName, isNodeUrl } from '../cluster/node-shape.js';
import type { Node } from '../cluster/peers.js';
import { isObject, type JsonObject, type JsonValue, memberOf } from '../http/json-value.js';
import { refused } from './refused.js';

export interface NodeSelf extends Node {
  /** The protocol of its calls. */
  readonly protocol: number;
}

export function nodeJson({ name, identity, url }: Node, protocol: number): JsonObject {
  return { name, identity, url, protocol };
}

/** `what` names it in the reason. Throws `BAD_REQUEST`. */
export function nodeOf(value: JsonValue | undefined, what: string): NodeSelf {
  if (!isObject(value)) throw refused(`${what} must be an object that says which node it is`);
  const name = memberOf(value, 'name');
  const identity = memberOf(value, 'identity');
  const url = memberOf(value, 'url');
  const protocol = memberOf(value, 'protocol');
  if (
    isNodeName(name) &&
    isIdentity(identity) &&
    isNodeUrl(url) &&
    typeof protocol === 'number' &&
    Number.isSafeInteger(protocol)
  ) {
    return { name, identity, url, protocol };
  }
  throw refused(`${what} does not say as it must which node it is: name, identity, url, protocol`);
}

/** Throws `BAD_REQUEST` unless the nodes understand each other. */
export function assertProtocol({ name, protocol }: NodeSelf, own: number): void {
  if (Math.abs(protocol - own) <= 1) return;
  throw refused(
    `${name} speaks version ${protocol} of the protocol between nodes, this one ${own}: ` +
      'they may be one version apart at most, so one of them must be brought up to date',
  );
}
