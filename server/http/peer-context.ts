/**
 * What is known of a request that another node passes on. It is bound to the connection inside the process on which the request is served
 * (`../routing/inner-server.ts`), so nothing that a client sends can stand for it.
 */
import type { Caller } from '../auth/caller.js';

export interface PeerContext {
  /** Who called the other node, and proved it there. */
  readonly caller: Caller;
  /** How the reply is to be, which is put together with those of other nodes. */
  readonly shape: PartShape;
}

/** What the reply of one node to a part of a request is like, where that is not for the request itself to say. */
export interface PartShape {
  /** Of a reply that is multipart. */
  readonly boundary?: string;
  /** Of changes: `continuous` for any feed that waits. */
  readonly feed?: 'normal' | 'continuous';
  /** Of changes; 0 for none, only to say how many there are. */
  readonly limit?: number;
}

const contexts = new WeakMap<object, PeerContext>();

/** Says what the requests on a connection come with. */
export function bindPeer(connection: object, context: PeerContext): void {
  contexts.set(connection, context);
}

/** Undefined for a connection of a client. */
export function peerOf(connection: object): PeerContext | undefined {
  return contexts.get(connection);
}

/** The header of a reply to another node that has the code of the error that is replied. */
export const ERROR_CODE_HEADER = 'Divan-Error';
