/** What frames hold: heads, and errors, which travel with code, message and facts; the rest of those stays where it happened. */
import { DivanError, ERROR_CODES, type ErrorCode, type ErrorFacts } from '../../engine/errors.js';
import { isObject, type JsonObject, memberOf, parseJson } from '../http/json-value.js';
import { PAYLOAD_BYTES_MAX } from './call-frames.js';

const MESSAGE_CHARACTERS_MAX = 4000;
const FACTS = ['path', 'id', 'errno'] as const satisfies readonly (keyof ErrorFacts)[];
const NUMBER_FACTS = ['pos', 'at'] as const satisfies readonly (keyof ErrorFacts)[];
const EITHER_FACTS = ['expected', 'actual'] as const satisfies readonly (keyof ErrorFacts)[];

/** The bytes of a head. Throws `TOO_LARGE` if no frame can hold them. */
export function encodeHead(head: JsonObject): Uint8Array {
  const bytes = Buffer.from(JSON.stringify(head));
  if (bytes.length <= PAYLOAD_BYTES_MAX) return bytes;
  throw new DivanError('TOO_LARGE', 'the head of a call or of its answer is too large', {
    expected: PAYLOAD_BYTES_MAX,
    actual: bytes.length,
  });
}

/** The payload of an error frame. `boot` is told to who used another one. */
export function encodeError({ code, message, facts }: DivanError, boot?: string): Uint8Array {
  const value = {
    code,
    message: message.slice(0, MESSAGE_CHARACTERS_MAX),
    facts: textsCut(facts),
    ...(boot === undefined ? {} : { boot }),
  };
  return Buffer.from(JSON.stringify(value));
}

function textsCut(facts: ErrorFacts): object {
  return Object.fromEntries(
    Object.entries(facts).map(([name, fact]) => [
      name,
      typeof fact === 'string' ? fact.slice(0, MESSAGE_CHARACTERS_MAX) : fact,
    ]),
  );
}

export interface ReceivedError {
  readonly error: DivanError;
  /** Of the node that answers, if it refused the call because the sender does not know it. */
  readonly boot: string | undefined;
}

/** What an error frame tells; `PEER` for one that tells nothing that can be understood. */
export function decodeError(payload: Uint8Array): ReceivedError {
  const value = parsed(payload);
  const code = memberOf(value, 'code');
  const message = memberOf(value, 'message');
  const boot = memberOf(value, 'boot');
  if (!isErrorCode(code) || typeof message !== 'string') {
    const error = new DivanError(
      'PEER',
      'a node answered with an error that this one does not know',
    );
    return { error, boot: undefined };
  }
  const facts = factsOf(memberOf(value, 'facts'));
  return {
    error: new DivanError(code, message, facts),
    boot: typeof boot === 'string' && /^[0-9a-f]{32}$/.test(boot) ? boot : undefined,
  };
}

function parsed(payload: Uint8Array): JsonObject {
  try {
    const value = parseJson(payload);
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}

function factsOf(value: unknown): ErrorFacts {
  const given = new Map<string, unknown>(Object.entries(value ?? {}));
  const facts: { -readonly [N in keyof ErrorFacts]: ErrorFacts[N] } = {};
  for (const name of FACTS) {
    const fact = given.get(name);
    if (typeof fact === 'string') facts[name] = fact;
  }
  for (const name of NUMBER_FACTS) {
    const fact = given.get(name);
    if (typeof fact === 'number') facts[name] = fact;
  }
  for (const name of EITHER_FACTS) {
    const fact = given.get(name);
    if (typeof fact === 'string' || typeof fact === 'number') facts[name] = fact;
  }
  return facts;
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(ERROR_CODES, code);
}
