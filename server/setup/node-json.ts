/** What nodes tell each other of themselves in the setup. What comes from elsewhere is checked before anything is done with it. */

import type { Node } from '../cluster/peers.js';
import { isObject, type JsonObject, type JsonValue, memberOf } from '../http/json-value.js';
import { refused } from './turns.js';

export interface NodeSelf extends Node {
  /** The protocol of its calls. */
  readonly protocol: number;
}

const NAME = /^[A-Za-z0-9_-]{1,64}@[A-Za-z0-9.:-]{1,255}$/;
const IDENTITY = /^[0-9a-f]{32}$/;
const URL_PATTERN = /^https?:\/\/[A-Za-z0-9.:[\]-]{1,260}$/;

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
    typeof name === 'string' &&
    NAME.test(name) &&
    typeof identity === 'string' &&
    IDENTITY.test(identity) &&
    typeof url === 'string' &&
    URL_PATTERN.test(url) &&
    URL.canParse(url) &&
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
