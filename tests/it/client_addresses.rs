//! Policies that count the addresses of clients: one client is one key, however it is written and
//! whatever the client writes into headers.

use serde_json::{Value, json};
use tollgate::catalog::Catalog;

use crate::support::node::Node;

const CATALOG: &str = r#"
version: 1
plans: [ { id: pro, throttle: { rate: 1/h, burst: 100 } } ]
policies:
  - { name: login, key_type: ip, throttle: { rate: 5/d, burst: 5 } }
  - { name: site, key_type: ip, v4_prefix: 24, v6_prefix: 48, throttle: { rate: 5/d, burst: 5 } }
  - { name: user, throttle: { rate: 5/d, burst: 5 } }
keys:
  - { id: alice, value: alice-key, plans: [pro], policies: { login: "ip:203.0.113.7" } }
"#;

const SPELLINGS: [&str; 10] = [
    "2001:db8::1",
    "2001:DB8::1",
    "2001:0db8::1",
    "2001:db8:0::1",
    "2001:db8:0:0:0:0:0:1",
    "[2001:db8::1]",
    "[2001:db8::1]:443",
    "ip:2001:db8::1",
    "2001:db8::0001",
    "2001:db8::0.0.0.1",
];

/// The number of requests that pass, of one with each key.
fn passing<T>(keys: impl IntoIterator<Item = T>, ask: impl Fn(T) -> u16) -> usize {
    let statuses: Vec<u16> = keys.into_iter().map(ask).collect();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    statuses.iter().filter(|status| **status == 200).count()
}

#[test]
fn one_client_has_one_budget_however_its_address_is_written() {
    let node = Node::with_catalog(CATALOG, &[]);
    let json = |policy: &'static str| {
        let node = &node;
        move |key: String| node.check(json!({"policy": policy, "key": key})).status
    };
    let header = |key: String| {
        let path = "/authz?policy=login&key_header=X-Real-IP";
        node.send("GET", path, &[("x-real-ip", &key)], "").status
    };
    assert_eq!(passing(SPELLINGS.map(String::from), json("login")), 5);
    assert_eq!(passing(SPELLINGS.map(String::from), header), 0, "the same budget");
    let one_network = |at: &str| (0..20).map(|host| format!("{at}:{host:x}")).collect::<Vec<_>>();
    assert_eq!(passing(one_network("2001:db8:1:2:"), header), 5, "a /64 is one client");
    assert_eq!(passing((0..20).map(|net| format!("2001:db8:1:a{net:x}::1")), header), 20);
    assert_eq!(passing((0..20).map(|net| format!("2001:db8:1:a{net:x}::1")), json("site")), 5);
    let v4 = ["203.0.113.7", "::ffff:203.0.113.7", "203.0.113.7:4711", " 203.0.113.7 "];
    assert_eq!(passing([v4, v4].concat().into_iter().map(String::from), json("login")), 5);
    assert_eq!(passing((0..20).map(|host| format!("198.51.100.{host}")), json("login")), 20);
    assert_eq!(passing((0..20).map(|host| format!("198.51.100.{host}")), json("site")), 5);
}

