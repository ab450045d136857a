/**
 * Documents as clients write them: a JSON object whose members that begin with `_` are Divan's own and the others the body.
 */
import { DivanError } from '../errors.js';
import { byteAt } from '../file/bytes.js';
import { type AttachmentInputs, scanAttachments } from './attachment-input.js';
import { JsonScanner, SCAN_SLICE_BYTES } from './json-text.js';
import { LOCAL_PREFIX } from './local-tree.js';
import { encodeRevId, GENERATION_MAX, parseRev, type Revision } from './revision.js';

export const ID_BYTES_MAX = 4096;
export const BODY_BYTES_MAX = 64 * 1024 * 1024;
const DESIGN_PREFIX = '_design/';

const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const COMMA = 0x2c;
const COLON = 0x3a;
const UNDERSCORE = 0x5f;
const QUOTE = 0x22;
const ID_NAME = Buffer.from('"_id"');

/** Members that CouchDB puts into what it serves and ignores in what it is given. */
const IGNORED = new Set(['_conflicts', '_deleted_conflicts', '_revs_info', '_local_seq']);
const KNOWN = new Set(['_rev', '_deleted', '_revisions']);
const ATTACHMENTS = '_attachments';
/** Longer ones are not parsed; a path of 50,000 revisions fits. */
const SYSTEM_MEMBER_BYTES_MAX = 2 * 1024 * 1024;
/** A name that clients in JavaScript send by accident; it is theirs, and comes back as it was put. */
const PROTO = '__proto__';

/** What the value of a member is, after its name was scanned. */
const MEMBERS = { ofBody: 0, done: 1, ofSystem: 2 } as const;

/** A document as it was written. Its bytes are views, valid until the next scan. */
export interface ScannedDocument {
  /** UTF-8; undefined if the document has none. */
  readonly id: Uint8Array | undefined;
  readonly rev: Revision | undefined;
  /** The `N` of the `_rev` `0-N` of a local doc, or of a document without an id. */
  readonly localRevision: number | undefined;
  readonly deleted: boolean;
  /** The revision and its ancestors, newest first, from `_revisions`. */
  readonly path: readonly Revision[] | undefined;
  readonly attachments: AttachmentInputs | undefined;
  /** The JSON text of the object without members that begin with `_` and without insignificant white space. */
  readonly body: Uint8Array;
}

export class DocumentScanner {
  readonly #json = new JsonScanner();
  #id: Uint8Array | undefined;
  /** The JSON texts of the other system members. */
  readonly #system = new Map<string, Uint8Array>();
  #attachments: AttachmentInputs | undefined;
  /** The system member whose name was scanned last. */
  #systemName = '';

  /** Scans the document `source[start, end)`. Throws `INVALID_JSON`, `INVALID_DOCUMENT` or `LIMIT`. */
  scan(source: Uint8Array, start: number, end: number): ScannedDocument {
    this.#begin(source, start, end);
    this.#members();
    return this.#finish();
  }

  /**
   * As `scan`, for a large document: others have their turn at each `yield`, some milliseconds apart. REQUIRES: no other scan by this
   * scanner until it is done.
   */
  *scanInSlices(source: Uint8Array, start: number, end: number): Generator<void, ScannedDocument> {
    this.#begin(source, start, end);
    yield* this.#membersInSlices();
    return this.#finish();
  }

  #begin(source: Uint8Array, start: number, end: number): void {
    const json = this.#json;
    this.#id = undefined;
    this.#attachments = undefined;
    if (this.#system.size > 0) this.#system.clear();
    json.begin(source, start, end);
    if (json.peek() === OPEN_OBJECT) return;
    json.value(0);
    throw invalid('Document must be a JSON object');
  }

