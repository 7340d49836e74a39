//! The policies of an API key: judged with every check of the key, for teams and organisations.

use serde_json::{Value, json};
use tollgate::catalog::{Catalog, CheckRequest, Cost, CounterPlacement, PolicyKey, ResolvedLimits};
use tollgate::time::Micros;

use crate::support::node::Node;

const CATALOG: &str = r#"
version: 1
apis: [ { id: a, stages: [ { name: prod, throttle: { rate: 1/h, burst: 100 } } ] } ]
plans:
  - { id: pro, throttle: { rate: 1/h, burst: 20 } }
  - { id: closed, throttle: { rate: 1/h, burst: 20 }, on_store_failure: closed }
policies:
  - name: team
    throttle: { rate: 1/h, burst: 10 }
    limits: [ { name: tpm, unit: total_tokens, throttle: { rate: 1/h, burst: 1000 } } ]
  - { name: org, quota: { limit: 12, period: day } }
  - { name: login, throttle: { rate: 1/h, burst: 5 } }
keys:
  - { id: alice, value: alice-key, plans: [pro], policies: { team: red, org: acme } }
  - { id: bob, value: bob-key, plans: [pro], policies: { team: red, org: acme } }
  - { id: carol, value: carol-key, plans: [pro], policies: { team: blue, org: acme } }
  - { id: dora, value: dora-key, plans: [pro] }
"#;

fn check(node: &Node, body: Value) -> (u16, Value) {
    let answer = node.check(body);
    (answer.status, answer.json())
}

