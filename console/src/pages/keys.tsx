// API keys: search by name or id, page by page, and a form that creates one.

import { useEffect, useRef, useState } from "preact/hooks";

import { get, part, post } from "../api";
import { FormActions, Pager } from "../controls";
import { count, time } from "../format";
import { listKeys, type Found, searchKeys } from "../search";
import { announceError, errorText, link, useAction, useLoaded } from "../state";
import type { ApiKey, List, Plan } from "../types";
import { Badge, Dialog, Empty, Loading, NewValue, Page, Panel, SelectField, Table, TextField, WriteButton } from "../ui";

export function KeyState({ apiKey }: { apiKey: ApiKey }) {
  const isExpired = apiKey.expiresAt !== undefined && Date.parse(apiKey.expiresAt) < Date.now();
  if (isExpired) return <Badge tone="bad">expired</Badge>;
  return apiKey.enabled ? <Badge tone="good">enabled</Badge> : <Badge tone="bad">disabled</Badge>;
}

function KeyTable({ keys }: { keys: ApiKey[] }) {
  return (
    <Table<ApiKey>
      caption="API keys"
      rows={keys}
      rowKey={(key) => key.id}
      columns={[
        { title: "Name", cell: (key) => <a href={link("keys", key.id)}>{key.name || key.id}</a> },
        { title: "Id", cell: (key) => <code>{key.id}</code> },
        { title: "Customer", cell: (key) => key.customerId ?? "–" },
        { title: "State", cell: (key) => <KeyState apiKey={key} /> },
        { title: "Created", cell: (key) => (key.owner === "file" ? "in the catalog file" : time(key.createdDate)) },
      ]}
    />
  );
}

const NOTHING: Found = { keys: [], scanned: 0, position: "", isRunning: true };

function SearchResult({ text }: { text: string }) {
  const [found, setFound] = useState<Found>(NOTHING);
  const [error, setError] = useState("");
  const controller = useRef<AbortController | null>(null);
  const run = (from: Found) => {
    controller.current?.abort();
    const own = new AbortController();
    controller.current = own;
    setError("");
    setFound({ ...from, isRunning: true });
    searchKeys(text, from, own.signal, setFound).catch((thrown: unknown) => {
      if (!own.signal.aborted) setError(errorText(thrown));
    });
  };
  useEffect(() => {
    const timer = setTimeout(() => run(NOTHING), 200);
    return () => {
      clearTimeout(timer);
      controller.current?.abort();
    };
  }, [text]);
  const stop = () => {
    controller.current?.abort();
    setFound((before) => ({ ...before, isRunning: false }));
  };
  const scanned = found.scanned > 0 ? `${count(found.scanned)} keys searched` : "Searching…";
  return (
    <>
      {error && (
        <div class="notice error" role="alert">
          <p>The search stopped: {error}</p>
          <button type="button" class="button small" onClick={() => run(found)}>
            Go on
          </button>
        </div>
      )}
      {found.keys.length > 0 && <KeyTable keys={found.keys} />}
      {found.keys.length === 0 && !found.isRunning && !error && (
        <Empty title={`No key begins with “${text}”`}>Names and ids are compared from their beginning, in this case.</Empty>
      )}
      <div class="pager">
        <p role="status">
          {found.keys.length > 0 && `${count(found.keys.length)} found, `}
          {scanned}
        </p>
        {found.isRunning && !error && (
          <button type="button" class="button" onClick={stop}>
            Stop
          </button>
        )}
        {!found.isRunning && found.position !== "" && (
          <button type="button" class="button" onClick={() => run(found)}>
            Search on
          </button>
        )}
      </div>
    </>
  );
}

/** All keys in the order of their ids. */
function AllKeys() {
  const [before, setBefore] = useState<string[]>([]);
  const position = before.at(-1) ?? "";
  const page = useLoaded((signal) => listKeys(position, signal), [position]);
  return (
    <Loading from={page}>
      {({ item, position: next }) =>
        item.length === 0 && before.length === 0 ? (
          <Empty title="There are no API keys yet">Create one here, or with “tollgate keys create”.</Empty>
        ) : (
          <>
            <KeyTable keys={item} />
            <Pager before={before} next={next} onPage={setBefore} />
          </>
        )
      }
    </Loading>
  );
}

function CreateKey(props: { onClose: () => void; onCreated: (key: ApiKey) => void }) {
  const [name, setName] = useState("");
  const [customer, setCustomer] = useState("");
  const [plan, setPlan] = useState("");
  const [isBusy, act] = useAction();
  const plans = useLoaded((signal) => get<List<Plan>>("/usageplans?limit=500", signal), []);
  const submit = async (event: Event) => {
    event.preventDefault();
    let created: ApiKey | undefined;
    const isDone = await act(`API key ${name} is created`, async () => {
      const body = { name, enabled: true, ...(customer && { customerId: customer }) };
      created = await post<ApiKey>("/apikeys", body);
    });
    if (!isDone || !created) return;
    // The value is in this response only, so it is shown even if the plan is refused.
    props.onCreated(created);
    if (plan) {
      await post(`/usageplans/${part(plan)}/keys`, { keyId: created.id, keyType: "API_KEY" }).catch(announceError);
    }
  };
  return (
    <Dialog title="Create an API key" onClose={props.onClose}>
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <TextField label="Name" required value={name} onText={setName} hint="For people; two keys may have the same" />
        <TextField label="Customer id" value={customer} onText={setCustomer} hint="Optional: your own id of the customer" />
        <SelectField
          label="Plan"
          value={plan}
          options={[
            ["", plans.data ? "None: its checks are refused until it has one" : "Loading…"],
            ...(plans.data?.item ?? []).map((one) => [one.id, one.name || one.id] as const),
          ]}
          onChoose={setPlan}
        />
        <FormActions busy={isBusy} onClose={props.onClose}>
          Create
        </FormActions>
      </form>
    </Dialog>
  );
}

export function KeysPage() {
  const [text, setText] = useState("");
  const [isCreating, setCreating] = useState(false);
  const [created, setCreated] = useState<ApiKey | null>(null);
  const [round, setRound] = useState(0);
  const searched = text.trim();
  return (
    <Page
      title="API keys"
      actions={
        <WriteButton kind="primary" onClick={() => setCreating(true)}>
          Create an API key
        </WriteButton>
      }
    >
      <Panel title="Keys">
        <TextField
          label="Search"
          type="search"
          class="search"
          value={text}
          onText={setText}
          placeholder="The beginning of a name or an id"
        />
        {searched ? <SearchResult key={round} text={searched} /> : <AllKeys key={round} />}
      </Panel>
      {isCreating && (
        <CreateKey
          onClose={() => setCreating(false)}
          onCreated={(key) => {
            setCreating(false);
            setCreated(key);
            setRound(round + 1);
          }}
        />
      )}
      {created && (
        <NewValue
          id={created.id}
          value={created.value ?? ""}
          onClose={() => {
            const { id } = created;
            setCreated(null);
            location.hash = link("keys", id);
          }}
        />
      )}
    </Page>
  );
}
