//! `tollgate completions` and `tollgate man`: every command is in them.

use std::fs;
use std::process::Command;

fn tollgate(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names of all commands, each with those above it.
fn commands(above: &[&str]) -> Vec<Vec<String>> {
    let help = tollgate(&[above, &["--help"]].concat());
    let list = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    let mut all = Vec::new();
    for name in names.filter(|name| *name != "help") {
        let words = [above, &[name]].concat();
        all.push(words.iter().map(ToString::to_string).collect());
        all.extend(commands(&words));
    }
    all
}

#[test]
fn each_command_has_a_man_page_and_is_completed_by_every_shell() {
    let all = commands(&[]);
    assert!(all.len() > 40, "{all:?}");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    tollgate(&["man", pages.to_str().unwrap()]);
    let scripts = ["bash", "elvish", "fish", "powershell", "zsh"];
    let scripts = scripts.map(|shell| tollgate(&["completions", shell]));
    for words in &all {
        let page = pages.join(format!("tollgate-{}.1", words.join("-")));
        let text = fs::read_to_string(&page).unwrap_or_default();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page:?}: {text}");
        let name = words.last().unwrap();
        assert!(scripts.iter().all(|script| script.contains(name.as_str())), "{words:?}");
    }
    let text = fs::read_to_string(pages.join("tollgate-what-if.1")).unwrap();
    assert!(text.contains("Exit codes"), "the long help is in the page: {text}");
    assert!(scripts.iter().all(|script| script.contains("record-max-bytes")), "flags");
}
