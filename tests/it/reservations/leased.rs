//! Reservations of limits that are charged to leases: opened from the node's lease, and settled to
//! what was used.
//! Needs programs besides Rust, so `make fast` skips it.

use std::time::Instant;

use serde_json::{Value, json};
use tollgate::reservation::Handle;

use super::post;
use crate::support::eventually;
use crate::support::http::{KeepAlive, Response};
use crate::support::node::Node;
use crate::support::redis::RedisServer;

const BURST: i64 = 100_000_000;
const RATE: f64 = 1_000.0;
/// The cost of a check, and the estimate of a reservation: next to it little drains in a test.
const COST: i64 = 20_000;
const ESTIMATE: i64 = 100_000;

const CATALOG: &str = r#"
version: 1
policies:
  - { name: hot, throttle: { rate: 1000/s, burst: 100000000 }, consistency: leased }
"#;

fn nodes<const N: usize>(redis: &RedisServer) -> [Node; N] {
    let (url, count) = (redis.url(), N.to_string());
    let flags = ["--store", &url, "--check-deadline", "5s", "--min-nodes", &count];
    std::array::from_fn(|_| Node::with_catalog(CATALOG, &flags))
}

/// One subject, and what it has used.
struct Subject<'n> {
    key: String,
    /// Kept open: the checks follow each other quickly enough for a lease.
    connection: KeepAlive,
    node: &'n Node,
    used: i64,
    began: Instant,
}

impl<'n> Subject<'n> {
    fn new(node: &'n Node, key: &str) -> Self {
        let connection = KeepAlive::open(node.address()).unwrap();
        Self { key: key.to_owned(), connection, node, used: 0, began: Instant::now() }
    }

    fn check(&mut self, more: &Value) -> Response {
        let mut body = json!({"policy": "hot", "key": self.key});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.connection.post("/check", &body.to_string()).unwrap()
    }

    /// Makes checks until the node has a lease.
    fn gather_lease(&mut self) {
        let mut in_a_row = 0;
        while in_a_row < 20 {
            let answer = self.check(&json!({"cost": COST}));
            assert_eq!(answer.status, 200, "{answer:?}");
            self.used += COST;
            in_a_row = if answer.json()["decided_by"] == "lease" { in_a_row + 1 } else { 0 };
        }
    }

    fn reserve(&mut self) -> Response {
        self.check(&json!({"cost": ESTIMATE, "reservation": {}}))
    }

    /// Opens a reservation from a lease. If there is none by then, for this machine stood still, one
    /// from Redis is cancelled.
    fn open(&mut self) -> String {
        for _ in 0..20 {
            self.gather_lease();
            let answer = self.reserve();
            let handle = super::handle(&answer);
            if is_leased(&handle) {
                return handle;
            }
            assert_eq!(super::cancel(self.node, &handle).status, 200);
        }
        panic!("no reservation was opened from a lease");
    }

    /// Returns true if so many units are in use by these limits, of which time has taken some. Less
    /// than that are never charged; a refund is less what has drained meanwhile.
    fn uses(&self, limits: &Value, units: i64) -> bool {
        let used = (BURST - limits[0]["remaining"].as_i64().unwrap()) as f64;
        assert!(used >= units as f64 - self.drained(), "{used} of {units}: {limits}");
        used <= units as f64 + 3.0 * self.drained() + 1_000.0
    }

    fn drained(&self) -> f64 {
        RATE * self.began.elapsed().as_secs_f64() + 1.0
    }

    /// Waits until the unspent leases have gone back, and so many units are in use.
    fn eventually_uses(&self, units: i64) {
        let look = json!({"policy": "hot", "key": self.key, "cost": 0});
        eventually("unspent leases go back", || {
            self.uses(&self.node.check(look.clone()).json()["limits"], units)
        });
    }
}

fn is_leased(handle: &str) -> bool {
    let check = Handle::parse(handle).unwrap().check;
    check.charges.iter().any(|charge| charge.leased_at.is_some())
}

fn settle(node: &Node, handle: &str, units: i64) -> Response {
    post(node, "/reservations/settle", json!({"handle": handle, "actual": {"requests": units}}))
}

