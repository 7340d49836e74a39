// A key on one plan: usage by day, what is left, grants, and the key's own sizes of the limits.

import { useState } from "preact/hooks";

import { get, type Operation, part, patch, remove } from "../api";
import { FormActions } from "../controls";
import { Chart } from "../chart";
import { count, day, NO_QUOTA, parseCount, parseRate, patchPart, percent, rateLimit, rateValue } from "../format";
import { link, useAction, useLoaded } from "../state";
import type { ApiKey, Plan } from "../types";
import { Badge, Confirm, Dialog, Loading, Meter, Panel, SelectField, Table, TextField, WriteButton } from "../ui";

const DAYS = 30;
const DAY_MS = 86_400_000;

interface Usage {
  startDate: string;
  values: Record<string, [number, number][]>;
}

interface UsedDay {
  date: string;
  used: number;
  remaining: number;
}

async function readUsage(plan: string, key: string, unit: string, signal: AbortSignal): Promise<UsedDay[]> {
  const now = Date.now();
  // The end is tomorrow in UTC: today is then in the page in every time zone.
  const [start, end] = [day(new Date(now - (DAYS - 1) * DAY_MS)), day(new Date(now + DAY_MS))];
  const query = `keyId=${part(key)}&startDate=${start}&endDate=${end}&unit=${part(unit)}`;
  const usage = await get<Usage>(`/usageplans/${part(plan)}/usage?${query}`, signal);
  const first = Date.parse(`${usage.startDate}T00:00:00Z`);
  return (usage.values[key] ?? []).map(([used, remaining], at) => ({
    date: day(new Date(first + at * DAY_MS)),
    used,
    remaining,
  }));
}

function UsageView(props: { plan: Plan; apiKey: ApiKey; unit: string; days: UsedDay[] }) {
  const { plan, apiKey, unit, days } = props;
  const today = days.at(-1);
  const quota =
    unit === "requests"
      ? (apiKey.overrides?.[plan.id]?.quota?.limit ?? plan.quota?.limit)
      : plan.limits?.find((limit) => limit.unit === unit && limit.quota)?.quota?.limit;
  const isDaily = unit === "requests" && plan.quota?.period === "DAY";
  const left = today && today.remaining < NO_QUOTA ? today.remaining : null;
  const total = days.reduce((sum, one) => sum + one.used, 0);
  return (
    <>
      <dl class="stats inline">
        <div class="stat">
          <dt>Used today</dt>
          <dd>
            <span class="stat-value">{count(today?.used ?? 0)}</span>
            <span class="stat-note">{unit}</span>
          </dd>
        </div>
        <div class={`stat ${left === 0 ? "bad" : ""}`}>
          <dt>Left of the quota</dt>
          <dd>
            <span class="stat-value">{left === null ? "no quota" : count(left)}</span>
            {left !== null && quota !== undefined && (
              <span class="stat-note">
                <Meter label="Left of the quota" value={left} max={quota} tone={left === 0 ? "bad" : "good"} />{" "}
                {left > quota ? `more than ${count(quota)}, by a grant` : `${percent(left, quota)} of ${count(quota)}`}
              </span>
            )}
          </dd>
        </div>
        <div class="stat">
          <dt>Used in {days.length} days</dt>
          <dd>
            <span class="stat-value">{count(total)}</span>
            <span class="stat-note">{unit}</span>
          </dd>
        </div>
      </dl>
      <Chart
        label={`${unit} of each of the last ${days.length} days, the last one with ${count(today?.used ?? 0)}`}
        times={days.map((one) => Date.parse(`${one.date}T00:00:00`) / 1_000)}
        bars
        height={180}
        unit={`${unit} by day`}
        limit={isDaily ? quota : null}
        series={[{ name: "used", color: "--accent", values: days.map((one) => one.used) }]}
      />
      <details>
        <summary>The same as a table</summary>
        <Table<UsedDay>
          caption="Usage by day"
          rows={[...days].reverse()}
          rowKey={(one) => one.date}
          columns={[
            { title: "Day", cell: (one) => one.date },
            { title: "Used", number: true, cell: (one) => count(one.used) },
            { title: "Left", number: true, cell: (one) => (one.remaining < NO_QUOTA ? count(one.remaining) : "–") },
          ]}
        />
      </details>
    </>
  );
}

