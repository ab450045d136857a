/** How the bench says what it measured: a line for each family at once, and a Markdown table, JSON and a picture at the end. */
import {
  type BenchResult,
  type BenchRun,
  ratioToCheckedCopy,
  ratioToCopy,
  type Spread,
  spread,
} from './result.js';

interface Column {
  readonly title: string;
  readonly text: (result: BenchResult) => string;
}

const number = (digits: number) => (value: number) => value.toFixed(digits);
const rounded = (value: number) => Math.round(value).toLocaleString('en-US');

function shown(range: Spread | undefined, format: (value: number) => string): string {
  if (range === undefined) return '';
  const { min, median, max } = range;
  return min === max ? format(median) : `${format(median)} (${format(min)}-${format(max)})`;
}

const of =
  (value: (run: BenchRun) => number | undefined, format: (value: number) => string) =>
  ({ runs }: BenchResult) =>
    shown(spread(runs, value), format);

const COLUMNS: readonly Column[] = [
  { title: 'what', text: ({ label }) => label },
  { title: 'documents', text: ({ docs, size }) => `${rounded(docs)} x ${size} B` },
  {
    title: 'docs/s',
    text: (result) => of((run) => result.docs / run.seconds, rounded)(result),
  },
  {
    title: 'MB/s',
    text: (result) => of((run) => (result.docs * result.size) / run.seconds / 1e6, rounded)(result),
  },
  { title: 'of copying', text: of(ratioToCopy, number(2)) },
  { title: 'of a checked copy', text: of(ratioToCheckedCopy, number(2)) },
  { title: 'peak MiB', text: of((run) => run.peakMiB, number(0)) },
  { title: 'read / source', text: of((run) => run.readRatio, number(2)) },
  { title: 'written / source', text: of((run) => run.writeRatio, number(2)) },
  { title: 'event loop p99 ms', text: of((run) => run.delayP99Ms, number(1)) },
  { title: 'max ms', text: of((run) => run.delayMaxMs, number(0)) },
  { title: 'file / JSON', text: of((run) => run.fileRatio, number(2)) },
  { title: 'open s', text: of((run) => run.openSeconds, number(2)) },
];

/** One line with all that is known of a family. */
export function resultLine(result: BenchResult): string {
  const [what, documents, ...others] = COLUMNS.map(({ title, text }, index) =>
    index < 2 ? text(result) : [text(result), title].join(' '),
  );
  const known = others.filter((text) => !text.startsWith(' '));
  return [what, documents, ...known].join(' | ');
}

/** Medians, with the least and the greatest in brackets. */
export function markdownTable(results: readonly BenchResult[]): string {
  const used = COLUMNS.filter(({ text }) => results.some((result) => text(result) !== ''));
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`;
  const body = results.map((result) => row(used.map(({ text }) => text(result))));
  return row(used.map(({ title }) => title)) + row(used.map(() => '---')) + body.join('');
}

const BAR_HEIGHT = 18;
const BAR_WIDTH = 360;
const LABEL_WIDTH = 220;

/** A picture of two groups of bars: docs/s, and the ratio to copying. */
export function picture(results: readonly BenchResult[]): string {
  const docs = (result: BenchResult) =>
    spread(result.runs, ({ seconds }) => result.docs / seconds)?.median ?? 0;
  const ratio = ({ runs }: BenchResult) => spread(runs, ratioToCopy)?.median ?? 0;
  const copied = results.filter((result) => ratio(result) > 0);
  const groupHeight = (count: number) => 40 + count * (BAR_HEIGHT + 6);
  const first = bars('documents a second', results, docs, rounded, 0);
  const second = bars(
    'of the speed of copying',
    copied,
    ratio,
    number(2),
    groupHeight(results.length),
  );
  const height = groupHeight(results.length) + groupHeight(copied.length);
  const width = LABEL_WIDTH + BAR_WIDTH + 120;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"`,
    ' font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n',
    `${first}${second}</svg>\n`,
  ].join('');
}

function bars(
  title: string,
  results: readonly BenchResult[],
  value: (result: BenchResult) => number,
  format: (value: number) => string,
  top: number,
): string {
  const largest = Math.max(1e-9, ...results.map(value));
  const lines = results.map((result, index) => {
    const y = top + 34 + index * (BAR_HEIGHT + 6);
    const width = (value(result) / largest) * BAR_WIDTH;
    const label = `${result.label} ${result.size} B`;
    return (
      `<text x="${LABEL_WIDTH - 8}" y="${y + 13}" text-anchor="end">${label}</text>` +
      `<rect x="${LABEL_WIDTH}" y="${y}" width="${width.toFixed(1)}" height="${BAR_HEIGHT}" fill="#3b6ea5"/>` +
      `<text x="${LABEL_WIDTH + width + 6}" y="${y + 13}">${format(value(result))}</text>\n`
    );
  });
  return `<text x="8" y="${top + 20}" font-weight="bold">${title}</text>\n${lines.join('')}`;
}
