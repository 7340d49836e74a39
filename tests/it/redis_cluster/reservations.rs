//! Reservations whose subjects lie on different primaries: opened everywhere or nowhere, and
//! settled by any node.
//! Needs programs besides Rust, so `make fast` skips it.

use std::time::Instant;

use tollgate::reservation::Handle;

use super::*;
use crate::support::eventually;

const CATALOG: &str = r#"
version: 1
apis:
  - id: a
    stages:
      - name: s
        consistency: leased
        throttle: { rate: 1/h, burst: 100 }
        limits: [ { name: tokens, unit: total_tokens, throttle: { rate: 24/d, burst: 10000 } } ]
plans:
  - id: p
    limits:
      - { name: tpm, unit: total_tokens, throttle: { rate: 24/d, burst: 1000 } }
      - { name: tpd, unit: total_tokens, quota: { limit: 2000, period: month } }
keys: [ { id: a, value: key-a, plans: [p], policies: { team: red } } ]
policies: [ { name: team, limits: [ { name: tpd, unit: total_tokens, quota: { limit: 3000, period: month } } ] } ]
"#;

fn reserve(node: &Node, tokens: u64, id: &str) -> (u16, Value) {
    let cost = json!({"total_tokens": tokens});
    let answer = node.check(json!({
        "api_key": "key-a", "api": "a", "stage": "s", "cost": cost, "reservation": {"id": id},
    }));
    (answer.status, answer.json())
}

#[expect(clippy::needless_pass_by_value, reason = "json! makes a value")]
fn post(node: &Node, path: &str, body: Value) -> (u16, Value) {
    let answer = node.send("POST", path, &[], &body.to_string());
    (answer.status, answer.json())
}

/// The remaining units of each limit, as any node reads them; debt is negative.
fn left(node: &Node) -> HashMap<String, i64> {
    let body = json!({"api_key": "key-a", "api": "a", "stage": "s", "cost": 0});
    let answer = node.check(body).json();
    let limits = answer["limits"].as_array().unwrap();
    let number = |limit: &Value, member: &str| limit[member].as_i64().unwrap_or(0);
    let row = |limit: &Value| {
        let name = limit["name"].as_str().unwrap().to_owned();
        (name, number(limit, "remaining") - number(limit, "debt"))
    };
    limits.iter().map(row).collect()
}

#[track_caller]
fn assert_left(node: &Node, tokens: i64, requests: i64) {
    let expected = [
        ("p/tpm", 1000 - tokens),
        ("p/tpd", 2000 - tokens),
        ("stage:a/s/throttle", 100 - requests),
        ("stage:a/s/tokens", 10_000 - tokens),
        ("policy:team/tpd", 3000 - tokens),
    ];
    let expected: HashMap<_, _> =
        expected.into_iter().map(|(name, left)| (name.to_owned(), left)).collect();
    assert_eq!(left(node), expected);
}

#[test]
fn a_reservation_is_opened_and_settled_on_every_primary_or_on_none() {
    let cluster = RedisCluster::start(0, 0);
    let [one, other] = [0, 1].map(|_| node_with(CATALOG, &cluster, &["--denial-memo", "false"]));
    let (status, opened) = reserve(&one, 400, "first");
    assert_eq!(status, 200, "{opened}");
    assert_left(&other, 400, 1);
    let (status, again) = reserve(&other, 400, "first");
    assert_eq!((status, &again["reservation"]["replayed"]), (200, &json!(true)), "{again}");
    assert_eq!(again["reservation"]["handle"], opened["reservation"]["handle"]);
    assert_eq!(reserve(&other, 401, "first").0, 409);
    let (status, refused) = reserve(&other, 700, "second");
    assert_eq!((status, &refused["violated"]), (429, &json!("p/tpm")), "{refused}");
    assert_left(&one, 400, 1);
    let handle = &opened["reservation"]["handle"];
    let extension = json!({"handle": handle, "actual": {"total_tokens": 450}});
    let (status, extended) = post(&other, "/reservations/extend", extension);
    assert_eq!((status, &extended["charged"]["total_tokens"]), (200, &json!(450)), "{extended}");
    assert_left(&one, 450, 1);
    let settlement = json!({"handle": handle, "actual": {"total_tokens": 100}});
    let (status, settled) = post(&other, "/reservations/settle", settlement.clone());
    assert_eq!((status, &settled["charged"]["total_tokens"]), (200, &json!(100)), "{settled}");
    assert_eq!(settled["limits"].as_array().unwrap().len(), 5, "{settled}");
    assert_left(&one, 100, 1);
    assert_eq!(post(&one, "/reservations/settle", settlement).0, 404);
    let (_, opened) = reserve(&one, 800, "third");
    let cancel = json!({"handle": opened["reservation"]["handle"]});
    assert_eq!(post(&other, "/reservations/cancel", cancel).0, 200);
    assert_left(&one, 100, 1);
}