function Grant(props: { plan: Plan; apiKey: ApiKey; unit: string; onClose: () => void; onDone: () => void }) {
  const [amount, setAmount] = useState("");
  const [isBusy, act] = useAction();
  const { plan, apiKey, unit } = props;
  const parsed = parseCount(amount);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (parsed === null) return;
    const path = unit === "requests" ? "/grant" : `/grant/${patchPart(unit)}`;
    const operations: Operation[] = [{ op: "replace", path, value: String(parsed) }];
    const done = `${count(parsed)} ${unit} are granted`;
    if (await act(done, () => patch(`/usageplans/${part(plan.id)}/keys/${part(apiKey.id)}/usage`, operations))) {
      props.onDone();
      props.onClose();
    }
  };
  return (
    <Dialog title="Grant more of this period" onClose={props.onClose}>
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <TextField
          label={`Amount in ${unit}`}
          inputmode="numeric"
          required
          value={amount}
          onText={setAmount}
          aria-invalid={amount !== "" && parsed === null}
          hint={amount !== "" && parsed === null ? "Write a whole number from 1" : "Added to what is left of the current period. Sent twice, it is granted twice"}
        />
        <FormActions busy={isBusy} disabled={parsed === null} onClose={props.onClose}>
          Grant
        </FormActions>
      </form>
    </Dialog>
  );
}

/** The operations that turn an override's sizes into those of a form; an empty text takes one back. */
function overrideOperations(plan: string, texts: Sizes, first: Sizes): Operation[] | string {
  const at = `/overrides/${patchPart(plan)}`;
  const operations: Operation[] = [];
  const members = [
    ["rate", "throttle/rateLimit", parseRate, "Rate: write an amount and a time, such as 10/min"],
    ["burst", "throttle/burstLimit", parseCount, "Burst: write a whole number from 1"],
    ["quota", "quota/limit", parseCount, "Quota: write a whole number from 1"],
  ] as const;
  for (const [member, path, parse, fault] of members) {
    const text = texts[member].trim();
    if (text === first[member]) continue;
    if (text === "") {
      operations.push({ op: "remove", path: `${at}/${path}` });
      continue;
    }
    const value = parse(text);
    if (value === null) return fault;
    operations.push({ op: "replace", path: `${at}/${path}`, value: member === "rate" ? rateValue(value) : String(value) });
  }
  return operations;
}

interface Sizes {
  rate: string;
  burst: string;
  quota: string;
}

function Overrides(props: { plan: Plan; apiKey: ApiKey; onClose: () => void; onDone: () => void }) {
  const { plan, apiKey } = props;
  const own = apiKey.overrides?.[plan.id];
  const first: Sizes = {
    rate: own?.throttle?.rateLimit === undefined ? "" : rateLimit(own.throttle.rateLimit),
    burst: own?.throttle?.burstLimit?.toString() ?? "",
    quota: own?.quota?.limit.toString() ?? "",
  };
  const [texts, setTexts] = useState(first);
  const [error, setError] = useState("");
  const [isBusy, act] = useAction();
  const set = (member: keyof Sizes) => (text: string) => setTexts({ ...texts, [member]: text });
  const submit = async (event: Event) => {
    event.preventDefault();
    const operations = overrideOperations(plan.id, texts, first);
    if (typeof operations === "string") return setError(operations);
    setError("");
    if (operations.length === 0) return props.onClose();
    if (await act("The key has its own sizes", () => patch(`/apikeys/${part(apiKey.id)}`, operations))) {
      props.onDone();
      props.onClose();
    }
  };
  const planSize = (value: string | undefined) => (value ? `The plan has ${value}; empty uses it` : "The plan has none");
  const { throttle, quota } = plan;
  return (
    <Dialog title={`Own sizes on ${plan.name || plan.id}`} onClose={props.onClose}>
      <form class="stack" onSubmit={(event) => void submit(event)}>
        {throttle ? (
          <>
            <TextField
              label="Rate"
              value={texts.rate}
              onText={set("rate")}
              placeholder="10/s"
              hint={planSize(throttle.rateLimit === undefined ? undefined : rateLimit(throttle.rateLimit))}
            />
            <TextField
              label="Burst"
              inputmode="numeric"
              value={texts.burst}
              onText={set("burst")}
              hint={planSize(throttle.burstLimit?.toString())}
            />
          </>
        ) : (
          <p class="note">The plan has no throttle of requests to override.</p>
        )}
        {quota ? (
          <TextField
            label="Quota"
            inputmode="numeric"
            value={texts.quota}
            onText={set("quota")}
            hint={planSize(`${count(quota.limit)} a ${quota.period.toLowerCase()}`)}
          />
        ) : (
          <p class="note">The plan has no quota of requests to override.</p>
        )}
        {error && (
          <p class="notice error" role="alert">
            {error}
          </p>
        )}
        <FormActions busy={isBusy} onClose={props.onClose}>
          Save
        </FormActions>
      </form>
    </Dialog>
  );
}

