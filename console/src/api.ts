// Requests to the admin API, by the session of the page.
//
// A request that meets the end of the session waits until the user has signed in again and is then
// sent once more, so a form that was filled in is not lost.

export type Json = null | boolean | number | string | Json[] | { [member: string]: Json };

export interface Session {
  who: string;
  canWrite: boolean;
  ends: number;
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly kind: string,
    message: string,
  ) {
    super(message);
  }
}

const HEADERS = { "x-tollgate-console": "1" };

/** The admin API is beside the page, also behind a proxy that serves both below another path. */
const url = (path: string) => new URL(`..${path}`, document.baseURI).href;

let onSignedOut: () => void = () => undefined;
let waiting: { signedIn: Promise<void>; resume: () => void } | null = null;

/** Registers the function that asks the user to sign in again. */
export function whenSignedOut(ask: () => void) {
  onSignedOut = ask;
}

/** Sends the requests that wait for a session. */
export function resumeRequests() {
  waiting?.resume();
  waiting = null;
}

function untilSignedIn(): Promise<void> {
  if (!waiting) {
    let resume = () => undefined as void;
    const signedIn = new Promise<void>((resolve) => (resume = resolve));
    waiting = { signedIn, resume };
    onSignedOut();
  }
  return waiting.signedIn;
}

async function send(method: string, path: string, body: unknown, signal?: AbortSignal) {
  const init: RequestInit = { method, headers: HEADERS, credentials: "same-origin", cache: "no-store" };
  if (signal) init.signal = signal;
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { ...HEADERS, "content-type": "application/json" };
  }
  try {
    return await fetch(url(path), init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "Unreachable", "The node does not answer. Is it running, and is the network up?");
  }
}

async function failure(response: Response): Promise<ApiError> {
  const kind = response.headers.get("x-amzn-errortype") ?? "";
  let message = `${response.status} ${response.statusText}`;
  try {
    message = ((await response.json()) as { message: string }).message;
  } catch {
    // A proxy's page, which says no more than its status.
  }
  return new ApiError(response.status, kind, message);
}

/** True if the session has ended. A limit of the admin API is no end of a session. */
async function isSignedOut(response: Response): Promise<boolean> {
  const kind = response.headers.get("x-amzn-errortype");
  if (response.status === 401 || kind === "MissingAuthenticationTokenException") return true;
  return response.status === 429 && (await readSession()).session === null;
}

/** Sends a request and returns the response; waits for a session if there is none. */
export async function request(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<Response> {
  for (;;) {
    if (waiting) await waiting.signedIn;
    const response = await send(method, path, body, signal);
    if (response.ok) return response;
    if (!(await isSignedOut(response))) throw await failure(response);
    await untilSignedIn();
  }
}

async function json<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const response = await request(method, path, body, signal);
  const text = await response.text();
  return (text ? JSON.parse(text) : null) as T;
}

export const get = <T>(path: string, signal?: AbortSignal) => json<T>("GET", path, undefined, signal);
export const post = <T>(path: string, body: unknown) => json<T>("POST", path, body);
export const remove = (path: string) => json<null>("DELETE", path);

export interface Operation {
  op: "replace" | "remove" | "add";
  path: string;
  value?: string;
}

export const patch = <T>(path: string, patchOperations: Operation[]) =>
  json<T>("PATCH", path, { patchOperations });

/** Part of a path or of a query. */
export const part = encodeURIComponent;

export interface SessionState {
  session: Session | null;
  accepts: "token" | "accessKey";
}

export async function readSession(): Promise<SessionState> {
  const response = await send("GET", "/console/session", undefined);
  if (!response.ok) throw await failure(response);
  return (await response.json()) as SessionState;
}

export async function signIn(credential: Record<string, string>): Promise<Session> {
  const response = await send("POST", "/console/session", credential);
  if (!response.ok) throw await failure(response);
  return (await response.json()) as Session;
}

export async function signOut(): Promise<void> {
  const response = await send("DELETE", "/console/session", undefined);
  if (!response.ok) throw await failure(response);
}
