/** Requests whose bodies name documents, on their way to several nodes: what each of them is asked, and their answers in the order of the request. */
import type { JsonMember, JsonRange } from '../http/json-members.js';
import type { OwnedPart, Owners } from './owners.js';

/** Something of a request that concerns one document. */
export interface Item {
  /** Of the document, in UTF-8; undefined for what names none, of which any node can tell. */
  readonly id: Uint8Array | undefined;
  /** Its JSON text, in pieces. */
  readonly text: readonly Uint8Array[];
}

const COMMA = Buffer.from(',');

/** For each item, which of the parts it concerns. */
export function placesOf(
  owners: Owners,
  name: string,
  parts: readonly OwnedPart[],
  items: readonly Item[],
): number[] {
  return items.map(({ id }) => (id === undefined ? 0 : owners.indexOf(name, parts, id)));
}

/** The texts of items, with commas between, and what stands around them. */
export function joined(head: string, items: readonly Item[], tail: string): Uint8Array[] {
  const pieces: Uint8Array[] = [Buffer.from(head)];
  for (const [index, { text }] of items.entries()) {
    if (index > 0) pieces.push(COMMA);
    pieces.push(...text);
  }
  pieces.push(Buffer.from(tail));
  return pieces;
}

/** A member of an object as an item. */
export function memberItem(bytes: Uint8Array, { name, start, end }: JsonMember): Item {
  const key = Buffer.from(`${JSON.stringify(name)}:`);
  return { id: Buffer.from(name), text: [key, textOf(bytes, { start, end })] };
}

export function textOf(bytes: Uint8Array, { start, end }: JsonRange): Uint8Array {
  return bytes.subarray(start, end);
}
