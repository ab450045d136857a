/**
 * Lays out one commit: bodies, change list, room for the record (FORMAT.md section 6). Everything between `begin` and
 * `finish` happens in one turn of the event loop, so that the place of the first body is known while it is written.
 */
import assert from 'node:assert';
import type { AppendFile, CommitInput } from '../file/append-file.js';
import { ByteWriter } from '../file/byte-writer.js';
import { RECORD_BYTES } from '../file/commit-record.js';
import { checksum, filePos, REF_BYTES, writeRef } from '../file/ref.js';
import { ChangeListWriter } from './change-list.js';
import type { Counters } from './state.js';

export class CommitBuilder {
  readonly changes = new ChangeListWriter();
  /** True once the commit refers to bytes outside it: pieces of attachments, large bodies. */
  foreign = false;
  readonly #file: AppendFile;
  readonly #bytes = new ByteWriter();
  #start = filePos(0);

  constructor(file: AppendFile) {
    this.#file = file;
  }

  /** Starts a commit at the present end of the file. */
  begin(): void {
    this.#bytes.clear();
    this.changes.clear();
    this.foreign = false;
    this.#start = this.#file.end;
  }

  /** Appends a body and writes its packed ref to `out` at `at`. */
  appendBody(body: Uint8Array, out: Uint8Array, at: number): void {
    const pos = filePos(this.#start + this.#bytes.length);
    this.#bytes.append(body);
    writeRef(out, at, { pos, length: body.length, crc: checksum(body), codec: 0 });
  }

  /** Ends the commit and sets its place aside. The bytes are used again after the next `begin`. */
  finish(firstSeq: number, counters: Counters): CommitInput {
    assert(
      this.#file.end === this.#start,
      'nothing else reserves space while a commit is laid out',
    );
    const bodiesEnd = this.#bytes.length;
    this.changes.finish(this.#bytes, firstSeq, counters);
    const changesLength = this.#bytes.length - bodiesEnd;
    this.#bytes.skip(RECORD_BYTES);
    this.#file.reserve(this.#bytes.length);
    return { bytes: this.#bytes.view(), start: this.#start, changesLength, foreign: this.foreign };
  }
}

/** The bytes of the ref of the body `{}`, which is not stored. */
export const EMPTY_BODY_REF = new Uint8Array(REF_BYTES);
