// One plan: its limits with a preview of who would be refused, and the keys on it.

import { useEffect, useState } from "preact/hooks";

import { get, type Operation, part, patch, remove } from "../api";
import { Pager } from "../controls";
import { count } from "../format";
import { link, useAction, useLoaded, useSession } from "../state";
import type { ApiKey, List, Plan } from "../types";
import { Badge, Confirm, Empty, Loading, Page, Panel, SelectField, Table, TextField, WriteButton } from "../ui";
import { LimitFields, limitOperations, limitTexts } from "./limits";
import { listStages } from "./plans";
import { Preview } from "./preview";

const MODES = [
  ["enforce", "Enforce"],
  ["shadow", "Shadow"],
] as const;

const CONSISTENCIES = [
  ["exact", "Exact"],
  ["leased", "Leased"],
] as const;

const FAILURES = [
  ["open", "Open: admit"],
  ["local", "Local: each node admits its share"],
  ["closed", "Closed: refuse"],
] as const;

function settingOperations(plan: Plan, texts: Record<string, string>): Operation[] {
  const now: Record<string, string> = {
    name: plan.name,
    mode: plan.mode ?? "enforce",
    consistency: plan.consistency ?? "exact",
    onStoreFailure: plan.onStoreFailure ?? "local",
  };
  return Object.entries(texts)
    .filter(([member, text]) => now[member] !== text)
    .map(([member, text]) => ({ op: "replace", path: `/${member}`, value: text }));
}

function EditPlan({ plan, onChanged }: { plan: Plan; onChanged: () => void }) {
  const { canWrite } = useSession();
  const first = limitTexts(plan);
  const [texts, setTexts] = useState(first);
  const [previewed, setPreviewed] = useState(first);
  const [settings, setSettings] = useState({
    name: plan.name,
    mode: plan.mode ?? "enforce",
    consistency: plan.consistency ?? "exact",
    onStoreFailure: plan.onStoreFailure ?? "local",
  });
  const [error, setError] = useState("");
  const [isBusy, act] = useAction();
  const isFile = plan.owner === "file";
  const disabled = isFile || !canWrite;
  const set = (member: keyof typeof settings) => (text: string) => setSettings({ ...settings, [member]: text });
  useEffect(() => {
    const timer = setTimeout(() => setPreviewed(texts), 400);
    return () => clearTimeout(timer);
  }, [texts]);
  const submit = async (event: Event) => {
    event.preventDefault();
    const operations = limitOperations(texts, first, true);
    if (typeof operations === "string") return setError(operations);
    setError("");
    operations.push(...settingOperations(plan, settings));
    if (operations.length === 0) return setError("Nothing is changed");
    if (await act("The plan is changed; all nodes use it within a second", () => patch(`/usageplans/${part(plan.id)}`, operations))) {
      onChanged();
    }
  };
  return (
    <div class="columns">
      <Panel
        title="Limits"
        note={isFile ? "Declared in the catalog file: change them there. The preview works here." : "Counters are kept when sizes change"}
      >
        <form class="stack" onSubmit={(event) => void submit(event)}>
          <TextField label="Name" value={settings.name} onText={set("name")} disabled={disabled} required />
          <LimitFields texts={texts} onChange={setTexts} withQuota disabled={false} />
          <div class="pair">
            <SelectField
              label="Mode"
              value={settings.mode}
              options={MODES}
              onChoose={set("mode")}
              disabled={disabled}
              hint="A shadow judges and counts, and refuses nothing"
            />
            <SelectField
              label="Consistency"
              value={settings.consistency}
              options={CONSISTENCIES}
              onChoose={set("consistency")}
              disabled={disabled}
              hint="Leased: nodes spend units that they have charged ahead"
            />
          </div>
          <SelectField
            label="While Redis is unreachable"
            value={settings.onStoreFailure}
            options={FAILURES}
            onChoose={set("onStoreFailure")}
            disabled={disabled}
          />
          {error && (
            <p class="notice error" role="alert">
              {error}
            </p>
          )}
          {!isFile && (
            <div class="form-actions">
              <WriteButton type="submit" kind="primary" busy={isBusy}>
                Save
              </WriteButton>
            </div>
          )}
        </form>
      </Panel>
      <Panel title="Who would be refused" note="With the sizes at the left, before they are saved">
        <Preview plan={plan} texts={previewed} first={first} />
      </Panel>
    </div>
  );
}

