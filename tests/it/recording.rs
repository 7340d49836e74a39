//! The file of `--record`: its requests, its rotation, a full disk, and files that were cut.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::node::Node;

/// The exit code of `tollgate replay`, and what it writes.
fn replay(files: &[&Path]) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("replay").args(files).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Runs `tollgate what-if`, and returns the exit code, standard output and standard error.
pub fn what_if(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = command.arg("what-if").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).unwrap().lines().count()
}

fn peek(node: &Node, from: usize, to: usize) {
    for key in from..to {
        assert!(node.passes("login", &format!("k{key}"), 1));
    }
}

#[test]
fn a_record_goes_on_once_the_disk_has_room_and_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("record");
    let node =
        Node::with_limited_files(&["--drain-delay", "0s", "--record", file.to_str().unwrap()], &[]);
    peek(&node, 0, 30);
    eventually("all are written", || lines(&file) == 30);
    // The next line fits in part only.
    node.limit_files(Some(fs::metadata(&file).unwrap().len() + 10));
    peek(&node, 30, 40);
    eventually("the disk is full", || node.log().contains("the record cannot be written"));
    assert!(fs::read_to_string(&file).unwrap().ends_with('\n'), "no line is cut");
    node.limit_files(None);
    peek(&node, 40, 60);
    assert_eq!(node.stop(), Some(0));
    let text = fs::read_to_string(&file).unwrap();
    let lost = text.lines().find_map(|line| line.split(r#""lost":"#).nth(1)).unwrap();
    let lost: usize = lost.trim_end_matches('}').parse().unwrap();
    assert!(lost > 0 && text.lines().count() == 60 - lost + 1, "{lost}: {text}");
    let (code, said) = replay(&[&file]);
    assert_eq!(code, Some(2), "{said}");
    let expected = format!("{lost} decisions are missing");
    assert!(said.contains(&expected) && said.contains("the 30 before them are equal"), "{said}");
}

#[test]
fn the_recorder_is_woken_for_many_checks_at_once_and_writes_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("record");
    let node = Node::start(&["--drain-delay", "0s", "--record", file.to_str().unwrap()]);
    let checks: Vec<Value> =
        (0..250).map(|key| json!({"policy": "login", "key": format!("k{key}")})).collect();
    let body = json!({ "checks": checks }).to_string();
    let (began, before) = (Instant::now(), node.sleeps_of("record"));
    let mut sent = 0;
    while sent < 5_000 || began.elapsed() < Duration::from_millis(500) {
        let response = node.send("POST", "/check/batch", &[], &body);
        assert_eq!(response.status, 200, "{response:?}");
        sent += checks.len();
    }
    let woken = u32::try_from(node.sleeps_of("record") - before).unwrap();
    // For the first check of some, and 5 ms later to write them, however slow the machine is.
    let a_second = f64::from(woken) / began.elapsed().as_secs_f64();
    assert!(a_second < 600.0, "{woken} for {sent} checks");
    assert_eq!(node.stop(), Some(0));
    assert_eq!(lines(&file), sent);
}

#[test]
fn a_last_line_that_was_cut_is_left_out_and_nothing_is_appended_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (file, cut) = (dir.path().join("record"), dir.path().join("cut"));
    let flags = |file: &Path| {
        let file = file.to_str().unwrap().to_owned();
        ["--drain-delay".to_owned(), "0s".to_owned(), "--record".to_owned(), file]
    };
    let run = |file: &Path, from: usize, to: usize| {
        let flags = flags(file);
        let node = Node::start(&flags.each_ref().map(String::as_str));
        peek(&node, from, to);
        assert_eq!(node.stop(), Some(0));
    };
    run(&file, 0, 5);
    let whole = fs::read(&file).unwrap();
    fs::write(&cut, &whole[..whole.len() - 20]).unwrap();
    let (code, said) = replay(&[&cut]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("4 decisions") && said.contains("the last line is cut"), "{said}");
    fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let (code, said) = replay(&[&cut, &cut]);
    assert_eq!(code, Some(2), "{said}");
    assert!(!said.contains("is cut"), "only its end is missing: {said}");
    fs::write(&cut, &whole[..whole.len() - 20]).unwrap();
    run(&cut, 5, 8);
    assert_eq!(lines(&cut), 8, "the cut line is alone");
    let (code, said) = replay(&[&cut]);
    assert_eq!(
        (code, said.contains("line 5 is not a recorded decision, or was cut")),
        (Some(2), true),
        "{said}"
    );
}

/// Two lines of a release before requests were recorded.
const OLDER_LINES: &str = concat!(
    r#"{"now_us":1795910664989726,"index":0,"charges":[{"subject":"tg:{xAGDAsoV2wEqIuI9eP9JKg}","#,
    r#""limit":"policy:login/throttle","unit":"requests","cost":1,"shadow":false,"alternative":false,"#,
    r#""throttle":{"burst":5,"drain":1,"per":12000000}}],"allowed":true,"readings":[[0,0]]}"#,
    "\n",
    r#"{"now_us":1795910665045375,"index":1,"charges":[{"subject":"tg:{IonZAOjmpyPB8rcNpXbd_g}","#,
    r#""limit":"free/quota","unit":"requests","cost":1,"shadow":false,"alternative":false,"#,
    r#""quota":{"limit":1000,"period":"day","starts_on":0,"time_zone":"UTC"}}],"allowed":true,"#,
    r#""readings":[[0,1795910400]]}"#,
    "\n",
);

