//! The scenarios of envoyproxy/ratelimit's integration scripts through a real Envoy, each
//! with limits and routes of our own. The clock of Redis is set, so no test waits for a
//! window to end.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;

use tempfile::TempDir;
use tollgate::time::Micros;

use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::{self, Response};
use crate::support::node::Node;
use crate::support::redis::RedisServer;
use crate::support::repository;

const LIMITS: &str = r#"
domain: shop
descriptors:
  - key: tenant
    descriptors:
      - { key: tier, rate_limit: { unit: minute, requests_per_unit: 3 } }
      - { key: tier, value: blocked, rate_limit: { name: blocked, unit: minute, requests_per_unit: 0 } }
      - { key: tier, value: basic, rate_limit: { name: basic, unit: minute, requests_per_unit: 1 } }
      - { key: kind, value: steady, rate_limit: { unit: minute, requests_per_unit: 3 } }
      - { key: kind, value: tried, shadow_mode: true, rate_limit: { unit: minute, requests_per_unit: 3 } }
  - key: origin
    value: edge
    descriptors:
      - { key: target, value: store, rate_limit: { unit: minute, requests_per_unit: 1 } }
      - { key: target, value: opened, rate_limit: { unit: minute, requests_per_unit: 2, replaces: [ { name: blocked } ] } }
      - { key: target, value: raised, rate_limit: { unit: minute, requests_per_unit: 2, replaces: [ { name: basic } ] } }
      - { key: target, value: other, rate_limit: { unit: minute, requests_per_unit: 2, name: other } }
  - { key: class, value: member, rate_limit: { unit: minute, requests_per_unit: 4, replaces: [ { name: basic }, { name: other } ] } }
  - { key: watched, detailed_metric: true, rate_limit: { unit: minute, requests_per_unit: 2 } }
  - { key: tokens, rate_limit: { unit: minute, requests_per_unit: 1000 } }
  - { key: pool, value: small, quota_mode: true, rate_limit: { unit: minute, requests_per_unit: 1 }, metadata: { pool: { name: small } } }
  - { key: pool, value: large, quota_mode: true, rate_limit: { unit: minute, requests_per_unit: 2 }, metadata: { pool: { name: large } } }
"#;

/// The beginning of a minute.
const START: Micros = Micros::from_secs(1_800_000_000);

type Headers<'a> = &'a [(&'a str, &'a str)];

struct Setup {
    redis: RedisServer,
    node: Node,
    gateway: Gateway,
    _folder: TempDir,
}

impl Setup {
    fn start() -> Self {
        let redis = RedisServer::start_with_clock();
        redis.set_clock(START);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("shop.yaml"), LIMITS).unwrap();
        let (path, url) = (folder.path().display().to_string(), redis.url());
        let node = Node::start(&[
            "--store",
            &url,
            "--check-deadline",
            "5s",
            "--envoy-config",
            &path,
            "--listen-grpc",
            "127.0.0.1:0",
            "--drain-delay",
            "0s",
        ]);
        let config = fs::read_to_string(repository("tests/it/envoy/envoy.yaml")).unwrap();
        let gateway = Gateway::start_envoy(&config, node.grpc());
        let setup = Self { redis, node, gateway, _folder: folder };
        eventually("Envoy has found Tollgate", || {
            setup.get("/", &[("watched", "first")]).status == 200
        });
        setup
    }

    fn get(&self, path: &str, headers: Headers<'_>) -> Response {
        http::send(self.gateway.address(), "GET", path, headers, "")
    }

    /// The statuses of `count` requests, one after the other.
    fn statuses(&self, count: usize, headers: Headers<'_>) -> Vec<u16> {
        (0..count).map(|_| self.get("/", headers).status).collect()
    }

    /// Sends a request whose hits are charged at its end, and waits until they are.
    fn stream(&self, path: &str, headers: Headers<'_>) -> Response {
        let judged = || self.node.metric("tollgate_responses_total", "endpoint=\"grpc\"");
        let before = judged();
        let response = self.get(path, headers);
        if response.status == 200 {
            eventually("the hits of the stream are charged", || judged() >= before + 2.0);
        }
        response
    }

    fn next_minute(&self) {
        self.redis.set_clock(Micros::new(START.get() + 60_000_000));
    }
}

#[test]
fn a_request_within_its_limits_passes() {
    let setup = Setup::start();
    assert_eq!(setup.statuses(1, &[("tenant", "t"), ("kind", "tried")]), [200]);
}

