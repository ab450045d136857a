/** A request before it is bytes, and ways to change it. */

export interface Parts {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
}

/**
 * What must become of a request. `refused`: a reply of status 4xx. `answered`: any reply below 500. `ended`: the server ends the
 * connection, after a reply of status 4xx or without one. `unclear`: any reply below 500 or none, and the server ends the connection.
 * `halfClosed`: the client says that nothing more comes; then as `unclear`. `vanished`: nothing, for the client goes away.
 */
export type Expectation = 'refused' | 'answered' | 'ended' | 'unclear' | 'halfClosed' | 'vanished';

/** A way to spoil a request. */
export interface Mutation {
  readonly what: string;
  readonly expect: Expectation;
  /** Other parts, or bytes that are sent instead. */
  readonly apply: (parts: Parts, random: () => number) => Parts | Buffer;
}

export function bytesOf({ method, target, headers, body }: Parts): Buffer {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  const isFramed = headers.some(([name]) => /^(content-length|transfer-encoding)$/i.test(name));
  const length = isFramed || body.length === 0 ? '' : `Content-Length: ${body.length}\r\n`;
  const head = Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines}${length}\r\n`, 'latin1');
  return Buffer.concat([head, body]);
}

export function appended(parts: Parts, text: string): Parts {
  return { ...parts, target: parts.target + text };
}

export function queried(parts: Parts, query: string): Parts {
  return appended(parts, `${parts.target.includes('?') ? '&' : '?'}${query}`);
}

export function added(parts: Parts, ...headers: Parts['headers']): Parts {
  return { ...parts, headers: [...parts.headers, ...headers] };
}

/** With a header replaced or added. */
export function headed(parts: Parts, name: string, value: string): Parts {
  const others = parts.headers.filter(([other]) => other.toLowerCase() !== name.toLowerCase());
  return { ...parts, headers: [...others, [name, value]] };
}

/** With a body, be there one in this method or not; a reply to HEAD could not be told from one without. */
export function bodied(parts: Parts, body: string | Buffer): Parts {
  const method = parts.method === 'HEAD' ? 'GET' : parts.method;
  return { ...parts, method, body: Buffer.from(body) };
}
