// The live tail: decisions of the node that serves this page, while they are made.

import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError, get, part, request } from "../api";
import { count, seconds } from "../format";
import { errorText, link, useLoaded } from "../state";
import type { NodeReport } from "../types";
import { Badge, Empty, Page, Panel, SelectField, Table, TextField, type Tone } from "../ui";
import { policyOf, useKeyNames } from "./top";

const MAX_ROWS = 200;

interface Decision {
  id: number;
  at: string;
  node: string;
  outcome: string;
  keyId?: string;
  key?: string;
  plan?: string;
  limit?: string;
  api?: string;
  stage?: string;
  method?: string;
  pattern?: string;
  retryAfterMs?: number | null;
  requestId?: string;
}

interface Filters {
  all: string;
  plan: string;
  key: string;
  limit: string;
}

/** Reads server-sent events. `EventSource` sends no headers, and a session needs one. */
async function readEvents(
  filters: Filters,
  signal: AbortSignal,
  onEvent: (kind: string, data: Record<string, unknown>) => void,
): Promise<void> {
  const query = Object.entries(filters)
    .filter(([, value]) => value.trim() !== "" && value !== "false")
    .map(([name, value]) => `${name}=${part(value.trim())}`);
  const response = await request("GET", `/tail${query.length > 0 ? `?${query.join("&")}` : ""}`, undefined, signal);
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const field = (name: string) =>
        block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      const data = field("data");
      if (data) onEvent(field("event") ?? "message", JSON.parse(data) as Record<string, unknown>);
    }
  }
}

const tone = (outcome: string): Tone =>
  outcome === "allowed" || outcome === "reported" ? "good" : outcome === "refused" || outcome === "too_large" ? "bad" : "warn";

function keyOf(row: Decision, names: Map<string, string>) {
  if (row.keyId) return <a href={link("keys", row.keyId)}>{names.get(row.keyId) || row.keyId}</a>;
  const policy = policyOf(row.limit ?? `${row.plan ?? ""}/`);
  if (row.key && policy) return <a href={`${link("policies", policy)}?key=${part(row.key)}`}>{row.key}</a>;
  return row.key ?? "–";
}

/** The stage and the pattern of the method that matched, which names the method. */
const requestOf = ({ api, stage, method, pattern }: Decision) =>
  [api && stage ? `${api}/${stage}` : "", pattern ?? method ?? ""].filter(Boolean).join(" ") || "–";

function Rows({ rows }: { rows: Decision[] }) {
  const names = useKeyNames(rows.flatMap((row) => row.keyId ?? []));
  return (
    <Table<Decision>
      caption="Decisions"
      rows={rows}
      rowKey={(row) => String(row.id)}
      columns={[
        { title: "Time", cell: (row) => <time dateTime={row.at}>{row.at.slice(11, 23)}</time> },
        { title: "Outcome", cell: (row) => <Badge tone={tone(row.outcome)}>{row.outcome.replaceAll("_", " ")}</Badge> },
        { title: "Key", cell: (row) => keyOf(row, names) },
        { title: "Limit", cell: (row) => (row.limit ? <code>{row.limit}</code> : (row.plan ?? "–")) },
        { title: "Request", cell: requestOf },
        {
          title: "Retry after",
          number: true,
          cell: (row) => (row.retryAfterMs ? seconds(row.retryAfterMs / 1_000) : "–"),
        },
        { title: "Request id", cell: (row) => (row.requestId ? <code>{row.requestId.slice(0, 8)}</code> : "–") },
      ]}
    />
  );
}

/** The names of the other nodes on this store. */
function useOtherNodes(node: string): string[] {
  const nodes = useLoaded((signal) => get<{ item: NodeReport[] }>("/nodes", signal), [], 10_000);
  return (nodes.data?.item ?? []).map((report) => report.node).filter((name) => node !== "" && name !== node);
}

/** The nodes whose decisions are not shown: no node passes its decisions on to another. */
const OtherNodes = ({ names }: { names: string[] }) => (
  <div class="notice">
    <p>
      Not shown: the decisions of {names.length === 1 ? "another node" : `${count(names.length)} other nodes`},{" "}
      {names.slice(0, 5).join(", ")}
      {names.length > 5 && " …"}. <code>tollgate tail</code> with a <code>--url</code> for each shows several nodes.
    </p>
  </div>
);

