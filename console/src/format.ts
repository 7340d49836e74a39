// Numbers, times and durations as text.

const whole = new Intl.NumberFormat("en-US");
const compactNumber = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

/** The remaining amount that AWS' usage shows if there is no quota. */
export const NO_QUOTA = Number.MAX_SAFE_INTEGER;

export const count = (value: number) => whole.format(value);

export const compact = (value: number) => (value < 10_000 ? whole.format(value) : compactNumber.format(value));

/** A rate per second. */
export function rate(value: number): string {
  if (value === 0) return "0";
  if (value < 0.1) return "<0.1";
  return value < 100 ? value.toFixed(1) : compact(Math.round(value));
}

/** A length of time in seconds. */
export function seconds(value: number): string {
  if (value < 1e-3) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${(value * 1e3).toFixed(value < 0.01 ? 1 : 0)} ms`;
  if (value < 120) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  if (value < 7_200) return `${Math.round(value / 60)} min`;
  if (value < 172_800) return `${Math.round(value / 3_600)} h`;
  return `${Math.round(value / 86_400)} days`;
}

export const percent = (part: number, all: number) =>
  all === 0 ? "–" : part === 0 ? "0 %" : part / all < 0.001 ? "<0.1 %" : `${((100 * part) / all).toFixed(1)} %`;

const dateTime = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });

export const time = (at: number | string) => dateTime.format(typeof at === "number" ? at * 1_000 : Date.parse(at));

/** A time as the distance from now. */
export function ago(at: number): string {
  const passed = Date.now() / 1_000 - at;
  return passed < 5 ? "now" : `${seconds(passed)} ago`;
}

export const day = (date: Date) => date.toISOString().slice(0, 10);

/** A rate of the admin API, per second, as people say it. */
export function rateLimit(perSecond: number): string {
  const each = [
    [1, "s"],
    [60, "min"],
    [3_600, "h"],
    [86_400, "day"],
  ] as const;
  for (const [length, unit] of each) {
    const amount = perSecond * length;
    if (amount >= 0.999) return `${count(Math.round(amount * 100) / 100)}/${unit}`;
  }
  return `${perSecond}/s`;
}

/** Reads a rate such as `10/min` as its amount per second; null if it is none. A number alone is per second. */
export function parseRate(text: string): number | null {
  const found = /^\s*([0-9]*\.?[0-9]+)\s*(?:\/\s*(s|sec|second|min|minute|h|hour|d|day))?\s*$/i.exec(text);
  if (!found?.[1]) return null;
  const lengths: Record<string, number> = { s: 1, m: 60, h: 3_600, d: 86_400 };
  const perSecond = Number(found[1]) / (lengths[(found[2] ?? "s").charAt(0).toLowerCase()] ?? 1);
  // The admin API takes nine decimals.
  const rounded = Math.round(perSecond * 1e9) / 1e9;
  return rounded > 0 ? rounded : null;
}

/** A rate without an exponent, which a patch does not take. */
export const rateValue = (perSecond: number) => perSecond.toFixed(9).replace(/\.?0+$/, "");

/** A whole number from 1, or null. */
export function parseCount(text: string): number | null {
  const digits = text.replaceAll(/[\s,_]/g, "");
  return /^[0-9]{1,16}$/.test(digits) && Number(digits) >= 1 ? Number(digits) : null;
}

/** A part of a patch's path. */
export const patchPart = (name: string) => name.replaceAll("~", "~0").replaceAll("/", "~1");
