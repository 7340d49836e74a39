// Plans and stages: lists of both, and a form that creates a plan.

import { useState } from "preact/hooks";

import { get, part, post } from "../api";
import { FormActions } from "../controls";
import { count, parseCount, parseRate, rateLimit } from "../format";
import { link, useAction, useLoaded } from "../state";
import type { List, Plan, RestApi, Stage, Throttle } from "../types";
import { Badge, Dialog, Empty, Loading, Page, Panel, SelectField, Table, TextField, WriteButton } from "../ui";

export const throttleText = (throttle: Throttle | undefined) =>
  throttle?.rateLimit === undefined
    ? "–"
    : `${rateLimit(throttle.rateLimit)}${throttle.burstLimit === undefined ? "" : `, burst ${count(throttle.burstLimit)}`}`;

const quotaText = ({ quota }: Plan) => (quota ? `${count(quota.limit)} a ${quota.period.toLowerCase()}` : "–");

function stagesText(plan: Plan): string {
  if (plan.apiStages.length === 0) return plan.servesNoStage ? "none" : "all";
  return plan.apiStages.map((stage) => `${stage.apiId}/${stage.stage}`).join(", ");
}

function PlanTable({ plans }: { plans: Plan[] }) {
  return (
    <Table<Plan>
      caption="Plans"
      rows={plans}
      rowKey={(plan) => plan.id}
      columns={[
        { title: "Plan", cell: (plan) => <a href={link("plans", plan.id)}>{plan.name || plan.id}</a> },
        { title: "Id", cell: (plan) => <code>{plan.id}</code> },
        { title: "Throttle", cell: (plan) => throttleText(plan.throttle) },
        { title: "Quota", cell: quotaText },
        { title: "Further limits", number: true, cell: (plan) => count(plan.limits?.length ?? 0) },
        { title: "Stages", cell: stagesText },
        {
          title: "Declared",
          cell: (plan) => (
            <>
              {plan.owner === "file" ? "in the catalog file" : "here"}{" "}
              {plan.mode === "shadow" && <Badge tone="warn">shadow</Badge>}
            </>
          ),
        },
      ]}
    />
  );
}

const PERIODS = [
  ["", "No quota"],
  ["DAY", "a day"],
  ["WEEK", "a week"],
  ["MONTH", "a month"],
] as const;

function CreatePlan(props: { onClose: () => void }) {
  const [texts, setTexts] = useState({ name: "", rate: "", burst: "", quota: "" });
  const [period, setPeriod] = useState<(typeof PERIODS)[number][0]>("");
  const [error, setError] = useState("");
  const [isBusy, act] = useAction();
  const set = (member: keyof typeof texts) => (text: string) => setTexts({ ...texts, [member]: text });
  const submit = async (event: Event) => {
    event.preventDefault();
    const [rate, burst, limit] = [parseRate(texts.rate), parseCount(texts.burst), parseCount(texts.quota)];
    if (texts.rate !== "" && rate === null) return setError("Rate: write an amount and a time, such as 10/min");
    if (texts.burst !== "" && burst === null) return setError("Burst: write a whole number from 1");
    if (texts.burst !== "" && rate === null) return setError("Rate: a burst needs one, such as 10/s");
    if (period !== "" && limit === null) return setError("Quota: write a whole number from 1");
    setError("");
    const body = {
      name: texts.name,
      ...(rate !== null && { throttle: { rateLimit: rate, ...(burst !== null && { burstLimit: burst }) } }),
      ...(period !== "" && { quota: { limit, period } }),
    };
    await act(`The plan ${texts.name} is created`, async () => {
      const plan = await post<Plan>("/usageplans", body);
      location.hash = link("plans", plan.id);
    });
  };
  return (
    <Dialog title="Create a plan" onClose={props.onClose}>
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <TextField
          label="Name"
          required
          value={texts.name}
          onText={set("name")}
          hint="Such as Basic; its id, in metrics and headers, is made from it"
        />
        <div class="pair">
          <TextField label="Rate" value={texts.rate} onText={set("rate")} placeholder="10/s" hint="Empty for none" />
          <TextField label="Burst" value={texts.burst} onText={set("burst")} inputmode="numeric" placeholder="20" hint="Requests at once" />
        </div>
        <div class="pair">
          <TextField label="Quota" value={texts.quota} onText={set("quota")} inputmode="numeric" placeholder="1000" disabled={period === ""} />
          <SelectField label="Period" value={period} options={PERIODS} onChoose={setPeriod} />
        </div>
        <p class="note">It serves all stages until you choose some on its page.</p>
        {error && (
          <p class="notice error" role="alert">
            {error}
          </p>
        )}
        <FormActions busy={isBusy} onClose={props.onClose}>
          Create
        </FormActions>
      </form>
    </Dialog>
  );
}

interface StageRow {
  api: RestApi;
  stage: Stage;
}

export async function listStages(signal: AbortSignal): Promise<StageRow[]> {
  const { item } = await get<List<RestApi>>("/restapis?limit=500", signal);
  const stages = await Promise.all(
    item.map((api) => get<{ item: Stage[] }>(`/restapis/${part(api.id)}/stages`, signal)),
  );
  return item.flatMap((api, at) => (stages[at]?.item ?? []).map((stage) => ({ api, stage })));
}

function Stages() {
  const stages = useLoaded(listStages, []);
  return (
    <Panel title="Stages" note="Limits that all clients of a stage share">
      <Loading from={stages}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title="There are no stages">Import an OpenAPI document, or declare APIs in the catalog file.</Empty>
          ) : (
            <Table<StageRow>
              caption="Stages"
              rows={rows}
              rowKey={({ api, stage }) => `${api.id}/${stage.stageName}`}
              columns={[
                {
                  title: "Stage",
                  cell: ({ api, stage }) => (
                    <a href={link("stages", api.id, stage.stageName)}>
                      {api.name || api.id}/{stage.stageName}
                    </a>
                  ),
                },
                { title: "Throttle", cell: ({ stage }) => throttleText(stage.throttle) },
                {
                  title: "Methods with limits",
                  number: true,
                  cell: ({ stage }) => count(Object.keys(stage.methodSettings ?? {}).length),
                },
                { title: "Further limits", number: true, cell: ({ stage }) => count(stage.limits?.length ?? 0) },
                { title: "Declared", cell: ({ api }) => (api.owner === "file" ? "in the catalog file" : "here") },
              ]}
            />
          )
        }
      </Loading>
    </Panel>
  );
}

export function PlansPage() {
  const [isCreating, setCreating] = useState(false);
  const plans = useLoaded((signal) => get<List<Plan>>("/usageplans?limit=500", signal), []);
  return (
    <Page
      title="Plans and stages"
      actions={
        <WriteButton kind="primary" onClick={() => setCreating(true)}>
          Create a plan
        </WriteButton>
      }
    >
      <Panel title="Plans" note="Limits of each key that is on the plan">
        <Loading from={plans}>
          {({ item, position }) =>
            item.length === 0 ? (
              <Empty title="There are no plans yet">Create one, then put API keys on it.</Empty>
            ) : (
              <>
                <PlanTable plans={item} />
                {position && <p class="note">The first {count(item.length)} plans by their ids are shown.</p>}
              </>
            )
          }
        </Loading>
      </Panel>
      <Stages />
      {isCreating && <CreatePlan onClose={() => setCreating(false)} />}
    </Page>
  );
}