/// Next to the costs of the test, little drains of what clients of the stage share.
const BUSY_STAGE: &str = r#"
version: 1
apis:
  - id: a
    stages:
      - name: s
        consistency: leased
        throttle: { rate: 1000/s, burst: 100000000 }
plans: [ { id: p, quota: { limit: 1000000000, period: month } } ]
keys: [ { id: a, value: key-a, plans: [p] } ]
"#;

#[test]
fn a_stage_is_charged_from_the_lease_of_the_node_and_settled_by_any() {
    const COST: i64 = 10_000;
    let cluster = RedisCluster::start(0, 0);
    let [one, other] = [0, 1].map(|_| node_with(BUSY_STAGE, &cluster, &["--min-nodes", "2"]));
    let began = Instant::now();
    let mut connection = KeepAlive::open(one.address()).unwrap();
    let mut used = 0;
    let mut check = |used: &mut i64, cost: i64, reserves: bool| {
        let mut body = json!({"api_key": "key-a", "api": "a", "stage": "s", "cost": cost});
        if reserves {
            body["reservation"] = json!({});
        }
        let answer = connection.post("/check", &body.to_string()).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        *used += cost;
        answer.json()
    };
    // The key's quota is exact, and the stage's throttle is leased.
    let mut open = |used: &mut i64| {
        for _ in 0..50 {
            (0..20).for_each(|_| drop(check(used, COST, false)));
            let reserved = check(used, 5 * COST, true);
            let handle = reserved["reservation"]["handle"].as_str().unwrap().to_owned();
            let mut charges = Handle::parse(&handle).unwrap().check.charges;
            charges.retain(|charge| charge.leased_at.is_some());
            if let [charge] = &*charges {
                assert_eq!(charge.subject, Subject::stage("a", "s"));
                return handle;
            }
        }
        panic!("no reservation was opened from a lease");
    };
    let left = |node: &Node| {
        let look = json!({"api_key": "key-a", "api": "a", "stage": "s", "cost": 0});
        let limits = node.check(look).json()["limits"].clone();
        [0, 1].map(|place| limits[place]["remaining"].as_i64().unwrap())
    };
    for (actual, settles) in [(COST, &other), (9 * COST, &one)] {
        let handle = open(&mut used);
        let settlement = json!({"handle": handle, "actual": {"requests": actual}});
        let (status, settled) = post(settles, "/reservations/settle", settlement.clone());
        assert_eq!((status, &settled["charged"]["requests"]), (200, &json!(actual)), "{settled}");
        used += actual - 5 * COST;
        assert_eq!(post(&one, "/reservations/settle", settlement).0, 404);
        eventually("unspent leases go back", || {
            let [quota, stage] = left(&other);
            assert_eq!(quota, 1_000_000_000 - used);
            let drained = 1_000.0 * began.elapsed().as_secs_f64() + 1.0;
            let stage = (100_000_000 - stage) as f64;
            assert!(stage >= used as f64 - drained, "{stage} of {used}");
            stage <= used as f64 + 3.0 * drained + 1_000.0
        });
    }
}
