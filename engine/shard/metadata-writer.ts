/** Changing what a shard says of itself: security, limits. Takes an update seq, as in CouchDB. */
import { DivanError } from '../errors.js';
import type { WriteRequest } from './commit-queue.js';
import { type Metadata, SECURITY_BYTES_MAX, SETTING_MAX } from './state.js';
import type { WriteContext } from './write-context.js';

export type MetadataEdit = Partial<
  Pick<Metadata, 'security' | 'revsLimit' | 'purgeInfosLimit' | 'lineage'>
>;

export class MetadataWrite implements WriteRequest {
  readonly cost: number;
  readonly #context: WriteContext;
  readonly #edit: MetadataEdit;

  /** Throws `LIMIT`. */
  constructor(context: WriteContext, edit: MetadataEdit) {
    checkSetting('revs limit', edit.revsLimit);
    checkSetting('purge infos limit', edit.purgeInfosLimit);
    this.cost = 1024 + (edit.security?.length ?? 0);
    if (this.cost > SECURITY_BYTES_MAX) {
      throw new DivanError('LIMIT', `the security object has at most ${SECURITY_BYTES_MAX} bytes`);
    }
    this.#context = context;
    this.#edit = edit;
  }

  async prepare(): Promise<void> {}

  apply(): void {
    const { builder, overlays, counters } = this.#context;
    const metadata = { ...this.#context.metadata, ...this.#edit };
    counters.updateSeq++;
    builder.changes.metadata(metadata);
    overlays.metadata(metadata);
  }
}

function checkSetting(name: string, value: number | undefined): void {
  if (value === undefined || (Number.isInteger(value) && value >= 1 && value <= SETTING_MAX))
    return;
  throw new DivanError('LIMIT', `the ${name} is a whole number from 1 to ${SETTING_MAX}`);
}
