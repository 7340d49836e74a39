//! Operation: health, reload, drain, arguments, logs.

use std::fs;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::{self, KeepAlive};
use crate::support::node::Node;
use crate::support::process::Process;
use crate::support::{eventually, free_port};

fn tollgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate")).args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_changed_file_is_reloaded_and_an_invalid_one_changes_nothing() {
    let policy = |burst: &str| {
        format!(
            "version: 1\npolicies: [ {{ name: p, throttle: {{ rate: 1/h, burst: {burst} }} }} ]\n"
        )
    };
    let node = Node::with_catalog(&policy("3"), &[]);
    let limit = || {
        node.check(json!({"policy": "p", "key": "a", "cost": 0})).json()["limits"][0]["limit"]
            .clone()
    };
    assert_eq!(limit(), 3);
    fs::write(node.catalog_file(), policy("none")).unwrap();
    eventually("the invalid file is counted", || {
        node.metric("tollgate_catalog_reloads_total", "failed") == 1.0
    });
    assert_eq!(limit(), 3);
    assert!(node.log().contains("burst"), "the log says why: {}", node.log());
    // A ConfigMap changes like this: another file under the same name.
    let next = node.catalog_file().with_extension("next");
    fs::write(&next, policy("4")).unwrap();
    fs::rename(&next, node.catalog_file()).unwrap();
    eventually("the new limit is in use", || limit() == 4);
    node.signal(Signal::HUP);
    eventually("SIGHUP reloads an unchanged file", || {
        node.metric("tollgate_catalog_reloads_total", "ok") >= 2.0
    });
}

