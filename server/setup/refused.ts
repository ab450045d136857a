/** What a request of the setup is refused with. */
import { DivanError } from '../../engine/errors.js';

/** The reason goes to whoever sent it. */
export function refused(reason: string, cause?: unknown): DivanError {
  return new DivanError('BAD_REQUEST', reason, {}, cause);
}
