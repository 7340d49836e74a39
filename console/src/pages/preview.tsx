// The keys that would be refused if a plan were changed: by the checks that the node has recorded, or else by what
// its keys use now.

import { ApiError, get, type Operation, part, request } from "../api";
import { count, parseCount, parseRate, time } from "../format";
import { link, useLoaded } from "../state";
import type { ApiKey, NodeReport, Plan, TopRow } from "../types";
import { Empty, Loading, Table } from "../ui";
import { limitOperations, type LimitTexts } from "./limits";
import { useKeyNames } from "./top";

interface Row {
  key: ApiKey;
  /** The requests of the key in the last minute. */
  demand: number;
  before: number;
  after: number;
}

interface Spent {
  id: string;
  used: number;
}

/** The most keys whose own sizes are looked up. */
const MAX_ROWS = 30;

/** The busiest keys of the plan's throttle, with what they asked for, without those that have a rate of their own. */
async function readDemand(plan: string, signal: AbortSignal): Promise<{ key: ApiKey; row: TopRow }[]> {
  const read = (by: string) =>
    get<{ item: TopRow[] }>(`/top?n=200&by=${by}&limit=${part(`${plan}/throttle`)}`, signal);
  const pages = await Promise.all([read("used"), read("refused")]);
  const rows = new Map(pages.flatMap((page) => page.item).map((row) => [row.keyId, row]));
  const asked = ({ minute }: TopRow) => minute.used + minute.refused;
  const busiest = [...rows.values()].sort((one, other) => asked(other) - asked(one)).slice(0, MAX_ROWS);
  const found = await Promise.allSettled(
    busiest.map(async (row) => ({ row, key: await get<ApiKey>(`/apikeys/${part(row.keyId ?? "")}`, signal) })),
  );
  return found
    .flatMap((one) => (one.status === "fulfilled" ? [one.value] : []))
    .filter(({ key }) => key.overrides?.[plan]?.throttle === undefined);
}

/** The last minute's refusals of each key under another rate, if it asks for the same again, evenly. */
function estimate(demands: { key: ApiKey; row: TopRow }[], texts: LimitTexts): Row[] {
  const rate = parseRate(texts.rate);
  const burst = parseCount(texts.burst) ?? Math.max(1, Math.ceil(rate ?? 0));
  const rows = demands.map(({ key, row: { minute } }) => {
    const demand = minute.used + minute.refused;
    const admitted = rate === null ? demand : Math.floor(rate * 60 + burst);
    return { key, demand, before: minute.refused, after: Math.max(0, demand - admitted) };
  });
  return rows
    .filter((row) => row.after > 0 || row.before > 0)
    .sort((one, other) => other.after - other.before - (one.after - one.before));
}

/** The use of each of the first keys of the plan since the first of the month, and today. */
async function readSpent(plan: string, isDaily: boolean, signal: AbortSignal): Promise<Spent[]> {
  const { values } = await get<{ values: Record<string, [number, number][]> }>(
    `/usageplans/${part(plan)}/usage?limit=500`,
    signal,
  );
  return Object.entries(values).map(([id, days]) => {
    const counted = isDaily ? days.slice(-1) : days;
    return { id, used: counted.reduce((sum, [used]) => sum + used, 0) };
  });
}

function Throttled({ plan, texts }: { plan: Plan; texts: LimitTexts }) {
  const demands = useLoaded((signal) => readDemand(plan.id, signal), [plan.id], 10_000);
  if (demands.status === 404) {
    return <Empty title="Keys are not counted">Start the nodes with --top-keys to estimate who would be refused.</Empty>;
  }
  return (
    <Loading from={demands}>
      {(found) => {
        const rows = estimate(found, texts);
        const worse = rows.filter((row) => row.after > row.before).length;
        return (
          <>
            <p class={`notice ${worse > 0 ? "bad" : "good"}`} role="status">
              {worse === 0
                ? "By the rate, no key would have been refused more often in the last minute."
                : `By the rate, ${count(worse)} ${worse === 1 ? "key" : "keys"} would have been refused more often in the last minute.`}
            </p>
            {rows.length > 0 && (
              <Table<Row>
                caption="Checks of the last minute with this rate"
                rows={rows}
                rowKey={(row) => row.key.id}
                columns={[
                  { title: "Key", cell: (row) => <a href={link("keys", row.key.id)}>{row.key.name || row.key.id}</a> },
                  { title: "Asked", number: true, cell: (row) => count(row.demand) },
                  { title: "Refused", number: true, cell: (row) => count(row.before) },
                  { title: "Would be", number: true, cell: (row) => <strong>{count(row.after)}</strong> },
                ]}
              />
            )}
            <p class="note">
              Estimated from the {count(MAX_ROWS)} busiest keys of the last minute, as if they asked evenly: bursts would be
              refused more. Nodes with <code>--record FILE</code> judge what really was asked for.
            </p>
          </>
        );
      }}
    </Loading>
  );
}

