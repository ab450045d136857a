/** What a peer is: a store of documents by id that can be filled and split in two. */

/**
 * @typedef {{ id: string, body: string }} Document
 * @typedef {object} Store
 * @property {(directory: string, documents: Iterable<Document>, size: number) => Promise<void>} fill Makes a store; documents come in the order of their ids.
 * @property {(from: string, to: string[], size: number) => Promise<void>} split Makes two stores by the CRC-32 of the id, and closes them.
 * @property {(directory: string) => Promise<number>} count How many documents a store has.
 */

/** Ids whose CRC-32 is less go into the first store. */
export const MIDDLE = 2 ** 31;
