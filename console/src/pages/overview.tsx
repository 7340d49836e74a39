// The overview: what the service does now, who is refused, and how the nodes are.

import { useState } from "preact/hooks";

import { get } from "../api";
import { Chart } from "../chart";
import { fleetHistory, mergeMinute, type Minute, quantile, type PlanRates } from "../fleet";
import { ago, compact, count, percent, rate, seconds } from "../format";
import { link, useLoaded } from "../state";
import type { NodeReport, TopRow } from "../types";
import { Badge, Empty, Loading, Meter, Page, Panel, Segments, Stat, Table } from "../ui";
import { TopTable } from "./top";

interface Nodes {
  item: NodeReport[];
  complete: boolean;
}

const latency = (value: number | null) =>
  value === null ? "–" : value === Infinity ? "> 1 s" : `≤ ${seconds(value)}`;

function Stats({ nodes, minute }: { nodes: NodeReport[]; minute: Minute }) {
  const { admitted, refused, failed } = minute.totals;
  const all = admitted + refused + failed;
  const openBreakers = nodes.reduce((sum, node) => sum + node.store.openBreakers, 0);
  const isRedis = nodes[0]?.store.kind === "redis";
  return (
    <dl class="stats">
      <Stat label="Checks/s" value={rate(minute.perSecond(all))} note={`last ${seconds(minute.seconds || 60)}`} />
      <Stat
        label="Refused"
        value={percent(refused, all)}
        note={`${count(refused)} of ${count(all)}`}
        tone={refused > 0 ? "bad" : "plain"}
      />
      <Stat
        label="Without the store"
        value={percent(failed, all)}
        note={failed > 0 ? `${count(failed)} by on_store_failure` : "none"}
        tone={failed > 0 ? "warn" : "plain"}
      />
      <Stat
        label="Check p99"
        value={latency(quantile(minute.checks, minute.bounds, 0.99))}
        note={`median ${latency(quantile(minute.checks, minute.bounds, 0.5))}`}
      />
      {isRedis && (
        <Stat
          label="Redis p99"
          value={latency(quantile(minute.store, minute.bounds, 0.99))}
          note={minute.storeErrors > 0 ? `${count(minute.storeErrors)} ${minute.storeErrors === 1 ? "call" : "calls"} failed` : "no call failed"}
          tone={minute.storeErrors > 0 ? "warn" : "plain"}
        />
      )}
      <Stat
        label={nodes.length === 1 ? "Node" : "Nodes"}
        value={count(nodes.length)}
        note={openBreakers > 0 ? `${count(openBreakers)} circuit breakers open` : "store reachable"}
        tone={openBreakers > 0 ? "bad" : "good"}
      />
    </dl>
  );
}

function RateChart({ nodes }: { nodes: NodeReport[] }) {
  const { times, slots } = fleetHistory(nodes);
  const perSecond = (part: 0 | 1 | 2) => slots.map((slot) => slot[part] / 5);
  const last = slots.at(-1) ?? [0, 0, 0];
  return (
    <Panel title="Checks per second" note="The last 15 minutes, of all nodes">
      {times.length < 2 ? (
        <Empty title="Nothing is measured yet">The first point is there five seconds after a node has started.</Empty>
      ) : (
        <Chart
          label={`Checks per second over the last ${seconds(times.length * 5)}; now ${rate(last[0] / 5)} admitted and ${rate(last[1] / 5)} refused`}
          times={times}
          unit="checks/s"
          series={[
            { name: "admitted", color: "--good", values: perSecond(0) },
            { name: "refused", color: "--bad", values: perSecond(1) },
            { name: "decided without the store", color: "--warn", values: perSecond(2) },
          ]}
        />
      )}
    </Panel>
  );
}

function planLink(plan: string) {
  if (plan.startsWith("policy:")) return <a href={link("policies", plan.slice(7))}>{plan}</a>;
  if (plan.startsWith("stage:")) {
    const [api = "", stage = ""] = plan.slice(6).split("/", 2);
    return <a href={link("stages", api, stage)}>{plan}</a>;
  }
  return <a href={link("plans", plan)}>{plan}</a>;
}

