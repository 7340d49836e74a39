//! The file of `--record` on a full disk, and files that were cut.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::eventually;
use crate::support::node::Node;

/// The exit code of `tollgate replay`, and what it writes.
fn replay(files: &[&Path]) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("replay").args(files).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
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
