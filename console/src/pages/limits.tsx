// The form of a throttle and a quota, as plans and stages have it, and the patch that it makes.

import type { Operation } from "../api";
import { parseCount, parseRate, rateLimit, rateValue } from "../format";
import type { FurtherLimit, Plan, Throttle } from "../types";
import { Field, SelectField, TextField } from "../ui";

export interface LimitTexts {
  rate: string;
  burst: string;
  quota: string;
  period: string;
  /** Further limits, in JSON. */
  limits: string;
}

export const PERIODS = [
  ["", "No quota"],
  ["DAY", "a day"],
  ["WEEK", "a week"],
  ["MONTH", "a month"],
] as const;

export const limitTexts = (from: { throttle?: Throttle; quota?: Plan["quota"]; limits?: FurtherLimit[] }): LimitTexts => ({
  rate: from.throttle?.rateLimit === undefined ? "" : rateLimit(from.throttle.rateLimit),
  burst: from.throttle?.burstLimit?.toString() ?? "",
  quota: from.quota?.limit.toString() ?? "",
  period: from.quota?.period ?? "",
  limits: from.limits && from.limits.length > 0 ? JSON.stringify(from.limits, null, 2) : "",
});

function throttleOperations(texts: LimitTexts, first: LimitTexts): Operation[] | string {
  if (texts.rate === first.rate && texts.burst === first.burst) return [];
  if (texts.rate.trim() === "") {
    return texts.burst.trim() === "" ? [{ op: "remove", path: "/throttle" }] : "Rate: a burst needs one, such as 10/s";
  }
  const rate = parseRate(texts.rate);
  if (rate === null) return "Rate: write an amount and a time, such as 10/min";
  // Without a burst the throttle is written anew, with the rate alone.
  const operations: Operation[] = first.burst !== "" && texts.burst === "" ? [{ op: "remove", path: "/throttle" }] : [];
  operations.push({ op: "replace", path: "/throttle/rateLimit", value: rateValue(rate) });
  if (texts.burst.trim() === "") return operations;
  const burst = parseCount(texts.burst);
  if (burst === null) return "Burst: write a whole number from 1";
  operations.push({ op: "replace", path: "/throttle/burstLimit", value: String(burst) });
  return operations;
}

function quotaOperations(texts: LimitTexts, first: LimitTexts): Operation[] | string {
  if (texts.quota === first.quota && texts.period === first.period) return [];
  if (texts.period === "") return [{ op: "remove", path: "/quota" }];
  const limit = parseCount(texts.quota);
  if (limit === null) return "Quota: write a whole number from 1";
  return [
    { op: "replace", path: "/quota/limit", value: String(limit) },
    { op: "replace", path: "/quota/period", value: texts.period },
  ];
}

function furtherOperations(texts: LimitTexts, first: LimitTexts): Operation[] | string {
  if (texts.limits.trim() === first.limits.trim()) return [];
  if (texts.limits.trim() === "") return [{ op: "remove", path: "/limits" }];
  try {
    return [{ op: "replace", path: "/limits", value: JSON.stringify(JSON.parse(texts.limits)) }];
  } catch {
    return "Further limits: write a list in JSON";
  }
}

/** The patch from the first texts to these, or what is wrong with them. */
export function limitOperations(texts: LimitTexts, first: LimitTexts, withQuota: boolean): Operation[] | string {
  const operations: Operation[] = [];
  for (const some of [throttleOperations, ...(withQuota ? [quotaOperations] : []), furtherOperations]) {
    const made = some(texts, first);
    if (typeof made === "string") return made;
    operations.push(...made);
  }
  return operations;
}

export function LimitFields(props: {
  texts: LimitTexts;
  onChange: (texts: LimitTexts) => void;
  withQuota: boolean;
  disabled: boolean;
}) {
  const { texts, onChange, disabled } = props;
  const set = (member: keyof LimitTexts) => (text: string) => onChange({ ...texts, [member]: text });
  return (
    <>
      <div class="pair">
        <TextField
          label="Rate"
          value={texts.rate}
          onText={set("rate")}
          disabled={disabled}
          placeholder="10/s"
          hint="Requests per s, min, h or day; empty for none"
        />
        <TextField
          label="Burst"
          value={texts.burst}
          onText={set("burst")}
          disabled={disabled}
          inputmode="numeric"
          hint="Requests at once; empty for one second of the rate"
        />
      </div>
      {props.withQuota && (
        <div class="pair">
          <TextField
            label="Quota"
            value={texts.quota}
            onText={set("quota")}
            disabled={disabled || texts.period === ""}
            inputmode="numeric"
            hint="Requests of a period"
          />
          <SelectField
            label="Period"
            value={texts.period}
            options={PERIODS}
            onChoose={set("period")}
            disabled={disabled}
          />
        </div>
      )}
      <Field
        label="Further limits"
        hint={'A list in JSON, in any unit, such as [{"name":"tpm","unit":"total_tokens","throttle":{"rate":"10000/min","burst":5000}}]'}
      >
        {(ids) => (
          <textarea
            {...ids}
            rows={texts.limits === "" ? 2 : Math.min(14, texts.limits.split("\n").length + 1)}
            spellcheck={false}
            disabled={disabled}
            value={texts.limits}
            onInput={(event) => onChange({ ...texts, limits: event.currentTarget.value })}
          />
        )}
      </Field>
    </>
  );
}
