/** A panel of a picture: groups of bars with an axis. */
import type { Spread } from './result.js';

export interface Bar {
  readonly group: string;
  readonly series: string;
  /** Undefined for a bar that is not there. */
  readonly value: Spread | undefined;
}

export interface PanelStyle {
  readonly title: string;
  readonly scale: 'linear' | 'logarithmic';
  /** A value that gets a line of its own. */
  readonly reference: number | undefined;
}

const BAR_WIDTH = 34;
const BAR_GAP = 6;
const GROUP_GAP = 30;
const AXIS_WIDTH = 46;
const TOP = 34;
const PLOT_HEIGHT = 226;
const WIDTH_MIN = 420;

/** How a value becomes a height, and the values that get a line. */
interface Axis {
  readonly height: (value: number) => number;
  readonly ticks: readonly number[];
}

/** Without a frame, from the origin. The labels of the groups end at a height of 284. */
export function panel(
  style: PanelStyle,
  bars: readonly Bar[],
  colors: ReadonlyMap<string, string>,
): { readonly text: string; readonly width: number } {
  const there = bars.flatMap(({ value, ...bar }) => (value ? [{ ...bar, value }] : []));
  const axis = axisOf(style, there);
  const groups = [...new Set(there.map(({ group }) => group))];
  let drawn = '';
  let x = AXIS_WIDTH + GROUP_GAP / 2;
  for (const group of groups) {
    const start = x;
    for (const { series, value } of there.filter((bar) => bar.group === group)) {
      drawn += barText(x, value, axis, colors.get(series) ?? '#888');
      x += BAR_WIDTH + BAR_GAP;
    }
    drawn += text((start + x - BAR_GAP) / 2, TOP + PLOT_HEIGHT + 20, group, 'middle');
    x += GROUP_GAP;
  }
  const width = Math.max(WIDTH_MIN, x);
  const heading = `<text x="0" y="12" font-size="14" font-weight="bold">${style.title}</text>\n`;
  return { text: heading + grid(style, axis, width) + drawn, width };
}

function text(x: number, y: number, content: string, anchor: 'start' | 'middle' | 'end'): string {
  // The halo keeps it legible where it meets a line.
  const halo = 'stroke="white" stroke-width="3" paint-order="stroke"';
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" ${halo}>${content}</text>\n`;
}

function axisOf(
  { scale, reference }: PanelStyle,
  bars: readonly { readonly value: Spread }[],
): Axis {
  const values = bars.flatMap(({ value }) => [value.min, value.max]);
  const most = Math.max(reference ?? 0, ...values) || 1;
  if (scale === 'linear') {
    const step = most > 3 ? 1 : most > 1.4 ? 0.5 : 0.2;
    const steps = Math.ceil(most / step);
    const ticks = Array.from({ length: steps + 1 }, (_, index) => index * step);
    return { ticks, height: (value) => (value / (steps * step)) * PLOT_HEIGHT };
  }
  const low = Math.floor(Math.log10(Math.min(most, ...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(most)));
  const ticks = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index));
  return {
    ticks,
    height: (value) => ((Math.log10(value) - low) / (high - low)) * PLOT_HEIGHT,
  };
}

function grid({ reference, scale }: PanelStyle, axis: Axis, width: number): string {
  const bottom = TOP + PLOT_HEIGHT;
  const lines = axis.ticks.map((tick) => {
    const y = bottom - axis.height(tick);
    const label = scale === 'linear' ? tick.toFixed(1) : tickLabel(tick);
    return line(AXIS_WIDTH, width, y, '#ddd') + text(AXIS_WIDTH - 6, y + 4, label, 'end');
  });
  if (reference === undefined) return lines.join('');
  return lines.join('') + line(AXIS_WIDTH, width, bottom - axis.height(reference), '#555');
}

function line(from: number, to: number, y: number, color: string): string {
  return `<line x1="${from}" x2="${to}" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}" stroke="${color}"/>\n`;
}

/** A bar up to the median, with a whisker from the least to the greatest. */
function barText(x: number, { min, median, max }: Spread, axis: Axis, color: string): string {
  const bottom = TOP + PLOT_HEIGHT;
  const y = (value: number) => bottom - axis.height(value);
  const middle = x + BAR_WIDTH / 2;
  const height = axis.height(median);
  return (
    `<rect x="${x}" y="${y(median).toFixed(1)}" width="${BAR_WIDTH}" height="${height.toFixed(1)}" fill="${color}"/>\n` +
    `<line x1="${middle}" x2="${middle}" y1="${y(min).toFixed(1)}" y2="${y(max).toFixed(1)}" stroke="#222" stroke-width="1.5"/>\n` +
    text(middle, y(max) - 5, short(median), 'middle')
  );
}

/** Two digits or three. */
function short(value: number): string {
  const [unit, name] = value >= 1e6 ? [1e6, 'M'] : value >= 1e3 ? [1e3, 'k'] : [1, ''];
  const digits = value / unit >= 10 ? 0 : unit === 1 ? 2 : 1;
  return `${(value / unit).toFixed(digits)}${name}`;
}

function tickLabel(value: number): string {
  return short(value).replace(/\.0+(?=\D|$)/, '');
}
