// The parts that pages are made of. Texts are always text: nothing here makes HTML of them.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { announce, errorText, useSession } from "./state";

/** A page: its heading takes the focus when the page is opened, so that it is read out. */
export function Page(props: {
  title: string;
  crumb?: { text: string; href: string };
  note?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  const name = props.title;
  useEffect(() => {
    document.title = `${name} – Tollgate`;
    heading.current?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [name]);
  return (
    <>
      <header class="page-head">
        <div>
          {props.crumb && (
            <p class="crumb">
              <a href={props.crumb.href}>{props.crumb.text}</a>
            </p>
          )}
          <h1 tabIndex={-1} ref={heading}>
            {props.title}
          </h1>
          {props.note && <p class="note">{props.note}</p>}
        </div>
        {props.actions && <div class="actions">{props.actions}</div>}
      </header>
      {props.children}
    </>
  );
}

export function Panel(props: {
  title: string;
  note?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
  class?: string;
}) {
  const id = useId();
  return (
    <section class={`panel ${props.class ?? ""}`} aria-labelledby={id}>
      <header class="panel-head">
        <div>
          <h2 id={id}>{props.title}</h2>
          {props.note && <p class="note">{props.note}</p>}
        </div>
        {props.actions && <div class="actions">{props.actions}</div>}
      </header>
      {props.children}
    </section>
  );
}

export const Empty = (props: { title: string; children?: ComponentChildren }) => (
  <div class="empty">
    <p class="empty-title">{props.title}</p>
    {props.children && <p>{props.children}</p>}
  </div>
);

/** The state of loading: an error with a way on, or a placeholder. Renders `children` once there is data. */
export function Loading<T>(props: {
  from: { data: T | undefined; error: string | undefined; reload: () => void };
  children: (data: T) => ComponentChildren;
}) {
  const { data, error, reload } = props.from;
  return (
    <>
      {error && (
        <div class="notice error" role="alert">
          <p>
            {data === undefined ? "This could not be loaded: " : "This is not up to date: "}
            {error}
          </p>
          <button type="button" class="button small" onClick={reload}>
            Try again
          </button>
        </div>
      )}
      {data !== undefined ? props.children(data) : !error && <p class="loading">Loading…</p>}
    </>
  );
}

export type Tone = "good" | "bad" | "warn" | "plain";

export const Badge = (props: { tone?: Tone; children: ComponentChildren }) => (
  <span class={`badge ${props.tone ?? "plain"}`}>{props.children}</span>
);

/** A button of a change: with a read-only session it is off, and says why. */
export function WriteButton(props: {
  children: ComponentChildren;
  onClick?: () => void;
  busy?: boolean;
  disabled?: boolean;
  kind?: "primary" | "danger" | "plain";
  type?: "submit" | "button";
}) {
  const { canWrite } = useSession();
  const kind = props.kind ?? "plain";
  return (
    <button
      type={props.type ?? "button"}
      class={`button ${kind}`}
      disabled={!canWrite || props.busy || props.disabled}
      title={canWrite ? undefined : "This session may only read: sign in with the admin token to change things"}
      aria-busy={props.busy}
      onClick={props.onClick}
    >
      {props.children}
    </button>
  );
}

/** A labelled control. `children` gets the ids that connect it with its label and hint. */
export function Field(props: {
  label: string;
  hint?: ComponentChildren;
  class?: string;
  children: (ids: { id: string; "aria-describedby"?: string }) => JSX.Element;
}) {
  const id = useId();
  const hint = `${id}-hint`;
  return (
    <div class={`field ${props.class ?? ""}`}>
      <label for={id}>{props.label}</label>
      {props.children(props.hint ? { id, "aria-describedby": hint } : { id })}
      {props.hint && (
        <p class="hint" id={hint}>
          {props.hint}
        </p>
      )}
    </div>
  );
}

interface TextProps {
  label: string;
  hint?: ComponentChildren;
  value: string;
  onText: (text: string) => void;
  type?: "text" | "password" | "search" | "number";
  class?: string;
  placeholder?: string;
  autocomplete?: string;
  inputmode?: "numeric";
  min?: string;
  step?: string;
  required?: boolean;
  disabled?: boolean;
  autofocus?: boolean;
  "aria-invalid"?: boolean;
}

export function TextField({ label, hint, value, onText, class: own, ...rest }: TextProps) {
  const attributes = { type: "text", autocomplete: "off", spellcheck: false, ...rest } as JSX.IntrinsicElements["input"];
  return (
    <Field label={label} hint={hint} class={own}>
      {(ids) => <input {...attributes} {...ids} value={value} onInput={(event) => onText(event.currentTarget.value)} />}
    </Field>
  );
}

export function SelectField<T extends string>(props: {
  label: string;
  hint?: ComponentChildren;
  value: T;
  options: readonly (readonly [T, string])[];
  onChoose: (value: T) => void;
  disabled?: boolean;
}) {
  return (
    <Field label={props.label} hint={props.hint}>
      {(ids) => (
        <select
          {...ids}
          value={props.value}
          disabled={props.disabled}
          onChange={(event) => props.onChoose(event.currentTarget.value as T)}
        >
          {props.options.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

/** Two or three choices in one line, of which one is pressed. */
export function Segments<T extends string>(props: {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChoose: (value: T) => void;
}) {
  return (
    <div class="segments" role="group" aria-label={props.label}>
      {props.options.map(([value, text]) => (
        <button
          type="button"
          key={value}
          aria-pressed={value === props.value}
          onClick={() => props.onChoose(value)}
        >
          {text}
        </button>
      ))}
    </div>
  );
}

/** A dialog of the browser, which keeps the focus inside. It is shown while it is rendered. */
export function Dialog(props: {
  title: string;
  onClose?: () => void;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose?.();
      }}
    >
      <h2 id={id}>{props.title}</h2>
      {props.children}
    </dialog>
  );
}

/** Asks before a change that cannot be undone. */
export function Confirm(props: {
  title: string;
  action: string;
  children: ComponentChildren;
  onConfirm: () => Promise<boolean>;
  onClose: () => void;
}) {
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const confirm = async () => {
    setBusy(true);
    try {
      if (await props.onConfirm()) props.onClose();
    } catch (thrown) {
      setError(errorText(thrown));
    }
    setBusy(false);
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <div class="dialog-body">{props.children}</div>
      {error && <p class="notice error" role="alert">{error}</p>}
      <div class="dialog-actions">
        <button type="button" class="button" onClick={props.onClose}>
          Cancel
        </button>
        <button type="button" class="button danger" disabled={isBusy} onClick={() => void confirm()}>
          {props.action}
        </button>
      </div>
    </Dialog>
  );
}

/** A secret that is shown once, with a button that copies it. */
export function NewValue(props: { id: string; value: string; onClose: () => void; overlap?: string }) {
  const field = useRef<HTMLInputElement>(null);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(props.value);
      announce("The value is copied");
    } catch {
      field.current?.select();
      announce("Press Ctrl+C or ⌘C to copy the selected value");
    }
  };
  return (
    <Dialog title="The value of the API key" onClose={props.onClose}>
      <div class="dialog-body">
        <p>
          Clients send this value. It is shown <strong>only now</strong>: copy it before you close this.
        </p>
        {props.overlap && <p>{props.overlap}</p>}
        <div class="copy-row">
          <input ref={field} readOnly aria-label={`Value of the API key ${props.id}`} value={props.value} />
          <button type="button" class="button primary" onClick={() => void copy()}>
            Copy
          </button>
        </div>
      </div>
      <div class="dialog-actions">
        <button type="button" class="button" onClick={props.onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}

export interface Column<T> {
  title: string;
  /** Numbers are at the right, in figures of one width. */
  number?: boolean;
  cell: (row: T) => ComponentChildren;
}

/** A table that scrolls within its panel on narrow screens; the first column names the row. */
export function Table<T>(props: {
  caption: string;
  columns: Column<T>[];
  rows: T[];
  rowKey: (row: T) => string;
}) {
  return (
    <div class="table-scroll" tabIndex={0} role="group" aria-label={props.caption}>
      <table>
        <caption class="visually-hidden">{props.caption}</caption>
        <thead>
          <tr>
            {props.columns.map((column) => (
              <th key={column.title} scope="col" class={column.number ? "number" : undefined}>
                {column.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.rows.map((row) => (
            <tr key={props.rowKey(row)}>
              {props.columns.map((column, place) =>
                place === 0 ? (
                  <th key={column.title} scope="row">
                    {column.cell(row)}
                  </th>
                ) : (
                  <td key={column.title} class={column.number ? "number" : undefined}>
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A part of a whole as a bar. */
export const Meter = (props: { label: string; value: number; max: number; tone?: Tone }) => (
  <meter
    class={props.tone ?? "plain"}
    min={0}
    max={Math.max(props.max, 1)}
    value={Math.max(0, Math.min(props.value, props.max))}
    aria-label={props.label}
  />
);

export const Stat = (props: { label: string; value: ComponentChildren; note?: ComponentChildren; tone?: Tone }) => (
  <div class={`stat ${props.tone ?? "plain"}`}>
    <dt>{props.label}</dt>
    <dd>
      <span class="stat-value">{props.value}</span>
      {props.note && <span class="stat-note">{props.note}</span>}
    </dd>
  </div>
);
