/**
 * How far the setup of this node is: one record of the node, replaced in one durable step, with the admins where both change.
 *
 * That a cluster is finished is no part of it: it is a record of the cluster, so that all nodes learn of it in the same way.
 */
import { DivanError } from '../../engine/errors.js';
import type { Node } from '../cluster/peers.js';
import type { NodeRecords, RecordChange } from '../node-records.js';
import type { Binding } from './binding.js';

export interface SetupState {
  readonly isEnabled: boolean;
  /** It was set up to be alone, which is a finished cluster of one. */
  readonly isSingleNode: boolean;
  /** The secret of the cluster. */
  readonly cookie: string | undefined;
  /** Who handed it over; undefined if it was made here. */
  readonly coordinator: Node | undefined;
  readonly binding: Binding | undefined;
  /** How many nodes the cluster is meant to have, if that was said: for the copies of its databases. */
  readonly nodeCount: number | undefined;
}

const RECORD = 'setup';
const DISABLED: SetupState = {
  isEnabled: false,
  isSingleNode: false,
  cookie: undefined,
  coordinator: undefined,
  binding: undefined,
  nodeCount: undefined,
};

export class SetupRecord {
  readonly #records: Pick<NodeRecords, 'get' | 'set'>;
  #state: SetupState;

  /** Throws `CORRUPT` for a record that is malformed: to begin anew would lock the node out of its cluster without a word. */
  constructor(records: Pick<NodeRecords, 'get' | 'set'>) {
    this.#records = records;
    const record = records.get(RECORD);
    this.#state = record === undefined ? DISABLED : stateOf(record);
  }

  get state(): SetupState {
    return this.#state;
  }

  /** A change that is written together with others: the record, and what to call when it is durable. */
  changing(edit: Partial<SetupState>): {
    readonly record: RecordChange;
    readonly done: () => void;
  } {
    const state = { ...this.#state, ...edit };
    return {
      record: [RECORD, recordOf(state)],
      done: () => {
        this.#state = state;
      },
    };
  }

  /** Durable when it resolves. Throws what writing a record throws, with nothing changed. */
  async change(edit: Partial<SetupState>): Promise<void> {
    const {
      record: [key, value = {}],
      done,
    } = this.changing(edit);
    await this.#records.set(key, value);
    done();
  }
}

function recordOf(state: SetupState): object {
  const { isEnabled, isSingleNode, ...rest } = state;
  return { state: isEnabled ? 'cluster_enabled' : 'cluster_disabled', isSingleNode, ...rest };
}

function stateOf(record: unknown): SetupState {
  const parts = partsOf(record);
  const cookie = parts.get('cookie');
  const nodeCount = parts.get('nodeCount');
  const state = parts.get('state');
  const isWhole =
    (state === 'cluster_enabled' || state === 'cluster_disabled') &&
    (cookie === undefined || typeof cookie === 'string') &&
    (nodeCount === undefined || typeof nodeCount === 'number');
  if (!isWhole) throw malformed();
  return {
    isEnabled: state === 'cluster_enabled',
    isSingleNode: parts.get('isSingleNode') === true,
    cookie,
    coordinator: parts.has('coordinator') ? nodeOf(parts.get('coordinator')) : undefined,
    binding: parts.has('binding') ? bindingOf(parts.get('binding')) : undefined,
    nodeCount,
  };
}

function nodeOf(value: unknown): Node {
  const parts = partsOf(value);
  const [name, identity, url] = ['name', 'identity', 'url'].map((key) => parts.get(key));
  if (typeof name === 'string' && typeof identity === 'string' && typeof url === 'string') {
    return { name, identity, url };
  }
  throw malformed();
}

function bindingOf(value: unknown): Binding {
  const parts = partsOf(value);
  const [host, port] = [parts.get('host'), parts.get('port')];
  if (typeof host === 'string' && typeof port === 'number') return { host, port };
  throw malformed();
}

function partsOf(value: unknown): Map<string, unknown> {
  return new Map(Object.entries(value ?? {}));
}

function malformed(): DivanError {
  return new DivanError('CORRUPT', 'the record of the setup of this node is malformed');
}