#[test]
fn a_window_of_three_lets_three_requests_pass() {
    let setup = Setup::start();
    let steady: Headers<'_> = &[("tenant", "t"), ("kind", "steady")];
    assert_eq!(setup.statuses(5, steady), [200, 200, 200, 429, 429]);
    setup.next_minute();
    eventually("the window is over", || setup.get("/", steady).status == 200);
}

#[test]
fn a_rule_in_shadow_mode_refuses_nothing() {
    let setup = Setup::start();
    let tried: Headers<'_> = &[("tenant", "t"), ("kind", "tried")];
    assert_eq!(setup.statuses(5, tried), [200; 5]);
    assert_eq!(setup.get("/", tried).header("x-ratelimit-remaining"), Some("0"));
}

#[test]
fn a_detailed_metric_has_the_value_of_the_request() {
    let setup = Setup::start();
    assert_eq!(setup.statuses(3, &[("watched", "someone")]), [200, 200, 429]);
    let refused = r#"limit="watched_someone",outcome="refused""#;
    assert_eq!(setup.node.metric("tollgate_decisions_total", refused), 1.0);
}

#[test]
fn a_limit_that_replaces_others_is_judged_in_their_stead_and_leaves_them_alone() {
    let setup = Setup::start();
    let edge =
        |tier, target| [("tenant", "t"), ("tier", tier), ("origin-of", "edge"), ("target", target)];
    assert_eq!(setup.statuses(1, &[("tenant", "t"), ("tier", "blocked")]), [429]);
    assert_eq!(setup.statuses(1, &edge("blocked", "store")), [429], "it replaces nothing");
    assert_eq!(setup.statuses(3, &edge("blocked", "opened")), [200, 200, 429]);
    // Used up, it does not use up what it replaced.
    assert_eq!(setup.statuses(3, &edge("basic", "raised")), [200, 200, 429]);
    assert_eq!(setup.statuses(2, &edge("basic", "unknown")), [200, 429]);
    assert_eq!(setup.statuses(1, &edge("basic", "raised")), [429]);
    // One rule may replace several.
    let member = [&edge("basic", "other")[..], &[("class", "member")]].concat();
    assert_eq!(setup.statuses(5, &member), [200, 200, 200, 200, 429]);
    assert_eq!(setup.statuses(2, &[("tenant", "u"), ("tier", "basic")]), [200, 429]);
    let other = [("tenant", "v"), ("tier", "gold"), ("origin-of", "edge"), ("target", "other")];
    assert_eq!(setup.statuses(3, &other), [200, 200, 429]);
    assert_eq!(setup.statuses(1, &member), [429]);
}

#[test]
fn of_two_quotas_one_with_room_is_enough() {
    let setup = Setup::start();
    let pools = || setup.get("/pools", &[]).status;
    assert_eq!([(); 3].map(|()| pools()), [200, 200, 429]);
    setup.next_minute();
    eventually("the window is over", || pools() == 200);
}

#[test]
fn hits_of_a_streams_end_refuse_once_they_stand_above_the_limit() {
    let setup = Setup::start();
    // A limit of 2: a look at 0, 1 and 2 passes, and one at 3 does not.
    let statuses = [(); 5].map(|()| setup.stream("/tokens", &[]).status);
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    setup.next_minute();
    eventually("the window is over", || setup.get("/tokens", &[]).status == 200);
}

/// A fault of other limiters: the tokens of an answer are charged only if they still fit.
#[test]
fn after_the_fact_is_free() {
    let setup = Setup::start();
    let ask = |_: &usize| setup.stream("/answers", &[("x-api-key", "alice")]).status == 200;
    assert_eq!((0..20).filter(ask).count(), 3, "answers of 400 tokens, 1,000 in a minute");
    assert_eq!(setup.stream("/answers", &[("x-api-key", "bob")]).status, 200, "another budget");
}

#[test]
fn the_first_quota_with_room_chooses_the_service_until_its_hits_stand_above_it() {
    let setup = Setup::start();
    let served: Vec<_> = (0..5).map(|_| setup.stream("/services", &[]).body).collect();
    assert_eq!(served, ["small", "small", "large", "large", "large"]);
    assert_eq!(setup.stream("/services", &[]).status, 429);
    setup.next_minute();
    eventually("the window is over", || setup.get("/services", &[]).body == "small");
}
