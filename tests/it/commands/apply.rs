//! `tollgate diff` and `tollgate apply` against a running node.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::{TOKEN, node, run, shown, table};
use crate::support::node::Node;

pub const FILE: &str = r#"
version: 1
apis:
  - id: pets
    stages:
      - name: prod
        throttle: { rate: 500/s, burst: 600 }
        methods:
          "GET /pets/{id}": { throttle: { rate: 30/min, burst: 3 } }
          "*": { throttle: { rate_limit: 50, burst_limit: 50 } }
        limits: [{ name: gpu, unit: gpu_seconds, quota: { limit: 500, period: day } }]
plans:
  - id: basic
    throttle: { rate: 10/s, burst: 5 }
    quota: { limit: 1000, period: week, time_zone: Europe/Berlin }
    api_stages: [{ api: pets, stage: prod, methods: { "POST /pets": { throttle: { rate: 1/s, burst: 1 } } } }]
    limits: [{ name: tpm, models: ["gpt-5*"], unit: total_tokens, throttle: { rate: 100000/min, burst: 100000 } }]
    on_store_failure: closed
keys:
  - { id: acme, value: a-value-of-twenty-letters, plans: [basic], customer_id: c-1 }
"#;

pub struct Written(TempDir);

impl Written {
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("catalog.yaml"), text).unwrap();
        Self(folder)
    }

    /// The arguments of a command on this file.
    pub fn with(&self, command: &str, more: &str) -> String {
        let file = self.0.path().join("catalog.yaml");
        format!("{command} {} {more}", file.display()).trim_end().to_owned()
    }
}

/// Applies a file that the admin API can express.
#[track_caller]
fn apply(node: &Node, text: &str, more: &str) -> String {
    let (code, out, stderr) = run(node, &Written::new(text).with("apply", more));
    assert_eq!(code, Some(0), "{out}{stderr}");
    out
}

#[track_caller]
fn diff(node: &Node, text: &str) -> String {
    let (code, out, stderr) = run(node, &Written::new(text).with("diff", ""));
    assert_eq!((code, &*stderr), (Some(i32::from(!out.is_empty())), ""), "{out}");
    out
}

#[test]
fn models_and_units_stay_the_files_and_are_named() {
    let own =
        "models: { \"gpt-5*\": { max_output: 128000 } }\nunits: { burndown: { output: 5 } }\n";
    let (code, out, stderr) = run(&node(), &Written::new(&format!("{FILE}{own}")).with("diff", ""));
    assert_eq!((code, &*out), (Some(1), "+ stage pets/prod\n+ plan basic\n+ key acme\n"));
    for entry in ["model gpt-5*: models are", "unit burndown: units are"] {
        let left_out = format!("left out: {entry} in catalog files only\n");
        assert!(stderr.contains(&left_out), "{stderr}");
    }
}

#[test]
fn the_changes_of_a_file_are_shown_confirmed_and_then_made() {
    let node = node();
    let all = "+ stage pets/prod\n+ plan basic\n+ key acme\n";
    assert_eq!(diff(&node, FILE), all);
    let (code, out, stderr) = run(&node, &Written::new(FILE).with("apply", ""));
    assert_eq!((code, &*out), (Some(2), all));
    assert!(stderr.contains("--yes"), "{stderr}");
    assert_eq!(diff(&node, FILE), all, "nothing was changed");
    assert_eq!(apply(&node, FILE, "--yes"), all);
    assert_eq!(diff(&node, FILE), "");
    let call = json!({
        "api_key": "a-value-of-twenty-letters", "api": "pets", "stage": "prod",
        "method": "GET", "path": "/pets/7",
    });
    let answer = node.check(call);
    assert_eq!(answer.status, 200, "{answer:?}");
    for name in ["basic/tpm", "basic/quota", "stage:pets/prod/GET /pets/{id}/throttle"] {
        assert!(answer.body.contains(name), "{name}: {answer:?}");
    }
    assert_eq!(diff(&node, &table(&node, "export")), "");
}

#[test]
fn a_changed_file_changes_only_the_differences_and_keeps_keys_on_their_plans() {
    let node = node();
    apply(&node, FILE, "--yes");
    for (from, to, line) in [
        (
            "c-1 }",
            "c-1, overrides: { basic: { throttle: { rate: 30/min }, quota: { limit: 9 }, limits: { tpm: { throttle: { burst: 5 } } } } } }",
            "~ key acme\n    overrides: - -> ",
        ),
        ("limit: 1000, period: week", "limit: 5, period: month", "~ plan basic\n    quota: "),
        ("    throttle: { rate: 10/s, burst: 5 }\n", "", "~ plan basic\n    throttle: "),
        ("\n    limits: [", "\n    # [", "~ plan basic\n    limits: "),
        ("        limits: [", "        # [", "~ stage pets/prod\n    limits: "),
        ("limit: 500", "limit: 501", "~ stage pets/prod\n    limits: "),
        ("\"POST /pets\"", "\"PUT /pets\"", "~ plan basic\n    api_stages: "),
        (
            "    on_store_failure: closed\n",
            "",
            "~ plan basic\n    on_store_failure: \"closed\" -> -",
        ),
        (
            "        throttle: { rate: 500/s, burst: 600 }\n",
            "",
            "~ stage pets/prod\n    throttle: ",
        ),
        (
            "- name: prod",
            "- name: prod\n        consistency: leased",
            "~ stage pets/prod\n    consistency: - -> \"leased\"",
        ),
        ("\"*\"", "\"DELETE /pets\"", "~ stage pets/prod\n    methods: "),
        (
            "c-1 }",
            "c-2, enabled: false }",
            "~ key acme\n    customerId: \"c-1\" -> \"c-2\"\n    enabled: ",
        ),
    ] {
        let changed = FILE.replace(from, to);
        assert_ne!(changed, FILE);
        let shown = apply(&node, &changed, "--yes");
        assert!(shown.starts_with(&line.replace('"', "")), "{line}: {shown}");
        assert_eq!(diff(&node, &changed), "", "{to}");
        assert_eq!(diff(&node, &table(&node, "export")), "", "{to}: as exported");
        apply(&node, FILE, "--yes");
        assert_eq!(diff(&node, FILE), "", "{to}: back");
    }
    assert!(table(&node, "keys list --plan basic").contains("acme"));
}

