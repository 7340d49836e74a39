//! Nodes that start without knowing the declared resources.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;

use super::{call, node, plan_and_key};
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::RedisServer;

#[test]
fn a_node_that_starts_without_redis_does_not_serve_by_the_built_in_example() {
    let redis = RedisServer::start();
    let url = redis.url();
    let (_, value, _) = plan_and_key(&node(None, &["--store", &url]), 1000);
    redis.signal(rustix::process::Signal::STOP);
    let late = Node::start(&["--store", &url]);
    let status = |key: &str| late.check(json!({"api_key": key})).status;
    assert_eq!((status("demo-key"), status(&value)), (503, 503));
    redis.signal(rustix::process::Signal::CONT);
    eventually("it serves by the declared resources", || {
        let status = status("demo-key");
        assert_ne!(status, 200);
        status == 403
    });
    assert_eq!(status(&value), 200);
}

#[test]
fn a_node_whose_file_does_not_fit_the_declared_resources_is_not_ready_and_responds_with_503() {
    const FITS: &str = "version: 1\napis: [{ id: pets, stages: [{ name: prod }] }]\npolicies: [{ name: login, throttle: { rate: 5/s, burst: 5 } }]\n";
    let redis = RedisServer::start();
    let store = ["--store", &redis.url()];
    let first = node(Some(FITS), &store);
    let (_, value, plan) = plan_and_key(&first, 1_000_000);
    let served = json!([{"op": "add", "path": "/apiStages", "value": "pets:prod"}]);
    call(&first, "PATCH", &format!("/usageplans/{plan}"), json!({"patchOperations": served}));
    let ask = json!({"api_key": value, "api": "pets", "stage": "prod"});
    assert_eq!(first.check(ask.clone()).status, 200);
    let late = Node::with_catalog(&FITS.replace("id: pets", "id: cats"), &store);
    eventually("it has read the declared resources", || late.log().contains("not in use"));
    assert_eq!((late.get("/readyz").status, late.check(ask.clone()).status), (503, 503));
    assert!(late.passes("login", "a", 1), "what the file declares is served");
    assert!(late.log().contains("behind it what the API declares: plans[0].api_stages[0]"));
    std::fs::write(late.catalog_file(), FITS).unwrap();
    eventually("the corrected file is in use", || late.check(ask.clone()).status == 200);
    assert_eq!(late.get("/readyz").status, 200);
    std::fs::write(late.catalog_file(), FITS.replace("id: pets", "id: cats")).unwrap();
    eventually("the file was read", || late.log().contains("was not reloaded"));
    assert_eq!((late.get("/readyz").status, late.check(ask.clone()).status), (200, 200));
    // A later change that does not fit has no effect.
    let more = FITS.replace(
        "version: 1\napis: [",
        "version: 1\napis: [{ id: cats, stages: [{ name: prod }] }, ",
    );
    let other = node(Some(&more), &store);
    let plan = json!({"name": "q", "apiStages": [{"apiId": "cats", "stage": "prod"}]});
    call(&other, "POST", "/usageplans", plan);
    for running in [&first, &late] {
        eventually("it has read the change", || {
            running.log().contains("the catalog in use stays: it makes")
        });
        assert_eq!((running.get("/readyz").status, running.check(ask.clone()).status), (200, 200));
    }
}

#[test]
fn a_registry_that_goes_back_is_logged() {
    let redis = RedisServer::start();
    let node = node(None, &["--store", &redis.url()]);
    let (_, value, _) = plan_and_key(&node, 1000);
    assert_eq!(node.check(json!({"api_key": value})).status, 200);
    redis.command(&["FLUSHALL"]);
    eventually("it is logged", || node.log().contains("the registry has gone back"));
    assert_eq!(node.check(json!({"api_key": value})).status, 403);
}
