//! Envoy's rate limit service as Envoy meets it: envoyproxy/ratelimit's YAML, its matching, its
//! answers; and what goes beyond.

mod bad_input;
mod operation;

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use tollgate::grpc::proto::rate_limit_descriptor::RateLimitOverride;
use tollgate::grpc::proto::rate_limit_response::rate_limit::Unit;
use tollgate::grpc::proto::rate_limit_response::{Code, DescriptorStatus};
use tollgate::grpc::proto::{RateLimitDescriptor, RateLimitResponse};

use crate::support::grpc::{Client, descriptor, request};
use crate::support::node::Node;

/// Windows are years, so that none ends while a test runs.
const CONFIG: &str = r#"
domain: d
descriptors:
  - key: path
    value: /exact
    rate_limit: { unit: year, requests_per_unit: 3, name: exact }
  - key: path
    value: /a*
    rate_limit: { unit: YEAR, requests_per_unit: 2 }
  - key: path
    value: "*"
    share_threshold: true
    rate_limit: { unit: year, requests_per_unit: 4 }
  - key: user
    rate_limit: { unit: year, requests_per_unit: 2 }
    descriptors:
      - key: plan
        value: gold
        rate_limit: { unit: year, requests_per_unit: 5 }
      - key: plan
        rate_limit: { unit: year, requests_per_unit: 1 }
  - key: number
    value: 404
    rate_limit: { unit: year, requests_per_unit: 1 }
  - key: banned
    rate_limit: { unit: second, requests_per_unit: 0 }
  - key: free
    rate_limit: { unlimited: true }
  - key: allowed
  - key: tried
    rate_limit: { unit: year, requests_per_unit: 1 }
    shadow_mode: true
  - key: small
    rate_limit: { unit: year, requests_per_unit: 1, name: small }
  - key: instead
    rate_limit: { unit: year, requests_per_unit: 9, replaces: [ { name: small } ] }
  - key: pool
    value: one
    quota_mode: true
    rate_limit: { unit: year, requests_per_unit: 1 }
    metadata: { pool: { one: true }, weight: 2 }
  - key: pool
    value: two
    quota_mode: true
    rate_limit: { unit: year, requests_per_unit: 2 }
    metadata: { pool: { two: [ a, null ] }, weight: 3 }
  - key: bucket
    rate_limit: { unit: day, requests_per_unit: 1, algorithm: token_bucket, burst: 3 }
  - key: fortnight
    rate_limit: { unit: week, requests_per_unit: 1, unit_multiplier: 2 }
  - key: month
    rate_limit: { unit: month, requests_per_unit: 1, time_zone: Europe/Berlin }
"#;

/// A node with limits for Envoy, and a connection to it.
struct Served {
    node: Node,
    client: Client,
    folder: TempDir,
}

fn serve(config: &str, flags: &[&str]) -> Served {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("d.yaml"), config).unwrap();
    let path = folder.path().display().to_string();
    let own = ["--envoy-config", &path, "--listen-grpc", "127.0.0.1:0"];
    let node = Node::start(&[&own, flags].concat());
    let client = Client::connect(node.grpc());
    Served { node, client, folder }
}

impl Served {
    fn ask(&self, descriptors: Vec<RateLimitDescriptor>) -> RateLimitResponse {
        self.client.ask(request("d", descriptors)).unwrap()
    }

    /// Whether one descriptor of these entries passes.
    fn passes(&self, entries: &[(&str, &str)]) -> bool {
        let answer = self.ask(vec![descriptor(entries)]);
        assert_eq!(answer.overall_code, answer.statuses[0].code);
        answer.overall_code() == Code::Ok
    }

    /// How many of `asked` pass.
    fn passing(&self, asked: usize, entries: &[(&str, &str)]) -> usize {
        (0..asked).filter(|_| self.passes(entries)).count()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("d.yaml")
    }
}

fn costs(hits: u64, entries: &[(&str, &str)]) -> RateLimitDescriptor {
    RateLimitDescriptor { hits_addend: Some(hits.into()), ..descriptor(entries) }
}

fn codes(answer: &RateLimitResponse) -> Vec<Code> {
    answer.statuses.iter().map(DescriptorStatus::code).collect()
}

