//! Models, prices and units by kind of token, over HTTP: a provider's usage object becomes costs.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::http;
use crate::support::node::Node;
use crate::support::repository;

const CATALOG: &str = r#"
version: 1
models:
  "gpt-5*": { input: 1250000, cached_input: 125000, cache_write: 1250000, output: 10000000, max_output: 128000 }
  "claude-*": { input: 3000000, cached_input: 300000, cache_write: 3750000, output: 15000000 }
  "llama-*": { max_output: 8192 }
units:
  burndown: { input: 1, cached_input: 0, cache_write: 1, output: 5 }
  half: { input: 0.5 }
plans:
  - id: pro
    limits:
      - { name: itpm, unit: input_tokens, throttle: { rate: 1/d, burst: 10000 } }
      - { name: otpm, unit: output_tokens, throttle: { rate: 1/d, burst: 10000 } }
      - { name: tpm, unit: total_tokens, throttle: { rate: 1/d, burst: 10000 } }
      - { name: halves, unit: half, throttle: { rate: 1/d, burst: 10000 } }
      - { name: gpt5, models: ["gpt-5*", o3], unit: burndown, throttle: { rate: 1/d, burst: 10000 } }
  - { id: money, limits: [ { name: spend, unit: cost_microusd, quota: { limit: 10000, period: month } } ] }
keys:
  - { id: pro, value: pro-key, plans: [pro] }
  - { id: money, value: money-key, plans: [money] }
"#;

const CHAT: &str = r#"{"prompt_tokens":1187,"completion_tokens":431,"total_tokens":1618,
    "prompt_tokens_details":{"cached_tokens":1024,"audio_tokens":0},
    "completion_tokens_details":{"reasoning_tokens":320}}"#;
const ANTHROPIC: &str = r#"{"input_tokens":163,"cache_creation_input_tokens":0,"cache_read_input_tokens":1024,
    "output_tokens":431,"service_tier":"standard"}"#;

