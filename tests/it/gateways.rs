//! Forward authentication behind real gateways, with the configurations of `deploy/gateways`.
//! Needs programs besides Rust, so `make fast` skips it.

use crate::support::gateway::Gateway;
use crate::support::http::{self, Response};
use crate::support::node::Node;
use crate::support::redis::RedisServer;

use rustix::process::Signal;

const CATALOG: &str = r#"
version: 1
apis: [ { id: inference, stages: [ { name: prod } ] } ]
plans:
  - id: free
    api_stages: [ { api: inference, stage: prod, methods: { "POST /limited": { throttle: { rate: 1/h, burst: 2 } } } } ]
    throttle: { rate: 1000/s, burst: 1000 }
keys:
  - { id: demo, value: demo-key, plans: [free] }
  - { id: other, value: other-key, plans: [free] }
"#;

/// The statuses of a gateway: for an unknown key, while Tollgate is down, and while it hangs.
struct Expected {
    kind: &'static str,
    family: &'static str,
    unknown_key: u16,
    no_limiter: u16,
    hung_limiter: u16,
}

const NGINX: Expected = Expected {
    kind: "nginx",
    family: "x-original",
    unknown_key: 401,
    no_limiter: 500,
    hung_limiter: 500,
};
const HAPROXY: Expected = Expected {
    kind: "haproxy",
    family: "x-forwarded",
    unknown_key: 403,
    no_limiter: 503,
    hung_limiter: 503,
};
const CADDY: Expected = Expected {
    kind: "caddy",
    family: "x-forwarded",
    unknown_key: 403,
    no_limiter: 502,
    hung_limiter: 504,
};

fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    http::send(gateway.address(), method, path, headers, "")
}

