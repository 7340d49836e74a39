//! The commands of docs/how-to, run as they stand but for their ports.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{free_port, repository};

/// The texts of all blocks in this language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let start = format!("```{language}\n");
    text.split(start.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

fn json(folder: &Path, file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join(file)).unwrap()).unwrap()
}

#[test]
fn a_model_is_limited_by_tokens_as_the_guide_says() {
    let folder = tempfile::tempdir().unwrap();
    let guide = repository("docs/how-to/limit-a-model-by-tokens.md");
    let mut guide = fs::read_to_string(guide).unwrap();
    for port in ["8080", "9000", "9001"] {
        guide = guide.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", free_port()));
    }
    for program in ["model.py", "gateway.py"] {
        let from = repository("docs/how-to").join(program);
        fs::copy(from, folder.path().join(program)).unwrap();
    }
    fs::write(folder.path().join("catalog.yaml"), blocks(&guide, "yaml")[0]).unwrap();
    let commands = blocks(&guide, "sh").concat();
    let binary = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    // Background processes end with the shell.
    let script = format!("trap 'kill $(jobs -p)' EXIT\nset -e\n{commands}");
    let output = Command::new("timeout")
        .args(["120", "bash", "-c", &script])
        .env("PATH", path)
        .env("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}{errors}");
    let reserved = json(folder.path(), "reserved.json");
    assert_eq!(reserved["reservation"]["reserved"]["total_tokens"], 850);
    assert_eq!(reserved["reservation"]["reserved"]["cost_microusd"], 8063);
    let settled = json(folder.path(), "settled.json");
    assert_eq!(settled["charged"]["total_tokens"], 107);
    assert_eq!(settled["charged"]["cost_microusd"], 1009);
    assert!(settled["limits"][1]["remaining"].as_u64().unwrap() >= 5_893, "{settled}");
    let statuses: Vec<&str> = printed.split_whitespace().rev().take(7).collect();
    assert_eq!(statuses, ["429", "200", "200", "200", "200", "200", "200"], "{printed}{errors}");
    let refused = json(folder.path(), "answer.json");
    assert_eq!(refused["violated"], "pro/tpm", "{refused}");
    let head = fs::read_to_string(folder.path().join("answer.head")).unwrap().to_ascii_lowercase();
    assert!(head.contains("\nretry-after-ms: ") && head.contains("\nretry-after: "), "{head}");
}
