/** The simulators, each run in a copy of the compiled engine with edits and in a thread of its own. */
import { type Edit, runEdited } from './edited-copy.js';
import type { PowerLossOptions, PowerLossResult } from './power-loss.js';
import type { FaultOptions, FaultResult } from './rewrite-faults.js';
import type { RewritePowerLossOptions, RewritePowerLossResult } from './rewrite-power-loss.js';

export function simulateShards(
  edits: readonly Edit[],
  options: PowerLossOptions,
): Promise<PowerLossResult> {
  return runEdited(edits, 'power-loss.js', 'runPowerLoss', options);
}

export function simulateRewrites(
  edits: readonly Edit[],
  options: RewritePowerLossOptions,
): Promise<RewritePowerLossResult> {
  return runEdited(edits, 'rewrite-power-loss.js', 'runRewritePowerLoss', options);
}

export function simulateFaults(
  edits: readonly Edit[],
  options: FaultOptions,
): Promise<FaultResult> {
  return runEdited(edits, 'rewrite-faults.js', 'sweepRewriteFaults', options);
}
