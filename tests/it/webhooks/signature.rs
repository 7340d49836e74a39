//! Signatures, compared with Python's HMAC, and the members of an event.
//! Needs programs besides Rust, so `make fast` skips it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{CATALOG, SECRET};
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::receiver::{Delivery, WebhookReceiver};
use crate::support::repository;

const OLD_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Returns true if Python's HMAC of the secret and the signed text is one of the signatures.
fn python_verifies(delivery: &Delivery, secret: &str) -> bool {
    const VERIFY: &str = r"
import base64, hashlib, hmac, sys
secret, id, timestamp, signatures = sys.argv[1:]
key = base64.b64decode(secret.removeprefix('whsec_'))
signed = f'{id}.{timestamp}.'.encode() + sys.stdin.buffer.read()
own = 'v1,' + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
sys.exit(not any(hmac.compare_digest(own, one) for one in signatures.split(' ')))
";
    let header = |name: &str| delivery.headers[name].clone();
    let mut python = Command::new(repository("target/python/bin/python"))
        .args(["-c", VERIFY, secret, delivery.id()])
        .args([header("webhook-timestamp"), header("webhook-signature")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(&delivery.body).unwrap();
    python.wait().unwrap().success()
}

#[test]
fn an_event_is_signed_by_each_secret_and_names_the_key_and_its_usage() {
    let receiver = WebhookReceiver::start();
    let secrets = format!("{SECRET}, {OLD_SECRET}");
    let environment =
        [("TOLLGATE_WEBHOOK_URL", &*receiver.url()), ("TOLLGATE_WEBHOOK_SECRET", &secrets)];
    let node = Node::launch(Some(CATALOG), &["--webhook-thresholds", "50"], &environment);
    let cost = json!({"requests": 1, "total_tokens": 600});
    assert_eq!(node.check(json!({"api_key": "key-of-a", "cost": cost})).status, 200);
    eventually("the event arrives", || receiver.thresholds_of("a") == [50]);
    let delivery = receiver.deliveries().remove(0);
    assert_eq!(delivery.path, "/hooks?of=tollgate");
    assert_eq!(delivery.headers["content-type"], "application/json");
    for secret in [SECRET, OLD_SECRET] {
        assert!(python_verifies(&delivery, secret));
    }
    let body = String::from_utf8(delivery.body.clone()).unwrap().replace("600", "601");
    let altered = Delivery { body: body.into_bytes(), ..delivery.clone() };
    assert!(!python_verifies(&altered, SECRET));
    assert!(!python_verifies(&delivery, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    let data = delivery.data();
    let month = crate::control::usage::today(0).first_of_month();
    assert_eq!(data["period_start"], format!("{month}T00:00:00Z"));
    let members = ["key", "customer_id", "plan", "limit", "unit", "period"];
    assert_eq!(
        members.map(|member| data[member].as_str().unwrap()),
        ["a", "acme", "daily", "daily/tokens", "total_tokens", "month"]
    );
    assert_eq!((&data["used"], &data["quota"]), (&json!(600), &json!(1000)));
}