fn usage(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The units that a fresh node has taken from each limit.
fn taken(answer: &Value) -> Vec<(String, u64)> {
    let limits = answer["limits"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let number = |limit: &Value, member: &str| limit[member].as_u64().unwrap();
    let taken = limits.iter().map(|limit| {
        let name = limit["name"].as_str().unwrap().to_owned();
        (name, number(limit, "limit") - number(limit, "remaining"))
    });
    taken.collect()
}

fn expect(answer: &Value, expected: &[(&str, u64)]) {
    let expected: Vec<_> =
        expected.iter().map(|(name, units)| ((*name).to_owned(), *units)).collect();
    assert_eq!(taken(answer), expected, "{answer}");
}

#[test]
fn the_usage_of_every_provider_is_charged_in_all_units_that_follow_from_it() {
    for object in [CHAT, ANTHROPIC] {
        let node = Node::with_catalog(CATALOG, &[]);
        let answer = node
            .check(json!({"api_key": "pro-key", "model": "gpt-5-mini", "usage": usage(object)}));
        assert_eq!(answer.status, 200, "{answer:?}");
        let expected = [
            ("pro/itpm", 1187),
            ("pro/otpm", 431),
            ("pro/tpm", 1618),
            ("pro/halves", 594),
            ("pro/gpt5", 163 + 5 * 431),
        ];
        expect(&answer.json(), &expected);
        // 163 * 1.25 + 1024 * 0.125 + 431 * 10, rounded up
        let money =
            node.check(json!({"api_key": "money-key", "model": "gpt-5", "usage": usage(object)}));
        expect(&money.json(), &[("money/spend", 4642)]);
        // 163 * 3 + 1024 * 0.3 + 431 * 15, rounded up
        let more = node.check(
            json!({"api_key": "money-key", "model": "claude-sonnet", "usage": usage(object)}),
        );
        assert_eq!((more.status, more.json()["violated"].as_str()), (429, Some("money/spend")));
        expect(&more.json(), &[("money/spend", 4642)]);
    }
}

#[test]
fn a_limit_of_models_is_met_by_them_and_by_checks_without_a_model() {
    let node = Node::with_catalog(CATALOG, &[]);
    let names = |model: Value| {
        let answer = node.check(json!({"api_key": "pro-key", "cost": 0, "model": model}));
        taken(&answer.json()).len()
    };
    assert_eq!(names(json!("gpt-5")), 5);
    assert_eq!(names(json!("o3")), 5);
    assert_eq!(names(json!("o3-mini")), 4);
    assert_eq!(names(json!("claude-sonnet")), 4);
    assert_eq!(names(Value::Null), 5, "leaving the model out evades nothing");
}

#[test]
fn a_unit_that_the_cost_names_wins_over_the_usage() {
    let node = Node::with_catalog(CATALOG, &[]);
    let answer = node.check(json!({
        "api_key": "pro-key", "model": "gpt-5", "usage": usage(CHAT),
        "cost": {"burndown": 3, "output_tokens": 0},
    }));
    let expected = [
        ("pro/itpm", 1187),
        ("pro/otpm", 0),
        ("pro/tpm", 1618),
        ("pro/halves", 594),
        ("pro/gpt5", 3),
    ];
    expect(&answer.json(), &expected);
}

#[test]
fn checks_of_a_batch_and_reports_have_a_usage_too() {
    let node = Node::with_catalog(CATALOG, &[]);
    let report = json!({"api_key": "money-key", "model": "gpt-5", "usage": {"output_tokens": 2000}, "after_the_fact": true});
    let unpriced = json!({"api_key": "money-key", "model": "llama-4", "usage": usage(CHAT)});
    let body = json!({"checks": [report, unpriced]}).to_string();
    let results = node.send("POST", "/check/batch", &[], &body).json()["results"].clone();
    assert_eq!(results[0]["status"], 200, "{results}");
    assert_eq!(results[0]["limits"][0]["debt"], 10_000, "{results}");
    assert_eq!((&results[1]["status"], &results[1]["field"]), (&json!(400), &json!("model")));
}

#[test]
fn the_example_in_the_reference_is_a_valid_catalog() {
    let reference = fs::read_to_string(repository("docs/catalog.md")).unwrap();
    let section = reference.split_once("## `models` and `units`").unwrap().1;
    let yaml = section.split_once("```yaml\n").unwrap().1.split_once("```").unwrap().0;
    let key = "keys: [{ id: k, value: a-key, plans: [pro] }]";
    let node = Node::with_catalog(&format!("version: 1\n{yaml}{key}\n"), &[]);
    let answer = node.check(json!({"api_key": "a-key", "model": "gpt-5", "usage": usage(CHAT)}));
    expect(&answer.json(), &[("pro/gpt5", 163 + 5 * 431), ("pro/spend", 4642)]);
}

#[test]
fn the_command_line_sends_the_model_and_the_usage() {
    let node = Node::with_catalog(CATALOG, &[]);
    let run = |usage: &str| {
        let url = format!("http://{}", node.address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["check", "--url", &url, "--api-key", "money-key", "--model", "gpt-5"]);
        let done = command.args(["--usage", usage]).output().unwrap();
        (done.status.code(), [done.stdout, done.stderr].concat())
    };
    let (code, output) = run(CHAT);
    assert_eq!(code, Some(0));
    expect(&serde_json::from_slice(&output).unwrap(), &[("money/spend", 4642)]);
    let (code, output) = run("tokens");
    let output = String::from_utf8(output).unwrap();
    assert!(code == Some(2) && output.contains("--usage"), "{code:?} {output}");
}

/// Its name is that of the fault.
#[test]
fn unpriced_model_is_free() {
    let node = Node::with_catalog(CATALOG, &[]);
    let ask = |body: Value| {
        let mut check = json!({"api_key": "money-key"});
        check.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let answer = node.check(check);
        (answer.status, answer.json()["field"].as_str().map(str::to_owned))
    };
    let refused = |field: &str| (400, Some(field.to_owned()));
    assert_eq!(ask(json!({"model": "llama-4", "usage": usage(CHAT)})), refused("model"));
    assert_eq!(ask(json!({"model": "llama-4"})), refused("model"), "before the model has run");
    assert_eq!(ask(json!({"usage": usage(CHAT)})), refused("model"));
    assert_eq!(ask(json!({"model": "gpt-5", "usage": {"total_tokens": 9}})), refused("usage"));
    assert_eq!(ask(json!({"model": "gpt-5", "usage": null})), (200, None));
    assert_eq!(ask(json!({"model": "llama-4", "cost": {"cost_microusd": 7}})), (200, None));
    expect(&node.check(json!({"api_key": "money-key", "cost": 0})).json(), &[("money/spend", 7)]);
}

#[test]
#[rustfmt::skip]
fn an_invalid_usage_is_refused_with_its_member_and_charges_nothing() {
    let node = Node::with_catalog(CATALOG, &[]);
    let long = format!(r#""model":"{}""#, "m".repeat(257));
    let cases = [
        // field                                       member
        ("usage.prompt_tokens",                        r#""usage":{"prompt_tokens":-1}"#),
        ("usage.prompt_tokens",                        r#""usage":{"prompt_tokens":1.0}"#),
        ("usage.output_tokens",                        r#""usage":{"output_tokens":"5"}"#),
        ("usage.output_tokens",                        r#""usage":{"output_tokens":1000000001}"#),
        ("usage.prompt_tokens_details.cached_tokens",  r#""usage":{"prompt_tokens_details":{"cached_tokens":1e3}}"#),
        ("usage.prompt_tokens_details",                r#""usage":{"prompt_tokens_details":7}"#),
        ("usage.candidatesTokenCount",                 r#""usage":{"candidatesTokenCount":[]}"#),
        ("usage.output_tokens",                        r#""usage":{"output_tokens":1,"output_tokens":2}"#),
        ("usage.input_tokens_details.cached_tokens",   r#""usage":{"input_tokens_details":{"cached_tokens":1,"cached_tokens":2}}"#),
        ("usage",                                      r#""usage":[1]"#),
        ("usage",                                      r#""usage":5"#),
        ("usage",                                      r#""usage":{},"usage":{}"#),
        ("model",                                      r#""model":"""#),
        ("model",                                      r#""model":7"#),
        ("model",                                      r#""model":"a\u0000b""#),
        ("model",                                      r#""model":"gpt-5","model":"o3""#),
        ("model",                                      &*long),
    ];
    for (field, member) in cases {
        let answer = node.send("POST", "/check", &[], &format!(r#"{{"api_key":"pro-key",{member}}}"#));
        let problem = (answer.status, answer.json()["field"].as_str().map(str::to_owned));
        assert_eq!(problem, (400, Some(field.into())), "{member}: {answer:?}");
    }
    let peek = node.check(json!({"api_key": "pro-key", "cost": 0})).json();
    assert!(taken(&peek).iter().all(|(_, units)| *units == 0), "{peek}");
}

#[test]
fn plans_of_the_admin_api_count_by_the_models_and_units_of_the_file() {
    let token = "a-token-for-tests";
    let access = [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", token)];
    let node = Node::launch(Some(CATALOG), &[], &access);
    let post = |path: &str, body: Value| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        let answer = http::send(node.admin(), "POST", path, &headers, &body.to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    };
    let throttle = json!({"rate": "1/d", "burst": 10_000});
    let plan = json!({"name": "team", "tags": {"_custom_id_": "team"}, "limits": [
        {"name": "gpt5", "unit": "burndown", "models": ["gpt-5*"], "throttle": throttle},
        {"name": "spend", "unit": "cost_microusd", "throttle": throttle},
    ]});
    post("/usageplans", plan);
    let key = post("/apikeys", json!({"name": "acme", "enabled": true}));
    post("/usageplans/team/keys", json!({"keyId": key["id"], "keyType": "API_KEY"}));
    let ask = |model: &str| {
        node.check(json!({"api_key": key["value"], "model": model, "usage": usage(CHAT)})).json()
    };
    expect(&ask("gpt-5"), &[("team/gpt5", 163 + 5 * 431), ("team/spend", 4642)]);
    assert_eq!(ask("llama-4")["field"], "model");
}

#[test]
#[rustfmt::skip]
fn an_invalid_model_or_unit_is_reported_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.yaml");
    let errors = |catalog: &str| {
        fs::write(&file, format!("version: 1\n{catalog}\n")).unwrap();
        let run = Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("validate").arg(&file).output().unwrap();
        (run.status.code(), String::from_utf8([run.stdout, run.stderr].concat()).unwrap())
    };
    let limit = |models: &str| format!("plans: [{{ id: p, limits: [{{ name: l, models: {models}, throttle: {{ rate: 1/s, burst: 1 }} }}] }}]");
    let cases = [
        // catalog                                                      words of the error
        ("models: { a: { input: 1 } }".to_owned(),                      "models.a: a price has both an `input` and an `output`"),
        ("models: { a: { cached_input: 1 } }".to_owned(),               "models.a: a price has both"),
        ("models: { a: {} }".to_owned(),                                "models.a: a model has a price, a `max_output`, or both"),
        ("models: { a: { input: 1, output: 1000000000001 } }".to_owned(), "models.a.output: a price has at most"),
        ("models: { a: { input: 0.5, output: 1 } }".to_owned(),         "models.a.input: expected a whole number"),
        ("models: { a: { input: -1, output: 1 } }".to_owned(),          "models.a.input: expected a whole number"),
        ("models: { a: { max_output: 0 } }".to_owned(),                 "models.a.max_output: the most tokens of an answer are a whole number from 1 to 1000000000"),
        ("models: { a: { max_output: 1, price: 1 } }".to_owned(),       "`price` is not known here"),
        ("models: { a: [1] }".to_owned(),                               "models.a: expected an object"),
        ("models: { 'a*b': { max_output: 1 } }".to_owned(),             "models.a*b: a model's name has"),
        ("models: { '': { max_output: 1 } }".to_owned(),                "a model's name has"),
        ("models: { a: { max_output: 1 }, a: { max_output: 2 } }".to_owned(), "`a`"),
        ("units: { tokens: { output: 1.2345 } }".to_owned(),            "units.tokens.output: a weight is a number from 0 to 1000000 with at most three decimals"),
        ("units: { tokens: { output: -1 } }".to_owned(),                "units.tokens.output: a weight is"),
        ("units: { tokens: { input: 1000000.5 } }".to_owned(),          "units.tokens.input: a weight is"),
        ("units: { tokens: { input: 0 } }".to_owned(),                  "units.tokens: the unit counts nothing"),
        ("units: { tokens: { reasoning: 1 } }".to_owned(),              "`reasoning` is not known here"),
        ("units: { total_tokens: { input: 1 } }".to_owned(),            "units.total_tokens: this unit exists in every catalog"),
        ("units: { 'a b': { input: 1 } }".to_owned(),                   "units.a b: a name has"),
        (limit("[]"),                                                   "plans[0].limits[0].models: name the models"),
        (limit("gpt-5"),                                                "plans[0].limits[0].models: expected a list"),
        (limit("[a, a]"),                                               "plans[0].limits[0].models[1]: the model `a` is there twice"),
        (limit("['*a']"),                                               "plans[0].limits[0].models[0]: a model's name has"),
    ];
    for (catalog, words) in cases {
        let (code, output) = errors(&catalog);
        assert_eq!(code, Some(2), "{catalog}: {output}");
        assert!(output.contains(words), "{catalog}: {output}");
    }
    let (code, output) = errors("units: { tokens: { output: 1 } }");
    assert!(code == Some(0) && output.contains("units.tokens: no limit counts this unit"), "{output}");
    fs::write(&file, CATALOG).unwrap();
    assert!(!errors(CATALOG.trim_start().trim_start_matches("version: 1\n")).1.contains("no limit"));
}
