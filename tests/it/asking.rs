//! The responses of `/check`, `/check/batch` and `/authz`.

use serde_json::{Value, json};

use crate::support::node::Node;

const CATALOG: &str = r#"
version: 1
apis:
  - id: inference
    stages:
      - name: prod
        throttle: { rate: 100/s, burst: 100 }
        methods:
          "POST /v1/chat/completions": { throttle: { rate: 1/h, burst: 50 } }
          "*": { throttle: { rate: 1/h, burst: 4 } }
      - { name: beta }
plans:
  - id: free
    api_stages:
      - { api: inference, stage: prod, methods: { "POST /v1/{kind}/completions": { throttle: { rate: 1/h, burst: 2 } } } }
    throttle: { rate: 1/h, burst: 5 }
    quota: { limit: 1000, period: day }
    limits: [ { name: tpm, unit: total_tokens, throttle: { rate: 100/min, burst: 100 } } ]
  - { id: tried, throttle: { rate: 1/h, burst: 1 }, mode: shadow }
keys:
  - { id: alice, value: alice-key, plans: [free], customer_id: "c-1" }
  - { id: bob, value: bob-key, plans: [free], enabled: false }
  - { id: dora, value: dora-key, plans: [free], expires_at: "2020-01-01T00:00:00Z" }
  - { id: eve, value: eve-key, plans: [tried] }
  - { id: fay, value_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08, plans: [free] }
policies:
  - { name: login, throttle: { rate: 5/min, burst: 5 } }
"#;

