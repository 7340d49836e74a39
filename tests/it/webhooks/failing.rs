//! Webhooks during failures of the receiver or of a node. Failures of Redis are in `outbox`.

use std::net::TcpListener;
use std::path::Path;

use rustix::process::Signal;

use super::{CATALOG, SECRET, node, uses};
use crate::control::call;
use crate::support::node::Node;
use crate::support::receiver::WebhookReceiver;
use crate::support::tls::Authority;
use crate::support::{eventually, free_port};

/// The address of a receiver that does not run.
pub fn unreachable_receiver() -> (u16, String) {
    let port = free_port();
    (port, format!("http://127.0.0.1:{port}/"))
}

#[test]
fn a_failed_delivery_is_retried_under_the_same_id_until_it_succeeds() {
    let receiver = WebhookReceiver::start();
    receiver.respond_with(503);
    let node = node(&receiver.url(), &[]);
    assert_eq!(uses(&node, "a", 160), 200);
    eventually("the delivery is retried", || receiver.deliveries().len() >= 2);
    // A redirect is not a delivery and is not followed.
    receiver.respond_with(307);
    let before = receiver.deliveries().len();
    eventually("it is retried once more", || receiver.deliveries().len() > before + 1);
    receiver.respond_with(200);
    let taken = || node.metric("tollgate_webhook_deliveries_total", "\"delivered\"");
    eventually("the delivery succeeds", || taken() == 1.0);
    assert_eq!(node.metric("tollgate_webhooks_waiting", ""), 0.0);
    let all = receiver.deliveries();
    assert!(all.iter().all(|delivery| delivery.id() == all[0].id()));
    assert!(all.iter().all(|delivery| delivery.body == all[0].body));
    assert!(all.iter().all(|delivery| delivery.path == "/hooks?of=tollgate"));
    let failed = node.metric("tollgate_webhook_deliveries_total", "\"failed\"");
    assert_eq!(failed, all.len() as f64 - 1.0);
}

#[test]
fn the_admin_api_shows_the_newest_attempts_with_their_keys_and_results() {
    let receiver = WebhookReceiver::start();
    receiver.respond_with(503);
    let node = node(&receiver.url(), &[]);
    assert_eq!(uses(&node, "a", 160), 200);
    let newest = || {
        let report = call(&node, "GET", "/nodes", serde_json::Value::Null);
        report["item"][0]["webhooks"]["newest"].clone()
    };
    eventually("an attempt has failed", || newest()[0]["outcome"] == "failed");
    receiver.respond_with(200);
    eventually("the delivery succeeds", || newest()[0]["outcome"] == "delivered");
    let newest = newest();
    let attempts = newest.as_array().unwrap();
    assert!(attempts.len() <= 20, "{newest}");
    assert_eq!(
        attempts[0]["attempt"].as_u64().unwrap(),
        attempts[1]["attempt"].as_u64().unwrap() + 1
    );
    let why = "the receiver responded 503 Service Unavailable";
    assert_eq!((&attempts[0]["why"], &attempts[1]["why"]), (&serde_json::Value::Null, &why.into()));
    let data = &attempts[0]["data"];
    assert_eq!((&data["key"], &data["threshold"]), (&"a".into(), &80.into()), "{data}");
}

#[test]
fn a_receiver_that_responds_410_gets_no_retries() {
    let receiver = WebhookReceiver::start();
    receiver.respond_with(410);
    let node = node(&receiver.url(), &[]);
    assert_eq!(uses(&node, "a", 160), 200);
    let given_up = || node.metric("tollgate_webhook_deliveries_total", "\"given_up\"");
    eventually("the event is given up", || given_up() == 1.0);
    assert!(node.log().contains("a webhook is given up"));
    eventually("no event waits", || node.metric("tollgate_webhooks_waiting", "") == 0.0);
    receiver.respond_with(200);
    assert_eq!(uses(&node, "a", 20), 200);
    eventually("the next event arrives", || receiver.thresholds_of("a") == [80, 90]);
}

fn embedded(folder: &Path, url: &str) -> Node {
    node(url, &["--data-dir", folder.to_str().unwrap()])
}

#[test]
fn with_a_data_directory_undelivered_events_survive_a_stop_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (port, url) = unreachable_receiver();
    let first = embedded(dir.path(), &url);
    assert_eq!(uses(&first, "a", 160), 200);
    assert_eq!(first.stop(), Some(0));
    let second = embedded(dir.path(), &url);
    assert_eq!(uses(&second, "b", 160), 200);
    eventually("the event waits", || second.metric("tollgate_webhooks_waiting", "") == 2.0);
    second.signal(Signal::KILL);
    drop(second);
    let receiver = WebhookReceiver::start_on(port);
    let third = embedded(dir.path(), &url);
    eventually("both events arrive", || {
        receiver.thresholds_of("a") == [80] && receiver.thresholds_of("b") == [80]
    });
    assert_eq!(third.stop(), Some(0));
    let fourth = embedded(dir.path(), &url);
    assert_eq!(uses(&fourth, "a", 0), 200);
    assert_eq!(uses(&fourth, "a", 20), 200);
    eventually("the next event arrives", || receiver.thresholds_of("a") == [80, 90]);
    assert_eq!(fourth.stop(), Some(0));
    assert_eq!(receiver.deliveries().len(), 3, "no event is sent twice");
}

#[test]
fn an_encrypted_receiver_is_trusted_only_by_its_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    authority.issue().write(&file("cert.pem"), &file("key.pem"));
    std::fs::write(file("ca.pem"), &authority.pem).unwrap();
    std::fs::write(file("other.pem"), &other.pem).unwrap();
    // A second node serves TLS. Its 404 for this path shows that it received the request.
    let served = Node::start(&[
        "--tls-cert",
        file("cert.pem").to_str().unwrap(),
        "--tls-key",
        file("key.pem").to_str().unwrap(),
    ]);
    let url = format!("https://localhost:{}/", served.address().rsplit(':').next().unwrap());
    let tells = |ca: &str| {
        let environment = [
            ("TOLLGATE_WEBHOOK_URL", &*url),
            ("TOLLGATE_WEBHOOK_SECRET", SECRET),
            ("TOLLGATE_WEBHOOK_CA", file(ca).to_str().unwrap()),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let environment = environment.each_ref().map(|(name, value)| (*name, &**value));
        let node = Node::launch(Some(CATALOG), &[], &environment);
        assert_eq!(uses(&node, "a", 160), 200);
        eventually("a delivery is attempted", || {
            node.log().contains("a webhook was not delivered")
        });
        node.log()
    };
    assert!(tells("ca.pem").contains("404"));
    assert!(tells("other.pem").contains("certificate"));
}

#[test]
fn a_receiver_that_hangs_delays_neither_checks_nor_the_stop() {
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", hanging.local_addr().unwrap());
    let node = node(&url, &[]);
    assert_eq!(uses(&node, "a", 160), 200);
    let _connection = hanging.accept().unwrap();
    assert_eq!(uses(&node, "a", 1), 200);
    eventually("the attempt times out", || node.log().contains("no response in"));
    assert_eq!(node.stop(), Some(0));
}
