// The rows of `GET /top`, as several pages show them.

import { useEffect, useState } from "preact/hooks";

import { get, part } from "../api";
import { count } from "../format";
import { link } from "../state";
import type { ApiKey, TopRow } from "../types";
import { type Column, Table } from "../ui";

/** The names of keys that were looked up, for as long as the page is open; empty for a key without one. */
const names = new Map<string, string>();

/** Looks up the names of keys, of each once. */
export function useKeyNames(ids: string[]): Map<string, string> {
  const [, setRound] = useState(0);
  const missing = [...new Set(ids)].filter((id) => !names.has(id)).slice(0, 20);
  useEffect(() => {
    for (const id of missing) names.set(id, "");
    const lookUp = async (id: string) => {
      const key = await get<ApiKey>(`/apikeys/${part(id)}`);
      names.set(id, key.name ?? "");
    };
    // A key that is gone, or cannot be read now, is shown by its id.
    if (missing.length > 0) void Promise.allSettled(missing.map(lookUp)).then(() => setRound((round) => round + 1));
  }, [missing.join()]);
  return names;
}

/** The policy that a limit belongs to: `login` of `policy:login/throttle`. */
export const policyOf = (limit: string) => /^policy:(.*)\/[^/]*$/.exec(limit)?.[1];

/** A key as a link to where it is seen and changed. */
function keyLink(row: TopRow, known: Map<string, string>) {
  if (row.keyId !== undefined) {
    const name = known.get(row.keyId);
    return (
      <>
        <a href={link("keys", row.keyId)}>{name || row.keyId}</a> {name && <code class="aside">{row.keyId}</code>}
      </>
    );
  }
  const policy = policyOf(row.limit);
  if (row.key !== undefined && policy !== undefined) {
    return <a href={`${link("policies", policy)}?key=${encodeURIComponent(row.key)}`}>{row.key}</a>;
  }
  return row.key ?? "no key";
}

/** The name of a limit, which a narrow column breaks behind its slashes and colons. */
const limitName = (limit: string) => (
  <code>
    {limit.split(/(?<=[:/])/).map((part) => (
      <>
        {part}
        <wbr />
      </>
    ))}
  </code>
);

export function TopTable(props: {
  caption: string;
  rows: TopRow[];
  window: "minute" | "hour";
  /** The rows are of one key, told apart by their limits. */
  of?: "limit";
}) {
  const known = useKeyNames(props.of ? [] : props.rows.flatMap((row) => row.keyId ?? []));
  const counts = (row: TopRow) => row[props.window];
  const key: Column<TopRow> = { title: "Key", cell: (row) => keyLink(row, known) };
  const limit: Column<TopRow> = { title: "Limit", cell: (row) => limitName(row.limit) };
  return (
    <Table<TopRow>
      caption={props.caption}
      rows={props.rows}
      rowKey={(row) => `${row.limit} ${row.keyId ?? ""} ${row.key ?? ""}`}
      columns={[
        ...(props.of ? [limit] : [key, limit]),
        { title: "Refused", number: true, cell: (row) => <strong>{count(counts(row).refused)}</strong> },
        { title: "Used", number: true, cell: (row) => `${count(counts(row).used)} ${row.unit}` },
      ]}
    />
  );
}