type Status = "connecting" | "open" | "paused" | "failed";

export function TailPage({ query }: { query: URLSearchParams }) {
  const [filters, setFilters] = useState<Filters>({
    all: "false",
    plan: query.get("plan") ?? "",
    key: query.get("key") ?? "",
    limit: query.get("limit") ?? "",
  });
  const [applied, setApplied] = useState(filters);
  const [status, setStatus] = useState<Status>("connecting");
  const [error, setError] = useState("");
  const [node, setNode] = useState("");
  const [rows, setRows] = useState<Decision[]>([]);
  const [missed, setMissed] = useState(0);
  const [isPaused, setPaused] = useState(false);
  const next = useRef(0);
  const others = useOtherNodes(node);

  useEffect(() => {
    const timer = setTimeout(() => setApplied(filters), 400);
    return () => clearTimeout(timer);
  }, [filters]);

  useEffect(() => {
    if (isPaused) {
      setStatus("paused");
      return undefined;
    }
    const controller = new AbortController();
    let retry: ReturnType<typeof setTimeout> | undefined;
    let fresh: Decision[] = [];
    // At most four renders a second, however many decisions there are.
    const flush = setInterval(() => {
      if (fresh.length === 0) return;
      const more = fresh.reverse();
      fresh = [];
      setRows((before) => [...more, ...before].slice(0, MAX_ROWS));
    }, 250);
    const onEvent = (kind: string, data: Record<string, unknown>) => {
      if (kind === "start") setNode(String(data["node"] ?? ""));
      else if (kind === "missed") {
        setMissed((before) => before + Number(data["sampledOut"] ?? 0) + Number(data["dropped"] ?? 0));
      } else if (kind === "decision") fresh.push({ ...(data as unknown as Decision), id: (next.current += 1) });
      setStatus("open");
    };
    const connect = async () => {
      setStatus("connecting");
      setError("");
      try {
        await readEvents(applied, controller.signal, onEvent);
      } catch (thrown) {
        if (controller.signal.aborted) return;
        setStatus("failed");
        setError(errorText(thrown));
        // The request itself is wrong, and would be again.
        if (thrown instanceof ApiError && thrown.status >= 400 && thrown.status < 429) return;
      }
      if (!controller.signal.aborted) retry = setTimeout(() => void connect(), 2_000);
    };
    void connect();
    return () => {
      controller.abort();
      clearInterval(flush);
      clearTimeout(retry);
    };
  }, [applied, isPaused]);

  const set = (member: keyof Filters) => (text: string) => setFilters({ ...filters, [member]: text });
  const words: Record<Status, string> = {
    connecting: "Connecting…",
    open: `Live${node ? ` from ${node}` : ""}`,
    paused: "Paused",
    failed: "Not connected: trying again",
  };
  return (
    <Page
      title="Live tail"
      note="Decisions of the node that serves this page, as they are made"
      actions={
        <>
          <button type="button" class="button" onClick={() => setPaused(!isPaused)}>
            {isPaused ? "Go on" : "Pause"}
          </button>
          <button type="button" class="button" onClick={() => setRows([])}>
            Clear
          </button>
        </>
      }
    >
      <Panel title="Decisions" note={<span role="status">{words[status]}</span>}>
        <div class="row-form">
          <SelectField
            label="Show"
            value={filters.all}
            options={[
              ["false", "Refusals"],
              ["true", "All decisions"],
            ]}
            onChoose={set("all")}
          />
          <TextField label="Plan" value={filters.plan} onText={set("plan")} placeholder="any" />
          <TextField label="Key" value={filters.key} onText={set("key")} placeholder="any" />
          <TextField label="Limit" value={filters.limit} onText={set("limit")} placeholder="any" />
        </div>
        {error && (
          <p class="notice error" role="alert">
            {error}
          </p>
        )}
        {others.length > 0 && <OtherNodes names={others} />}
        {missed > 0 && <p class="note">{count(missed)} more decisions were not shown: the tail is a sample.</p>}
        {rows.length === 0 ? (
          <Empty title={filters.all === "true" ? "No decision yet" : "Nobody was refused yet"}>
            Decisions appear here as the node makes them.
          </Empty>
        ) : (
          <Rows rows={rows} />
        )}
      </Panel>
    </Page>
  );
}
