/** Reads the TAP that one file of tests prints: counts assertions, and keeps every failure with what is known of it. */
export class TapReader {
  passed = 0;
  failed = 0;
  /** Lines that people want to see: failures, seeds, remarks. */
  readonly shown: string[] = [];
  #depthBefore = 0;
  #inFailure = false;

  line(line: string): void {
    const match = /^( *)(not ok|ok) \d+/.exec(line);
    if (match !== null) this.#result(line, match[1]?.length ?? 0, match[2] === 'ok');
    else if (this.#inFailure || /^\s*# (?!Subtest|\{|time)/.test(line)) this.shown.push(line);
    if (line.trim() === '...') this.#inFailure = false;
  }

  #result(line: string, depth: number, ok: boolean): void {
    // A line less deep than the one before sums up a subtest, whose assertions were counted.
    const isSummary = depth < this.#depthBefore;
    this.#depthBefore = depth;
    this.#inFailure = !ok;
    if (!ok) this.shown.push(line);
    if (isSummary) return;
    const isSkipped = / # (skip|todo)\b/i.test(line);
    if (!ok) this.failed++;
    else if (!isSkipped) this.passed++;
  }
}
