// The console: signs in, then shows one page at a time beside its navigation.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";

import { readSession, resumeRequests, type Session, type SessionState, signOut, whenSignedOut } from "./api";
import { AuditPage } from "./pages/audit";
import { KeyPage } from "./pages/key";
import { KeysPage } from "./pages/keys";
import { OverviewPage } from "./pages/overview";
import { PlanPage } from "./pages/plan";
import { PlansPage } from "./pages/plans";
import { PoliciesPage, PolicyPage } from "./pages/policies";
import { StagePage } from "./pages/stage";
import { TailPage } from "./pages/tail";
import { WebhooksPage } from "./pages/webhooks";
import { SignInDialog, SignInPage } from "./signin";
import { announceError, errorText, onMessage, type Route, SessionContext, useRoute } from "./state";
import { Empty, Page } from "./ui";
import "uplot/dist/uPlot.min.css";
import "./style.css";

const NAVIGATION = [
  ["overview", "Overview"],
  ["keys", "API keys"],
  ["plans", "Plans and stages"],
  ["policies", "Policies"],
  ["tail", "Live tail"],
  ["audit", "Audit log"],
  ["webhooks", "Webhooks"],
] as const;

function CurrentPage({ route }: { route: Route }) {
  const [page = "overview", first, second] = route.path;
  switch (page) {
    case "overview":
      return <OverviewPage />;
    case "keys":
      return first ? <KeyPage key={first} id={first} /> : <KeysPage />;
    case "plans":
      return first ? <PlanPage key={first} id={first} /> : <PlansPage />;
    case "stages":
      if (first && second) return <StagePage key={`${first}/${second}`} api={first} stage={second} />;
      return <PlansPage />;
    case "policies":
      return first ? <PolicyPage key={first} name={first} first={route.query.get("key") ?? ""} /> : <PoliciesPage />;
    case "tail":
      return <TailPage query={route.query} />;
    case "audit":
      return <AuditPage path={route.query.get("path") ?? ""} />;
    case "webhooks":
      return <WebhooksPage />;
    default:
      return (
        <Page title="There is no such page">
          <Empty title="The address leads to no page of the console.">
            <a href="#/overview">Go to the overview</a>
          </Empty>
        </Page>
      );
  }
}

type Theme = "system" | "light" | "dark";
const THEME = "tollgate-theme";

function readTheme(): Theme {
  const stored = localStorage.getItem(THEME);
  return stored === "light" || stored === "dark" ? stored : "system";
}

function applyTheme(theme: Theme) {
  if (theme === "system") {
    localStorage.removeItem(THEME);
    delete document.documentElement.dataset["theme"];
  } else {
    localStorage.setItem(THEME, theme);
    document.documentElement.dataset["theme"] = theme;
  }
}

function ThemeChoice() {
  const [theme, setTheme] = useState(readTheme);
  const choose = (chosen: Theme) => {
    applyTheme(chosen);
    setTheme(chosen);
  };
  return (
    <label class="theme">
      Theme
      <select value={theme} onChange={(event) => choose(event.currentTarget.value as Theme)}>
        <option value="system">System</option>
        <option value="light">Light</option>
        <option value="dark">Dark</option>
      </select>
    </label>
  );
}

/** Says what was done, or why it was not, on the screen and to screen readers. */
function Messages() {
  const [message, setMessage] = useState({ text: "", isError: false });
  useEffect(() => {
    onMessage(setMessage);
  }, []);
  useEffect(() => {
    if (!message.text || message.isError) return undefined;
    const timer = setTimeout(() => setMessage({ text: "", isError: false }), 6_000);
    return () => clearTimeout(timer);
  }, [message]);
  return (
    <div class="messages">
      <div aria-live="polite">{message.text && !message.isError && <p class="toast">{message.text}</p>}</div>
      <div aria-live="assertive">
        {message.text && message.isError && (
          <p class="toast error">
            {message.text}
            <button type="button" class="text-button" onClick={() => setMessage({ text: "", isError: false })}>
              Dismiss
            </button>
          </p>
        )}
      </div>
    </div>
  );
}

function Shell(props: { session: Session; onSignedOut: () => void }) {
  const route = useRoute();
  const [isOpen, setOpen] = useState(false);
  const current = route.path[0] === "stages" ? "plans" : (route.path[0] ?? "overview");
  useEffect(() => setOpen(false), [route]);
  const leave = async () => {
    try {
      await signOut();
      props.onSignedOut();
    } catch (error) {
      announceError(error);
    }
  };
  return (
    <SessionContext.Provider value={props.session}>
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.getElementById("main")?.focus();
      }}>
        Skip to the page
      </a>
      <div class="shell">
        <aside class={`side ${isOpen ? "open" : ""}`}>
          <div class="brand">
            <img src="./icon.svg" alt="" width="24" height="24" />
            <span>Tollgate</span>
            <button
              type="button"
              class="button small menu"
              aria-expanded={isOpen}
              aria-controls="navigation"
              onClick={() => setOpen(!isOpen)}
            >
              Menu
            </button>
          </div>
          <div id="navigation" class="side-body">
            <nav aria-label="Pages">
              <ul>
                {NAVIGATION.map(([page, title]) => (
                  <li key={page}>
                    <a href={`#/${page}`} aria-current={page === current ? "page" : undefined}>
                      {title}
                    </a>
                  </li>
                ))}
              </ul>
            </nav>
            <footer class="account">
              <p>
                Signed in by <strong>{props.session.who}</strong>
                {!props.session.canWrite && <span class="badge warn">read only</span>}
              </p>
              <div class="account-row">
                <ThemeChoice />
                <button type="button" class="button small" onClick={() => void leave()}>
                  Sign out
                </button>
              </div>
              <p class="licenses">
                <a href="./licenses.txt">Licenses</a>
              </p>
            </footer>
          </div>
        </aside>
        <main id="main" tabIndex={-1}>
          <CurrentPage route={route} />
        </main>
      </div>
    </SessionContext.Provider>
  );
}

function App() {
  const [state, setState] = useState<SessionState | null>(null);
  const [hasEnded, setEnded] = useState(false);
  const [error, setError] = useState("");
  const start = () => {
    setError("");
    readSession().then(setState, (thrown: unknown) => setError(errorText(thrown)));
  };
  useEffect(() => {
    whenSignedOut(() => setEnded(true));
    start();
  }, []);
  const signedIn = (session: Session) => {
    setState((before) => ({ accepts: before?.accepts ?? "token", session }));
    setEnded(false);
    resumeRequests();
  };
  if (error) {
    return (
      <main class="sign-in">
        <div class="notice error" role="alert">
          <p>{error}</p>
          <button type="button" class="button small" onClick={start}>
            Try again
          </button>
        </div>
      </main>
    );
  }
  if (!state) return <p class="loading">Loading…</p>;
  return (
    <>
      {state.session ? (
        <Shell
          session={state.session}
          onSignedOut={() => setState({ ...state, session: null })}
        />
      ) : (
        <SignInPage accepts={state.accepts} onSignedIn={signedIn} />
      )}
      {state.session && hasEnded && <SignInDialog accepts={state.accepts} onSignedIn={signedIn} />}
      <Messages />
    </>
  );
}

applyTheme(readTheme());
const root = document.getElementById("app");
if (root) render(<App />, root);
