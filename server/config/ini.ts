/**
 * Configuration files in the form of CouchDB's `local.ini`, by the rules of its `config.erl`: `[section]`, `key = value`, comments after
 * `;` at the start of a line or behind a blank. `#` is a character like any other, since passwords have it. What CouchDB passes over in
 * silence, a line that is neither of these, is an error here.
 *
 * npm's `ini` does not fit: it tells no line numbers, takes a line without `=` for a value of `true`, ends values at `#` and splits the
 * names of sections at dots.
 */
import { DivanError } from '../../engine/errors.js';

export interface IniEntry {
  readonly section: string;
  readonly key: string;
  readonly value: string;
  /** From 1. */
  readonly line: number;
}

/** The entries of a file in their order, those without a value left out. `path` is for messages. Throws `INVALID_SETTING`. */
export function parseIni(text: string, path: string): IniEntry[] {
  const entries: IniEntry[] = [];
  let section: string | undefined;
  for (const [index, raw] of text
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\n|\r/)
    .entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith(';')) continue;
    if (line.startsWith('[')) {
      section = sectionOf(line, path, index + 1);
      continue;
    }
    const equals = line.indexOf('=');
    if (equals <= 0)
      throw invalid(path, index + 1, 'this is neither `[section]` nor `key = value`');
    if (section === undefined) throw invalid(path, index + 1, 'this stands before any `[section]`');
    const key = line.slice(0, equals).trimEnd();
    const value = withoutComment(line.slice(equals + 1));
    // As in CouchDB's own files, a key without a value is one that is not set.
    if (value !== '') entries.push({ section, key, value, line: index + 1 });
  }
  return entries;
}

function sectionOf(line: string, path: string, number: number): string {
  const name = /^\[([^\]]+)\]\s*(;.*)?$/.exec(line)?.[1];
  if (name === undefined) throw invalid(path, number, 'the name of a section is `[name]`');
  return name.trim();
}

function withoutComment(text: string): string {
  return text.replace(/(^|[ \t]);.*$/, '').trim();
}

/** An error in a line of a configuration file. */
export function invalid(path: string, line: number, reason: string): DivanError {
  return new DivanError('INVALID_SETTING', `${path}, line ${line}: ${reason}`, { path });
}