#[test]
fn a_descriptor_meets_the_exact_value_else_the_first_pattern_else_the_key_alone() {
    let served = serve(CONFIG, &[]);
    #[rustfmt::skip]
    let cases: &[(&str, &[(&str, &str)], usize)] = &[
        // why                                              entries                                 passing of 10
        ("the exact value",                                 &[("path", "/exact")],                  3),
        ("a pattern before a later one",                    &[("path", "/abc")],                    2),
        ("each value of a pattern has its own counter",     &[("path", "/abd")],                    2),
        ("all values of a shared pattern have one",         &[("path", "/other")],                  4),
        ("... one",                                         &[("path", "/second")],                2),
        ("... counter",                                     &[("path", "/third")],                  0),
        ("the key alone",                                   &[("user", "alice")],                   2),
        ("for each value apart",                            &[("user", "bob")],                     2),
        ("deeper, by value",                                &[("user", "alice"), ("plan", "gold")], 5),
        ("deeper, by key",                                  &[("user", "alice"), ("plan", "tin")],  1),
        ("a number is a value",                             &[("number", "404")],                   1),
        ("no value and no key",                             &[("number", "200")],                   10),
        ("another order of entries",                        &[("plan", "tin"), ("user", "alice")],  10),
        ("deeper than the file",                            &[("path", "/exact"), ("x", "y")],      10),
        ("less deep than any limit",                        &[("allowed", "x")],                    10),
        ("nothing passes",                                  &[("banned", "x")],                     0),
        ("everything passes",                               &[("free", "x")],                       10),
        ("a bucket holds its burst",                        &[("bucket", "x")],                     3),
        ("a window of two weeks",                           &[("fortnight", "x")],                  1),
        ("a month of the calendar",                         &[("month", "x")],                      1),
        ("in shadow everything passes",                     &[("tried", "x")],                      10),
        ("no entries meet nothing",                         &[],                                    10),
    ];
    for (why, entries, passing) in cases {
        let asked = if *why == "all values of a shared pattern have one" { 2 } else { 10 };
        assert_eq!(served.passing(asked, entries), *passing.min(&asked), "{why}");
    }
}

#[test]
fn statuses_say_which_limit_what_is_left_and_until_when_in_the_descriptors_order() {
    let served = serve(CONFIG, &[]);
    let asked = || {
        vec![
            descriptor(&[("nothing", "x")]),
            descriptor(&[("path", "/exact")]),
            descriptor(&[("free", "x")]),
            descriptor(&[("user", "a")]),
            descriptor(&[("month", "x")]),
        ]
    };
    let answer = served.ask(asked());
    assert_eq!(answer.overall_code(), Code::Ok);
    let [nothing, exact, free, user, month] = &answer.statuses[..] else { panic!("{answer:?}") };
    assert_eq!((&nothing.current_limit, nothing.limit_remaining), (&None, 0));
    let limit = exact.current_limit.as_ref().unwrap();
    assert_eq!((limit.requests_per_unit, limit.unit(), &*limit.name), (3, Unit::Year, "exact"));
    assert_eq!((exact.limit_remaining, user.limit_remaining), (2, 1));
    assert_eq!((&free.current_limit, free.limit_remaining), (&None, u32::MAX));
    let seconds = |status: &DescriptorStatus| status.duration_until_reset.as_ref().unwrap().seconds;
    assert!((1..=365 * 86_400).contains(&seconds(exact)), "{exact:?}");
    assert!((1..=31 * 86_400 + 3_600).contains(&seconds(month)), "{month:?}");
    assert!(nothing.duration_until_reset.is_none());

    let refused = served.ask(asked());
    assert_eq!(codes(&refused), [Code::Ok, Code::Ok, Code::Ok, Code::Ok, Code::OverLimit]);
    assert_eq!(refused.overall_code(), Code::OverLimit);
    let wait: i64 = refused.response_headers_to_add[0].value.parse().unwrap();
    assert_eq!(&*refused.response_headers_to_add[0].key, "retry-after");
    assert!((seconds(&refused.statuses[4]) - wait).abs() <= 1, "{refused:?}");
}

#[test]
fn what_is_refused_costs_nothing_anywhere() {
    let served = serve(CONFIG, &[]);
    assert!(served.passes(&[("small", "x")]));
    for _ in 0..5 {
        let answer =
            served.ask(vec![descriptor(&[("path", "/exact")]), descriptor(&[("small", "x")])]);
        assert_eq!(codes(&answer), [Code::Ok, Code::OverLimit]);
        assert_eq!(answer.statuses[0].limit_remaining, 3, "the other limit is not drained");
    }
    let too_much = served.ask(vec![costs(4, &[("path", "/exact")])]);
    assert_eq!(too_much.overall_code(), Code::OverLimit);
    assert_eq!(served.passing(10, &[("path", "/exact")]), 3);
}

#[test]
fn a_descriptors_own_hits_count_before_the_requests_and_0_only_looks() {
    let served = serve(CONFIG, &[]);
    let user = &[("user", "hits")];
    let mut both = request("d", vec![costs(0, user), descriptor(&[("path", "/exact")])]);
    both.hits_addend = 3;
    let answer = served.client.ask(both).unwrap();
    let left = answer.statuses.iter().map(|status| status.limit_remaining);
    assert_eq!(left.collect::<Vec<_>>(), [2, 0]);
    assert_eq!(
        served.ask(vec![costs(0, &[("path", "/exact")])]).overall_code(),
        Code::Ok,
        "a look"
    );
    assert_eq!(served.ask(vec![costs(2, user)]).statuses[0].limit_remaining, 0);
    assert!(!served.passes(user));
    // Twice the same counter costs the sum: neither part alone is over.
    let twice = served.ask(vec![costs(1, &[("user", "b")]), costs(2, &[("user", "b")])]);
    assert_eq!(codes(&twice), [Code::OverLimit, Code::OverLimit]);
}

