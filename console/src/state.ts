// State that pages share: the route, polled data, the session, and messages for the user.

import { createContext } from "preact";
import { useCallback, useContext, useEffect, useRef, useState } from "preact/hooks";

import { ApiError, type Session } from "./api";

export const SessionContext = createContext<Session>({ who: "", canWrite: false, ends: 0 });

export const useSession = () => useContext(SessionContext);

/** The parts of the address after the hash: `#/keys/abc?x=1` has the path ["keys", "abc"]. */
export interface Route {
  path: string[];
  query: URLSearchParams;
}

export function readRoute(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const decode = (text: string) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

export function useRoute(): Route {
  const [route, setRoute] = useState(readRoute);
  useEffect(() => {
    const changed = () => setRoute(readRoute());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

export const link = (...path: string[]) => `#/${path.map(encodeURIComponent).join("/")}`;

export const errorText = (error: unknown) => (error instanceof Error ? error.message : String(error));

export interface Loaded<T> {
  data: T | undefined;
  error: string | undefined;
  /** The HTTP status of the error; 0 if the node did not answer. */
  status: number | undefined;
  reload: () => void;
}

/**
 * Loads data, again after each change of `inputs`, and every `interval` milliseconds while the page is
 * visible. What was loaded before stays while a reload fails.
 */
export function useLoaded<T>(
  load: (signal: AbortSignal) => Promise<T>,
  inputs: unknown[],
  interval = 0,
): Loaded<T> {
  const [state, setState] = useState<{ data?: T; error?: string; status?: number }>({});
  const [round, setRound] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  const inputsKey = JSON.stringify(inputs);
  const shown = useRef(inputsKey);
  useEffect(() => {
    const controller = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    if (shown.current !== inputsKey) setState({});
    shown.current = inputsKey;
    const run = async () => {
      if (!document.hidden) {
        try {
          const data = await latest.current(controller.signal);
          if (!controller.signal.aborted) setState({ data });
        } catch (error) {
          if (controller.signal.aborted) return;
          const status = error instanceof ApiError ? error.status : undefined;
          setState((before) => ({ ...before, error: errorText(error), status }));
        }
      }
      if (interval > 0 && !controller.signal.aborted) timer = setTimeout(run, interval);
    };
    void run();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [inputsKey, interval, round]);
  const reload = useCallback(() => setRound((before) => before + 1), []);
  const { data, error, status } = state;
  return { data, error, status, reload };
}

/** The last message, which a live region reads out. */
let showMessage: (message: { text: string; isError: boolean }) => void = () => undefined;

export function onMessage(show: typeof showMessage) {
  showMessage = show;
}

export const announce = (text: string) => showMessage({ text, isError: false });
export const announceError = (error: unknown) => showMessage({ text: errorText(error), isError: true });

/** Runs a change, and says that it is made or why it is not. Returns true if it is made. */
export function useAction(): [boolean, (done: string, change: () => Promise<unknown>) => Promise<boolean>] {
  const [isBusy, setBusy] = useState(false);
  const run = useCallback(async (done: string, change: () => Promise<unknown>) => {
    setBusy(true);
    try {
      await change();
      announce(done);
      return true;
    } catch (error) {
      announceError(error);
      return false;
    } finally {
      setBusy(false);
    }
  }, []);
  return [isBusy, run];
}