#[test]
fn a_node_that_drains_says_so_finishes_and_exits_with_0() {
    let mut node = Node::start(&["--drain-delay", "2s"]);
    let ready = node.get("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (200, r#"{"status":"ok"}"#));
    assert_eq!(node.get("/healthz").body, r#"{"status":"ok"}"#);
    let mut idle = KeepAlive::open(node.address()).unwrap();
    assert_eq!(idle.post("/check", r#"{"api_key":"demo-key"}"#).unwrap().status, 200);
    node.signal(Signal::TERM);
    eventually("the node is not ready any more", || node.get("/readyz").status == 503);
    let last = idle.post("/check", r#"{"api_key":"demo-key"}"#).unwrap();
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close")),
        "it still serves, and closes the connection"
    );
    assert_eq!(node.exit_code(), Some(0));
}

#[test]
fn an_interrupted_node_stops_at_once() {
    let mut node = Node::start(&["--drain-delay", "10min"]);
    node.signal(Signal::INT);
    eventually("the node has ended", || node.has_ended());
}

#[test]
fn the_banner_has_a_curl_line_that_works_as_pasted() {
    let node = Node::start(&[]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["--listen", node.address()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(2), "the address is taken, and the port is named");
    let port = crate::support::free_port();
    let address = format!("127.0.0.1:{port}");
    let banner = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["--listen", &address]).stdout(banner.reopen().unwrap()).stderr(Stdio::null());
    let _running = crate::support::process::Process::spawn(&mut command);
    let line = || {
        let output = fs::read_to_string(banner.path()).unwrap();
        output.lines().find_map(|line| line.trim().strip_prefix("try: ").map(str::to_owned))
    };
    eventually("the banner is printed", || line().is_some());
    let line = line().unwrap();
    let body = line.split('\'').nth(1).unwrap();
    assert!(line.contains(&format!("curl -i http://{address}/check")));
    assert_eq!(http::send(&address, "POST", "/check", &[], body).status, 200);
}

#[test]
fn validate_reports_each_fault_with_its_place_and_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.yaml");
    let digits = "+f".repeat(32);
    let signed_digits = format!("version: 1\nkeys: [ {{ id: k, value_sha256: '{digits}' }} ]");
    let validate = |catalog: &str| {
        fs::write(&file, catalog).unwrap();
        let output = tollgate(&["validate", file.to_str().unwrap()]);
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    #[rustfmt::skip]
    let cases = [
        // written                                                                          reported
        ("version: 2",                                                                      vec!["version: "]),
        ("version: 1\nplan: []",                                                            vec!["plan", "line 2"]),
        ("version: 1\nplans: [ { id: a, throttle: { rate: 0/s, burst: 1 } } ]",             vec!["plans[0].throttle.rate", "10/s"]),
        ("version: 1\nplans: [ { id: a, throttle: { rate: 1/s, burst: 0 } } ]",             vec!["plans[0].throttle", "at least 1"]),
        ("version: 1\nplans: [ { id: a, throttle: { rate: 99999999999999/s, burst: 1 } } ]", vec!["plans[0].throttle", "lower"]),
        ("version: 1\nplans: [ { id: a, throttle: { rate: 1/d, burst: 9007199254740991 } } ]", vec!["plans[0].throttle", "quota"]),
        ("version: 1\nplans: [ { id: a, throttle: { rate: 1/s, burst: -1 } } ]",            vec!["line 2"]),
        ("version: 1\nplans: [ { id: a, quota: { limit: 1, period: year } } ]",             vec!["plans[0].quota.period: expected one of day, week, month"]),
        ("version: 1\nplans: [ { id: a, quota: { limit: 1, period: day, time_zone: Mars/Base } } ]", vec!["plans[0].quota.time_zone", "Europe/Berlin"]),
        ("version: 1\nplans: [ { id: a, quota: { limit: 1, period: week, starts_on: someday } } ]", vec!["plans[0].quota.starts_on", "monday"]),
        ("version: 1\nplans: [ { id: a }, { id: a } ]",                                     vec!["plans[1].id", "twice"]),
        ("version: 1\nplans: [ { id: a, api_stages: [ { api: x, stage: y } ] } ]",          vec!["plans[0].api_stages[0].api", "`x`"]),
        ("version: 1\nkeys: [ { id: k, value: v, plans: [nope] } ]",                        vec!["keys[0].plans", "`nope`"]),
        ("version: 1\nkeys: [ { id: k, plans: [] } ]",                                      vec!["keys[0]", "value"]),
        ("version: 1\nkeys: [ { id: k, value_sha256: abc } ]",                              vec!["keys[0].value_sha256", "64"]),
        (&signed_digits,                                                                    vec!["keys[0].value_sha256", "64"]),
        ("version: 1\nkeys: [ { id: a b, value: v } ]",                                     vec!["keys[0].id", "A-Z"]),
        ("version: 1\nkeys: [ { id: a, value: top-secret }, { id: b, value: top-secret } ]", vec!["keys[1]", "`a` and `b`"]),
        ("version: 1\nplans: [ { id: a, limits: [ { name: quota, throttle: { rate: 1/s, burst: 1 } } ] } ]", vec!["plans[0].limits[0].name", "another"]),
        ("version: 1\nplans: [ { id: a, limits: [ { name: c, concurrency: { limit: 401 } } ] } ]", vec!["plans[0].limits[0].concurrency.limit", "from 1 to 400"]),
        ("version: 1\nplans: [ { id: a, limits: [ { name: c } ] } ]",                       vec!["plans[0].limits[0]", "exactly one"]),
        ("version: 1\napis: [ { id: x, stages: [ { name: s, methods: { GET: { throttle: { rate: 1/s, burst: 1 } } } } ] } ]", vec!["apis[0].stages[0].methods[GET]", "POST /v1"]),
        ("version: 1\npolicies: [ { name: p } ]",                                           vec!["policies[0]", "throttle"]),
        ("version: 1\nversion: 1",                                                          vec!["duplicate", "line 2"]),
        ("not: [yaml",                                                                      vec!["line"]),
    ];
    for (catalog, expected) in cases {
        let (valid, output) = validate(catalog);
        assert!(!valid, "{catalog}: {output}");
        for words in expected {
            assert!(output.contains(words), "{catalog}: no `{words}` in: {output}");
        }
        assert!(!output.contains("top-secret"), "{output}");
        assert!(output.contains("catalog.yaml"), "{output}");
    }
    let (valid, output) = validate(tollgate::catalog::EXAMPLE);
    assert!(valid && output.contains("1 plan"), "{output}");
    let (valid, output) = validate(
        "version: 1\npolicies: [ { name: p, throttle: { rate: 1234567/d, burst: 1000000000 } } ]\nplans: [ { id: p, throttle: { rate: 7/min, burst: 5 }, limits: [ { name: t, unit: x, throttle: { rate: 7/min, burst: 5 } } ] } ]\nkeys: [ { id: k, value: v, plans: [p], overrides: { p: { throttle: { burst: 1000000000 }, limits: { t: { throttle: { rate: 9/min, burst: 1000000000 } } } } } } ]",
    );
    assert!(valid && output.matches("is slower by a fraction of").count() == 3, "{output}");
    for at in ["policies[0]", "keys[0].overrides.p", "keys[0].overrides.p.limits.t"] {
        assert!(output.contains(&format!("catalog.yaml: {at}.throttle: the rate")), "{output}");
    }
}

#[test]
fn an_error_about_invalid_arguments_names_valid_ones() {
    for (arguments, expected) in [
        (vec!["--listen", "8080"], "127.0.0.1:8080"),
        (vec!["--store", "localhost"], "redis://"),
        (vec!["--store", "redis+sentinel://h/m"], "not supported yet"),
        (vec!["--catalog", "/does/not/exist"], "/does/not/exist"),
        (vec!["--lisen", "x"], "--listen"),
        (vec!["--max-connections", "9223372036854775807"], "between 1 and 10000000"),
    ] {
        let output = tollgate(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
    }
    assert!(text(&tollgate(&["--help"]).stdout).contains("TOLLGATE_"));
}

#[test]
fn the_check_command_calls_a_running_service() {
    let node = Node::start(&[]);
    let url = format!("http://{}", node.address());
    let ask = |cost: &str| {
        let asked = ["check", "--url", &url, "--policy", "login", "--key", "a", "--cost", cost];
        tollgate(&asked).status.code()
    };
    assert_eq!((ask("5"), ask("1"), ask(r#"{"requests":0}"#)), (Some(0), Some(1), Some(0)));
    assert_eq!(tollgate(&["ready", "--url", &url]).status.code(), Some(0));
    assert_eq!(tollgate(&["ready", "--url", "http://127.0.0.1:1"]).status.code(), Some(2));
}

#[test]
fn the_command_line_reports() {
    let node = Node::with_catalog(crate::reports::CATALOG, &[]);
    let url = format!("http://{}", node.address());
    let run = |extra: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["check", "--url", &url, "--policy", "open", "--key", "cli"]).args(extra);
        let output = command.output().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.success(), answer)
    };
    let (reported, answer) = run(&["--cost", "12", "--after-the-fact"]);
    assert!(reported, "{answer}");
    assert_eq!((&answer["allowed"], &answer["limits"][0]["debt"]), (&json!(false), &json!(4)));
    assert!(!run(&["--cost", "0"]).0, "a look at a subject in debt is refused");
}

/// Runs a node until it has logged `words`, and returns what it printed: standard output and logs.
fn serve_until_logged(flags: &[&str], words: &str) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let [out, log] = ["out", "log"].map(|name| dir.path().join(name));
    let mut process = Process::spawn(
        Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--drain-delay", "0s"])
            .args(flags)
            .env("TOLLGATE_API_KEY", "for `tollgate check`")
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&log).unwrap()),
    );
    let logged = || fs::read_to_string(&log).unwrap();
    eventually(words, || logged().contains(words));
    process.signal(Signal::TERM);
    assert!(process.wait().success(), "{}", logged());
    (fs::read_to_string(&out).unwrap(), logged())
}

#[test]
fn the_check_command_runs_dry() {
    let node = Node::start(&[]);
    let url = format!("http://{}", node.address());
    let check = |extra: &[&str]| {
        let subject = ["check", "--url", &url, "--policy", "login", "--key", "a", "--cost", "5"];
        tollgate(&[&subject, extra].concat()).status.code()
    };
    let dry = || check(&["--dry-run"]);
    assert_eq!([dry(), dry(), check(&[]), dry()], [Some(0), Some(0), Some(0), Some(1)]);
}

#[test]
fn json_logs_are_json_and_hold_the_greeting() {
    let flags = ["--listen", "127.0.0.1:0", "--log-format", "json"];
    let (out, log) = serve_until_logged(&flags, "listening");
    assert_eq!(out, "");
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let greeting = events.into_iter().find(|event| event["message"] == "listening").unwrap();
    assert!(greeting["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{greeting}");
    assert!(greeting["catalog"].as_str().unwrap().contains("demo-key"), "{greeting}");
}

#[test]
fn the_exit_code_of_a_check_says_who_refused_it() {
    let policy = "version: 1\npolicies: [{ name: login, throttle: { rate: 1/h, burst: 1 } }]\n";
    let node = Node::with_catalog(policy, &[]);
    let url = format!("http://{}", node.address());
    let code = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["check", "--url", &url]).args(words.split(' '));
        command.output().unwrap().status.code()
    };
    let login = "--policy login --key a";
    assert_eq!([code(login), code(login)], [Some(0), Some(1)]);
    assert_eq!(code(&format!("{login} --cost 2")), Some(1), "a cost above the burst");
    assert_eq!(code("--api-key nobody"), Some(3));
    assert_eq!(code("--policy absent --key a"), Some(2));
    let away = format!("redis://127.0.0.1:{}", free_port());
    let closed = policy.replace("burst: 1 }", "burst: 1 }, on_store_failure: closed");
    let lost = Node::with_catalog(&closed, &["--store", &away]);
    let mut check = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    check.args(["check", "--url", &format!("http://{}", lost.address())]).args(login.split(' '));
    assert_eq!(check.output().unwrap().status.code(), Some(4));
}