fn behaves(expected: &Expected) {
    let node = Node::with_catalog(
        CATALOG,
        &["--forwarded-headers", expected.family, "--drain-delay", "0s"],
    );
    let gateway = Gateway::start(expected.kind, node.address());
    let key = ("x-api-key", "demo-key");

    let free = ask(&gateway, "GET", "/free?a=b", &[key, ("x-tollgate-key-id", "forged")]);
    assert_eq!(free.status, 200, "{free:?}");
    assert!(free.body.starts_with("get /free?a=b http/1"), "{free:?}");
    assert!(
        free.body.contains("x-tollgate-key-id: demo")
            && free.body.contains("x-tollgate-plan: free"),
        "{free:?}"
    );
    assert!(!free.body.contains("forged"), "{free:?}");

    for _ in 0..2 {
        assert_eq!(ask(&gateway, "POST", "/limited", &[key]).status, 200);
    }
    let refused = ask(&gateway, "POST", "/limited", &[key]);
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let policies = refused.header("ratelimit-policy").unwrap();
    assert!(
        policies.contains(r#""free/inference/prod/POST /limited/throttle";q=2;w=7200"#),
        "{policies}"
    );
    let state = refused.header("ratelimit").unwrap();
    assert!(state.contains(r#""free/inference/prod/POST /limited/throttle";r=0;t="#), "{state}");
    assert!(
        refused.header("retry-after").and_then(|after| after.parse::<u32>().ok()) > Some(1_000),
        "{refused:?}"
    );
    let millis = refused.header("retry-after-ms").and_then(|millis| millis.parse::<u32>().ok());
    assert!(millis > Some(1_000_000), "{refused:?}");
    assert_eq!(refused.header("x-should-retry"), Some("false"), "{refused:?}");
    assert_eq!(
        ask(&gateway, "POST", "/limited", &[("authorization", "Bearer other-key")]).status,
        200,
        "the budget of another key"
    );

    evades_nothing(&gateway, key);

    let unknown = ask(&gateway, "GET", "/free", &[("x-api-key", "nobody")]);
    assert_eq!(unknown.status, expected.unknown_key, "{unknown:?}");
    assert_eq!(ask(&gateway, "GET", "/free", &[]).status, expected.unknown_key);
}

/// A client that forges the headers or spells the path in another way.
fn evades_nothing(gateway: &Gateway, key: (&str, &str)) {
    let lies = [
        ("x-forwarded-uri", "/free"),
        ("x-forwarded-method", "GET"),
        ("x-original-uri", "/free"),
        ("x-original-method", "GET"),
        ("X-Forwarded-Uri", "/free?x=/limited"),
    ];
    for lie in lies {
        let answer = ask(gateway, "POST", "/limited", &[key, lie]);
        assert_eq!(answer.status, 429, "{lie:?}: {answer:?}");
        let answer = ask(gateway, "POST", "/limited", &[lie, lie, key]);
        assert_ne!(answer.status, 200, "{lie:?} twice: {answer:?}");
    }
    for path in
        ["/limited/", "//limited", "/./limited", "/x/../limited", "/%6cimited", "/limited?x=/free"]
    {
        let answer = ask(gateway, "POST", path, &[key]);
        assert_ne!(answer.status, 200, "{path}: {answer:?}");
    }
}

/// Tollgate hangs, and then it is down.
fn loses_tollgate(expected: &Expected) {
    let key = ("x-api-key", "demo-key");
    let flags = ["--forwarded-headers", expected.family];
    let start = |open| {
        let node = Node::with_catalog(CATALOG, &flags);
        let start = if open { Gateway::start_fail_open } else { Gateway::start };
        let gateway = start(expected.kind, node.address());
        assert_eq!(ask(&gateway, "GET", "/free", &[key]).status, 200);
        assert_eq!(ask(&gateway, "GET", "/free", &[]).status, expected.unknown_key);
        (node, gateway)
    };
    let (node, closed) = start(false);
    node.signal(Signal::STOP);
    let hung = ask(&closed, "GET", "/free", &[key]);
    assert_eq!(hung.status, expected.hung_limiter, "{hung:?}");
    drop(node);
    let gone = ask(&closed, "GET", "/free", &[key]);
    assert_eq!(gone.status, expected.no_limiter, "{gone:?}");

    let (node, open) = start(true);
    node.signal(Signal::STOP);
    for _ in 0..2 {
        let passed = ask(&open, "POST", "/free?a=b", &[key]);
        assert_eq!(passed.status, 200, "{passed:?}");
        assert!(passed.body.starts_with("post /free?a=b http/1"), "{passed:?}");
        assert!(!passed.body.contains("x-tollgate-key-id: "), "{passed:?}");
        node.signal(Signal::KILL);
    }
}

#[test]
fn nginx_uses_auth_request() {
    behaves(&NGINX);
    loses_tollgate(&NGINX);
}

#[test]
fn haproxy_uses_its_lua_action() {
    behaves(&HAPROXY);
    loses_tollgate(&HAPROXY);
}

#[test]
fn caddy_uses_forward_auth() {
    behaves(&CADDY);
    loses_tollgate(&CADDY);
}

#[test]
fn gateways_refuse_when_tollgate_fails_closed_even_if_they_pass_when_it_is_down() {
    let catalog = CATALOG.replace("keys:", "    on_store_failure: closed\nkeys:");
    let nowhere = format!("redis://127.0.0.1:{}", crate::support::free_port());
    for (expected, status) in [(NGINX, 500), (HAPROXY, 503), (CADDY, 503)] {
        let flags = ["--store", &nowhere, "--forwarded-headers", expected.family];
        let node = Node::with_catalog(&catalog, &flags);
        let gateway = Gateway::start_fail_open(expected.kind, node.address());
        let answer = ask(&gateway, "GET", "/free", &[("x-api-key", "demo-key")]);
        assert_eq!(answer.status, status, "{}: {answer:?}", expected.kind);
    }
}

#[test]
fn gateways_of_every_kind_share_one_budget() {
    let redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "5s"];
    let start = |expected: &Expected| {
        let family = ["--forwarded-headers", expected.family];
        let node = Node::with_catalog(CATALOG, &[flags.as_slice(), &family].concat());
        let gateway = Gateway::start(expected.kind, node.address());
        (node, gateway)
    };
    let gateways = [NGINX, HAPROXY, CADDY].map(|expected| start(&expected));
    let statuses = |key| {
        let ask = |(_, gateway): &(Node, Gateway)| ask(gateway, "POST", "/limited", &[key]).status;
        gateways.iter().chain(&gateways).map(ask).collect::<Vec<u16>>()
    };
    // Two at the same time, through any gateway.
    assert_eq!(statuses(("x-api-key", "demo-key")), [200, 200, 429, 429, 429, 429]);
    assert_eq!(statuses(("x-api-key", "other-key")), [200, 200, 429, 429, 429, 429]);
}
