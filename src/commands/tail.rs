//! `tollgate tail`: the decisions of nodes while they are made, as lines of a table or of JSON.
//!
//! The nodes select and sample; here their streams are read beside each other, and opened again
//! when they break.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::CommandError;
use super::admin::{AdminAccess, AdminClient, encode_path_segment};
use super::client::unreachable_error;
use super::names::{find_key_id, find_plan_id};
use super::table::cell;
use crate::transport::ResponseBody;

/// The time without a byte after which a stream is broken. A node sends one every ten seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// The backoff before the first reconnect. It doubles with each failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// The most bytes of one event.
const MAX_EVENT_BYTES: usize = 64 * 1024;

/// The arguments of `tollgate tail`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate tail                                   refusals of one node, until Ctrl-C
  tollgate tail --key alice                       is this API key, by its id or name, refused, and where?
  tollgate tail --all --plan free --rate 10       a sample of all decisions on a plan
  tollgate tail --outcome failed_open             checks admitted while the store was lost
  tollgate tail --json | jq -r .requestId         the requests to look for in the gateway's log
  tollgate tail --url http://gate-0:8082 --url http://gate-1:8082

A node shows its own decisions, so name each node that gets checks. Shown is a sample of at most --rate
decisions a second and node; what was left out is counted on standard error. A node has 8 readers at most.
REQUEST is the x-request-id that the caller sent with the check. A request that was not judged, such as one with an
unknown API key or an invalid body, is no decision and not shown.")]
pub struct TailArgs {
    /// The URL of a node's admin API; repeat it for several nodes
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:8082")]
    urls: Vec<String>,
    #[command(flatten)]
    access: AdminAccess,
    /// All decisions, not only refusals
    #[arg(long)]
    all: bool,
    /// Only this outcome, a refusal or not, as `tollgate_decisions_total` has it
    #[arg(long)]
    outcome: Option<String>,
    /// Only this plan, by its id or name
    #[arg(long)]
    plan: Option<String>,
    /// Only this API key, by its id or name, or this key of a policy as requests write it
    #[arg(long)]
    key: Option<String>,
    /// Only this limit, by its name in the catalog, such as basic/throttle
    #[arg(long)]
    limit: Option<String>,
    /// The most decisions a second that each node sends, up to 1000
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    rate: u32,
    /// Prints each decision as JSON on a line
    #[arg(long)]
    json: bool,
}

/// An event of a node's stream.
struct Event {
    name: String,
    data: Value,
}

/// The decisions of one node.
struct Stream {
    client: AdminClient,
    path: String,
    body: ResponseBody,
    /// Bytes of an event that has not arrived as a whole.
    unread: Vec<u8>,
}

/// Prints decisions until the reader of standard output closes it.
///
/// # Errors
/// If a node is unreachable at first, or refuses the request.
pub async fn run(args: &TailArgs) -> Result<bool, CommandError> {
    let clients = args.urls.iter().map(|url| AdminClient::new(url.clone(), args.access.clone()));
    let clients: Vec<_> = clients.collect();
    let Some(first) = clients.first() else { return Ok(true) };
    let path = args.clone().with_ids(first).await?.path();
    let (sender, mut events) = mpsc::channel(64);
    for client in clients {
        let stream = Stream::open(client, path.clone()).await?;
        let sender = sender.clone();
        tokio::spawn(async move {
            if let Err(error) = stream.follow(&sender).await {
                let _printer_gone = sender.send(Err(error)).await;
            }
        });
    }
    let mut printer = Printer::new(args.json);
    while let Some(event) = events.recv().await {
        if printer.print(&event?).is_err() {
            break;
        }
    }
    Ok(true)
}

impl TailArgs {
    /// These arguments with ids in place of the names of a key and a plan. Other texts stay: they
    /// may be a policy's, which are no resources.
    async fn with_ids(mut self, admin: &AdminClient) -> Result<Self, CommandError> {
        if let Some(key) = &mut self.key {
            *key = id_or_text(find_key_id(admin, key).await, key)?;
        }
        if let Some(plan) = &mut self.plan {
            *plan = id_or_text(find_plan_id(admin, plan).await, plan)?;
        }
        Ok(self)
    }

    fn path(&self) -> String {
        let Self { all, outcome, plan, key, limit, rate, .. } = self;
        let named = [("outcome", outcome), ("plan", plan), ("key", key), ("limit", limit)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let named = named.map(|(name, value)| format!("&{name}={}", encode_path_segment(value)));
        format!("/tail?all={all}&rate={rate}{}", named.collect::<String>())
    }
}

/// The id that was found, or the text if it names no resource.
fn id_or_text(found: Result<String, CommandError>, text: &str) -> Result<String, CommandError> {
    match found {
        Err(CommandError::Rejected(StatusCode::NOT_FOUND, _)) => Ok(text.to_owned()),
        found => found,
    }
}

impl Stream {
    async fn open(client: AdminClient, path: String) -> Result<Self, CommandError> {
        let body = client.open(&path).await?;
        Ok(Self { client, path, body, unread: Vec::new() })
    }

