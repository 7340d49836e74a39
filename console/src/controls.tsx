// Controls that several pages share: the buttons of a form in a dialog, and those between the pages of a list.

import type { ComponentChildren } from "preact";

import { count } from "./format";
import { WriteButton } from "./ui";

/** The buttons below a form in a dialog: Cancel, and the one that submits it. */
export function FormActions(props: { children: ComponentChildren; busy: boolean; disabled?: boolean; onClose: () => void }) {
  return (
    <div class="dialog-actions">
      <button type="button" class="button" onClick={props.onClose}>
        Cancel
      </button>
      <WriteButton type="submit" kind="primary" busy={props.busy} disabled={props.disabled}>
        {props.children}
      </WriteButton>
    </div>
  );
}

/** The number of a page of a list, and the buttons to its neighbours. `before` are the positions of the pages up to it. */
export function Pager(props: {
  before: string[];
  /** The position of the page behind it; undefined on the last one. */
  next: string | undefined;
  back?: string;
  on?: string;
  onPage: (before: string[]) => void;
}) {
  const { before, next } = props;
  return (
    <div class="pager">
      <p>Page {count(before.length + 1)}</p>
      <button type="button" class="button" disabled={before.length === 0} onClick={() => props.onPage(before.slice(0, -1))}>
        {props.back ?? "Previous"}
      </button>
      <button
        type="button"
        class="button"
        disabled={next === undefined}
        onClick={() => next !== undefined && props.onPage([...before, next])}
      >
        {props.on ?? "Next"}
      </button>
    </div>
  );
}
