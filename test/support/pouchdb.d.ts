/** What the tests use of PouchDB; its own types redefine those of Node for everybody. */
declare module 'pouchdb' {
  import type { EventEmitter } from 'node:events';

  interface Stored {
    readonly _id: string;
    readonly _rev: string;
    readonly _conflicts?: readonly string[];
    readonly [name: string]: unknown;
  }

  interface Replicated {
    readonly docs_read: number;
    readonly docs_written: number;
    readonly doc_write_failures: number;
  }

  interface Synced {
    readonly push?: Replicated;
    readonly pull?: Replicated;
  }

  interface Feed extends EventEmitter {
    cancel(): void;
  }

  class PouchDB {
    constructor(name: string);
    static sync(a: PouchDB, b: PouchDB): Promise<Synced>;
    readonly replicate: {
      to(target: PouchDB, options?: { readonly batch_size: number }): Promise<Replicated>;
    };
    sync(other: PouchDB): Promise<Synced>;
    sync(other: PouchDB, options: { readonly live: true }): Feed;
    info(): Promise<{ readonly doc_count: number }>;
    put(doc: {
      readonly _id: string;
      readonly [name: string]: unknown;
    }): Promise<{ readonly id: string; readonly rev: string }>;
    allDocs(options: {
      readonly keys: readonly string[];
    }): Promise<{ readonly rows: readonly { readonly key: string; readonly error?: string }[] }>;
    get(id: string, options?: { readonly conflicts: boolean }): Promise<Stored>;
    remove(doc: Stored): Promise<unknown>;
    bulkDocs(docs: readonly object[]): Promise<unknown>;
    putAttachment(
      id: string,
      name: string,
      rev: string,
      data: Uint8Array,
      type: string,
    ): Promise<unknown>;
    getAttachment(id: string, name: string): Promise<Uint8Array>;
    changes(options: {
      readonly live: boolean;
      readonly since: string;
      readonly include_docs: boolean;
    }): Feed;
    close(): Promise<void>;
  }

  export default PouchDB;
}