  #finish(): ScannedDocument {
    const json = this.#json;
    json.expectEnd();
    if (json.length > BODY_BYTES_MAX) {
      throw new DivanError('LIMIT', `the body of a document has at most ${BODY_BYTES_MAX} bytes`);
    }
    const body = json.out.subarray(0, json.length);
    const id = this.#id;
    const attachments = this.#attachments;
    if (this.#system.size === 0 && attachments === undefined) return plain(id, body);
    return { id, body, ...this.#systemMembers(), attachments };
  }

  #members(): void {
    const json = this.#json;
    if (this.#open()) {
      do {
        const before = json.length;
        const member = this.#memberName();
        if (member === MEMBERS.ofBody) json.value(1);
        else if (member === MEMBERS.ofSystem) drain(this.#systemMember(before));
      } while (json.peek() === COMMA && json.at++ >= 0);
    }
    this.#close();
  }

  *#membersInSlices(): Generator<void, void> {
    const json = this.#json;
    if (this.#open()) {
      let sliceStart = json.at;
      do {
        const before = json.length;
        const member = this.#memberName();
        if (member === MEMBERS.ofBody) yield* json.valueInSlices(1);
        else if (member === MEMBERS.ofSystem) yield* this.#systemMember(before);
        if (json.at - sliceStart < SCAN_SLICE_BYTES) continue;
        sliceStart = json.at;
        yield;
      } while (json.peek() === COMMA && json.at++ >= 0);
    }
    this.#close();
  }

  /** Opens the object; false if it is empty. */
  #open(): boolean {
    const json = this.#json;
    json.at++;
    json.put(OPEN_OBJECT);
    json.openNames(1);
    return json.peek() !== CLOSE_OBJECT;
  }

  #close(): void {
    const json = this.#json;
    if (json.peek() !== CLOSE_OBJECT) throw json.error('a comma or the end is expected');
    json.at++;
    json.closeNames(1);
    json.put(CLOSE_OBJECT);
  }

  /** Scans a name, and the value too if it is that of `_id`. */
  #memberName(): (typeof MEMBERS)[keyof typeof MEMBERS] {
    const json = this.#json;
    const start = json.name(1);
    if (json.nameIs(ID_NAME)) {
      this.#idMember();
      return MEMBERS.done;
    }
    if (byteAt(json.source, start + 1) === UNDERSCORE || json.escaped) {
      const name = json.text(start, json.nameEnd);
      if (name === '_id') {
        this.#idMember();
        return MEMBERS.done;
      }
      if (name.startsWith('_') && name !== PROTO) {
        this.#systemName = name;
        return MEMBERS.ofSystem;
      }
    }
    if (json.length > 1) json.put(COMMA);
    json.copyName();
    json.put(COLON);
    return MEMBERS.ofBody;
  }

  /** `_id` is in nearly every document: it is taken from where it stands. */
  #idMember(): void {
    const json = this.#json;
    json.peek();
    if (byteAt(json.source, json.at) !== QUOTE) throw invalid('_id must be a string');
    const start = json.string();
    const plain = json.source.subarray(start + 1, json.at - 1);
    this.#id = json.escaped ? Buffer.from(json.text(start, json.at)) : plain;
    checkId(this.#id);
  }

  /** Scans the value of the system member whose name came last; the output is as long as `before` again. */
  *#systemMember(before: number): Generator<void, void> {
    const json = this.#json;
    const name = this.#systemName;
    if (name === ATTACHMENTS) {
      this.#attachments = yield* scanAttachments(json);
      return;
    }
    if (!KNOWN.has(name) && !IGNORED.has(name)) {
      throw invalid(`Bad special document member: ${name.slice(0, 80)}`);
    }
    yield* json.valueInSlices(1);
    const end = json.length;
    json.length = before;
    if (!KNOWN.has(name)) return;
    if (end - before > SYSTEM_MEMBER_BYTES_MAX) {
      throw new DivanError('LIMIT', `${name} has at most ${SYSTEM_MEMBER_BYTES_MAX} bytes`);
    }
    this.#system.set(name, json.out.slice(before, end));
  }

  #systemMembers(): Omit<ScannedDocument, 'id' | 'body' | 'attachments'> {
    const rev = this.#parsed('_rev');
    const deleted = this.#parsed('_deleted');
    const revisions = this.#parsed('_revisions');
    if (rev !== undefined && typeof rev !== 'string') throw invalid('_rev must be a string');
    if (deleted !== undefined && typeof deleted !== 'boolean')
      throw invalid('_deleted must be true or false');
    return {
      ...this.#readRev(rev),
      deleted: deleted ?? false,
      path: revisions === undefined ? undefined : readRevisions(revisions),
    };
  }

  #readRev(rev: string | undefined): Pick<ScannedDocument, 'rev' | 'localRevision'> {
    if (rev === undefined) return { rev, localRevision: undefined };
    const id = this.#id;
    // A document without an id may be a local one whose id stands elsewhere, as in the path of a request.
    if (id !== undefined ? isLocalId(id) : LOCAL_REV.test(rev)) {
      return { rev: undefined, localRevision: parseLocalRev(rev) };
    }
    return { rev: parseRev(rev), localRevision: undefined };
  }

  #parsed(name: string): unknown {
    const text = this.#system.get(name);
    return text === undefined ? undefined : JSON.parse(Buffer.from(text).toString());
  }
}

