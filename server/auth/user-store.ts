/**
 * The users: documents of the database `_users`, whichever way they are written. No password gets into a file but as a hash, and no
 * document that is not one of a user; what a user may not do, beyond what an admin may not, is seen to where requests come in.
 */
import type { Revision } from '../../engine/shard/revision.js';
import type { Catalog } from '../databases/catalog.js';
import type { WriteGuard } from '../databases/database.js';
import { ReadDocument } from '../databases/document-view.js';
import type { DocumentWrite } from '../databases/shard-writer.js';
import { type JsonObject, objectOf, parseJson } from '../http/json-value.js';
import type { ChangeListener, StoredUser, UserSource } from './authenticator.js';
import type { Caller } from './caller.js';
import type { PasswordHasher } from './password-hasher.js';
import {
  prepareUserDocument,
  storedUserOf,
  USER_PREFIX,
  USERS_DATABASE,
  userNameOf,
} from './user-documents.js';

/** For whom nothing but the shape of a document is checked. */
const ADMIN: Caller = { name: '', roles: ['_admin'], isServerAdmin: true, via: undefined };

/** What one revision of a document of `_users` holds. */
export interface UserRevision {
  readonly revision: Revision;
  /** Its members, without those of the system. */
  readonly document: JsonObject;
}

/** Reads users whose documents are on other nodes. */
export interface UsersElsewhere {
  /** Undefined if the document of an id belongs to this node. Throws `UNREACHABLE`, naming the node. */
  winner(id: string): Promise<UserRevision | undefined> | undefined;
}

export class UserStore implements UserSource, WriteGuard {
  readonly #hasher: PasswordHasher;
  readonly #listeners = new Set<ChangeListener>();
  readonly #writeListeners = new Set<(name: string) => void>();
  #catalog: Catalog | undefined;
  #elsewhere: UsersElsewhere | undefined;

  constructor(hasher: PasswordHasher) {
    this.#hasher = hasher;
  }

  /** Says where the users are; until then there are none. */
  attach(catalog: Catalog): void {
    this.#catalog = catalog;
    catalog.onChange((name) => {
      if (name === USERS_DATABASE) this.#tell(undefined);
    });
  }

  /** Says where those users are that are not here. */
  attachElsewhere(elsewhere: UsersElsewhere): void {
    this.#elsewhere = elsewhere;
  }

  async find(name: string): Promise<StoredUser | undefined> {
    const id = USER_PREFIX + name;
    const elsewhere = this.#elsewhere?.winner(id);
    const winner = await (elsewhere ?? this.winner(id));
    const user = winner === undefined ? undefined : storedUserOf(id, winner.document);
    return user === undefined || elsewhere === undefined ? user : { ...user, isElsewhere: true };
  }

  /** The winning revision of a document that belongs to this node; undefined for what is not there or deleted. */
  async winner(id: string): Promise<UserRevision | undefined> {
    const database = this.#catalog?.find(USERS_DATABASE);
    if (database === undefined) return undefined;
    const bytes = Buffer.from(id);
    return database.read(bytes, async (snapshot) => {
      const found = await ReadDocument.find(snapshot, bytes);
      if (found === undefined || found.winner.deleted) return undefined;
      const body = parseJson(await snapshot.body(found.winner));
      return { revision: found.winner.revision, document: objectOf(body, 'the document') };
    });
  }

  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  prepare(write: DocumentWrite): Promise<DocumentWrite> {
    return this.prepareFor(ADMIN, write, undefined);
  }

  /** The write that a caller may make, of what it wants to write. Throws what `prepareUserDocument` throws. */
  async prepareFor(
    caller: Caller,
    write: DocumentWrite,
    previous: JsonObject | undefined,
  ): Promise<DocumentWrite> {
    const sent = objectOf(parseJson(write.body), 'the document');
    const document = write.deleted ? { ...sent, _deleted: true } : sent;
    const id = Buffer.from(write.id).toString();
    const isReplicated = write.path !== undefined;
    const edit = { id, document, previous, caller, isReplicated };
    const prepared = await prepareUserDocument(edit, this.#hasher);
    const members = Object.entries(prepared).filter(([name]) => name !== '_deleted');
    return { ...write, body: Buffer.from(JSON.stringify(Object.fromEntries(members))) };
  }

  written(id: Uint8Array): void {
    const name = userNameOf(Buffer.from(id).toString());
    if (name === undefined) return;
    this.#tell(name);
    for (const listener of this.#writeListeners) listener(name);
  }

  /** Calls the listener, which must not throw, when a user was written here. Returns what ends that. */
  onWritten(listener: (name: string) => void): () => void {
    this.#writeListeners.add(listener);
    return () => this.#writeListeners.delete(listener);
  }

  /** Another node says that it wrote a user. */
  heard(name: string): void {
    this.#tell(name);
  }

  #tell(name: string | undefined): void {
    for (const listener of this.#listeners) listener(name);
  }
}