function Exhausted({ plan, texts }: { plan: Plan; texts: LimitTexts }) {
  const isDaily = texts.period === "DAY";
  const quota = texts.period === "" ? null : parseCount(texts.quota);
  const spent = useLoaded((signal) => readSpent(plan.id, isDaily, signal), [plan.id, isDaily]);
  const since = isDaily ? "today" : "this month";
  return (
    <Loading from={spent}>
      {(found) => {
        const over = found
          .filter(({ used }) => quota !== null && used >= quota)
          .sort((one, other) => other.used - one.used);
        return (
          <>
            <p class={`notice ${over.length > 0 ? "bad" : "good"}`} role="status">
              {over.length === 0
                ? `By the quota, no key has used as much ${since}.`
                : `By the quota, ${count(over.length)} ${over.length === 1 ? "key has" : "keys have"} used it up ${since} and would be refused.`}
            </p>
            {over.length > 0 && (
              <Table<Spent>
                caption={`Keys that have used the quota up ${since}`}
                rows={over.slice(0, 20)}
                rowKey={(row) => row.id}
                columns={[
                  { title: "Key", cell: (row) => <a href={link("keys", row.id)}>{row.id}</a> },
                  { title: "Used", number: true, cell: (row) => count(row.used) },
                  { title: "Quota", number: true, cell: () => count(quota ?? 0) },
                ]}
              />
            )}
            {found.length >= 500 && <p class="note">Of the first 500 keys of the plan, by their ids.</p>}
          </>
        );
      }}
    </Loading>
  );
}

function Estimate(props: { plan: Plan; texts: LimitTexts; first: LimitTexts }) {
  const { plan, texts, first } = props;
  const hasRate = texts.rate !== first.rate || texts.burst !== first.burst;
  const hasQuota = texts.quota !== first.quota || texts.period !== first.period;
  return (
    <>
      {hasRate && <Throttled plan={plan} texts={texts} />}
      {hasQuota && <Exhausted plan={plan} texts={texts} />}
      {!hasRate && !hasQuota && (
        <Empty title="Only a rate and a quota of requests are estimated">
          Nodes with <code>--record FILE</code> judge all limits.
        </Empty>
      )}
    </>
  );
}

interface Judged {
  checks: number;
  firstMs: number;
  lastMs: number;
  notJudged: { reason: string; checks: number }[];
  refusedBefore: number;
  refusedAfter: number;
  newlyRefused: number;
  newlyAllowed: number;
  rows: number;
  item: JudgedRow[];
}

interface JudgedRow {
  limit: string;
  keyId?: string | null;
  key?: string | null;
  before: number;
  after: number;
}

/** Null if the node records nothing that could be judged, or does not judge. */
async function readJudged(plan: string, patchOperations: Operation[], signal: AbortSignal): Promise<Judged | null> {
  try {
    const response = await request("POST", `/usageplans/${part(plan)}/preview`, { patchOperations }, signal);
    return (await response.json()) as Judged;
  } catch (error) {
    if (error instanceof ApiError && (error.status === 409 || error.status === 404 || error.status === 501)) return null;
    throw error;
  }
}

/** The judgement of the checks that this node has recorded: who was refused, and who would be at the limits of the plan. */
function Recorded({ plan, report }: { plan: Plan; report: Judged }) {
  const nodes = useLoaded((signal) => get<{ item: NodeReport[] }>("/nodes", signal), []);
  // What the other nodes have charged is not in the record, so that counters are too low.
  const isPart = (nodes.data?.item.length ?? 1) > 1;
  const ofPlan = report.item.filter((row) => row.limit.startsWith(`${plan.id}/`));
  const rows = ofPlan.filter((row) => !isPart || row.after > row.before).slice(0, 20);
  const names = useKeyNames(rows.flatMap((row) => row.keyId ?? []));
  const notJudged = report.notJudged.reduce((sum, one) => sum + one.checks, 0);
  return (
    <>
      <p class={`notice ${report.newlyRefused > 0 ? "bad" : "good"}`} role="status">
        {isPart
          ? `At least ${count(report.newlyRefused)} of ${count(report.checks)} recorded checks would be refused that were admitted.`
          : `Of ${count(report.checks)} recorded checks, ${count(report.refusedBefore)} were refused and ${count(report.refusedAfter)} would be: ${count(report.newlyRefused)} more, ${count(report.newlyAllowed)} no longer.`}
      </p>
      {rows.length > 0 && (
        <Table<JudgedRow>
          caption="Refusals of recorded checks with these sizes"
          rows={rows}
          rowKey={(row) => `${row.keyId ?? row.key ?? ""} ${row.limit}`}
          columns={[
            {
              title: "Key",
              cell: (row) =>
                row.keyId ? <a href={link("keys", row.keyId)}>{names.get(row.keyId) || row.keyId}</a> : (row.key ?? "–"),
            },
            { title: "Limit", cell: (row) => <code>{row.limit}</code> },
            { title: "Refused", number: true, cell: (row) => count(row.before) },
            { title: isPart ? "At least" : "Would be", number: true, cell: (row) => <strong>{count(row.after)}</strong> },
          ]}
        />
      )}
      {report.checks > 0 && (
        <p class="note">
          Recorded by the node that serves this page, from {time(report.firstMs / 1_000)} to {time(report.lastMs / 1_000)}.
          {isPart && " The checks of the other nodes count too: “tollgate what-if” judges the records of all nodes."}
          {notJudged > 0 && ` ${count(notJudged)} more could not be judged: ${report.notJudged[0]?.reason ?? ""}.`}
        </p>
      )}
    </>
  );
}

export function Preview(props: { plan: Plan; texts: LimitTexts; first: LimitTexts }) {
  const { plan, texts, first } = props;
  const operations = limitOperations(texts, first, true);
  const isReady = typeof operations !== "string";
  const judged = useLoaded(
    async (signal) => (isReady && operations.length > 0 ? readJudged(plan.id, operations, signal) : null),
    [plan.id, operations],
  );
  if (!isReady) return <Empty title={operations} />;
  if (operations.length === 0) {
    return <Empty title="Change a size at the left">Who would be refused is then shown here, before anything is saved.</Empty>;
  }
  return (
    <Loading from={judged}>
      {(report) =>
        report === null ? (
          <Estimate plan={plan} texts={texts} first={first} />
        ) : (
          <Recorded plan={plan} report={report} />
        )
      }
    </Loading>
  );
}