#[test]
fn a_record_of_an_older_release_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("record");
    fs::write(&file, OLDER_LINES).unwrap();
    let (code, said) = replay(&[&file]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 decisions"), "{said}");
}

#[test]
fn a_line_has_the_request_of_its_check_unless_requests_are_left_out() {
    let check = json!({
        "api_key": "demo-key", "api": "inference", "stage": "prod", "method": "post",
        "path": "/v1/chat/completions?user=7", "policy": "login", "key": "ip:203.0.113.7",
        "cost": {"total_tokens": 5},
    });
    let recorded = |flags: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("record");
        let flags = [flags, &["--drain-delay", "0s", "--record", file.to_str().unwrap()]].concat();
        let node = Node::start(&flags);
        assert_eq!(node.check(check.clone()).status, 200);
        let too_large = json!({"policy": "login", "key": "u", "cost": 6});
        assert_eq!(node.check(too_large).status, 422);
        assert_eq!(node.stop(), Some(0));
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("demo-key"), "no value of a key: {text}");
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        (lines.collect::<Vec<Value>>(), replay(&[&file]))
    };
    let (lines, replayed) = recorded(&[]);
    let request = json!({
        "key_id": "demo", "plan": "free", "api": "inference", "stage": "prod", "method": "post",
        "path": "/v1/chat/completions?user=7",
        "policies": [{"policy": "login", "key": "ip:203.0.113.7"}], "cost": {"total_tokens": 5},
    });
    assert_eq!((lines.len(), &lines[0]["request"]), (2, &request));
    let refused = (&lines[1]["allowed"], &lines[1]["refused_by"], &lines[1]["decided_by"]);
    let expected = (&json!(false), &json!("policy:login/throttle"), &json!("memory"));
    assert_eq!(refused, expected, "it never reached the store");
    assert_eq!(replayed.0, Some(0), "{}", replayed.1);
    let (lines, replayed) = recorded(&["--record-requests", "false"]);
    assert_eq!((lines.len(), lines[0].get("request")), (1, None));
    assert_eq!(replayed.0, Some(0), "{}", replayed.1);
}

#[test]
fn a_record_is_rotated_at_its_size_and_opened_again_after_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("record");
    let node = Node::start(&[
        "--drain-delay",
        "0s",
        "--record",
        file.to_str().unwrap(),
        "--record-max-bytes",
        "65536",
        "--record-kept-files",
        "2",
    ]);
    let numbered = |number: usize| dir.path().join(format!("record.{number}"));
    let mut sent = 0;
    eventually("two files are full", || {
        peek(&node, sent, sent + 100);
        sent += 100;
        numbered(2).exists()
    });
    let sizes = [&numbered(1), &numbered(2)].map(|file| fs::metadata(file).unwrap().len());
    assert!(sizes.iter().all(|size| (1..=65_536).contains(size)), "{sizes:?}");
    eventually("all are written", || {
        lines(&file) + lines(&numbered(1)) + lines(&numbered(2)) == sent
    });
    let (code, said) = replay(&[&numbered(2), &file, &numbered(1)]);
    assert_eq!(code, Some(0), "{said}");
    // As logrotate does: rename, then SIGHUP.
    let moved = dir.path().join("moved");
    fs::rename(&file, &moved).unwrap();
    let before = lines(&moved);
    node.signal(Signal::HUP);
    eventually("the file is there again", || file.exists());
    peek(&node, sent, sent + 5);
    eventually("the lines are in the new file", || lines(&file) == 5);
    assert_eq!(lines(&moved), before, "nothing is written to the old one");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn records_that_cannot_be_judged_are_counted_and_said() {
    let older = OLDER_LINES.split_inclusive('\n').next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (record, file) = (dir.path().join("record"), dir.path().join("new.yaml"));
    fs::write(&file, "{version: 1, policies: [{name: few, throttle: {rate: 1/d, burst: 1}}]}")
        .unwrap();
    let (file, record_path) = (file.to_str().unwrap(), record.to_str().unwrap());
    fs::write(&record, older).unwrap();
    let (code, _, why) = what_if(&["--catalog", file, record_path]);
    assert_eq!(code, Some(2), "{why}");
    assert!(why.contains("1 checks: no request in the line"), "{why}");
    let request = |policy: &str, now: u64| {
        format!(
            "{{\"now_us\":{now},\"index\":0,\"decided_by\":\"memo\",\"allowed\":true,\"request\":{{\"policies\":[{{\"policy\":\"{policy}\",\"key\":\"k\"}}],\"cost\":1}}}}\n"
        )
    };
    let lines =
        [request("few", 2), request("few", 1), request("lost", 3), older.into(), "{\"now".into()];
    fs::write(&record, lines.concat()).unwrap();
    let (code, out, _) = what_if(&["--catalog", file, record_path]);
    assert_eq!(code, Some(1), "{out}");
    for words in [
        "2 checks from 1970-01-01T00:00:00.000001Z to 1970-01-01T00:00:00.000002Z",
        "refused before 0, after 1: 1 newly refused, 0 newly allowed",
        "not judged: 1 checks: no request in the line",
        "not judged: 1 checks: the request is invalid in the catalog (400): policies[0].policy: the catalog has no policy `lost`",
        "not judged: 1 checks: no line of a record, or cut",
        "policy:few/throttle  k    0       1      +1",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let (code, _, why) = what_if(&["--catalog", file, dir.path().join("none").to_str().unwrap()]);
    assert!(code == Some(2) && why.contains("cannot read"), "{why}");
}
