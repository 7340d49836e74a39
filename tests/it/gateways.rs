//! Forward-auth behind real gateways, with the configurations of `deploy/gateways`.

use crate::support::gateway::Gateway;
use crate::support::http::{self, Answer};
use crate::support::node::Node;

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

/// What a gateway answers with: to an unknown key, and where the limiter is gone.
struct Expected {
    kind: &'static str,
    family: &'static str,
    unknown_key: u16,
    no_limiter: u16,
}

fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
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
    assert!(
        refused.header("retry-after").and_then(|after| after.parse::<u32>().ok()) > Some(1_000),
        "{refused:?}"
    );
    assert_eq!(
        ask(&gateway, "POST", "/limited", &[("authorization", "Bearer other-key")]).status,
        200,
        "another key's budget"
    );

    evades_nothing(&gateway, key);

    let unknown = ask(&gateway, "GET", "/free", &[("x-api-key", "nobody")]);
    assert_eq!(unknown.status, expected.unknown_key, "{unknown:?}");
    assert_eq!(ask(&gateway, "GET", "/free", &[]).status, expected.unknown_key);

    assert_eq!(node.stop(), Some(0));
    assert_eq!(ask(&gateway, "GET", "/free", &[key]).status, expected.no_limiter, "nobody judges");
}

/// A client that says of itself that it asks for something else, or that spells the path otherwise.
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

#[test]
fn nginx_asks_by_auth_request() {
    behaves(&Expected { kind: "nginx", family: "x-original", unknown_key: 401, no_limiter: 500 });
}

#[test]
fn haproxy_asks_by_its_lua_action() {
    behaves(&Expected {
        kind: "haproxy",
        family: "x-forwarded",
        unknown_key: 403,
        no_limiter: 503,
    });
}

#[test]
fn caddy_asks_by_forward_auth() {
    behaves(&Expected { kind: "caddy", family: "x-forwarded", unknown_key: 403, no_limiter: 502 });
}

#[test]
fn three_nodes_behind_the_shipped_balancer_share_one_budget() {
    let redis = crate::support::redis::RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "5s", "--drain-delay", "0s"];
    let nodes = [0, 1, 2].map(|_| Node::start(&flags));
    let dir = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", crate::support::free_port());
    let shipped =
        std::fs::read_to_string(crate::support::repository("deploy/balancer.cfg")).unwrap();
    let mut here = shipped.replace("bind :8080", &format!("bind {address}"));
    for (number, node) in nodes.iter().enumerate() {
        here = here.replace(&format!("tollgate-{}:8080", number + 1), node.address());
    }
    std::fs::write(dir.path().join("haproxy.cfg"), here).unwrap();
    let mut haproxy = std::process::Command::new("haproxy");
    haproxy
        .env("PATH", "/usr/sbin:/usr/bin:/bin")
        .args(["-db", "-f", "haproxy.cfg"])
        .current_dir(dir.path());
    let _running =
        crate::support::process::Process::spawn(haproxy.stdout(std::process::Stdio::null()));
    let check =
        || http::try_send(&address, "POST", "/check", &[], r#"{"policy":"login","key":"a"}"#);
    let peek = r#"{"policy":"login","key":"b","cost":0}"#;
    let up = || {
        http::try_send(&address, "POST", "/check", &[], peek)
            .is_some_and(|answer| answer.status == 200)
    };
    crate::support::eventually("the balancer finds its nodes", up);
    let statuses: Vec<u16> = (0..8).map(|_| check().unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5, "{statuses:?}");
    let asked = nodes
        .iter()
        .filter(|node| node.metric("tollgate_responses_total", r#"endpoint="check""#) > 0.0);
    assert!(asked.count() >= 2, "the balancer spreads checks");
}