#[test]
fn a_reservation_is_opened_while_this_nodes_lease_has_all_units_that_are_left() {
    let redis = RedisServer::start();
    let [one, other] = nodes(&redis);
    for attempt in 0..30 {
        let key = format!("attempt {attempt}");
        let mut subject = Subject::new(&one, &key);
        subject.gather_lease();
        let rest = |cost: i64| other.check(json!({"policy": "hot", "key": key, "cost": cost}));
        let left = rest(0).json()["limits"][0]["remaining"].as_i64().unwrap();
        if rest(left).status != 200 {
            continue;
        }
        let dry = subject.check(&json!({"cost": ESTIMATE, "reservation": {}, "dry_run": true}));
        let answer = subject.reserve();
        // This machine may have stood still for as long as a lease lasts.
        if answer.status != 200 {
            continue;
        }
        assert!(is_leased(&super::handle(&answer)));
        let left = |answer: &Response| answer.json()["limits"][0]["remaining"].as_f64().unwrap();
        assert!((left(&dry) - left(&answer)).abs() <= subject.drained(), "{dry:?} {answer:?}");
        return;
    }
    panic!("a reservation was refused although a lease covers it");
}

#[test]
fn a_reservation_from_a_lease_comes_to_what_was_used_and_once() {
    let redis = RedisServer::start();
    let [one, other] = nodes(&redis);
    let cases = [
        ("less is used", Some(30_000)),
        ("nothing is used", Some(0)),
        ("more is used", Some(160_000)),
        ("it is cancelled", None),
    ];
    for (why, actual) in cases {
        let mut subject = Subject::new(&one, why);
        let handle = subject.open();
        subject.eventually_uses(subject.used + ESTIMATE);
        let ended = match actual {
            Some(units) => settle(&other, &handle, units),
            None => super::cancel(&other, &handle),
        };
        let units = actual.unwrap_or(0);
        assert_eq!(ended.json()["charged"], json!({"requests": units}), "{why}: {ended:?}");
        assert!(subject.uses(&ended.json()["limits"], subject.used + units), "{why}: {ended:?}");
        for node in [&one, &other] {
            assert_eq!(settle(node, &handle, 0).status, 404, "{why}");
            assert_eq!(super::cancel(node, &handle).status, 404, "{why}");
        }
        subject.eventually_uses(subject.used + units);
    }
    let units = |metric: &str| {
        let labels = r#"{limit="policy:hot/throttle",plan="policy:hot"}"#;
        other.metric(&format!("tollgate_{metric}_units_total"), labels)
    };
    assert_eq!(["used", "overrun"].map(units), [190_000.0, 60_000.0]);
}

#[test]
fn an_extension_charges_what_is_beyond_the_lease_and_unknown_usage_gives_nothing_back() {
    let redis = RedisServer::start();
    let [node] = nodes(&redis);
    let mut subject = Subject::new(&node, "extended");
    let handle = subject.open();
    subject.eventually_uses(subject.used + ESTIMATE);
    for (units, charged) in [(40_000, ESTIMATE), (150_000, 150_000), (120_000, 150_000)] {
        let body = json!({"handle": handle, "actual": {"requests": units}});
        let extended = post(&node, "/reservations/extend", body);
        assert_eq!(extended.json()["charged"], json!({"requests": charged}), "{extended:?}");
        let limits = &extended.json()["limits"];
        assert!(subject.uses(limits, subject.used + charged), "{extended:?}");
    }
    let settled = settle(&node, &handle, 150_000);
    assert_eq!(settled.json()["charged"], json!({"requests": 150_000}), "{settled:?}");
    subject.eventually_uses(subject.used + 150_000);
    for at_least in [false, true] {
        let mut subject = Subject::new(&node, &format!("unknown {at_least}"));
        let mut body = json!({"handle": subject.open()});
        if at_least {
            body["actual"] = json!({"requests": 50_000});
            body["at_least"] = json!(true);
        }
        let settled = post(&node, "/reservations/settle", body);
        assert_eq!(settled.json()["charged"], json!({"requests": ESTIMATE}), "{settled:?}");
        subject.eventually_uses(subject.used + ESTIMATE);
    }
}

#[test]
fn a_record_takes_no_lease_and_replays_reservations_of_leased_limits() {
    let (redis, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let file = folder.path().join("record").display().to_string();
    let flags = ["--store", &redis.url(), "--check-deadline", "5s", "--record", &file];
    let node = Node::with_catalog(CATALOG, &flags);
    let mut subject = Subject::new(&node, "recorded");
    let handles: Vec<String> = (0..30)
        .map(|_| {
            assert_eq!(subject.check(&json!({"cost": COST})).json()["decided_by"], "redis");
            super::handle(&subject.reserve())
        })
        .collect();
    assert!(!handles.iter().any(|handle| is_leased(handle)));
    for (number, handle) in (0..).zip(&handles) {
        assert_eq!(settle(&node, handle, number * 7_000).status, 200);
    }
    assert_eq!(node.stop(), Some(0));
    let recorded = std::fs::read_to_string(&file).unwrap();
    assert_eq!(tollgate::engine::replay(&recorded).unwrap(), 90);
}