fn names(answer: &Value) -> Vec<&str> {
    answer["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| limit["name"].as_str().unwrap())
        .collect()
}

#[test]
fn the_missions_own_example_works_as_written() {
    let node = Node::with_catalog(
        r#"
version: 1
apis: [ { id: inference, stages: [ { name: prod } ] } ]
plans:
  - id: basic
    api_stages: [ { api: inference, stage: prod } ]
    throttle: { rate_limit: 10, burst_limit: 5 }
    quota: { limit: 1000, period: month }
keys: [ { id: client, value: client-key, plans: [basic] } ]
"#,
        &[],
    );
    let ask = json!({"api_key": "client-key", "api": "inference", "stage": "prod", "method": "POST", "path": "/v1/chat/completions", "cost": 5});
    let first = node.check(ask.clone());
    assert_eq!((first.status, first.json()["limits"][0]["remaining"].as_u64()), (200, Some(0)));
    let second = node.check(ask);
    assert_eq!(second.status, 429);
    assert_eq!(second.json()["violated"], "basic/throttle");
    assert!(second.json()["retry_after_ms"].as_u64().unwrap() <= 500);
}

#[test]
fn limits_are_judged_in_the_documented_order_and_named_as_documented() {
    let node = Node::with_catalog(CATALOG, &[]);
    let answer = node.check(json!({
        "api_key": "alice-key", "api": "inference", "stage": "prod", "method": "post", "path": "/v1//chat/./completions?x=1",
        "policies": [{"policy": "login", "key": "ip:1"}], "cost": {"total_tokens": 60},
    }));
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(
        names(&body),
        [
            "free/inference/prod/POST /v1/{kind}/completions/throttle",
            "free/throttle",
            "free/quota",
            "free/tpm",
            "stage:inference/prod/POST /v1/chat/completions/throttle",
            "stage:inference/prod/throttle",
            "policy:login/throttle",
        ]
    );
    assert_eq!(body["key"], json!({"id": "alice", "plan": "free", "customer_id": "c-1"}));
    assert_eq!(body["decided_by"], "memory");
    assert_eq!(body["limits"][3]["remaining"], 40);
}

#[test]
fn each_method_that_is_not_listed_has_a_budget_of_its_own() {
    let node = Node::with_catalog(CATALOG, &[]);
    let ask = |path: &str, cost: u64| {
        let body = json!({"policy": "login", "key": path, "api": "inference", "stage": "prod", "method": "GET", "path": path, "cost": cost});
        node.check(body)
    };
    assert_eq!(ask("/a", 4).status, 200);
    let refused = ask("/a/", 1);
    assert_eq!(refused.json()["violated"], "stage:inference/prod/GET /a/throttle");
    assert_eq!(ask("/b", 4).status, 200);
    assert!(
        node.get("/metrics").body.contains(r#"limit="stage:inference/prod/*/throttle""#),
        "metrics have no client's path as a label"
    );
}

#[test]
fn headers_follow_the_draft_and_report_the_tightest_limit() {
    let node = Node::with_catalog(CATALOG, &[]);
    let ask = json!({"api_key": "alice-key", "cost": {"total_tokens": 99}});
    let answer = node.check(ask.clone());
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some(
            r#""free/throttle";q=5;w=18000, "free/quota";q=1000;w=86400, "free/tpm";q=100;w=60;qu="total_tokens""#
        )
    );
    let state = answer.header("ratelimit").unwrap();
    assert!(state.starts_with(r#""free/throttle";r=4;t=3600, "free/quota";r=999;t="#), "{state}");
    assert!(state.ends_with(r#""free/tpm";r=1;t=1"#), "{state}");
    assert_eq!(
        (answer.header("x-ratelimit-limit"), answer.header("x-ratelimit-remaining")),
        (Some("100"), Some("1"))
    );
    let refused = node.check(ask);
    assert_eq!(
        (refused.status, refused.header("content-type")),
        (429, Some("application/problem+json"))
    );
    let body = refused.json();
    assert_eq!(body["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!((&body["status"], &body["violated-policies"]), (&json!(429), &json!(["free/tpm"])));
    assert_eq!(refused.header("retry-after"), Some("59"));
    assert_eq!(refused.header("x-ratelimit-limit"), Some("100"));
}

#[test]
fn who_may_not_ask_is_refused_with_403() {
    let node = Node::with_catalog(CATALOG, &[]);
    for key in ["nobody", "bob-key", "dora-key"] {
        let answer = node.check(json!({"api_key": key}));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (403, Some("application/problem+json")),
            "{key}"
        );
    }
    assert_eq!(
        node.check(json!({"api_key": "alice-key", "api": "inference", "stage": "beta"})).status,
        403
    );
    assert_eq!(node.check(json!({"api_key": "test"})).status, 200, "a key kept as its digest");
}

#[test]
fn a_shadow_limit_is_counted_and_refuses_nothing() {
    let node = Node::with_catalog(CATALOG, &[]);
    assert_eq!(node.check(json!({"api_key": "eve-key"})).status, 200);
    for cost in [1, 2] {
        let answer = node.check(json!({"api_key": "eve-key", "cost": cost}));
        let row = &answer.json()["limits"][0];
        assert_eq!(
            (answer.status, &row["shadow"], &row["allowed"]),
            (200, &json!(true), &json!(false))
        );
        assert_eq!(answer.header("ratelimit"), None);
    }
    assert!(node.metric("tollgate_decisions_total", r#"outcome="shadow_refused""#) > 1.5);
}

#[test]
fn key_id_is_accepted_from_trusted_callers_only() {
    let ask = json!({"key_id": "alice"});
    assert_eq!(
        Node::with_catalog(CATALOG, &[]).check(ask.clone()).status,
        200,
        "loopback is trusted"
    );
    let untrusted = Node::with_catalog(CATALOG, &["--trusted-peers", "192.0.2.0/24"]);
    assert_eq!(untrusted.check(ask.clone()).status, 403);
    let node = Node::launch(Some(CATALOG), &[], &[("TOLLGATE_CHECK_TOKEN", "t0ken")]);
    assert_eq!(node.check(ask.clone()).status, 401);
    for (token, status) in
        [("Bearer t0ken", 200), ("bearer t0ken", 200), ("Bearer other", 401), ("Basic t0ken", 401)]
    {
        let answer = node.send("POST", "/check", &[("authorization", token)], &ask.to_string());
        assert_eq!(answer.status, status, "{token}");
    }
}

#[test]
fn a_batch_judges_each_check_on_its_own_and_in_order() {
    let node = Node::with_catalog(CATALOG, &[]);
    let login = |cost: u64| json!({"policy": "login", "key": "a", "cost": cost});
    let checks = json!({"checks": [login(3), login(3), login(2), login(9), {"api_key": "nobody"}, {"cost": -1}]});
    let answer = node.send("POST", "/check/batch", &[], &checks.to_string());
    assert_eq!(answer.status, 200);
    let body = answer.json();
    let statuses: Vec<u64> = body["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [200, 429, 200, 422, 403, 400]);
    assert_eq!(body["results"][0]["limits"][0]["remaining"], 2);
    assert_eq!(body["results"][5]["field"], "cost");
    let many = json!({"checks": vec![login(0); 1001]}).to_string();
    assert_eq!(node.send("POST", "/check/batch", &[], &many).json()["field"], "checks");
    let most = json!({"checks": vec![login(0); 1000]}).to_string();
    assert_eq!(
        node.send("POST", "/check/batch", &[], &most).json()["results"].as_array().unwrap().len(),
        1000
    );
}

#[test]
fn authz_reads_the_key_the_query_and_the_configured_headers() {
    let node = Node::with_catalog(CATALOG, &["--forwarded-headers", "x-original"]);
    let path = "/authz?api=inference&stage=prod";
    let ask = |headers: &[(&str, &str)]| node.send("GET", path, headers, "");
    let route = [("x-original-method", "POST"), ("x-original-uri", "/v1/chat/completions")];
    let with = |more: (&'static str, &'static str)| [route[0], route[1], more];
    let allowed = ask(&with(("x-api-key", "alice-key")));
    assert_eq!(allowed.status, 200);
    assert_eq!(
        (allowed.header("x-tollgate-key-id"), allowed.header("x-tollgate-plan")),
        (Some("alice"), Some("free"))
    );
    assert_eq!(ask(&with(("authorization", "Bearer alice-key"))).status, 200);
    assert_eq!(ask(&with(("x-api-key", "alice-key"))).status, 429, "two of this method in an hour");
    assert_eq!(ask(&route).status, 403, "no key");
    assert_eq!(ask(&with(("x-api-key", ""))).status, 403, "as if there were none");
    assert_eq!(ask(&with(("x-api-key", "nobody"))).status, 403);
    // The other pair of headers is set by clients: without the configured pair the request is an
    // error.
    let other =
        [("x-api-key", "alice-key"), ("x-forwarded-method", "GET"), ("x-forwarded-uri", "/free")];
    let misled = ask(&other);
    assert_eq!((misled.status, misled.json()["field"].as_str()), (400, Some("x-original-method")));
    assert_eq!(
        node.send("GET", "/authz", &[("x-api-key", "alice-key")], "").status,
        200,
        "the plan alone"
    );
    let twice = [("x-api-key", "alice-key"), ("x-api-key", "eve-key")];
    assert_eq!(node.send("GET", "/authz", &twice, "").status, 400, "which of two keys is meant?");
}

#[test]
fn authz_speaks_401_and_403_where_the_gateway_knows_nothing_else() {
    let node = Node::with_catalog(CATALOG, &[]);
    let ask = |query: &str, headers: &[(&str, &str)]| {
        node.send("GET", &format!("/authz?deny_status=403&{query}"), headers, "")
    };
    let login = [("x-real-ip", "203.0.113.7")];
    let by_policy = "policy=login&key_header=X-Real-IP";
    for _ in 0..5 {
        assert_eq!(ask(by_policy, &login).status, 200);
    }
    let refused = ask(by_policy, &login);
    assert_eq!((refused.status, refused.header("x-tollgate-status")), (403, Some("429")));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(ask("", &[("x-api-key", "nobody")]).status, 401);
    assert_eq!(ask("", &[]).status, 401);
    assert_eq!(ask("", &[("x-api-key", "")]).status, 401, "as if there were none");
    assert_eq!(ask("", &[("x-api-key", &"k".repeat(2_000))]).status, 401);
    assert_eq!(ask("", &[("x-api-key", "alice-key"), ("x-api-key", "eve-key")]).status, 401);
    let bad_path =
        [("x-api-key", "alice-key"), ("x-forwarded-method", "GET"), ("x-forwarded-uri", "/%zz")];
    assert_eq!(ask("api=inference&stage=prod", &bad_path).status, 403, "the client's own fault");
    assert_eq!(
        ask("api=inference&stage=none", &bad_path).status,
        400,
        "the operator's fault is not hidden"
    );
    assert_eq!(node.send("GET", "/authz?deny_status=500", &[], "").status, 400);
    assert_eq!(node.send("GET", "/authz?colour=red", &[], "").status, 400);
}

#[test]
fn forwarded_headers_of_untrusted_peers_are_ignored() {
    let node = Node::with_catalog(CATALOG, &["--trusted-peers", "192.0.2.0/24"]);
    let headers =
        [("x-api-key", "alice-key"), ("x-forwarded-method", "GET"), ("x-forwarded-uri", "/free")];
    let answer = node.send("GET", "/authz?api=inference&stage=prod", &headers, "");
    assert_eq!(answer.status, 400);
    assert!(answer.json()["detail"].as_str().unwrap().contains("--trusted-peers"));
    // Gateways do not show the response, so the log does.
    let log = node.log();
    assert!(
        log.contains("sends invalid requests to /authz") && log.contains("--trusted-peers"),
        "{log}"
    );
}