function sizes(plan: Plan, apiKey: ApiKey): string {
  const own = apiKey.overrides?.[plan.id];
  const rate = own?.throttle?.rateLimit ?? plan.throttle?.rateLimit;
  const burst = own?.throttle?.burstLimit ?? plan.throttle?.burstLimit;
  const quota = own?.quota?.limit ?? plan.quota?.limit;
  const parts = [];
  if (rate !== undefined) parts.push(`${rateLimit(rate)}${burst === undefined ? "" : `, burst ${count(burst)}`}`);
  if (quota !== undefined && plan.quota) parts.push(`${count(quota)} a ${plan.quota.period.toLowerCase()}`);
  for (const limit of plan.limits ?? []) parts.push(limit.name);
  return parts.join(" · ") || "no limits";
}

type Open = "grant" | "overrides" | "detach" | "reset" | null;

export function KeyPlan(props: { apiKey: ApiKey; plan: Plan; onChanged: () => void }) {
  const { apiKey, plan } = props;
  const [open, setOpen] = useState<Open>(null);
  const [unit, setUnit] = useState("requests");
  const [, act] = useAction();
  const usage = useLoaded((signal) => readUsage(plan.id, apiKey.id, unit, signal), [plan.id, apiKey.id, unit], 10_000);
  const units = [...new Set(["requests", ...(plan.limits ?? []).flatMap((limit) => limit.unit ?? [])])];
  const isFile = apiKey.owner === "file";
  const hasOverrides = apiKey.overrides?.[plan.id] !== undefined;
  const usagePath = `/usageplans/${part(plan.id)}/keys/${part(apiKey.id)}`;
  const close = () => setOpen(null);
  return (
    <Panel
      title={`On ${plan.name || plan.id}`}
      note={
        <>
          <a href={link("plans", plan.id)}>{plan.id}</a>: {sizes(plan, apiKey)}{" "}
          {hasOverrides && <Badge tone="warn">own sizes</Badge>}
        </>
      }
      actions={
        <>
          {plan.quota || unit !== "requests" ? <WriteButton onClick={() => setOpen("grant")}>Grant</WriteButton> : null}
          <WriteButton onClick={() => setOpen("reset")}>Reset</WriteButton>
          {!isFile && <WriteButton onClick={() => setOpen("overrides")}>Override</WriteButton>}
          {!isFile && <WriteButton onClick={() => setOpen("detach")}>Take off</WriteButton>}
        </>
      }
    >
      {units.length > 1 && (
        <SelectField label="Unit" value={unit} options={units.map((one) => [one, one] as const)} onChoose={setUnit} />
      )}
      {apiKey.ignoredOverrides && apiKey.ignoredOverrides.length > 0 && (
        <p class="notice warn">Overrides that no longer fit the plan are ignored: {apiKey.ignoredOverrides.join(", ")}</p>
      )}
      <Loading from={usage}>
        {(days) => <UsageView plan={plan} apiKey={apiKey} unit={unit} days={days} />}
      </Loading>
      {open === "grant" && <Grant plan={plan} apiKey={apiKey} unit={unit} onClose={close} onDone={usage.reload} />}
      {open === "overrides" && <Overrides plan={plan} apiKey={apiKey} onClose={close} onDone={props.onChanged} />}
      {open === "reset" && (
        <Confirm
          title="Reset the counters?"
          action="Reset the counters"
          onClose={close}
          onConfirm={() =>
            act("The counters are empty: the key is admitted again", async () => {
              await patch(`${usagePath}/usage`, [{ op: "replace", path: "/reset", value: "true" }]);
              usage.reload();
            })
          }
        >
          <p>
            All counters of the limits of {apiKey.name || apiKey.id} in this plan become empty, so it is admitted again.
            The reported usage stays.
          </p>
        </Confirm>
      )}
      {open === "detach" && (
        <Confirm
          title={`Take the key off ${plan.name || plan.id}?`}
          action="Take off"
          onClose={close}
          onConfirm={() =>
            act("The key is off the plan", async () => {
              await remove(usagePath);
              props.onChanged();
            })
          }
        >
          <p>Checks of the key for stages of this plan are refused, unless it is on another plan of them.</p>
        </Confirm>
      )}
    </Panel>
  );
}