#[test]
fn negative_hits_give_back_at_most_what_was_charged() {
    for flags in [vec![], vec!["--check-deadline", "5s"]] {
        let redis = crate::support::redis::RedisServer::start();
        let url = redis.url();
        let flags = if flags.is_empty() { flags } else { [flags, vec!["--store", &url]].concat() };
        let served = serve(CONFIG, &flags);
        for entries in [&[("user", "x")], &[("bucket", "x")]] {
            let most = served.passing(10, entries);
            let back =
                |hits| RateLimitDescriptor { is_negative_hits: true, ..costs(hits, entries) };
            let answer = served.ask(vec![back(1)]);
            assert_eq!((answer.overall_code(), answer.statuses[0].limit_remaining), (Code::Ok, 1));
            crate::support::eventually("the refusal is forgotten", || served.passes(entries));
            let _answer = served.ask(vec![back(100)]);
            crate::support::eventually("the refusal is forgotten", || served.passes(entries));
            assert_eq!(served.passing(10, entries), most - 1, "{entries:?}");
        }
    }
}

#[test]
fn the_requests_own_limit_takes_the_configurations_place() {
    let served = serve(CONFIG, &[]);
    let own = |requests_per_unit, unit: Unit| RateLimitDescriptor {
        limit: Some(RateLimitOverride { requests_per_unit, unit: unit.into() }),
        ..descriptor(&[("tried", "x")])
    };
    let answers: Vec<_> = (0..3).map(|_| served.ask(vec![own(2, Unit::Year)])).collect();
    let codes: Vec<_> = answers.iter().map(RateLimitResponse::overall_code).collect();
    assert_eq!(codes, [Code::Ok, Code::Ok, Code::OverLimit], "and it is not in shadow");
    let limit = answers[0].statuses[0].current_limit.clone().unwrap();
    assert_eq!((limit.requests_per_unit, limit.unit()), (2, Unit::Year));
    assert_eq!(served.ask(vec![own(3, Unit::Year)]).overall_code(), Code::Ok, "the counter stays");
    assert_eq!(served.ask(vec![own(1, Unit::Week)]).overall_code(), Code::Ok, "another window");
    let unknown = served.client.ask(request("d", vec![own(1, Unit::Unknown)])).unwrap_err();
    assert!(unknown.message().contains("descriptors[0].limit.unit"), "{unknown:?}");
    assert_eq!(unknown.code(), tonic::Code::InvalidArgument);
}

#[test]
fn a_limit_that_is_met_replaces_those_that_it_names() {
    let served = serve(CONFIG, &[]);
    let both = || vec![descriptor(&[("small", "r")]), descriptor(&[("instead", "r")])];
    for _ in 0..9 {
        let answer = served.ask(both());
        assert_eq!(codes(&answer), [Code::Ok, Code::Ok]);
        assert!(answer.statuses[0].current_limit.is_none(), "{answer:?}");
    }
    assert_eq!(codes(&served.ask(both())), [Code::Ok, Code::OverLimit]);
    assert!(served.passes(&[("small", "r")]), "it was not charged");
}

#[test]
fn of_quotas_one_with_room_is_enough_and_metadata_tells_which_passed() {
    let served = serve(CONFIG, &[]);
    let both = || {
        vec![
            descriptor(&[("pool", "one")]),
            descriptor(&[("pool", "two")]),
            descriptor(&[("user", "q")]),
        ]
    };
    let first = served.ask(both());
    assert_eq!((first.overall_code(), codes(&first)), (Code::Ok, vec![Code::Ok; 3]));
    let told = serde_json::to_value(first.dynamic_metadata.unwrap()).unwrap();
    assert_eq!(told["domain"], "d");
    assert_eq!(told["descriptors"][1]["entries"][0], "pool=two");
    assert_eq!(
        told["metadata"],
        serde_json::json!({"pool": {"one": true, "two": ["a", null]}, "weight": 2.0})
    );
    let second = served.ask(both());
    assert_eq!(second.overall_code(), Code::Ok);
    assert_eq!(codes(&second), [Code::OverLimit, Code::Ok, Code::Ok]);
    let told = serde_json::to_value(second.dynamic_metadata.unwrap()).unwrap();
    assert_eq!(told["metadata"]["pool"], serde_json::json!({"two": ["a", null]}));
    let both_gone = served.ask(vec![
        descriptor(&[("pool", "one")]),
        descriptor(&[("pool", "two")]),
        descriptor(&[("user", "r")]),
    ]);
    assert_eq!(both_gone.overall_code(), Code::OverLimit);
    assert_eq!(codes(&both_gone), [Code::OverLimit, Code::OverLimit, Code::Ok]);
    assert_eq!(served.passing(10, &[("user", "r")]), 2, "nothing was charged");
}
