/**
 * What a setting is: how its text is read and written, and where it comes from. `settings.ts` has the table of them all.
 *
 * Texts are read strictly: what is not understood whole is refused, with `expects` for a reason.
 */
import { isIP } from 'node:net';

export interface Setting<T> {
  readonly default: T;
  /** One sentence, for `--help` and for readers of the table. */
  readonly about: string;
  /** The environment variable, if it is not the one that `environmentName` makes. */
  readonly env: string | undefined;
  /** Of `divan serve`, with its dashes. */
  readonly flag: string | undefined;
  /**
   * True if it may be changed over HTTP while the server runs; whoever uses it reads it anew each time or listens to it. Never so for what
   * names a file, a program or an address, and for what is read at the start only.
   */
  readonly isWritable: boolean;
  /** What a text must be, to stand after "must be". */
  readonly expects: string;
  /** Undefined for a text that is not as it must be. */
  readonly parse: (text: string) => T | undefined;
  /** The text of a value, as `parse` reads it. */
  readonly format: (value: T) => string;
}

interface Common<T> {
  readonly default: T;
  readonly about: string;
  readonly env?: string;
  readonly flag?: string;
  readonly writable?: boolean;
}

/** Both ends belong to it. */
interface Bounds {
  readonly min: number;
  readonly max: number;
}

type Reader<T> = Pick<Setting<T>, 'expects' | 'parse' | 'format'>;

function setting<T>(common: Common<T>, reader: Reader<T>): Setting<T> {
  const { default: value, about, env, flag, writable } = common;
  return { default: value, about, env, flag, isWritable: writable === true, ...reader };
}

/** An integer; `unit` is what it counts, in the plural. */
export function integer(of: Common<number> & Bounds & { readonly unit?: string }): Setting<number> {
  const { min, max, unit } = of;
  return setting(of, {
    expects: `an integer from ${min} to ${max}${unit === undefined ? '' : ` (${unit})`}`,
    parse: (text) => (/^\d{1,15}$/.test(text) ? within(Number(text), of) : undefined),
    format: String,
  });
}

const BYTE_UNITS = new Map([
  ['', 1],
  ['B', 1],
  ['kB', 1000],
  ['KB', 1000],
  ['MB', 1000 ** 2],
  ['GB', 1000 ** 3],
  ['TB', 1000 ** 4],
  ['KiB', 1024],
  ['MiB', 1024 ** 2],
  ['GiB', 1024 ** 3],
  ['TiB', 1024 ** 4],
]);

/** A number of bytes. It may be written with a unit, `64 MiB`; it is printed without. */
export function bytes(of: Common<number> & Bounds): Setting<number> {
  return setting(of, {
    expects: `a number of bytes from ${of.min} to ${of.max}, which may have a unit such as kB or MiB`,
    parse: (text) => {
      const [, digits = '', unit = ''] = /^(\d{1,15}) ?([A-Za-z]*)$/.exec(text) ?? [];
      const factor = BYTE_UNITS.get(unit);
      return digits === '' || factor === undefined
        ? undefined
        : within(Number(digits) * factor, of);
    },
    format: String,
  });
}

export function boolean(of: Common<boolean>): Setting<boolean> {
  return setting(of, {
    expects: 'true or false',
    parse: (text) => (text === 'true' ? true : text === 'false' ? false : undefined),
    format: String,
  });
}

export function choice<T extends string>(
  of: Common<NoInfer<T>> & { readonly of: readonly T[] },
): Setting<T> {
  return setting(of, {
    expects: `one of ${of.of.join(', ')}`,
    parse: (text) => of.of.find((known) => known === text),
    format: String,
  });
}

/** A text without control characters that `pattern`, if there is one, matches. */
export function text(
  of: Common<string> & { readonly expects: string; readonly pattern?: RegExp },
): Setting<string> {
  const pattern = of.pattern ?? /^[^\p{Cc}]+$/u;
  return setting(of, {
    expects: of.expects,
    parse: (text) => (pattern.test(text) ? text : undefined),
    format: String,
  });
}

/** What the path of a file is where there is none; a file of that name is `./none`. */
export const NO_FILE = 'none';

/** The path of a file, or `NO_FILE`. */
export function file(of: Omit<Common<string>, 'default'>): Setting<string> {
  return text({ ...of, default: NO_FILE, expects: 'the path of a file, or none' });
}

/** An address of this machine to listen at. */
export function address(of: Common<string>): Setting<string> {
  return setting(of, {
    expects: 'an IP address or localhost',
    parse: (text) => (text === 'localhost' || isIP(text) !== 0 ? text : undefined),
    format: String,
  });
}

function within(value: number, { min, max }: Bounds): number | undefined {
  return value >= min && value <= max ? value : undefined;
}
