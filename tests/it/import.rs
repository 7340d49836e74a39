//! The command `tollgate import`: its output, its messages and its exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const LIMITS: &str = r#"---
- id: all
  namespace: shop
  max_value: 1000000
  seconds: 60
  conditions:
  variables:
- name: posts
  namespace: shop
  max_value: 5
  seconds: 90
  conditions:
    - "descriptors[0]['req.method'] == 'POST'"
  variables:
    - descriptors[0].user_id
"#;

/// Asserts that `tollgate validate` accepts the output.
#[track_caller]
fn is_valid(dir: &Path, file: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = command.current_dir(dir).args(["validate", "--envoy-config", file]).output();
    let Output { status, stderr, .. } = output.unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
}

fn import(dir: &Path, limits: &str, more: &[&str]) -> (Option<i32>, String, String) {
    fs::write(dir.join("limits.yaml"), limits).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.current_dir(dir).args(["import", "limitador", "limits.yaml"]).args(more);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn limitadors_limits_become_yaml_with_the_descriptors_that_envoy_has_to_send() {
    let dir = tempfile::tempdir().unwrap();
    let (code, written, named) = import(dir.path(), LIMITS, &[]);
    assert_eq!((code, &*named), (Some(0), ""));
    fs::write(dir.path().join("out.yaml"), &written).unwrap();
    is_valid(dir.path(), "out.yaml");
    let (head, yaml) = written.split_once("\n\n").unwrap();
    assert!(head.lines().all(|line| line.starts_with('#')), "{head}");
    for part in ["2 of 2", "#   - tollgate_limit=1\n", "#   - req.method, user_id\n"] {
        assert!(head.contains(part), "{head}");
    }
    assert_eq!(
        yaml,
        r#"domain: "shop"
descriptors:
  - key: "tollgate_limit"
    value: "1"
    rate_limit:
      unit: minute
      requests_per_unit: 1000000
      after_the_fact: false
  - key: "req.method"
    value: "POST"
    descriptors:
      - key: "user_id"
        rate_limit:
          name: "posts"
          unit: second
          unit_multiplier: 90
          requests_per_unit: 5
          after_the_fact: false
"#
    );
}

#[test]
fn limits_that_cannot_be_imported_are_listed_by_line_and_exit_with_1() {
    let dir = tempfile::tempdir().unwrap();
    #[rustfmt::skip]
    let cases = [
        // why                         max_value  seconds  conditions
        ("`!=`",                       "5",       "60",    r#"["descriptors[0].a != 'x'"]"#),
        ("descriptors[…] with `1`",    "5",       "60",    r#"["descriptors[1].a == 'x'"]"#),
        ("`*` in a value",             "5",       "60",    r#"["descriptors[0].a == 'x*'"]"#),
        ("an empty value",             "5",       "60",    r#"["descriptors[0].a == ''"]"#),
        ("never applies",              "5",       "60",    r#"["descriptors[0].a == 'x'", "descriptors[0].a == 'y'"]"#),
        ("the key tollgate_limit",     "5",       "60",    r#"["descriptors[0].tollgate_limit == 'x'"]"#),
        ("`*` in the key",             "5",       "60",    r#"["descriptors[0]['a*'] == 'x'"]"#),
        ("window of 0 seconds",        "5",       "0",     "[]"),
        ("31622401 seconds",           "5",       "31622401", "[]"),
        ("max_value 4294967296",       "4294967296", "61", "[]"),
        ("Limitador keeps only the first", "7",       "60",    ""),
    ];
    for (why, max_value, seconds, conditions) in cases {
        let more = format!(
            "- {{ namespace: shop, max_value: {max_value}, seconds: {seconds}, conditions: {conditions}, variables: [] }}\n"
        );
        let (code, written, named) = import(dir.path(), &format!("{LIMITS}{more}"), &[]);
        assert_eq!(code, Some(1), "{why}");
        assert!(named.starts_with("limits.yaml: line 16: ") && named.contains(why), "{named}");
        assert!(written.contains("2 of 3") && written.contains(why), "{written}");
        assert!(!written.contains("requests_per_unit: 7"), "{written}");
        fs::write(dir.path().join("out.yaml"), &written).unwrap();
        is_valid(dir.path(), "out.yaml");
    }
}

#[test]
fn no_text_of_a_limit_escapes_from_a_comment_or_a_scalar() {
    let dir = tempfile::tempdir().unwrap();
    let bad = "\"it\\n- key: \\\"evil\\u2028\\rx\"";
    let limits = format!(
        "- {{ name: {bad}, namespace: {bad}, max_value: 1, seconds: 1, conditions: [{bad}], variables: [] }}\n- {{ name: {bad}, namespace: {bad}, max_value: 1, seconds: 1, conditions: [], variables: [] }}\n"
    );
    let (code, written, named) = import(dir.path(), &limits, &[]);
    assert_eq!((code, named.lines().count()), (Some(1), 1), "{named}");
    let evil = |line: &str| line.contains("evil") && !line.starts_with('#');
    let outside: Vec<_> = written.lines().filter(|line| evil(line)).collect();
    assert_eq!(outside.len(), 2, "{written}");
    assert!(outside[0].starts_with("domain: \"it\\u000a"), "{outside:?}");
    assert!(outside[1].trim_start().starts_with("name: \"it\\u000a"), "{outside:?}");
}

#[test]
fn several_namespaces_go_to_a_folder_one_file_each() {
    let dir = tempfile::tempdir().unwrap();
    let limits = format!("{LIMITS}{}", LIMITS.replace("---\n", "").replace("shop", "../a b"));
    let (code, written, why) = import(dir.path(), &limits, &[]);
    assert_eq!((code, &*written), (Some(2), ""));
    assert!(why.contains("2 namespaces") && why.contains("--output"), "{why}");
    fs::create_dir(dir.path().join("out")).unwrap();
    assert_eq!(
        import(dir.path(), &limits, &["--output", "out"]),
        (Some(0), String::new(), String::new())
    );
    is_valid(dir.path(), "out");
    for (file, domain) in [("shop.yaml", "shop"), ("%2E.%2Fa%20b.yaml", "../a b")] {
        let written = fs::read_to_string(dir.path().join("out").join(file)).unwrap();
        assert!(written.contains(&format!("\ndomain: \"{domain}\"\n")), "{written}");
    }
    assert_eq!(import(dir.path(), LIMITS, &["--output", "one.yaml"]).0, Some(0));
    assert!(fs::read_to_string(dir.path().join("one.yaml")).unwrap().contains("domain: \"shop\""));
}

#[test]
fn a_file_that_is_not_a_list_of_limits_is_an_error_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    for (limits, why) in [
        ("domain: x", "not a list of limits"),
        (
            "- { namespace: a, max_value: 1, seconds: 1, conditions: [], variables: [], more: 1 }",
            "more",
        ),
        ("- { namespace: a, seconds: 1, conditions: [], variables: [] }", "max_value"),
        ("- { namespace: a, max_value: -1, seconds: 1 }", "line 1"),
        ("- [", "line 1"),
    ] {
        let (code, written, said) = import(dir.path(), limits, &[]);
        assert_eq!((code, &*written), (Some(2), ""), "{limits}");
        assert!(said.contains(why), "{said}");
    }
}
