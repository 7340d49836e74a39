//! `tollgate apply` at a terminal.
//! Needs programs besides Rust, so `make fast` skips it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use super::apply::{FILE, Written};
use super::{TOKEN, node, shown};

#[test]
fn apply_asks_at_a_terminal_and_obeys_the_answer() {
    let node = node();
    let file = Written::new(FILE);
    let answering = |answer: &str| {
        // `script` of util-linux, which Debian always has, provides a terminal.
        let url = format!("--url http://{}", node.admin());
        let words = format!("{} {}", env!("CARGO_BIN_EXE_tollgate"), file.with("apply", &url));
        let mut terminal = Command::new("script")
            .args(["-qec", &words, "/dev/null"])
            .env("TOLLGATE_ADMIN_TOKEN", TOKEN)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        terminal.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = terminal.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, output) = answering("no\n");
    assert!(code == Some(1) && output.contains("[y/N]"), "{code:?} {output}");
    assert!(output.contains("nothing was changed"), "{output}");
    assert_eq!(shown(&node, "plans list"), json!([]));
    let (code, output) = answering("y\n");
    assert!(code == Some(0) && output.contains("3 of 3 changes made"), "{code:?} {output}");
    assert_eq!(shown(&node, "plans list")[0]["id"], "basic");
}
