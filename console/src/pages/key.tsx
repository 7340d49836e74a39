// One API key: its plans with usage and what is left, its changes, and why it is refused.

import { useState } from "preact/hooks";

import { get, part, patch, post, remove } from "../api";
import { FormActions } from "../controls";
import { time } from "../format";
import { link, useAction, useLoaded } from "../state";
import type { ApiKey, List, Plan, TopRow } from "../types";
import { Badge, Confirm, Dialog, Empty, Loading, NewValue, Page, Panel, SelectField, TextField, WriteButton } from "../ui";
import { ExplainPanel } from "./explain";
import { KeyPlan } from "./keyplan";
import { KeyState } from "./keys";
import { TopTable } from "./top";

function Refusals({ id }: { id: string }) {
  const top = useLoaded(
    async (signal) => {
      const { item } = await get<{ item: TopRow[] }>("/top?n=500&window=hour", signal);
      return item.filter((row) => row.keyId === id);
    },
    [id],
    5_000,
  );
  if (top.status === 404) return null;
  return (
    <Panel title="Refused in the last hour" note="At which limits this key was refused, on all nodes">
      <Loading from={top}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title="This key is not among those refused most" />
          ) : (
            <TopTable caption="Refusals of this key" rows={rows} window="hour" of="limit" />
          )
        }
      </Loading>
    </Panel>
  );
}

const OVERLAPS = [
  ["0", "None: the old value is refused at once"],
  ["3600", "1 hour"],
  ["86400", "1 day"],
  ["604800", "7 days"],
] as const;

function Rotate(props: { apiKey: ApiKey; onClose: () => void; onRotated: (key: ApiKey) => void }) {
  const [overlap, setOverlap] = useState<(typeof OVERLAPS)[number][0]>("86400");
  const [isBusy, act] = useAction();
  const submit = async (event: Event) => {
    event.preventDefault();
    const path = `/apikeys/${part(props.apiKey.id)}/rotate`;
    await act("The key has a new value", async () =>
      props.onRotated(await post<ApiKey>(path, { overlapSeconds: Number(overlap) })),
    );
  };
  return (
    <Dialog title="Give the key a new value" onClose={props.onClose}>
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <SelectField
          label="Accept the old value for"
          value={overlap}
          options={OVERLAPS}
          onChoose={setOverlap}
          hint="Long enough for clients to change to the new value"
        />
        <FormActions busy={isBusy} onClose={props.onClose}>
          Rotate
        </FormActions>
      </form>
    </Dialog>
  );
}

function EditKey(props: { apiKey: ApiKey; onClose: () => void; onChanged: () => void }) {
  const { apiKey } = props;
  const first = {
    name: apiKey.name ?? "",
    customerId: apiKey.customerId ?? "",
    description: apiKey.description ?? "",
    expiresAt: apiKey.expiresAt ?? "",
  };
  const [members, setMembers] = useState(first);
  const [isBusy, act] = useAction();
  const set = (member: keyof typeof first) => (text: string) => setMembers({ ...members, [member]: text });
  const submit = async (event: Event) => {
    event.preventDefault();
    const names = Object.keys(first) as (keyof typeof first)[];
    const operations = names
      .filter((name) => members[name] !== first[name])
      .map((name) =>
        name === "expiresAt" && members[name] === ""
          ? ({ op: "remove", path: "/expiresAt" } as const)
          : ({ op: "replace", path: `/${name}`, value: members[name] } as const),
      );
    if (operations.length === 0) return props.onClose();
    if (await act("The key is changed", () => patch(`/apikeys/${part(apiKey.id)}`, operations))) {
      props.onChanged();
      props.onClose();
    }
  };
  return (
    <Dialog title="Edit the key" onClose={props.onClose}>
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <TextField label="Name" value={members.name} onText={set("name")} />
        <TextField label="Customer id" value={members.customerId} onText={set("customerId")} />
        <TextField label="Description" value={members.description} onText={set("description")} />
        <TextField
          label="Expires at"
          value={members.expiresAt}
          onText={set("expiresAt")}
          placeholder="2027-01-31T00:00:00Z"
          hint="With a time zone; empty for never"
        />
        <FormActions busy={isBusy} onClose={props.onClose}>
          Save
        </FormActions>
      </form>
    </Dialog>
  );
}

function AttachPlan(props: { id: string; on: Plan[]; onChanged: () => void }) {
  const [plan, setPlan] = useState("");
  const [isBusy, act] = useAction();
  const plans = useLoaded((signal) => get<List<Plan>>("/usageplans?limit=500", signal), []);
  const others = (plans.data?.item ?? []).filter((one) => !props.on.some((own) => own.id === one.id));
  const attach = async (event: Event) => {
    event.preventDefault();
    const body = { keyId: props.id, keyType: "API_KEY" };
    if (await act("The key is on the plan", () => post(`/usageplans/${part(plan)}/keys`, body))) {
      setPlan("");
      props.onChanged();
    }
  };
  if (plans.data && others.length === 0) return null;
  return (
    <form class="row-form" onSubmit={(event) => void attach(event)}>
      <SelectField
        label="Put on a plan"
        value={plan}
        options={[["", "Choose a plan"], ...others.map((one) => [one.id, one.name || one.id] as const)]}
        onChoose={setPlan}
      />
      <WriteButton type="submit" busy={isBusy} disabled={!plan}>
        Put on the plan
      </WriteButton>
    </form>
  );
}