function PlanStages({ plan, onChanged }: { plan: Plan; onChanged: () => void }) {
  const [chosen, setChosen] = useState("");
  const [isBusy, act] = useAction();
  const stages = useLoaded(listStages, []);
  const served = plan.apiStages.map((stage) => `${stage.apiId}:${stage.stage}`);
  const others = (stages.data ?? [])
    .map(({ api, stage }) => `${api.id}:${stage.stageName}`)
    .filter((name) => !served.includes(name));
  const change = async (op: "add" | "remove", value: string) => {
    const done = op === "add" ? `The plan serves ${value}` : `The plan no longer serves ${value}`;
    if (await act(done, () => patch(`/usageplans/${part(plan.id)}`, [{ op, path: "/apiStages", value }]))) {
      setChosen("");
      onChanged();
    }
  };
  const isFile = plan.owner === "file";
  return (
    <Panel title="Stages" note="Where keys of this plan are admitted">
      {served.length === 0 ? (
        <Empty title={plan.servesNoStage ? "It serves no stage" : "It serves all stages"} />
      ) : (
        <ul class="rows">
          {plan.apiStages.map(({ apiId, stage, throttle }) => (
            <li key={`${apiId}:${stage}`}>
              <a href={link("stages", apiId, stage)}>
                {apiId}/{stage}
              </a>
              {throttle && Object.keys(throttle).length > 0 && <Badge>{`${count(Object.keys(throttle).length)} methods with own throttles`}</Badge>}
              {!isFile && (
                <WriteButton busy={isBusy} onClick={() => void change("remove", `${apiId}:${stage}`)}>
                  Remove
                </WriteButton>
              )}
            </li>
          ))}
        </ul>
      )}
      {!isFile && others.length > 0 && (
        <form
          class="row-form"
          onSubmit={(event) => {
            event.preventDefault();
            void change("add", chosen);
          }}
        >
          <SelectField
            label="Serve a stage"
            value={chosen}
            options={[["", "Choose a stage"], ...others.map((name) => [name, name.replace(":", "/")] as const)]}
            onChoose={setChosen}
          />
          <WriteButton type="submit" busy={isBusy} disabled={!chosen}>
            Add
          </WriteButton>
        </form>
      )}
    </Panel>
  );
}

function PlanKeys({ id }: { id: string }) {
  const [before, setBefore] = useState<string[]>([]);
  const position = before.at(-1) ?? "";
  const keys = useLoaded(
    (signal) =>
      get<List<ApiKey>>(`/usageplans/${part(id)}/keys?limit=25${position ? `&position=${part(position)}` : ""}`, signal),
    [id, position],
  );
  return (
    <Panel title="Keys on this plan">
      <Loading from={keys}>
        {({ item, position: next }) =>
          item.length === 0 && before.length === 0 ? (
            <Empty title="No key is on this plan">Put one on it at the key's page.</Empty>
          ) : (
            <>
              <Table<ApiKey>
                caption="Keys on this plan"
                rows={item}
                rowKey={(key) => key.id}
                columns={[
                  { title: "Name", cell: (key) => <a href={link("keys", key.id)}>{key.name || key.id}</a> },
                  { title: "Id", cell: (key) => <code>{key.id}</code> },
                ]}
              />
              {(next !== undefined || before.length > 0) && (
                <Pager before={before} next={next} onPage={setBefore} />
              )}
            </>
          )
        }
      </Loading>
    </Panel>
  );
}

export function PlanPage({ id }: { id: string }) {
  const [isDeleting, setDeleting] = useState(false);
  const [, act] = useAction();
  const plan = useLoaded((signal) => get<Plan>(`/usageplans/${part(id)}`, signal), [id]);
  const crumb = { text: "Plans and stages", href: link("plans") };
  if (plan.status === 404) {
    return (
      <Page title="No such plan" crumb={crumb}>
        <Empty title={`There is no plan with the id ${id}`}>
          It may have been deleted: the <a href={`#/audit?path=${part(`/usageplans/${id}`)}`}>audit log</a> knows.
        </Empty>
      </Page>
    );
  }
  return (
    <Page
      title={plan.data?.name || id}
      crumb={crumb}
      note={
        <>
          <code>{id}</code>{" "}
          {plan.data?.owner === "file" && <Badge>declared in the catalog file</Badge>}
        </>
      }
      actions={
        plan.data &&
        plan.data.owner !== "file" && (
          <WriteButton kind="danger" onClick={() => setDeleting(true)}>
            Delete
          </WriteButton>
        )
      }
    >
      <Loading from={plan}>
        {(own) => (
          <>
            <EditPlan key={JSON.stringify(own)} plan={own} onChanged={plan.reload} />
            <PlanStages plan={own} onChanged={plan.reload} />
            <PlanKeys id={id} />
            {isDeleting && (
              <Confirm
                title={`Delete ${own.name || id}?`}
                action="Delete the plan"
                onClose={() => setDeleting(false)}
                onConfirm={() =>
                  act("The plan is deleted", async () => {
                    await remove(`/usageplans/${part(id)}`);
                    location.hash = link("plans");
                  })
                }
              >
                <p>Checks of its keys are refused, unless they are on another plan.</p>
              </Confirm>
            )}
          </>
        )}
      </Loading>
    </Page>
  );
}

