/** The requests and answers of `fixtures/setup-plan.txt`. */
import { readFileSync } from 'node:fs';

const FILE = 'fixtures/setup-plan.txt';

/** Stands in the text so often. */
export interface PlanSubstitution {
  readonly from: string;
  readonly to: string;
  readonly times: number;
}

/** A line such as `POST /_setup {"action": ...} -> Error`. */
export interface PlanTransition {
  /** 1 to 3. */
  readonly state: number;
  readonly path: string;
  /** The value of `action`. */
  readonly action: string;
  /** What stands between the body and the arrow, and after the arrow. */
  readonly condition: string;
  readonly outcome: string;
}

export interface SetupPlan {
  /** The bodies of the text, by their `action`. */
  readonly bodies: ReadonlyMap<string, object>;
  /** What `GET /_setup` answers, by state. */
  readonly answers: ReadonlyMap<number, unknown>;
  readonly transitions: readonly PlanTransition[];
}

/** Throws if a substitution does not match as often as it says. */
export function readSetupPlan(substitutions: readonly PlanSubstitution[]): SetupPlan {
  let text = readFileSync(FILE, 'utf8');
  for (const { from, to, times } of substitutions) {
    const found = text.split(from).length - 1;
    if (found !== times) throw new Error(`${from} stands there ${found} times, not ${times}`);
    text = text.replaceAll(from, to);
  }
  const bodies = new Map<string, object>();
  // A body begins and ends on lines of its own; those within it are whole when the braces are even.
  for (const block of blocksOf(text)) {
    const value: unknown = JSON.parse(block);
    if (typeof value !== 'object' || value === null || !('action' in value)) continue;
    bodies.set(String(value.action), value);
  }
  const answers = new Map<number, unknown>();
  const transitions: PlanTransition[] = [];
  let state = 0;
  for (const line of text.split('\n')) {
    state = Number(/^### State (\d):/.exec(line)?.[1] ?? state);
    if (/^\{"state"/.test(line)) answers.set(state, JSON.parse(line));
    const found = /^POST (\/\S+) \{"action":"(\w+)"(?:\.\.\.)?\}(.*?) -> (.*)$/.exec(line);
    if (found === null) continue;
    const [, path = '', action = '', condition = '', outcome = ''] = found;
    transitions.push({ state, path, action, condition: condition.trim(), outcome });
  }
  return { bodies, answers, transitions };
}

function blocksOf(text: string): string[] {
  const blocks: string[] = [];
  let block: string[] = [];
  let depth = 0;
  for (const line of text.split('\n').map((line) => line.trim())) {
    if (depth === 0 && line !== '{') continue;
    block.push(line);
    depth += line.split('{').length - line.split('}').length;
    if (depth > 0) continue;
    blocks.push(block.join('\n'));
    block = [];
  }
  return blocks;
}
