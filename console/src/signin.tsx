// Signing in: as a page of its own at first, and over the page that is open when a session ends.

import { useState } from "preact/hooks";

import { type Session, signIn } from "./api";
import { errorText } from "./state";
import { Dialog, TextField } from "./ui";

type Accepts = "token" | "accessKey";

function SignInForm(props: { accepts: Accepts; onSignedIn: (session: Session) => void }) {
  const [kind, setKind] = useState<Accepts>(props.accepts);
  const [token, setToken] = useState("");
  const [keyId, setKeyId] = useState("");
  const [secret, setSecret] = useState("");
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      const credential: Record<string, string> =
        kind === "token" ? { token: token.trim() } : { accessKeyId: keyId.trim(), secretAccessKey: secret.trim() };
      props.onSignedIn(await signIn(credential));
    } catch (thrown) {
      setError(errorText(thrown));
    }
    setBusy(false);
  };
  return (
    <form onSubmit={(event) => void submit(event)} class="stack">
      {kind === "token" ? (
        <TextField
          label="Token"
          type="password"
          autocomplete="current-password"
          required
          autofocus
          value={token}
          onText={setToken}
          hint="TOLLGATE_ADMIN_TOKEN, or TOLLGATE_ADMIN_READ_TOKEN to look only"
        />
      ) : (
        <>
          <TextField label="Access key id" autocomplete="username" required autofocus value={keyId} onText={setKeyId} />
          <TextField
            label="Secret access key"
            type="password"
            autocomplete="current-password"
            required
            value={secret}
            onText={setSecret}
            hint="As in TOLLGATE_ADMIN_SECRET_ACCESS_KEY"
          />
        </>
      )}
      {error && (
        <p class="notice error" role="alert">
          {error}
        </p>
      )}
      <button type="submit" class="button primary wide" disabled={isBusy}>
        Sign in
      </button>
      {props.accepts === "token" && (
        <button
          type="button"
          class="text-button"
          onClick={() => setKind(kind === "token" ? "accessKey" : "token")}
        >
          {kind === "token" ? "Sign in with an access key" : "Sign in with a token"}
        </button>
      )}
    </form>
  );
}

export function SignInPage(props: { accepts: Accepts; onSignedIn: (session: Session) => void }) {
  return (
    <main class="sign-in">
      <div class="panel">
        <h1>
          <img src="./icon.svg" alt="" width="28" height="28" /> Tollgate
        </h1>
        <p class="note">Sign in with a credential of the admin API.</p>
        <SignInForm {...props} />
      </div>
    </main>
  );
}

/** The session has ended: what is open, and what has been typed, stays. */
export function SignInDialog(props: { accepts: Accepts; onSignedIn: (session: Session) => void }) {
  return (
    <Dialog title="Your session has ended">
      <div class="dialog-body">
        <p>Sign in to go on. Nothing that you have typed is lost.</p>
        <SignInForm {...props} />
      </div>
    </Dialog>
  );
}