const LOCAL_REV = /^0-[0-9]{1,15}$/;

/** The `N` of the revision `0-N` of a local doc. Throws `INVALID_DOCUMENT`. */
export function parseLocalRev(rev: string): number {
  if (!LOCAL_REV.test(rev)) throw invalid('the _rev of a local doc looks like 0-1');
  return Number(rev.slice('0-'.length));
}

/** A document without system members but its id. */
function plain(id: Uint8Array | undefined, body: Uint8Array): ScannedDocument {
  return {
    id,
    rev: undefined,
    localRevision: undefined,
    deleted: false,
    path: undefined,
    attachments: undefined,
    body,
  };
}

function invalid(reason: string): DivanError {
  return new DivanError('INVALID_DOCUMENT', reason);
}

/** True for the id of a local doc. */
export function isLocalId(id: Uint8Array): boolean {
  return byteAt(id, 0) === UNDERSCORE && Buffer.from(id).toString().startsWith(LOCAL_PREFIX);
}

/** Refuses ids that no document may have. Throws `INVALID_DOCUMENT` or `LIMIT`. */
export function checkId(id: Uint8Array): void {
  if (id.length === 0) throw invalid('Document id must not be empty');
  if (id.length > ID_BYTES_MAX) {
    throw new DivanError('LIMIT', `a document id has at most ${ID_BYTES_MAX} bytes`);
  }
  if (byteAt(id, 0) !== UNDERSCORE) return;
  const text = Buffer.from(id).toString();
  const isNamed = [DESIGN_PREFIX, LOCAL_PREFIX].some(
    (prefix) => text.startsWith(prefix) && text.length > prefix.length,
  );
  if (!isNamed) throw invalid('Only reserved document ids may start with underscore.');
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `{start, ids}` as a path, newest first. */
function readRevisions(value: unknown): Revision[] {
  const start = isRecord(value) ? value['start'] : undefined;
  const ids: unknown = isRecord(value) ? value['ids'] : undefined;
  if (
    typeof start !== 'number' ||
    !Number.isInteger(start) ||
    start < 1 ||
    start > GENERATION_MAX
  ) {
    throw invalid('_revisions.start must be a whole number from 1 on');
  }
  if (!Array.isArray(ids) || ids.length === 0 || ids.length > start) {
    throw invalid('_revisions.ids must be an array of 1 to _revisions.start revision ids');
  }
  return ids.map((id: unknown, index) => {
    if (typeof id !== 'string') throw invalid('_revisions.ids must hold strings');
    return { gen: start - index, code: encodeRevId(id) };
  });
}

/** Runs to the end without turns for others. */
function drain(slices: Generator<void, void>): void {
  while (slices.next().done !== true);
}
