/** The `Accept` and `Accept-Encoding` headers (RFC 9110, sections 12.5.1 and 12.5.3), as far as Divan has a choice to make. */

const ENTRIES_MAX = 100;

/** How much a client wants a type that it names outright, from 0 to 1; 0 for one that it does not name. */
export function namedQuality(accept: string | undefined, type: string): number {
  return qualities(accept).get(type) ?? 0;
}

/** How much a client wants a type, from 0 to 1; a client that says nothing takes anything. */
export function quality(accept: string | undefined, type: string): number {
  if (accept === undefined || accept.trim() === '') return 1;
  const entries = qualities(accept);
  const range = `${type.slice(0, type.indexOf('/'))}/*`;
  return entries.get(type) ?? entries.get(range) ?? entries.get('*/*') ?? 0;
}

/** True if a client takes gzip. One that says nothing may not know it. */
export function acceptsGzip(acceptEncoding: string | undefined): boolean {
  const entries = qualities(acceptEncoding);
  return (entries.get('gzip') ?? entries.get('x-gzip') ?? entries.get('*') ?? 0) > 0;
}

/** Entries beyond a bound count for nothing, and what is malformed has the quality 0. */
function qualities(header: string | undefined): ReadonlyMap<string, number> {
  const entries = new Map<string, number>();
  for (const entry of (header ?? '').split(',', ENTRIES_MAX)) {
    const [name = '', ...parameters] = entry.split(';');
    const key = name.trim().toLowerCase();
    if (key !== '') entries.set(key, qualityOf(parameters));
  }
  return entries;
}

function qualityOf(parameters: readonly string[]): number {
  for (const parameter of parameters) {
    const match = /^\s*q\s*=\s*(.*?)\s*$/i.exec(parameter);
    if (match === null) continue;
    const value = match[1] ?? '';
    return /^(0(\.[0-9]{0,3})?|1(\.0{0,3})?)$/.test(value) ? Number(value) : 0;
  }
  return 1;
}
