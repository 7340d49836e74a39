// The audit log: every change, the newest first.

import { useEffect, useState } from "preact/hooks";

import { get, part } from "../api";
import { Pager } from "../controls";
import { time } from "../format";
import { link, useLoaded } from "../state";
import type { AuditEntry, List } from "../types";
import { Badge, Empty, Loading, Page, Panel, Table, TextField } from "../ui";

const PAGE_SIZE = 50;

/** A changed resource as a link to its page, if it has one. */
function resource(path: string) {
  const [, kind, id, ...rest] = path.split("/");
  const target =
    kind === "apikeys" && id
      ? link("keys", id)
      : kind === "usageplans" && id
        ? rest[0] === "keys" && rest[1]
          ? link("keys", rest[1])
          : link("plans", id)
        : kind === "policies" && id
          ? `${link("policies", id)}${rest[0] === "keys" && rest[1] ? `?key=${part(rest.slice(1).join("/"))}` : ""}`
          : undefined;
  return target ? <a href={target}>{path}</a> : path;
}

const tone = (method: string) => (method === "DELETE" ? "bad" : method === "PATCH" ? "warn" : "good");

export function AuditPage({ path }: { path: string }) {
  const [text, setText] = useState(path);
  const [before, setBefore] = useState<string[]>([]);
  useEffect(() => {
    setText(path);
    setBefore([]);
  }, [path]);
  const position = before.at(-1) ?? "";
  const log = useLoaded(
    (signal) =>
      get<List<AuditEntry>>(
        `/audit?limit=${PAGE_SIZE}${path ? `&path=${part(path)}` : ""}${position ? `&position=${part(position)}` : ""}`,
        signal,
      ),
    [path, position],
    before.length === 0 ? 10_000 : 0,
  );
  return (
    <Page title="Audit log">
      <Panel title="Changes" note="The newest first; the last 100,000 are kept">
        <form
          class="row-form"
          onSubmit={(event) => {
            event.preventDefault();
            location.hash = text.trim() ? `#/audit?path=${part(text.trim())}` : "#/audit";
          }}
        >
          <TextField
            label="Resources whose path begins with"
            class="wide"
            value={text}
            onText={setText}
            placeholder="/apikeys, /usageplans/basic, /policies"
          />
          <button type="submit" class="button">
            Filter
          </button>
        </form>
        <Loading from={log}>
          {({ item, position: next }) =>
            item.length === 0 && before.length === 0 ? (
              <Empty title={path ? `Nothing under ${path} was changed` : "Nothing was changed yet"} />
            ) : (
              <>
                <Table<AuditEntry>
                  caption="Changes"
                  rows={item}
                  rowKey={(entry) => entry.id}
                  columns={[
                    { title: "Time", cell: (entry) => <time dateTime={entry.at}>{time(entry.at)}</time> },
                    { title: "By", cell: (entry) => entry.who },
                    {
                      title: "Request",
                      cell: (entry) => (
                        <>
                          <Badge tone={tone(entry.method)}>{entry.method}</Badge> <code>{entry.path}</code>
                        </>
                      ),
                    },
                    {
                      title: "Changed",
                      cell: (entry) => (
                        <ul class="plain">
                          {entry.changed.map((changed) => (
                            <li key={changed}>{resource(changed)}</li>
                          ))}
                        </ul>
                      ),
                    },
                    { title: "Request id", cell: (entry) => <code>{entry.requestId.slice(0, 8)}</code> },
                  ]}
                />
                <Pager before={before} next={next} back="Newer" on="Older" onPage={setBefore} />
              </>
            )
          }
        </Loading>
      </Panel>
    </Page>
  );
}