    /// Sends all events until nobody prints them, and opens the stream again whenever it breaks.
    ///
    /// # Errors
    /// If the node refuses to open it again.
    async fn follow(
        mut self,
        events: &mpsc::Sender<Result<Event, CommandError>>,
    ) -> Result<(), CommandError> {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let why = loop {
                match self.next_event().await {
                    Ok(Some(event)) => {
                        backoff = FIRST_BACKOFF;
                        if events.send(Ok(event)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Ok(None) => break "the node ended the stream".into(),
                    Err(error) => break error.to_string(),
                }
            };
            note(&format!("{}: {why}; connecting again", self.client.url()));
            loop {
                sleep(backoff).await;
                match Self::open(self.client.clone(), self.path.clone()).await {
                    Ok(stream) => break self = stream,
                    Err(error) if may_pass(&error) => backoff = MAX_BACKOFF.min(backoff * 2),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// The next event; `None` at the end of the stream.
    async fn next_event(&mut self) -> Result<Option<Event>, CommandError> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|bytes| bytes == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                if let Some(event) = Event::parse(&block) {
                    return Ok(Some(event));
                }
                continue;
            }
            if self.unread.len() > MAX_EVENT_BYTES {
                return Err(CommandError::UnexpectedResponse("an event without an end".into()));
            }
            let silent = || unreachable_error(self.client.url(), &"it has been silent for 30 s");
            let chunk = timeout(SILENCE, self.body.next_chunk()).await.map_err(|_| silent())?;
            match chunk.map_err(|error| unreachable_error(self.client.url(), &error))? {
                Some(chunk) => self.unread.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

impl Event {
    /// Parses an event with its data; `None` for comments.
    fn parse(block: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(block);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let data = serde_json::from_str(field("data: ")?).ok()?;
        Some(Self { name: field("event: ")?.to_owned(), data })
    }
}

/// True if a retry may succeed: the node is down, starting, or has too many readers now.
fn may_pass(error: &CommandError) -> bool {
    match error {
        CommandError::Unreachable(..) => true,
        CommandError::Rejected(status, _) => {
            status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
        }
        _ => false,
    }
}

/// Says something beside the output.
fn note(text: &str) {
    let _reader_closed = writeln!(std::io::stderr(), "tollgate: {text}");
}

/// Writes events to standard output.
struct Printer {
    is_json: bool,
    is_colored: bool,
    has_head: bool,
}

impl Printer {
    fn new(is_json: bool) -> Self {
        let is_colored = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { is_json, is_colored, has_head: is_json }
    }

    fn print(&mut self, event: &Event) -> std::io::Result<()> {
        let data = &event.data;
        let mut out = std::io::stdout().lock();
        match &*event.name {
            "decision" if self.is_json => writeln!(out, "{data}")?,
            "decision" => {
                let row = row(data);
                let color = match data["outcome"].as_str() {
                    Some("allowed" | "reported" | "local_allowed") => "\x1b[32m",
                    Some("failed_open" | "full_open") => "\x1b[33m",
                    _ => "\x1b[31m",
                };
                let (begin, end) = if self.is_colored { (color, "\x1b[0m") } else { ("", "") };
                writeln!(out, "{begin}{row}{end}")?;
            }
            "missed" => {
                let count = |name: &str| data[name].as_u64().unwrap_or_default();
                let (above, dropped) = (count("sampledOut"), count("dropped"));
                note(&format!("{above} decisions above the rate, {dropped} dropped"));
            }
            _ if !self.has_head => {
                self.has_head = true;
                writeln!(out, "{}", columns(&HEAD.map(str::to_owned)))?;
            }
            _ => {}
        }
        out.flush()
    }
}

const HEAD: [&str; 8] =
    ["TIME", "OUTCOME", "KEY", "LIMIT", "METHOD", "RETRY AFTER", "NODE", "REQUEST"];

/// A line whose columns are as wide as usual contents.
fn columns(cells: &[String; 8]) -> String {
    const WIDTHS: [usize; 8] = [12, 8, 18, 24, 24, 11, 12, 0];
    let cells = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:width$}"));
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

fn row(event: &Value) -> String {
    let at = cell(&event["at"]);
    let time = at.split_once('T').map_or(&*at, |(_, time)| time.trim_end_matches('Z'));
    let key = match (&event["keyId"], &event["key"]) {
        (Value::Null, key) => cell(key),
        (id, Value::Null) => cell(id),
        (id, key) => format!("{} {}", cell(id), cell(key)),
    };
    let method = if event["pattern"].is_null() { &event["method"] } else { &event["pattern"] };
    let wait = event["retryAfterMs"].as_u64();
    let wait = wait.map(|wait| format!("{}.{:03} s", wait / 1_000, wait % 1_000));
    columns(&[
        time.to_owned(),
        cell(&event["outcome"]),
        key,
        cell(&event["limit"]),
        cell(method),
        wait.unwrap_or_else(|| "-".into()),
        cell(&event["node"]),
        cell(&event["requestId"]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_name_and_data_and_a_comment_is_none() {
        let event = Event::parse(b"retry: 1\nevent: start\ndata: {\"node\":\"a\"}\n\n").unwrap();
        assert!(event.name == "start" && event.data["node"] == "a");
        assert!(Event::parse(b": no events\n\n").is_none());
    }

    #[test]
    fn text_of_a_client_cannot_move_the_cursor_of_a_terminal() {
        let event = serde_json::json!({
            "at": "2026-11-28T22:14:03.482Z", "outcome": "refused", "key": "a\u{1b}[2J\u{9b}1m",
            "retryAfterMs": 1_020,
        });
        let row = row(&event);
        assert!(row.starts_with("22:14:03.482  refused ") && row.contains("1.020 s"), "{row}");
        assert!(!row.contains(['\u{1b}', '\u{9b}']), "{row:?}");
    }
}