#[test]
fn only_prune_deletes_and_it_never_deletes_keys() {
    let node = node();
    apply(&node, FILE, "--yes");
    let empty = "version: 1\n";
    let gone = "- plan basic\n- stage pets/prod\n";
    assert_eq!(diff(&node, empty), gone);
    assert_eq!(apply(&node, empty, "--yes"), "");
    assert_eq!(apply(&node, empty, "--yes --prune"), gone);
    assert_eq!(diff(&node, empty), "");
    assert_eq!(shown(&node, "keys show acme")["customerId"], "c-1");
}

#[test]
fn changes_of_the_services_own_file_are_refused_and_the_others_are_made() {
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    let own =
        "version: 1\napis: [{ id: cats, stages: [{ name: prod }] }]\nplans: [{ id: filed }]\n";
    let node = Node::launch(Some(own), &[], &access);
    let more = "plans:\n  - { id: filed }\n";
    let file = FILE
        .replace("plans:\n", more)
        .replace("  - id: pets", "  - { id: cats, stages: [{ name: prod }] }\n  - id: pets");
    let (code, _, stderr) = run(&node, &Written::new(&file).with("apply", "--yes"));
    assert_eq!(code, Some(1), "{stderr}");
    for word in ["+ stage cats/prod: 409", "+ plan filed: 409", "3 of 5 changes made"] {
        assert!(stderr.contains(word), "{word}: {stderr}");
    }
    assert_eq!(shown(&node, "plans list").as_array().unwrap().len(), 2);
}

#[test]
fn a_file_that_the_api_cannot_express_is_refused_with_the_place_before_any_change() {
    let node = node();
    for (from, to, at) in [
        ("rate: 10/s", "rate: 100/min", "plans[0].throttle.rate"),
        ("\"POST /pets\"", "\"*\"", "plans[0].api_stages[0].methods[*].throttle"),
        ("period: week", "period: month, starts_on: 31", "plans[0].quota.starts_on"),
        ("id: basic", "id: [", "catalog.yaml"),
    ] {
        let (code, out, stderr) =
            run(&node, &Written::new(&FILE.replace(from, to)).with("apply", "--yes"));
        assert_eq!((code, &*out), (Some(2), ""), "{to}");
        assert!(stderr.contains(at), "{to}: {stderr}");
    }
    assert_eq!(shown(&node, "plans list"), json!([]));
}

#[test]
fn the_policies_of_a_key_are_applied_to_a_service_whose_file_has_them() {
    let file = "version: 1\npolicies: [{ name: team, throttle: { rate: 1/h, burst: 3 } }]\n";
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", TOKEN)];
    let node = Node::launch(Some(file), &[], &access);
    let with = |team: &str| {
        let policies = format!("policies: {{ team: {team} }} }}");
        format!("{}{}", FILE.replace("customer_id: c-1 }", &policies), &file[11..])
    };
    apply(&node, &with("red"), "--yes");
    let shown = apply(&node, &with("blue"), "--yes");
    assert!(shown.starts_with("~ key acme\n    policies: "), "{shown}");
    let (code, out, _) = run(&node, &Written::new(&with("blue")).with("diff", ""));
    assert_eq!((code, &*out), (Some(0), ""));
    let (code, exported, stderr) = run(&node, "export --keys");
    assert!(exported.contains("team: blue\n"), "{exported}");
    assert!(code == Some(2) && stderr.contains("there is no policy `team`"), "{stderr}");
    let whole = format!("{exported}{}", &file[11..]);
    let (code, out, stderr) = run(&node, &Written::new(&whole).with("diff", ""));
    assert_eq!((code, &*out), (Some(0), ""), "{stderr}");
    let unknown = FILE.replace("customer_id: c-1 }", "policies: { tem: red } }");
    let (code, _, stderr) = run(&node, &Written::new(&unknown).with("apply", "--yes"));
    assert!(code == Some(2) && stderr.contains("there is no policy `tem`"), "{stderr}");
}

#[test]
fn policies_are_left_out_and_keys_are_created_from_the_digest_of_their_value() {
    let node = node();
    let digest = "0".repeat(64);
    let file = format!(
        "version: 1\nkeys: [{{ id: k, value_sha256: \"{digest}\" }}]\npolicies: [{{ name: login, throttle: {{ rate: 5/s, burst: 5 }} }}]\n"
    );
    let (code, out, stderr) = run(&node, &Written::new(&file).with("diff", "--json"));
    assert!(code == Some(1) && out.contains(r#""what": "key k""#), "{out}{stderr}");
    assert!(stderr.contains("policy login") && !stderr.contains("key k"), "{stderr}");
}