function Plans({ minute }: { minute: Minute }) {
  return (
    <Panel title="By plan" note={`Plans, policies and stages in the last ${seconds(minute.seconds || 60)}`}>
      {minute.plans.length === 0 ? (
        <Empty title="No checks">
          Gateways send checks to <code>POST /check</code>. As soon as one arrives, its plan is here.
        </Empty>
      ) : (
        <Table<PlanRates>
          caption="Checks by plan and outcome"
          rows={minute.plans}
          rowKey={(row) => row.plan ?? ""}
          columns={[
            { title: "Plan", cell: (row) => (row.plan === null ? "all others" : planLink(row.plan)) },
            { title: "Checks/s", number: true, cell: (row) => rate(minute.perSecond(row.all)) },
            { title: "Admitted", number: true, cell: (row) => compact(row.admitted) },
            { title: "Refused", number: true, cell: (row) => compact(row.refused) },
            { title: "Without store", number: true, cell: (row) => compact(row.failed) },
            {
              title: "Share refused",
              cell: (row) => (
                <span class="with-meter">
                  <Meter label={`Refused share of ${row.plan ?? "all others"}`} value={row.refused} max={row.all} tone="bad" />
                  {percent(row.refused, row.all)}
                </span>
              ),
            },
          ]}
        />
      )}
    </Panel>
  );
}

function Top() {
  const [window, setWindow] = useState<"minute" | "hour">("minute");
  const top = useLoaded((signal) => get<{ item: TopRow[] }>(`/top?n=10&window=${window}`, signal), [window], 3_000);
  return (
    <Panel
      title="Refused most"
      note="The keys with the most refusals, by limit"
      actions={
        <Segments
          label="Window"
          value={window}
          options={[
            ["minute", "Last minute"],
            ["hour", "Last hour"],
          ]}
          onChoose={setWindow}
        />
      }
    >
      {top.status === 404 ? (
        <Empty title="Keys are not counted">
          Start the nodes with <code>--top-keys 200</code>, the default, to see who is refused.
        </Empty>
      ) : (
        <Loading from={top}>
          {({ item }) =>
            item.length === 0 ? (
              <Empty title="Nobody is refused">No key was refused in the last {window}.</Empty>
            ) : (
              <TopTable caption="Keys with the most refusals" rows={item} window={window} />
            )
          }
        </Loading>
      )}
    </Panel>
  );
}

function NodeTable({ nodes }: { nodes: NodeReport[] }) {
  const catalogs = new Set(nodes.map((node) => node.catalog));
  return (
    <Panel title="Nodes" note={catalogs.size > 1 ? "Their catalogs differ: a change is on its way, or a file differs" : undefined}>
      <Table<NodeReport>
        caption="Nodes"
        rows={nodes}
        rowKey={(node) => node.node}
        columns={[
          { title: "Node", cell: (node) => node.node },
          {
            title: "Store",
            cell: (node) =>
              node.store.openBreakers > 0 ? (
                <Badge tone="bad">{node.store.kind} unreachable</Badge>
              ) : (
                <Badge tone="good">{node.store.kind}</Badge>
              ),
          },
          {
            title: "Checks/s",
            number: true,
            cell: (node) => {
              const minute = mergeMinute([node]);
              const { admitted, refused, failed } = minute.totals;
              return rate(minute.perSecond(admitted + refused + failed));
            },
          },
          { title: "In flight", number: true, cell: (node) => count(node.checksInFlight) },
          { title: "Connections", number: true, cell: (node) => count(node.connections) },
          {
            title: "Store full",
            number: true,
            cell: (node) =>
              node.store.kind === "redis"
                ? `${(100 * node.store.redisMemoryUsed).toFixed(0)} %`
                : percent(node.store.memoryRows, node.store.maxMemoryRows),
          },
          { title: "Catalog", cell: (node) => <code>{node.catalog.slice(0, 8) || "–"}</code> },
          { title: "Version", cell: (node) => node.version },
          { title: "Started", cell: (node) => ago(node.started) },
        ]}
      />
    </Panel>
  );
}

export function OverviewPage() {
  const nodes = useLoaded((signal) => get<Nodes>("/nodes", signal), [], 5_000);
  return (
    <Page title="Overview">
      <Loading from={nodes}>
        {({ item, complete }) => {
          const minute = mergeMinute(item);
          return (
            <>
              {!complete && (
                <p class="notice warn" role="status">
                  Redis cannot be read now, so this is the view of one node only. Plans decide by their{" "}
                  <code>on_store_failure</code>.
                </p>
              )}
              <Stats nodes={item} minute={minute} />
              <RateChart nodes={item} />
              <Top />
              <Plans minute={minute} />
              <NodeTable nodes={item} />
            </>
          );
        }}
      </Loading>
    </Page>
  );
}
