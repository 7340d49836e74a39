// Webhooks: if a receiver is configured, and what became of its events.

import { get } from "../api";
import { count, time } from "../format";
import { link, useLoaded } from "../state";
import type { DeliveryAttempt, NodeReport } from "../types";
import { Badge, Empty, Loading, Page, Panel, Stat, Table, type Tone } from "../ui";
import { useKeyNames } from "./top";

const sum = (nodes: NodeReport[], member: "delivered" | "failed" | "givenUp") =>
  nodes.reduce((total, node) => total + (node.webhooks?.[member] ?? 0), 0);

const OUTCOMES: Record<DeliveryAttempt["outcome"], { tone: Tone; text: string }> = {
  delivered: { tone: "good", text: "delivered" },
  failed: { tone: "warn", text: "retried" },
  given_up: { tone: "bad", text: "given up" },
};

/** The newest attempts of all nodes. */
function Attempts({ nodes }: { nodes: NodeReport[] }) {
  const attempts = nodes.flatMap(({ node, webhooks }) => (webhooks?.newest ?? []).map((attempt) => ({ ...attempt, node })));
  const newest = attempts.sort((one, other) => other.at - one.at).slice(0, 20);
  const names = useKeyNames(newest.flatMap(({ data }) => data.key ?? []));
  return (
    <Panel title="Newest attempts" note="The last 20 of each node since its start">
      {newest.length === 0 ? (
        <Empty title="Nothing was sent yet">An event is sent when a key has used a threshold of a quota.</Empty>
      ) : (
        <Table<DeliveryAttempt & { node: string }>
          caption="Newest attempts"
          rows={newest}
          rowKey={(row) => `${row.node} ${row.id} ${row.attempt}`}
          columns={[
            { title: "Time", cell: (row) => time(row.at) },
            {
              title: "Event",
              cell: ({ data }) => (
                <>
                  {data.key && <a href={link("keys", data.key)}>{names.get(data.key) || data.key}</a>} has used{" "}
                  {count(data.threshold ?? 0)} % of <code>{data.limit}</code>
                </>
              ),
            },
            {
              title: "State",
              cell: (row) => (
                <>
                  <Badge tone={OUTCOMES[row.outcome].tone}>{OUTCOMES[row.outcome].text}</Badge>{" "}
                  {row.why && <span class="aside">{row.why}</span>}
                </>
              ),
            },
            { title: "Attempt", number: true, cell: (row) => count(row.attempt) },
            { title: "Node", cell: (row) => row.node },
          ]}
        />
      )}
    </Panel>
  );
}

function Deliveries({ nodes }: { nodes: NodeReport[] }) {
  const waiting = Math.max(0, ...nodes.map((node) => node.webhooks?.waiting ?? 0));
  const [failed, givenUp] = [sum(nodes, "failed"), sum(nodes, "givenUp")];
  return (
    <>
      <dl class="stats">
        <Stat label="Delivered" value={count(sum(nodes, "delivered"))} note="since the nodes started" />
        <Stat label="Waiting" value={count(waiting)} note="for a delivery or a retry" tone={waiting > 100 ? "warn" : "plain"} />
        <Stat label="Attempts that failed" value={count(failed)} note="retried for three days" tone={failed > 0 ? "warn" : "plain"} />
        <Stat label="Given up" value={count(givenUp)} note="410, or three days are over" tone={givenUp > 0 ? "bad" : "plain"} />
      </dl>
      <Attempts nodes={nodes} />
      <Panel title="By node">
        <Table<NodeReport>
          caption="Webhooks by node"
          rows={nodes}
          rowKey={(node) => node.node}
          columns={[
            { title: "Node", cell: (node) => node.node },
            {
              title: "Receiver",
              cell: (node) => (node.webhooks ? <Badge tone="good">configured</Badge> : <Badge tone="warn">none</Badge>),
            },
            {
              title: "Thresholds",
              cell: (node) => node.webhooks?.thresholds.map((threshold) => `${threshold} %`).join(", ") ?? "–",
            },
            { title: "Delivered", number: true, cell: (node) => count(node.webhooks?.delivered ?? 0) },
            { title: "Failed", number: true, cell: (node) => count(node.webhooks?.failed ?? 0) },
            { title: "Given up", number: true, cell: (node) => count(node.webhooks?.givenUp ?? 0) },
          ]}
        />
      </Panel>
    </>
  );
}

export function WebhooksPage() {
  const nodes = useLoaded((signal) => get<{ item: NodeReport[] }>("/nodes", signal), [], 5_000);
  return (
    <Page title="Webhooks" note="Events when a key has used a part of a quota of its plan">
      <Loading from={nodes}>
        {({ item }) =>
          item.some((node) => node.webhooks !== null) ? (
            <Deliveries nodes={item} />
          ) : (
            <Panel title="Receiver">
              <Empty title="No receiver is configured">
                Start the nodes with <code>TOLLGATE_WEBHOOK_URL</code> and <code>TOLLGATE_WEBHOOK_SECRET</code>. An event is
                then posted when a key has used 80, 90 and 100 % of a quota.
              </Empty>
            </Panel>
          )
        }
      </Loading>
    </Page>
  );
}
