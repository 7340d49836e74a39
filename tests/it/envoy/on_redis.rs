//! Envoy's limits in a Redis: shared, unreachable, and slower than the client's timeout.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use prost::Message as _;
use tollgate::grpc::proto::rate_limit_response::Code;
use tonic::Request;

use super::{CONFIG, codes, serve};
use crate::support::eventually;
use crate::support::grpc::{GrpcClient, descriptor, request};
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;

#[test]
fn nodes_on_one_redis_share_envoys_limits() {
    let redis = RedisServer::start();
    let url = redis.url();
    let flags = ["--store", &*url, "--check-deadline", "5s"];
    let nodes = [0, 1].map(|_| serve(CONFIG, &flags));
    let passing = (0..20).filter(|n| nodes[n % 2].passes(&[("path", "/exact")])).count();
    assert_eq!(passing, 3);
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.connection()).unwrap();
    assert!(keys.iter().all(|key| !key.contains("exact")), "{keys:?}");
}

#[test]
fn while_redis_is_down_responses_follow_the_configured_policy() {
    for (policy, first, second) in [
        ("closed", Err(tonic::Code::Unavailable), Err(tonic::Code::Unavailable)),
        ("open", Ok(Code::Ok), Ok(Code::Ok)),
        ("local", Ok(Code::Ok), Ok(Code::OverLimit)),
    ] {
        let mut redis = RedisServer::start();
        let url = redis.url();
        let flags = ["--store", &*url, "--envoy-on-store-failure", policy, "--min-nodes", "2"];
        let served = serve(CONFIG, &flags);
        redis.kill();
        eventually("the circuit breaker is open", || {
            served.node.get("/readyz").body.contains("degraded")
        });
        let ask = |key| {
            let asked = served.client.ask(request("d", vec![descriptor(&[(key, "x")])]));
            asked.map(|answer| answer.overall_code()).map_err(|status| status.code())
        };
        // The share of one of two nodes.
        assert_eq!((ask("user"), ask("user")), (first, second), "{policy}");
        assert_eq!(ask("free"), Ok(Code::Ok), "{policy}: what has no limit needs no Redis");
        if policy == "local" {
            let both =
                served.ask(vec![descriptor(&[("user", "x")]), descriptor(&[("plenty", "x")])]);
            assert_eq!(codes(&both), [Code::OverLimit, Code::Ok], "which one refused");
        }
    }
}

#[test]
fn a_client_timeout_shorter_than_the_nodes_deadline_is_kept() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.port());
    let served = serve(CONFIG, &["--store", &proxy.url(), "--check-deadline", "10s"]);
    assert!(served.passes(&[("user", "x")]));
    proxy.delay(Duration::from_hours(1));
    let patient = GrpcClient::connect(served.node.grpc());
    std::thread::scope(|scope| {
        scope.spawn(|| patient.ask(request("d", vec![descriptor(&[("user", "x")])])));
        eventually("the request without a timeout waits", || {
            served.node.metric("tollgate_checks_in_flight", "") >= 1.0
        });
        // A client that sends a short timeout and waits longer.
        let small = request("d", vec![descriptor(&[("small", "x")])]).encode_to_vec();
        let length = u32::try_from(small.len()).unwrap().to_be_bytes();
        let body = served.folder.path().join("hurried");
        fs::write(&body, [&[0], &length[..], &small].concat()).unwrap();
        let method = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
        let mut hurried = Command::new("nghttp");
        hurried.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
        hurried.args(["-H", "grpc-timeout: 50m", "--data"]).arg(&body);
        hurried.arg(format!("http://{}/{method}", served.node.grpc()));
        assert!(hurried.output().unwrap().status.success());
        let given_up = r#"outcome="failed_closed""#;
        let given_up = served.node.metric("tollgate_decisions_total", given_up);
        assert_eq!(given_up, 1.0, "the first request waits on");
        let mut hurried = Request::new(request("d", vec![descriptor(&[("small", "x")])]));
        hurried.set_timeout(Duration::from_millis(50));
        assert!(served.client.send(hurried).is_err(), "this client gives up by itself");
    });
    let in_flight = || served.node.metric("tollgate_checks_in_flight", "");
    eventually("no request is in flight any more", || in_flight() == 0.0);
}
