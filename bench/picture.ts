/** A picture of the results: docs/s, and the ratio to copying, in groups of bars by document size. */
import { panel } from './panel.js';
import { type BenchResult, docsPerSecond, ratioToCopy, spread } from './result.js';

/** The colours of Okabe and Ito, which people of all kinds of sight tell apart, and shades of them. */
const COLORS = [
  '#0072b2',
  '#e69f00',
  '#009e73',
  '#cc79a7',
  '#56b4e9',
  '#d55e00',
  '#8c8c8c',
  '#f0e442',
  '#004b76',
  '#9a6a00',
  '#00634a',
  '#85466b',
];
const CAPTION_WIDTH = 520;
const LEGEND_ROW = 20;
const LEGEND_CHAR = 6.6;
const MARGIN = 24;
const PANEL_HEIGHT = 300;
const CAPTION =
  'By the size of a document. Bars are medians, lines go from the least to the greatest run.';

export function picture(results: readonly BenchResult[]): string {
  const labels = [...new Set(results.map(({ label }) => label))];
  const colors = new Map(
    labels.map((label, index) => [label, COLORS[index % COLORS.length] ?? '']),
  );
  const bars = results.map((result) => ({
    series: result.label,
    group: `${result.size.toLocaleString('en-US')} B`,
    size: result.size,
    speed: spread(result.runs, (run) => docsPerSecond(result, run)),
    ratio: spread(result.runs, ratioToCopy),
  }));
  bars.sort((a, b) => a.size - b.size);
  const first = panel(
    { title: 'Documents a second, logarithmic', scale: 'logarithmic', reference: undefined },
    bars.map(({ speed, ...bar }) => ({ ...bar, value: speed })),
    colors,
  );
  const second = panel(
    { title: 'How fast for copying the source, which is 1', scale: 'linear', reference: 1 },
    bars.map(({ ratio, ...bar }) => ({ ...bar, value: ratio })),
    colors,
  );
  // Requests are not compared with copying. Without any result both panels are empty.
  const hasRatios = bars.length === 0 || bars.some(({ ratio }) => ratio !== undefined);
  const panels = hasRatios ? [first, second] : [first];
  const width = Math.max(...panels.map((panel) => panel.width), CAPTION_WIDTH) + 2 * MARGIN;
  const legend = legendOf(labels, colors, width - 2 * MARGIN);
  const height = panels.length * PANEL_HEIGHT + legend.height + (2 + panels.length) * MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"`,
    ` viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12" fill="#222">\n`,
    '<rect width="100%" height="100%" fill="white"/>\n',
    place(MARGIN, MARGIN, legend.text),
    ...panels.map(({ text }, index) =>
      place(MARGIN, (1 + index) * MARGIN + legend.height + index * PANEL_HEIGHT, text),
    ),
    `<text x="${MARGIN}" y="${height - MARGIN}" fill="#666">${CAPTION}</text>\n`,
    '</svg>\n',
  ].join('');
}

function place(x: number, y: number, text: string): string {
  return `<g transform="translate(${x} ${y})">\n${text}</g>\n`;
}

function legendOf(
  labels: readonly string[],
  colors: ReadonlyMap<string, string>,
  width: number,
): { readonly text: string; readonly height: number } {
  let text = '';
  let x = 0;
  let y = 0;
  for (const label of labels) {
    const length = 24 + label.length * LEGEND_CHAR;
    if (x > 0 && x + length > width) {
      x = 0;
      y += LEGEND_ROW;
    }
    text += `<rect x="${x}" y="${y}" width="12" height="12" fill="${colors.get(label)}"/>`;
    text += `<text x="${x + 17}" y="${y + 11}">${label}</text>\n`;
    x += length + 12;
  }
  return { text, height: y + LEGEND_ROW + 16 };
}
