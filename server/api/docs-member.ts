/** Bodies with a list `docs`, which may be large: taken apart where they lie, without being parsed whole. */
import { DivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';
import {
  type JsonElements,
  type JsonMember,
  splitElements,
  splitMembers,
} from '../http/json-members.js';
import { parseJson } from '../http/json-value.js';

/** The members of such a body besides `docs`. */
const MEMBERS_MAX = 16;

export interface DocsBody {
  readonly docs: JsonElements;
  readonly others: readonly JsonMember[];
}

/** Others have their turn meanwhile. Throws `BAD_REQUEST` with `missing` if there are no `docs`, `INVALID_JSON`, `TOO_LARGE`. */
export async function readDocsBody(
  host: Host,
  bytes: Uint8Array,
  countMax: number,
  missing: string,
): Promise<DocsBody> {
  const yieldTurn = () => host.yieldTurn();
  const whole = { start: 0, end: bytes.length };
  const members = await splitMembers(bytes, whole, { countMax: MEMBERS_MAX, yieldTurn });
  const member = members.find(({ name }) => name === 'docs');
  if (member === undefined) throw new DivanError('BAD_REQUEST', missing);
  const docs = await splitElements(bytes, member, { countMax, yieldTurn });
  return { docs, others: members.filter((other) => other !== member) };
}

/** What a body says of all its documents. Throws `BAD_REQUEST`. */
export function readNewEdits(bytes: Uint8Array, others: readonly JsonMember[]): boolean {
  let newEdits = true;
  for (const { name, start, end } of others) {
    const value = parseJson(bytes.subarray(start, end));
    if (name === 'new_edits') {
      if (typeof value !== 'boolean') {
        throw new DivanError('BAD_REQUEST', '`new_edits` must be true or false');
      }
      newEdits = value;
    }
    if (name === 'all_or_nothing' && value === true) {
      throw new DivanError('BAD_REQUEST', 'all_or_nothing is not supported');
    }
  }
  return newEdits;
}