/// The name and the remaining units of each limit, in the order of judging.
fn limits(answer: &Value) -> Vec<(&str, u64)> {
    let limits = answer["limits"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let name_and_rest =
        |limit: &'_ Value| limit["remaining"].as_u64().unwrap_or_else(|| panic!("{limit}"));
    limits.iter().map(|limit| (limit["name"].as_str().unwrap(), name_and_rest(limit))).collect()
}

#[test]
fn keys_of_a_team_share_its_limits_and_teams_those_of_their_organisation() {
    let node = Node::with_catalog(CATALOG, &[]);
    let spend = |key: &str, cost: u64| check(&node, json!({"api_key": key, "cost": cost}));
    let (status, answer) = check(
        &node,
        json!({"api_key": "alice-key", "api": "a", "stage": "prod", "cost": {"requests": 6, "total_tokens": 400}}),
    );
    assert_eq!(status, 200, "{answer}");
    let expected = [
        ("pro/throttle", 14),
        ("stage:a/prod/throttle", 94),
        ("policy:org/quota", 6),
        ("policy:team/throttle", 4),
        ("policy:team/tpm", 600),
    ];
    assert_eq!(limits(&answer), expected, "the key's policies are last, by their names");
    let (status, answer) = spend("bob-key", 5);
    assert_eq!((status, &answer["violated"]), (429, &json!("policy:team/throttle")), "{answer}");
    assert_eq!(limits(&answer)[0], ("pro/throttle", 20), "nothing is charged");
    assert_eq!(spend("bob-key", 4).0, 200);
    let (status, answer) = spend("carol-key", 3);
    assert_eq!((status, &answer["violated"]), (429, &json!("policy:org/quota")), "{answer}");
    assert_eq!(spend("carol-key", 2).0, 200);
    assert_eq!(spend("carol-key", 11).0, 422, "more than the team's burst never fits");
    assert_eq!(spend("dora-key", 20).0, 200, "a key without policies");
    // The same counter as if the caller had named the policy itself.
    let (status, answer) = check(&node, json!({"policy": "team", "key": "red", "cost": 0}));
    assert_eq!((status, limits(&answer)[0]), (200, ("policy:team/throttle", 0)));
}

#[test]
fn a_policy_that_the_caller_names_too_counts_once_and_another_key_of_it_as_well() {
    let node = Node::with_catalog(CATALOG, &[]);
    let named = |key: &str, cost: u64| {
        let policies = json!([{"policy": "login", "key": "ip"}, {"policy": "team", "key": key}]);
        check(&node, json!({"api_key": "alice-key", "policies": policies, "cost": cost}))
    };
    let (status, answer) = named("red", 1);
    let expected = [
        ("pro/throttle", 19),
        ("policy:login/throttle", 4),
        ("policy:org/quota", 11),
        ("policy:team/throttle", 9),
        ("policy:team/tpm", 1000),
    ];
    assert_eq!((status, &limits(&answer)[..]), (200, &expected[..]), "{answer}");
    let (status, answer) = named("green", 2);
    let expected = [
        ("pro/throttle", 17),
        ("policy:login/throttle", 2),
        ("policy:team/throttle", 8),
        ("policy:team/tpm", 1000),
        ("policy:org/quota", 9),
        ("policy:team/throttle", 7),
        ("policy:team/tpm", 1000),
    ];
    assert_eq!((status, &limits(&answer)[..]), (200, &expected[..]), "{answer}");
    let twice = json!([{"policy": "team", "key": "red"}, {"policy": "team", "key": "red"}]);
    let (status, answer) = check(&node, json!({"api_key": "alice-key", "policies": twice}));
    assert_eq!((status, &answer["field"]), (400, &json!("policies[1].policy")), "{answer}");
}

#[test]
fn batches_and_forward_authentication_are_judged_by_them_too() {
    let node = Node::with_catalog(CATALOG, &[]);
    let checks = json!({"checks": [
        {"api_key": "alice-key", "cost": 5}, {"api_key": "bob-key", "cost": 4}, {"api_key": "bob-key", "cost": 4},
    ]});
    let results = node.send("POST", "/check/batch", &[], &checks.to_string()).json();
    let statuses = [0, 1, 2].map(|place| results["results"][place]["status"].clone());
    assert_eq!(statuses, [200, 200, 429].map(Value::from), "{results}");
    let authz = |key: &str| node.send("GET", "/authz", &[("x-api-key", key)], "");
    assert_eq!(authz("bob-key").status, 200);
    let refused = authz("alice-key");
    assert_eq!(
        (refused.status, &refused.json()["violated"]),
        (429, &json!("policy:team/throttle"))
    );
    assert_eq!(authz("dora-key").status, 200);
    let refused = ["org/quota", "team/throttle"].map(|limit| {
        let labels = format!(r#"limit="policy:{limit}",outcome="refused",plan="pro""#);
        node.metric("tollgate_decisions_total", &labels)
    });
    assert_eq!(refused, [1.0, 1.0], "{}", node.get("/metrics").body);
}

#[test]
fn invalid_ones_are_errors_that_name_their_place() {
    let faults = |from: &str, to: &str| {
        let text = CATALOG.replacen(from, to, 1);
        assert_ne!(text, CATALOG, "{from}");
        Catalog::parse(&text, "c").err().unwrap_or_else(|| panic!("{to}")).errors().join("\n")
    };
    let (long, many) = ("x".repeat(1025), "p1: a, p2: a, p3: a, p4: a, p5: a");
    for (from, to, expected) in [
        ("team: red", "tem: red", "keys[0].policies.tem: there is no policy `tem`; declare it"),
        ("team: red", "team: \"\"", "keys[0].policies.team: the key that a policy counts has"),
        ("team: red", "team: \"a\\nb\"", "keys[0].policies.team: the key that a policy counts"),
        ("team: red", &format!("team: {long}"), "keys[0].policies.team: the key that a policy"),
        ("team: red", "team: [red]", "keys[0].policies.team: expected text"),
        ("team: red", "team: red, team: blue", "team"),
        ("{ team: red, org: acme }", "[team]", "keys[0].policies: expected an object"),
        ("team: red", &format!("team: red, {many}"), "keys[0].policies: a key has at most 6"),
    ] {
        let text = faults(from, to);
        assert!(text.contains(expected) && !text.contains(&long), "{to:.60}: {text}");
    }
}

#[test]
fn more_limits_than_a_check_can_be_judged_by_are_an_error() {
    let catalog = |in_policy: usize, in_stage: usize| {
        let limits = |count: usize| {
            let limit =
                |n: usize| format!("{{ name: n{n}, unit: u, quota: {{ limit: 1, period: day }} }}");
            (0..count).map(limit).collect::<Vec<_>>().join(", ")
        };
        let (policy, stage) = (limits(in_policy), limits(in_stage));
        format!(
            "version: 1\napis: [{{ id: a, stages: [{{ name: s, limits: [{stage}] }}] }}]\n\
             plans:\n\
             - {{ id: p, quota: {{ limit: 1, period: day }} }}\n\
             - {{ id: q, alongside: true, quota: {{ limit: 1, period: day }} }}\n\
             policies: [{{ name: team, limits: [{policy}] }}]\n\
             keys:\n- {{ id: k, value: k, plans: [p, q], policies: {{ team: red }} }}\n\
             - {{ id: l, value: l, plans: [p] }}\n"
        )
    };
    assert!(Catalog::parse(&catalog(100, 148), "c").is_ok());
    let error = Catalog::parse(&catalog(101, 148), "c").err().unwrap();
    let expected = "keys[0].policies: a check of this key would be judged by up to 251 limits, 101 of them of its policies, and at most 250 are allowed";
    assert_eq!(error.errors(), [expected]);
    assert!(Catalog::parse(&catalog(248, 1), "c").is_err(), "without a stage: 250 and the stage's");
    assert!(Catalog::parse(&catalog(247, 1), "c").is_ok());
}

/// The limits of a check of a key that names the policy `login`.
fn resolve(catalog: &Catalog, key: &str) -> ResolvedLimits {
    let request = CheckRequest {
        api: None,
        stage: None,
        method: None,
        path: None,
        policies: [PolicyKey { policy: "login", key: "ip", index: None }].into_iter().collect(),
        cost: Cost::Requests(1),
        after_the_fact: false,
        model: None,
        usage: None,
    };
    catalog.resolve(&request, catalog.key_by_id(key), Micros::new(0)).unwrap()
}

/// A refusal that another check's charge ahead has caused must not be remembered for long.
#[test]
fn their_refusals_are_remembered_as_those_of_limits_that_are_refunded() {
    let catalog = Catalog::parse(CATALOG, "c").unwrap();
    let resolved = resolve(&catalog, "alice");
    let refundable = resolved.charges.iter().map(|charge| charge.limit.refundable());
    // The plan's throttle and its meter, the caller's policy, and the key's own.
    assert_eq!(refundable.collect::<Vec<_>>(), [true, false, false, true, true, true]);
    assert_eq!(resolved.key_policies, 3);
}

#[test]
fn on_a_cluster_they_need_no_lease_and_cannot_be_recorded() {
    let text = CATALOG.replace("apis:", "#");
    let catalog = Catalog::parse(&text, "c").unwrap();
    let placed = |leases| catalog.check_placement(CounterPlacement::PerSubject { leases }, "c");
    assert!(placed(true).is_ok());
    let errors = placed(false).unwrap_err();
    assert_eq!(errors.errors().len(), 3, "{errors}");
    assert!(errors.errors()[0].contains("`alice`") && errors.to_string().contains("--record"));
}

#[test]
fn the_strictest_failure_policy_counts_theirs_too() {
    let closed = CATALOG.replace("period: day }", "period: day }, on_store_failure: closed");
    let catalog = Catalog::parse(&closed, "c").unwrap();
    let of = |key: &str| format!("{:?}", resolve(&catalog, key).on_store_failure);
    assert_eq!(["alice", "dora"].map(of), ["Closed", "Open"]);
}
