//! A node whose Redis cannot be used: a configuration that no retry heals ends the start, and a
//! node that has never reached Redis is not ready.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};

use serde_json::json;
use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::support::grpc::GrpcClient;
use crate::support::node::Node;
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::support::redis_cluster::RedisCluster;
use crate::support::{eventually, free_port};

const CATALOG: &str = "version: 1\npolicies: [{ name: login, throttle: { rate: 1/h, burst: 5 }, on_store_failure: open }]\n";

/// The exit code of a node with this store, and what it prints on standard error.
fn start_with(store: &str) -> (Option<i32>, String) {
    let mut node = Process::spawn(
        Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--store", store])
            .stdout(Stdio::null())
            .stderr(Stdio::piped()),
    );
    eventually(&format!("the node with {store} ends"), || node.has_ended());
    let mut printed = String::new();
    node.child().stderr.take().unwrap().read_to_string(&mut printed).unwrap();
    (node.wait().code(), printed)
}

/// Asserts that the start fails and that the last line contains `advice` and no password.
pub fn refuses_to_start(store: &str, advice: &str) {
    let (code, printed) = start_with(store);
    let last = printed.lines().last().unwrap_or_default();
    assert_eq!(code, Some(2), "{store}: {printed}");
    assert!(last.starts_with("tollgate: setting `store`: "), "{store}: {printed}");
    assert!(last.contains(advice), "{store}: {printed}");
    assert!(!printed.contains("s3cret"), "{store}: {printed}");
}

#[test]
fn wrong_credentials_rights_and_databases_end_the_start_with_what_to_do() {
    let redis = RedisServer::start();
    redis.command(&["ACL", "SETUSER", "weak", "on", ">s3cret", "~tg:*", "+@connection"]);
    redis.command(&["ACL", "SETUSER", "blind", "on", ">s3cret", "~other:*", "+@all"]);
    let at = |user: &str| format!("redis://{user}127.0.0.1:{}", redis.port());
    refuses_to_start(&at("nobody:s3cret@"), "write redis://USER:PASSWORD@HOST:PORT");
    refuses_to_start(&at("weak:s3cret@"), "docs/production.md");
    refuses_to_start(&at("blind:s3cret@"), "docs/production.md");
    refuses_to_start(&format!("{}/99", at("")), "end the URL with /0");
    redis.command(&["CONFIG", "SET", "requirepass", "another"]);
    refuses_to_start(&at(":s3cret@"), "write redis://USER:PASSWORD@HOST:PORT");
    refuses_to_start(&at(""), "write redis://USER:PASSWORD@HOST:PORT");
    refuses_to_start(
        &format!("redis+cluster://127.0.0.1:{}", redis.port()),
        "write redis://USER:PASSWORD@HOST:PORT",
    );
}

#[test]
fn a_scheme_that_the_server_does_not_speak_ends_the_start_with_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls_port = free_port().to_string();
    let redis = RedisServer::start_with(&[
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        cert.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
        "--tls-auth-clients",
        "no",
    ]);
    let port = redis.port();
    refuses_to_start(&format!("redis://:s3cret@localhost:{tls_port}"), "write rediss://");
    refuses_to_start(&format!("rediss://:s3cret@localhost:{port}"), "write redis://");
    refuses_to_start(&format!("rediss+cluster://localhost:{port}"), "write redis://");
    refuses_to_start(&format!("rediss://localhost:{tls_port}"), "--redis-ca");
    refuses_to_start(&format!("redis+cluster://localhost:{port}"), "write redis:// and not");
    let cluster = RedisCluster::start(0, 0);
    refuses_to_start(&cluster.servers[0].url(), "write --store redis+cluster://");
}

#[test]
fn a_node_that_has_never_reached_redis_is_not_ready() {
    let mut redis = RedisServer::start();
    redis.kill();
    let envoy = tempfile::tempdir().unwrap();
    fs::write(envoy.path().join("d.yaml"), "domain: d\ndescriptors: []\n").unwrap();
    let folder = envoy.path().to_str().unwrap();
    let url = redis.url();
    let flags = ["--store", &url, "--envoy-config", folder, "--listen-grpc", "127.0.0.1:0"];
    let node = Node::with_catalog(CATALOG, &flags);
    let grpc = GrpcClient::connect(node.grpc());
    let serving = || {
        let asked = HealthCheckRequest { service: String::new() };
        let health: HealthCheckResponse =
            grpc.call("/grpc.health.v1.Health/Check", Request::new(asked)).unwrap();
        health.status == 1
    };
    let ready = node.get("/readyz");
    assert_eq!((ready.status, &*ready.body), (503, r#"{"status":"starting"}"#));
    assert!(!serving());
    let check = node.check(json!({"policy": "login", "key": "a"}));
    assert_eq!((check.status, check.json()["decided_by"].as_str()), (200, Some("fallback")));
    assert!(node.metric("tollgate_store_errors_total", "unreachable") >= 1.0);

    let eager = Node::with_catalog(CATALOG, &["--store", &url, "--start-without-store", "true"]);
    assert_eq!(eager.get("/readyz").status, 200);

    redis.restart();
    eventually("it is ready", || node.get("/readyz").status == 200);
    eventually("its health says so", serving);
    redis.kill();
    eventually("it is degraded", || node.get("/readyz").body.contains("degraded"));
    assert_eq!(node.get("/readyz").status, 200, "a Redis that is lost later is no reason to leave");
    assert!(serving());
}