function Facts({ apiKey }: { apiKey: ApiKey }) {
  const policies = Object.entries(apiKey.policies ?? {});
  return (
    <dl class="facts">
      <div>
        <dt>Id</dt>
        <dd>
          <code>{apiKey.id}</code>
        </dd>
      </div>
      <div>
        <dt>Customer</dt>
        <dd>{apiKey.customerId ?? "–"}</dd>
      </div>
      <div>
        <dt>Created</dt>
        <dd>{apiKey.owner === "file" ? "in the catalog file" : time(apiKey.createdDate)}</dd>
      </div>
      <div>
        <dt>Expires</dt>
        <dd>{apiKey.expiresAt ? time(apiKey.expiresAt) : "never"}</dd>
      </div>
      {apiKey.previousValueUntil && (
        <div>
          <dt>Old value accepted until</dt>
          <dd>{time(apiKey.previousValueUntil)}</dd>
        </div>
      )}
      {policies.length > 0 && (
        <div>
          <dt>Policies</dt>
          <dd>
            {policies.map(([policy, key]) => (
              <a key={policy} href={`${link("policies", policy)}?key=${part(key)}`}>
                {policy}: {key}{" "}
              </a>
            ))}
          </dd>
        </div>
      )}
      {apiKey.description && (
        <div>
          <dt>Description</dt>
          <dd>{apiKey.description}</dd>
        </div>
      )}
    </dl>
  );
}

type Open = "rotate" | "edit" | "delete" | null;

function KeyActions(props: { apiKey: ApiKey; onOpen: (open: Open) => void; onChanged: () => void }) {
  const { apiKey } = props;
  const [isBusy, act] = useAction();
  if (apiKey.owner === "file") return <Badge>declared in the catalog file: change it there</Badge>;
  const toggle = async () => {
    const value = String(!apiKey.enabled);
    const done = apiKey.enabled ? "The key is disabled: its checks are refused" : "The key is enabled";
    await act(done, () => patch(`/apikeys/${part(apiKey.id)}`, [{ op: "replace", path: "/enabled", value }]));
    props.onChanged();
  };
  return (
    <>
      <WriteButton busy={isBusy} onClick={() => void toggle()} kind={apiKey.enabled ? "plain" : "primary"}>
        {apiKey.enabled ? "Disable" : "Enable"}
      </WriteButton>
      <WriteButton onClick={() => props.onOpen("rotate")}>Rotate</WriteButton>
      <WriteButton onClick={() => props.onOpen("edit")}>Edit</WriteButton>
      <WriteButton kind="danger" onClick={() => props.onOpen("delete")}>
        Delete
      </WriteButton>
    </>
  );
}

export function KeyPage({ id }: { id: string }) {
  const [open, setOpen] = useState<Open>(null);
  const [rotated, setRotated] = useState<ApiKey | null>(null);
  const [, act] = useAction();
  const key = useLoaded((signal) => get<ApiKey>(`/apikeys/${part(id)}`, signal), [id]);
  const plans = useLoaded((signal) => get<List<Plan>>(`/usageplans?limit=500&keyId=${part(id)}`, signal), [id]);
  const reload = () => {
    key.reload();
    plans.reload();
  };
  const crumb = { text: "API keys", href: link("keys") };
  if (key.status === 404) {
    return (
      <Page title="No such key" crumb={crumb}>
        <Empty title={`There is no API key with the id ${id}`}>
          It may have been deleted: the <a href={`#/audit?path=${part(`/apikeys/${id}`)}`}>audit log</a> knows.
        </Empty>
      </Page>
    );
  }
  const apiKey = key.data;
  return (
    <Page
      title={apiKey?.name || id}
      crumb={crumb}
      note={apiKey && <KeyState apiKey={apiKey} />}
      actions={apiKey && <KeyActions apiKey={apiKey} onOpen={setOpen} onChanged={key.reload} />}
    >
      <Loading from={key}>
        {(own) => (
          <>
            <Panel
              title="Key"
              actions={<a href={`#/audit?path=${part(`/apikeys/${id}`)}`}>Changes of this key</a>}
            >
              <Facts apiKey={own} />
            </Panel>
            <Loading from={plans}>
              {({ item }) => (
                <>
                  {item.map((plan) => (
                    <KeyPlan key={plan.id} apiKey={own} plan={plan} onChanged={reload} />
                  ))}
                  {own.owner !== "file" && (
                    <Panel title={item.length === 0 ? "Plans" : "Another plan"}>
                      {item.length === 0 && (
                        <Empty title="This key is on no plan">Its checks are refused until it is put on one.</Empty>
                      )}
                      <AttachPlan id={id} on={item} onChanged={reload} />
                    </Panel>
                  )}
                </>
              )}
            </Loading>
            <ExplainPanel subject={{ key_id: id }} withRequest />
            <Refusals id={id} />
            {open === "rotate" && (
              <Rotate
                apiKey={own}
                onClose={() => setOpen(null)}
                onRotated={(made) => {
                  setOpen(null);
                  setRotated(made);
                  reload();
                }}
              />
            )}
            {open === "edit" && <EditKey apiKey={own} onClose={() => setOpen(null)} onChanged={key.reload} />}
            {open === "delete" && (
              <Confirm
                title={`Delete ${own.name || id}?`}
                action="Delete the key"
                onClose={() => setOpen(null)}
                onConfirm={() =>
                  act("The key is deleted", async () => {
                    await remove(`/apikeys/${part(id)}`);
                    location.hash = link("keys");
                  })
                }
              >
                <p>Its checks are refused at once, and its usage can no longer be read. Disabling it can be undone.</p>
              </Confirm>
            )}
          </>
        )}
      </Loading>
      {rotated && <NewValue id={id} value={rotated.value ?? ""} onClose={() => setRotated(null)} />}
    </Page>
  );
}
