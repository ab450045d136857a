/** How the bench says what it measured: a line for each result at once, and Markdown and JSON at the end. */
import { type Column, columnsOf, rounded } from './columns.js';
import { type BenchResult, type Spread, spread } from './result.js';

function spreadOf(result: BenchResult, { value }: Column): Spread | undefined {
  return spread(result.runs, (run) => value(run, result));
}

/** The median, with the least and the greatest in brackets if they differ in what is shown. */
function shown(result: BenchResult, column: Column): string {
  const found = spreadOf(result, column);
  if (found === undefined) return '';
  const median = column.format(found.median);
  const [min, max] = [column.format(found.min), column.format(found.max)];
  return min === max ? median : `${median} (${min}-${max})`;
}

function documentsOf({ docs, size }: BenchResult): string {
  return `${rounded(docs)} x ${rounded(size)} B`;
}

/** A line with all that is known, for each result. */
export function resultLines(results: readonly BenchResult[]): string {
  const lines = results.map((result) => {
    const cells = columnsOf([result]).map((column) => `${shown(result, column)} ${column.title}`);
    return `${[result.label, documentsOf(result), ...cells].join(' | ')}\n`;
  });
  return lines.join('');
}

export function markdownReport(header: readonly string[], results: readonly BenchResult[]): string {
  const columns = columnsOf(results);
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`;
  const titles = ['what', 'documents', ...columns.map(({ title }) => title)];
  const body = results.map((result) =>
    row([result.label, documentsOf(result), ...columns.map((column) => shown(result, column))]),
  );
  const list = header.map((line) => `- ${line}\n`).join('');
  return `${list}\n${row(titles)}${row(titles.map(() => '---'))}${body.join('')}`;
}

/** All runs, and a summary of each result by the titles of the columns. */
export function jsonReport(header: readonly string[], results: readonly BenchResult[]): string {
  const summarised = results.map((result) => {
    const columns = columnsOf([result]);
    const summary = columns.map((column) => [column.title, spreadOf(result, column)] as const);
    return { ...result, summary: Object.fromEntries(summary) };
  });
  return `${JSON.stringify({ header, results: summarised }, undefined, 2)}\n`;
}