#[test]
fn a_text_that_is_no_address_is_400_and_names_its_member() {
    let node = Node::with_catalog(CATALOG, &[]);
    let fault = |body: Value| {
        let answer = node.check(body);
        (answer.status, answer.json()["field"].as_str().unwrap_or_default().to_owned())
    };
    for key in ["unknown", "alice", "203.0.113.7, 10.0.0.1", "203.0.113.0/24", "ip:"] {
        assert_eq!(fault(json!({"policy": "login", "key": key})), (400, "key".into()), "{key}");
        let policies = json!([{"policy": "user", "key": key}, {"policy": "site", "key": key}]);
        assert_eq!(fault(json!({ "policies": policies })), (400, "policies[1].key".into()));
    }
    let twice = json!([{"policy": "login", "key": "::1"}, {"policy": "login", "key": "[::2]:1"}]);
    assert_eq!(fault(json!({ "policies": twice })), (400, "policies[1].policy".into()));
    assert!(node.passes("user", "unknown", 5), "nothing was charged");
    let by_header = |query: &str, value: &str| {
        let path = format!("/authz?policy=login&key_header=X-Forwarded-For{query}");
        let answer = node.send("GET", &path, &[("x-forwarded-for", value)], "");
        (answer.status, answer.json()["field"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(by_header("", "10.0.0.1, 203.0.113.7"), (400, "key".into()));
    assert_eq!(by_header("&deny_status=403", "10.0.0.1, 203.0.113.7"), (403, "key".into()));
    assert_eq!(by_header("&key=ip", "203.0.113.7, me"), (400, "x-forwarded-for".into()));
    assert_eq!(by_header("&key=ip&deny_status=403", "me"), (403, "x-forwarded-for".into()));
}

#[test]
fn what_a_client_writes_into_forwarding_headers_changes_nothing() {
    let node = Node::with_catalog(CATALOG, &["--trusted-peers", "127.0.0.0/8, 10.0.0.0/8"]);
    let ask = |query: &str, header: &str, value: String| {
        let path = format!("/authz?policy=login&key=ip{query}");
        node.send("GET", &path, &[(header, &value)], "").status
    };
    let appended = |own: u32| format!("1.2.3.{own}, 203.0.113.7, 10.0.0.9");
    assert_eq!(passing(0..20, |own| ask("", "X-Forwarded-For", appended(own))), 5);
    let named = |own: u32| format!("for=1.2.3.{own};by=\", for=\"198.51.100.1:80\"");
    let of_proxy = "&key_header=Forwarded";
    assert_eq!(passing(0..20, |own| ask(of_proxy, "Forwarded", named(own))), 5);
    let beside = |own: u32| format!("for=1.2.3.{own}");
    assert_eq!(passing(0..20, |own| ask("", "Forwarded", beside(own))), 5, "it is not read");
    assert_eq!(node.check(json!({"policy": "login", "key": "127.0.0.1"})).status, 429);
}

#[test]
fn of_a_peer_that_is_not_trusted_the_own_address_counts() {
    let node = Node::with_catalog(CATALOG, &["--trusted-peers", "192.0.2.0/24"]);
    let ask = |own: u32| {
        let value = format!("1.2.3.{own}");
        node.send("GET", "/authz?policy=login&key=ip", &[("x-forwarded-for", &value)], "").status
    };
    assert_eq!(passing(0..20, ask), 5);
    assert!(!node.passes("login", "::ffff:127.0.0.1", 1) && node.passes("login", "1.2.3.4", 1));
    // A gateway with the token is trusted from any address.
    let node = Node::with_catalog(
        CATALOG,
        &["--trusted-peers", "192.0.2.0/24", "--check-token", "sesame"],
    );
    let ask = |own: u32| {
        let own = format!("1.2.3.{own}, 192.0.2.1");
        let headers = [("x-tollgate-token", "sesame"), ("x-forwarded-for", own.as_str())];
        node.send("GET", "/authz?policy=login&key=ip", &headers, "").status
    };
    assert_eq!(passing(0..20, ask), 20);
}

#[test]
fn a_gateway_that_asks_for_something_else_is_told_what_to_write() {
    let node = Node::with_catalog(CATALOG, &[]);
    for (query, field) in [
        ("policy=login", "key_header"),
        ("key=ip", "key_header"),
        ("policy=login&key=user", "key_header"),
        ("key_header=X-Real-IP", "key_header"),
        ("policy=user&key=ip", "key"),
        ("policy=nope&key=ip", "policy"),
    ] {
        let answer = node.send("GET", &format!("/authz?{query}"), &[], "");
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!(field)), "{query}");
    }
}

#[test]
fn an_api_keys_own_address_is_the_one_that_a_caller_names() {
    let node = Node::with_catalog(CATALOG, &[]);
    let ask = |key: &str| {
        let policies = json!([{"policy": "login", "key": key}]);
        node.check(json!({"api_key": "alice-key", "policies": policies})).json()
    };
    let limits = |answer: &Value| answer["limits"].as_array().unwrap().len();
    assert_eq!(limits(&ask("[::ffff:203.0.113.7]:80")), 2, "the plan's and one of the policy");
    assert_eq!(limits(&ask("203.0.113.8")), 3);
    let answer = node.check(json!({"policy": "login", "key": "203.0.113.7", "cost": 0}));
    assert_eq!(answer.json()["limits"][0]["remaining"], 3, "{answer:?}");
}

#[test]
fn an_invalid_type_or_key_of_it_is_an_error_at_its_place() {
    for (from, to, expected) in [
        ("ip:203.0.113.7", "red", "keys[0].policies.login: this policy counts IP addresses"),
        ("key_type: ip, throttle", "key_type: host, throttle", "policies[0].key_type: "),
        ("v4_prefix: 24", "v4_prefix: 33", "policies[1].v4_prefix: write a number of bits from 1"),
        ("v6_prefix: 48", "v6_prefix: 0", "policies[1].v6_prefix: write a number of bits from 1"),
        ("name: user", "name: user, v6_prefix: 64", "policies[2].v6_prefix: goes with `key_type:"),
    ] {
        let text = CATALOG.replacen(from, to, 1);
        assert_ne!(text, CATALOG, "{from}");
        let error = Catalog::parse(&text, "c").err().unwrap_or_else(|| panic!("{to}"));
        assert!(error.errors()[0].starts_with(expected), "{to}: {error}");
    }
}
