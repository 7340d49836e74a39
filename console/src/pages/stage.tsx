// One stage: the limits that all its clients share.

import { useState } from "preact/hooks";

import { get, type Operation, part, patch } from "../api";
import { count, parseCount, parseRate, patchPart, rateLimit, rateValue } from "../format";
import { link, useAction, useLoaded, useSession } from "../state";
import type { RestApi, Stage } from "../types";
import { Badge, Empty, Loading, Page, Panel, Table, TextField, WriteButton } from "../ui";
import { LimitFields, limitOperations, limitTexts } from "./limits";

interface Method {
  /** As the settings name it, such as `~1pets/GET`. */
  name: string;
  rate?: number;
  burst?: number;
}

function methodsOf(stage: Stage): Method[] {
  return Object.entries(stage.methodSettings ?? {})
    .filter(([, settings]) => (settings.throttlingRateLimit ?? 0) > 0)
    .map(([name, settings]) => ({
      name,
      rate: settings.throttlingRateLimit,
      burst: settings.throttlingBurstLimit,
    }));
}

/** `~1pets/GET` as people write it: `GET /pets`. */
function methodText(name: string): string {
  const at = name.lastIndexOf("/");
  const [path, method] = [name.slice(0, at).replaceAll("~1", "/").replaceAll("~0", "~"), name.slice(at + 1)];
  return path === "*" && method === "*" ? "every method" : `${method} ${path}`;
}

function EditLimits(props: { path: string; stage: Stage; isFile: boolean; onChanged: () => void }) {
  const { canWrite } = useSession();
  const first = limitTexts(props.stage);
  const [texts, setTexts] = useState(first);
  const [error, setError] = useState("");
  const [isBusy, act] = useAction();
  const submit = async (event: Event) => {
    event.preventDefault();
    const operations = limitOperations(texts, first, false);
    if (typeof operations === "string") return setError(operations);
    if (operations.length === 0) return setError("Nothing is changed");
    setError("");
    if (await act("The stage is changed", () => patch(props.path, operations))) props.onChanged();
  };
  return (
    <Panel
      title="Limits"
      note={props.isFile ? "Declared in the catalog file: change them there" : "Shared by all clients of the stage"}
    >
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <LimitFields texts={texts} onChange={setTexts} withQuota={false} disabled={props.isFile || !canWrite} />
        {error && (
          <p class="notice error" role="alert">
            {error}
          </p>
        )}
        {!props.isFile && (
          <div class="form-actions">
            <WriteButton type="submit" kind="primary" busy={isBusy}>
              Save
            </WriteButton>
          </div>
        )}
      </form>
    </Panel>
  );
}

function Methods(props: { path: string; stage: Stage; isFile: boolean; onChanged: () => void }) {
  const [texts, setTexts] = useState({ method: "", path: "", rate: "", burst: "" });
  const [error, setError] = useState("");
  const [isBusy, act] = useAction();
  const methods = methodsOf(props.stage);
  const set = (member: keyof typeof texts) => (text: string) => setTexts({ ...texts, [member]: text });
  const submit = async (event: Event) => {
    event.preventDefault();
    const [rate, burst] = [parseRate(texts.rate), parseCount(texts.burst)];
    if (rate === null) return setError("Rate: write an amount and a time, such as 10/min");
    if (texts.burst !== "" && burst === null) return setError("Burst: write a whole number from 1");
    setError("");
    const at = `/${patchPart(texts.path.trim())}/${texts.method.trim().toUpperCase()}/throttling`;
    const operations: Operation[] = [{ op: "replace", path: `${at}/rateLimit`, value: rateValue(rate) }];
    if (burst !== null) operations.push({ op: "replace", path: `${at}/burstLimit`, value: String(burst) });
    if (await act("The method has a throttle", () => patch(props.path, operations))) props.onChanged();
  };
  const drop = async (name: string) => {
    const operations: Operation[] = [{ op: "replace", path: `/${name}/throttling/rateLimit`, value: "-1" }];
    if (await act("The method has no throttle any more", () => patch(props.path, operations))) props.onChanged();
  };
  return (
    <Panel title="Methods" note="Each has a throttle of its own, shared by all clients">
      {methods.length === 0 ? (
        <Empty title="No method has a throttle of its own" />
      ) : (
        <Table<Method>
          caption="Methods with a throttle"
          rows={methods}
          rowKey={(method) => method.name}
          columns={[
            { title: "Method", cell: (method) => <code>{methodText(method.name)}</code> },
            { title: "Rate", cell: (method) => rateLimit(method.rate ?? 0) },
            { title: "Burst", number: true, cell: (method) => (method.burst && method.burst > 0 ? count(method.burst) : "–") },
            {
              title: "Change",
              cell: (method) =>
                props.isFile ? (
                  "in the catalog file"
                ) : (
                  <WriteButton busy={isBusy} onClick={() => void drop(method.name)}>
                    Remove
                  </WriteButton>
                ),
            },
          ]}
        />
      )}
      {!props.isFile && (
        <form class="row-form" onSubmit={(event) => void submit(event)}>
          <TextField label="Method" required value={texts.method} onText={set("method")} placeholder="POST or *" />
          <TextField label="Path" required value={texts.path} onText={set("path")} placeholder="/v1/chat or *" class="wide" />
          <TextField label="Rate" required value={texts.rate} onText={set("rate")} placeholder="10/s" />
          <TextField label="Burst" value={texts.burst} onText={set("burst")} inputmode="numeric" class="narrow" />
          <WriteButton type="submit" busy={isBusy}>
            Set
          </WriteButton>
        </form>
      )}
      {error && (
        <p class="notice error" role="alert">
          {error}
        </p>
      )}
    </Panel>
  );
}

export function StagePage({ api, stage }: { api: string; stage: string }) {
  const path = `/restapis/${part(api)}/stages/${part(stage)}`;
  const loaded = useLoaded(
    async (signal) => {
      const [own, owner] = await Promise.all([
        get<Stage>(path, signal),
        get<RestApi>(`/restapis/${part(api)}`, signal),
      ]);
      return { own, isFile: owner.owner === "file" };
    },
    [path],
  );
  const crumb = { text: "Plans and stages", href: link("plans") };
  if (loaded.status === 404) {
    return (
      <Page title="No such stage" crumb={crumb}>
        <Empty title={`There is no stage ${stage} of the API ${api}`} />
      </Page>
    );
  }
  return (
    <Page
      title={`${api}/${stage}`}
      crumb={crumb}
      note={loaded.data?.isFile && <Badge>declared in the catalog file</Badge>}
    >
      <Loading from={loaded}>
        {({ own, isFile }) => (
          <>
            <EditLimits key={JSON.stringify(own)} path={path} stage={own} isFile={isFile} onChanged={loaded.reload} />
            <Methods path={path} stage={own} isFile={isFile} onChanged={loaded.reload} />
          </>
        )}
      </Loading>
    </Page>
  );
}
