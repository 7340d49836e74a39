// Webhooks: if a receiver is configured, and what became of its events.

import { get } from "../api";
import { count } from "../format";
import { useLoaded } from "../state";
import type { NodeReport } from "../types";
import { Badge, Empty, Loading, Page, Panel, Stat, Table } from "../ui";

const sum = (nodes: NodeReport[], member: "delivered" | "failed" | "givenUp") =>
  nodes.reduce((total, node) => total + (node.webhooks?.[member] ?? 0), 0);

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
