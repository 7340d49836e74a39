//! `tollgate tail` against running nodes.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{TOKEN, run};
use crate::support::node::Node;
use crate::support::process::Process;
use crate::support::{TEST_TIMEOUT, free_port};

const CATALOG: &str = "{version: 1, policies: [{name: login, throttle: {rate: 1/h, burst: 1}}]}";

fn node_at(admin: &str) -> Node {
    let access = [("TOLLGATE_LISTEN_ADMIN", admin), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    Node::launch(Some(CATALOG), &[], &access)
}

/// A tail that is running, and the lines that it prints.
struct Tail {
    lines: Lines<BufReader<ChildStdout>>,
    process: Process,
}

impl Tail {
    fn start(nodes: &[&Node], words: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.arg("tail").args(words).env("TOLLGATE_ADMIN_TOKEN", TOKEN);
        for node in nodes {
            command.args(["--url", &format!("http://{}", node.admin())]);
        }
        let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let lines = BufReader::new(process.child().stdout.take().unwrap()).lines();
        Self { lines, process }
    }

    fn next_line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    /// Reads until a refusal of `node` is shown.
    fn wait_for(&mut self, node: &Node) {
        let port = node.address().rsplit(':').next().unwrap();
        while !self.next_event(|| refuse(node))["node"].as_str().unwrap().ends_with(port) {}
    }

    /// The next event. Its `cause` is repeated until then: when the tail begins is not known.
    fn next_event(&mut self, cause: impl Fn() + Send) -> Value {
        let (shown, is_shown) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            // Until the other end is dropped, also by a panic.
            let process = &self.process;
            scope.spawn(move || {
                let (pause, began) = (Duration::from_millis(5), Instant::now());
                while is_shown.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    cause();
                    if began.elapsed() > TEST_TIMEOUT {
                        process.signal(Signal::KILL);
                    }
                }
            });
            let line = self.lines.next().expect("an event within the time-out").unwrap();
            let event = serde_json::from_str(&line).unwrap();
            drop(shown);
            event
        })
    }
}

/// Sends two checks of a key, of which at least one is refused.
fn refuse(node: &Node) {
    for _ in 0..2 {
        node.check(json!({"policy": "login", "key": "a"}));
    }
}

#[test]
fn a_table_has_a_line_for_each_refusal_without_color_outside_a_terminal() {
    let node = node_at("127.0.0.1:0");
    let mut tail = Tail::start(&[&node], &["--limit", "policy:login/throttle"]);
    let head = tail.next_line();
    assert!(head.starts_with("TIME") && head.ends_with("REQUEST"), "{head}");
    refuse(&node);
    let line = tail.next_line();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[1..5], ["refused", "a", "policy:login/throttle", "-"], "{line}");
    assert!(!line.contains('\u{1b}'), "{line:?}");
}

#[test]
fn keys_and_plans_go_by_their_names_and_a_policy_s_key_by_itself() {
    let node = node_at("127.0.0.1:0");
    let (code, ..) = run(&node, "plans create Gold --rate 1/h --burst 1 --json");
    assert_eq!(code, Some(0));
    let (code, key, _) = run(&node, "keys create Alice --plan Gold --json");
    assert_eq!(code, Some(0));
    let key: Value = serde_json::from_str(&key).unwrap();
    for words in [&["--key", "Alice"][..], &["--plan", "Gold"], &["--key", "a"]] {
        let mut tail = Tail::start(&[&node], &[words, &["--json"]].concat());
        let event = tail.next_event(|| {
            refuse(&node);
            node.check(json!({"api_key": key["value"]}));
        });
        let expected =
            if words[1] == "a" { (&Value::Null, &json!("a")) } else { (&key["id"], &Value::Null) };
        assert_eq!((&event["keyId"], &event["key"]), expected, "{words:?}");
    }
}

#[test]
fn several_nodes_are_read_beside_each_other_and_again_after_a_restart() {
    let admin = format!("127.0.0.1:{}", free_port());
    let (first, second) = (node_at(&admin), node_at("127.0.0.1:0"));
    let mut tail = Tail::start(&[&first, &second], &["--json"]);
    tail.wait_for(&first);
    tail.wait_for(&second);
    assert_eq!(first.stop(), Some(0));
    let again = node_at(&admin);
    tail.wait_for(&again);
}

#[test]
fn a_tail_that_cannot_begin_says_why() {
    let node = node_at("127.0.0.1:0");
    let (code, _, error) = run(&node, "tail --outcome denied");
    assert!(code == Some(2) && error.contains("allowed, refused"), "{error}");
    let gone = node.admin().to_owned();
    drop(node);
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["tail", "--url", &format!("http://{gone}")])
        .env("TOLLGATE_ADMIN_TOKEN", TOKEN)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && error.contains("is it running"), "{error}");
}
