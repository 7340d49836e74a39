// The reports of all nodes added up.

import type { NodeReport } from "./types";

const SLOT_SECONDS = 5;

export interface PlanRates {
  plan: string | null;
  all: number;
  admitted: number;
  refused: number;
  failed: number;
}

export interface Minute {
  /** The longest time that a node has measured, up to a minute. */
  seconds: number;
  totals: { admitted: number; refused: number; failed: number };
  plans: PlanRates[];
  bounds: number[];
  checks: number[];
  store: number[];
  storeErrors: number;
  perSecond: (amount: number) => number;
}

/** As in the program: the checks that limits admitted, that they refused, and the rest. */
function addOutcomes(row: PlanRates, outcomes: Record<string, number>) {
  for (const [outcome, amount] of Object.entries(outcomes)) {
    if (outcome === "shadow_refused") continue;
    row.all += amount;
    if (outcome === "allowed" || outcome === "reported") row.admitted += amount;
    else if (outcome === "refused" || outcome === "too_large") row.refused += amount;
    else row.failed += amount;
  }
}

const addTo = (sums: number[], more: number[]) => more.forEach((amount, at) => (sums[at] = (sums[at] ?? 0) + amount));

export function mergeMinute(nodes: NodeReport[]): Minute {
  const plans = new Map<string | null, PlanRates>();
  const minute: Minute = {
    seconds: Math.max(0, ...nodes.map((node) => node.minute.seconds)),
    totals: { admitted: 0, refused: 0, failed: 0 },
    plans: [],
    bounds: nodes[0]?.minute.bounds ?? [],
    checks: [],
    store: [],
    storeErrors: 0,
    perSecond: (amount) => (minute.seconds === 0 ? 0 : amount / minute.seconds),
  };
  for (const node of nodes) {
    for (const { plan, outcomes } of node.minute.plans) {
      const row = plans.get(plan) ?? { plan, all: 0, admitted: 0, refused: 0, failed: 0 };
      addOutcomes(row, outcomes);
      plans.set(plan, row);
    }
    addTo(minute.checks, node.minute.checkDurations);
    addTo(minute.store, node.minute.storeDurations);
    minute.storeErrors += node.minute.storeErrors;
  }
  minute.plans = [...plans.values()].sort((one, other) =>
    one.plan === null ? 1 : other.plan === null ? -1 : other.all - one.all,
  );
  for (const { admitted, refused, failed } of minute.plans) {
    minute.totals.admitted += admitted;
    minute.totals.refused += refused;
    minute.totals.failed += failed;
  }
  return minute;
}

/** The upper bound of the bucket in which the quantile is, `Infinity` above the last; null without any. */
export function quantile(counts: number[], bounds: number[], q: number): number | null {
  const all = counts.reduce((sum, amount) => sum + amount, 0);
  let seen = 0;
  for (const [at, amount] of counts.entries()) {
    seen += amount;
    if (all > 0 && seen >= q * all) return bounds[at] ?? Infinity;
  }
  return null;
}

/** The slots of all nodes by their time. */
export function fleetHistory(nodes: NodeReport[]): { times: number[]; slots: [number, number, number][] } {
  const sums = new Map<number, [number, number, number]>();
  for (const node of nodes) {
    node.history.forEach((slot, at) => {
      const end = node.historyEnd - (node.history.length - 1 - at) * SLOT_SECONDS;
      const sum = sums.get(end) ?? [0, 0, 0];
      sums.set(end, [sum[0] + slot[0], sum[1] + slot[1], sum[2] + slot[2]]);
    });
  }
  // The newest slot is left out while some node has not reported it yet.
  const ends = nodes.map((node) => node.historyEnd).filter((end) => end > 0);
  const complete = ends.length > 0 ? Math.min(...ends.filter((end) => end > Math.max(...ends) - 30)) : 0;
  const times = [...sums.keys()].filter((end) => end <= complete).sort((one, other) => one - other);
  return { times, slots: times.map((end) => sums.get(end) ?? [0, 0, 0]) };
}
