// The reason why a check would be admitted or refused now, limit by limit. Nothing is charged.

import { useState } from "preact/hooks";

import { post } from "../api";
import { count, seconds } from "../format";
import { errorText } from "../state";
import type { ExplainedLimit, Explanation } from "../types";
import { Badge, Empty, Panel, Table, TextField } from "../ui";

function source(limit: ExplainedLimit) {
  if (limit.source?.resource) return limit.source.resource;
  const { file, line } = limit.source ?? {};
  if (!file) return "–";
  return `${file.split("/").at(-1)}${line ? `:${line}` : ""}`;
}

function fits(limit: ExplainedLimit) {
  if (limit.fits) return <Badge tone="good">fits</Badge>;
  if (limit.retry_after_ms === null) return <Badge tone="bad">never fits</Badge>;
  return <Badge tone="bad">fits in {seconds(limit.retry_after_ms / 1_000)}</Badge>;
}

function Result({ explained }: { explained: Explanation }) {
  const isAllowed = explained.status === 200;
  return (
    <>
      <p class={`notice ${isAllowed ? "good" : "bad"}`} role="status">
        <strong>{explained.status}</strong>{" "}
        {isAllowed
          ? "This check would be admitted now."
          : explained.violated
            ? `This check would be refused by ${explained.violated}.`
            : (explained.detail ?? explained.title ?? "This check would be refused.")}
      </p>
      {explained.limits.length > 0 && (
        <Table<ExplainedLimit>
          caption="The limits of this check"
          rows={explained.limits}
          rowKey={(limit) => limit.name}
          columns={[
            { title: "Limit", cell: (limit) => <code>{limit.name}</code> },
            { title: "Now", cell: fits },
            { title: "Size", number: true, cell: (limit) => `${count(limit.limit)} ${limit.unit}` },
            { title: "Used", number: true, cell: (limit) => count(limit.used) },
            { title: "Cost", number: true, cell: (limit) => count(limit.cost) },
            { title: "Pattern", cell: (limit) => (limit.pattern ? <code>{limit.pattern}</code> : "–") },
            {
              title: "Declared in",
              cell: (limit) => (
                <>
                  <code>{source(limit)}</code> {limit.override && <Badge>override of the key</Badge>}
                </>
              ),
            },
          ]}
        />
      )}
    </>
  );
}

export function ExplainPanel(props: { subject: Record<string, string>; withRequest: boolean }) {
  const [request, setRequest] = useState({ api: "", stage: "", method: "", path: "", cost: "1" });
  const [explained, setExplained] = useState<Explanation | null>(null);
  const [error, setError] = useState("");
  const set = (member: keyof typeof request) => (text: string) => setRequest({ ...request, [member]: text });
  const submit = async (event: Event) => {
    event.preventDefault();
    setError("");
    const { cost, ...about } = request;
    const given = Object.entries(about).filter(([, text]) => text.trim() !== "");
    const body = { ...props.subject, ...Object.fromEntries(given), cost: Number(cost) };
    try {
      setExplained(await post<Explanation>("/explain", body));
    } catch (thrown) {
      setExplained(null);
      setError(errorText(thrown));
    }
  };
  return (
    <Panel title="Why is it refused?" note="Judges a check as now, limit by limit. Nothing is charged.">
      <form class="row-form" onSubmit={(event) => void submit(event)}>
        {props.withRequest && (
          <>
            <TextField label="API" value={request.api} onText={set("api")} placeholder="any" />
            <TextField label="Stage" value={request.stage} onText={set("stage")} placeholder="any" />
            <TextField label="Method" value={request.method} onText={set("method")} placeholder="POST" />
            <TextField label="Path" value={request.path} onText={set("path")} placeholder="/v1/chat/completions" class="wide" />
          </>
        )}
        <TextField label="Cost" type="number" min="0" step="1" required value={request.cost} onText={set("cost")} class="narrow" />
        <button type="submit" class="button">
          Explain
        </button>
      </form>
      {error && (
        <p class="notice error" role="alert">
          {error}
        </p>
      )}
      {explained ? <Result explained={explained} /> : !error && <Empty title="Press Explain to see each limit, what is left of it, and where it is declared." />}
    </Panel>
  );
}
