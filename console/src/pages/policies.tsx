// Policies: what they limit, who is refused by them, and the counters of one of their keys.

import { useState } from "preact/hooks";

import { get, part, post } from "../api";
import { count, seconds } from "../format";
import { link, useAction, useLoaded } from "../state";
import type { List, Policy, PolicyLimit, TopRow } from "../types";
import { Badge, Confirm, Empty, Loading, Meter, Page, Panel, Table, TextField, WriteButton } from "../ui";
import { ExplainPanel } from "./explain";
import { TopTable } from "./top";

export function PoliciesPage() {
  const policies = useLoaded((signal) => get<List<Policy>>("/policies?limit=500", signal), []);
  return (
    <Page title="Policies">
      <Panel title="Policies" note="Limits on what a caller names, such as an address; the catalog file declares them">
        <Loading from={policies}>
          {({ item }) =>
            item.length === 0 ? (
              <Empty title="There are no policies">
                The catalog file declares them: <code>{"policies: [{ name: login, key_type: ip, throttle: { rate: 5/min } }]"}</code>
              </Empty>
            ) : (
              <Table<Policy>
                caption="Policies"
                rows={item}
                rowKey={(policy) => policy.name}
                columns={[
                  { title: "Policy", cell: (policy) => <a href={link("policies", policy.name)}>{policy.name}</a> },
                  { title: "Counts", cell: (policy) => (policy.keyType === "ip" ? "addresses" : "texts") },
                  {
                    title: "Limits",
                    cell: (policy) =>
                      policy.limits.map((limit) => `${limit.name}: ${count(limit.limit)} ${limit.unit}`).join(", "),
                  },
                ]}
              />
            )
          }
        </Loading>
      </Panel>
    </Page>
  );
}

interface KeyUsage {
  key: string;
  limits: PolicyLimit[];
}

function state(limit: PolicyLimit) {
  if (limit.retryAfterMs === 0) return <Badge tone="good">admitted</Badge>;
  if (limit.shadow) return <Badge tone="warn">over, only counted</Badge>;
  if (limit.retryAfterMs === null) return <Badge tone="bad">refused always</Badge>;
  return <Badge tone="bad">refused for {seconds(limit.retryAfterMs / 1_000)}</Badge>;
}

function Usage({ name, policyKey }: { name: string; policyKey: string }) {
  const [isAsking, setAsking] = useState(false);
  const [, act] = useAction();
  const path = `/policies/${part(name)}`;
  const usage = useLoaded(
    (signal) => get<KeyUsage>(`${path}/usage?key=${part(policyKey)}`, signal),
    [path, policyKey],
    5_000,
  );
  const reset = () =>
    act(`${policyKey} is admitted again`, async () => {
      await post(`${path}/reset`, { key: policyKey });
      usage.reload();
    });
  return (
    <>
      <Panel
        title={policyKey}
        note={usage.data && usage.data.key !== policyKey ? `Counted as ${usage.data.key}` : undefined}
        actions={
          <WriteButton kind="primary" onClick={() => setAsking(true)}>
            Unblock
          </WriteButton>
        }
      >
        <Loading from={usage}>
          {({ limits }) => (
            <Table<PolicyLimit>
              caption={`Limits of ${policyKey}`}
              rows={limits}
              rowKey={(limit) => limit.name}
              columns={[
                { title: "Limit", cell: (limit) => <code>{limit.name}</code> },
                { title: "Now", cell: state },
                {
                  title: "Left",
                  cell: (limit) => (
                    <span class="with-meter">
                      <Meter
                        label={`Left of ${limit.name}`}
                        value={limit.remaining}
                        max={limit.limit}
                        tone={limit.remaining === 0 ? "bad" : "good"}
                      />
                      {count(limit.remaining)} of {count(limit.limit)} {limit.unit}
                    </span>
                  ),
                },
                { title: "Full again in", number: true, cell: (limit) => seconds(limit.resetMs / 1_000) },
              ]}
            />
          )}
        </Loading>
        {isAsking && (
          <Confirm
            title={`Unblock ${policyKey}?`}
            action="Empty the counters"
            onClose={() => setAsking(false)}
            onConfirm={reset}
          >
            <p>
              Its counters of this policy become empty on all nodes. A node that has refused it may repeat the refusal for up
              to ten seconds.
            </p>
          </Confirm>
        )}
      </Panel>
      <ExplainPanel subject={{ policy: name, key: policyKey }} withRequest={false} />
    </>
  );
}

function Refused({ name }: { name: string }) {
  const top = useLoaded(
    async (signal) => {
      const { item } = await get<{ item: TopRow[] }>("/top?n=500&window=hour", signal);
      return item.filter((row) => row.limit.startsWith(`policy:${name}/`)).slice(0, 20);
    },
    [name],
    5_000,
  );
  if (top.status === 404) return null;
  return (
    <Panel title="Refused most in the last hour">
      <Loading from={top}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title="Nobody is refused by this policy" />
          ) : (
            <TopTable caption="Keys that this policy refuses most" rows={rows} window="hour" />
          )
        }
      </Loading>
    </Panel>
  );
}

export function PolicyPage({ name, first }: { name: string; first: string }) {
  const [text, setText] = useState(first);
  const policy = useLoaded(async (signal) => {
    const { item } = await get<List<Policy>>("/policies?limit=500", signal);
    return item.find((one) => one.name === name) ?? null;
  }, [name]);
  const crumb = { text: "Policies", href: link("policies") };
  if (policy.data === null) {
    return (
      <Page title="No such policy" crumb={crumb}>
        <Empty title={`The catalog file declares no policy ${name}`} />
      </Page>
    );
  }
  const isAddress = policy.data?.keyType === "ip";
  return (
    <Page title={name} crumb={crumb} note="Policy of the catalog file">
      <Panel title="One key" note="How much is left for it, and a way to unblock it">
        <form
          class="row-form"
          onSubmit={(event) => {
            event.preventDefault();
            location.hash = `${link("policies", name)}?key=${part(text.trim())}`;
          }}
        >
          <TextField
            label={isAddress ? "Address" : "Key"}
            class="wide"
            required
            value={text}
            onText={setText}
            placeholder={isAddress ? "203.0.113.7" : "As the caller names it"}
          />
          <button type="submit" class="button">
            Look up
          </button>
        </form>
      </Panel>
      {first && <Usage key={first} name={name} policyKey={first} />}
      <Refused name={name} />
    </Page>
  );
}
