/**
 * Change lists: what one commit did, in the order in which it did it (FORMAT.md section 10).
 *
 * The same operations are applied to the overlays when a commit is made and when it is replayed, so that what a crash leaves
 * behind and what a running shard shows can not differ.
 */
import { DivanError } from '../errors.js';
import { ByteReader } from '../file/byte-reader.js';
import { ByteWriter } from '../file/byte-writer.js';
import { REF_BYTES } from '../file/ref.js';
import type { Counters, Metadata } from './state.js';
import { decodeMetadata, encodeMetadata } from './state.js';

export const OPERATIONS = {
  document: 1,
  plainDocument: 2,
  purgedDocument: 3,
  localDoc: 4,
  purgeInfo: 5,
  droppedPurgeInfo: 6,
  metadata: 7,
} as const;

/** What the operations of a list are applied to. Byte arguments are views, valid during the call only. */
export interface ChangeTarget {
  /** A document's latest update: `document` as in by-id behind the seq, `leaves` as in a row. `oldSeq` 0: it is new. */
  document(oldSeq: number, id: Uint8Array, document: Uint8Array, leaves: Uint8Array): void;
  /** As `document`, of the one leaf of the revision tree in `document`; `ref` is the packed ref of its body. */
  plainDocument(oldSeq: number, id: Uint8Array, document: Uint8Array, ref: Uint8Array): void;
  purgedDocument(oldSeq: number, id: Uint8Array): void;
  /** `value` as in the tree `local`, local seq included. */
  localDoc(oldSeq: number, id: Uint8Array, value: Uint8Array): void;
  purgeInfo(seq: number, value: Uint8Array): void;
  droppedPurgeInfo(seq: number, uuid: Uint8Array): void;
  metadata(metadata: Metadata): void;
}

/** Gathers the operations of one commit. */
export class ChangeListWriter {
  readonly #operations = new ByteWriter();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#operations.length;
  }

  clear(): void {
    this.#operations.clear();
    this.#count = 0;
  }

  document(oldSeq: number, id: Uint8Array, document: Uint8Array, leaves: Uint8Array): void {
    this.#begin(OPERATIONS.document);
    this.#operations.varint(oldSeq);
    this.#operations.prefixed(id);
    this.#operations.prefixed(document);
    this.#operations.prefixed(leaves);
  }

  plainDocument(oldSeq: number, id: Uint8Array, document: Uint8Array, ref: Uint8Array): void {
    this.#begin(OPERATIONS.plainDocument);
    this.#operations.varint(oldSeq);
    this.#operations.prefixed(id);
    this.#operations.prefixed(document);
    this.#operations.append(ref);
  }

  purgedDocument(oldSeq: number, id: Uint8Array): void {
    this.#begin(OPERATIONS.purgedDocument);
    this.#operations.varint(oldSeq);
    this.#operations.prefixed(id);
  }

  localDoc(oldSeq: number, id: Uint8Array, value: Uint8Array): void {
    this.#begin(OPERATIONS.localDoc);
    this.#operations.varint(oldSeq);
    this.#operations.prefixed(id);
    this.#operations.prefixed(value);
  }

  purgeInfo(seq: number, value: Uint8Array): void {
    this.#begin(OPERATIONS.purgeInfo);
    this.#operations.varint(seq);
    this.#operations.prefixed(value);
  }

  droppedPurgeInfo(seq: number, uuid: Uint8Array): void {
    this.#begin(OPERATIONS.droppedPurgeInfo);
    this.#operations.varint(seq);
    this.#operations.prefixed(uuid);
  }

  metadata(metadata: Metadata): void {
    this.#begin(OPERATIONS.metadata);
    this.#operations.prefixed(encodeMetadata(metadata));
  }

  /** Appends the whole list to `out`: its first update seq, the counters as they are after the commit, the operations. */
  finish(out: ByteWriter, firstSeq: number, counters: Counters): void {
    out.varint(firstSeq);
    out.varint(counters.updateSeq);
    out.varint(counters.purgeSeq);
    out.varint(counters.localSeq);
    out.varint(counters.purgeInfos);
    out.varint(counters.liveDocs);
    out.varint(counters.deletedDocs);
    out.varint(counters.activeBytes);
    out.varint(counters.externalBytes);
    out.varint(this.#count);
    out.append(this.#operations.view());
  }

  #begin(operation: number): void {
    this.#operations.u8(operation);
    this.#count++;
  }
}

/** Reads a list: calls `begin` with its first update seq and the counters after the commit, then `target` for each operation. Throws `CORRUPT`. */
export function readChangeList(
  bytes: Uint8Array,
  target: ChangeTarget,
  begin: (firstSeq: number, counters: Counters) => void,
): void {
  // Views of a Buffer are Buffers, which are slower to make than plain ones; and here are several for each operation.
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  const reader = new ByteReader().reset(plain);
  begin(reader.varint(), {
    updateSeq: reader.varint(),
    purgeSeq: reader.varint(),
    localSeq: reader.varint(),
    purgeInfos: reader.varint(),
    liveDocs: reader.varint(),
    deletedDocs: reader.varint(),
    activeBytes: reader.varint(),
    externalBytes: reader.varint(),
  });
  const count = reader.varint();
  for (let index = 0; index < count; index++) readOperation(reader, target);
  if (!reader.ended) throw new DivanError('CORRUPT', 'a change list has bytes behind its end');
}

function readOperation(reader: ByteReader, target: ChangeTarget): void {
  const operation = reader.u8();
  switch (operation) {
    case OPERATIONS.document:
      target.document(reader.varint(), reader.prefixed(), reader.prefixed(), reader.prefixed());
      return;
    case OPERATIONS.plainDocument:
      target.plainDocument(
        reader.varint(),
        reader.prefixed(),
        reader.prefixed(),
        reader.take(REF_BYTES),
      );
      return;
    case OPERATIONS.purgedDocument:
      target.purgedDocument(reader.varint(), reader.prefixed());
      return;
    case OPERATIONS.localDoc:
      target.localDoc(reader.varint(), reader.prefixed(), reader.prefixed());
      return;
    case OPERATIONS.purgeInfo:
      target.purgeInfo(reader.varint(), reader.prefixed());
      return;
    case OPERATIONS.droppedPurgeInfo:
      target.droppedPurgeInfo(reader.varint(), reader.prefixed());
      return;
    case OPERATIONS.metadata:
      target.metadata(decodeMetadata(reader.prefixed()));
      return;
    default:
      throw new DivanError('CORRUPT', `a change list has the unknown operation ${operation}`);
  }
}
