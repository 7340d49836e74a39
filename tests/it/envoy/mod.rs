//! Envoy's rate limit service, over gRPC: envoyproxy/ratelimit's YAML, its matching and its
//! responses, and Tollgate's additions.

mod answers;
mod bad_input;
mod gateway;
mod on_redis;
mod operation;
mod refunds;
mod reports;
mod scenarios;

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use tollgate::grpc::proto::rate_limit_response::{Code, DescriptorStatus};
use tollgate::grpc::proto::{RateLimitDescriptor, RateLimitResponse};

use crate::support::grpc::{GrpcClient, descriptor, request};
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
        descriptors:
          - key: region
            rate_limit: { unit: year, requests_per_unit: 7 }
      - key: plan
        rate_limit: { unit: year, requests_per_unit: 1 }
  - key: number
    value: 404
    rate_limit: { unit: year, requests_per_unit: 1 }
  - key: banned
    rate_limit: { unit: second, requests_per_unit: 0 }
  - key: free
    rate_limit: { unlimited: true }
  - key: lax
    rate_limit: { unlimited: true, name: small }
  - key: plenty
    rate_limit: { unit: year, requests_per_unit: 1000 }
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
  - key: careful
    rate_limit: { unit: year, requests_per_unit: 3, after_the_fact: false }
  - key: fortnight
    rate_limit: { unit: week, requests_per_unit: 1, unit_multiplier: 2 }
  - key: month
    rate_limit: { unit: month, requests_per_unit: 1, time_zone: Europe/Berlin }
"#;

/// Keys and values of a descriptor.
type Entries<'a> = &'a [(&'a str, &'a str)];

/// A node with limits for Envoy, and a gRPC connection to it.
struct Served {
    node: Node,
    client: GrpcClient,
    folder: TempDir,
}

fn serve(config: &str, flags: &[&str]) -> Served {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("d.yaml"), config).unwrap();
    let path = folder.path().display().to_string();
    let own = ["--envoy-config", &path, "--listen-grpc", "127.0.0.1:0"];
    let node = Node::start(&[&own, flags].concat());
    let client = GrpcClient::connect(node.grpc());
    Served { node, client, folder }
}

impl Served {
    fn ask(&self, descriptors: Vec<RateLimitDescriptor>) -> RateLimitResponse {
        self.client.ask(request("d", descriptors)).unwrap()
    }

    /// True if a descriptor of these entries is allowed.
    fn passes(&self, entries: &[(&str, &str)]) -> bool {
        let answer = self.ask(vec![descriptor(entries)]);
        assert_eq!(answer.overall_code, answer.statuses[0].code);
        answer.overall_code() == Code::Ok
    }

    /// The number of requests that are allowed, of `asked`.
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
fn a_descriptor_matches_the_exact_value_else_the_first_pattern_else_the_key_alone() {
    let served = serve(CONFIG, &[]);
    #[rustfmt::skip]
    let cases: &[(&str, Entries<'_>, usize)] = &[
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
        ("deeper still",                                    &[("user", "alice"), ("plan", "gold"), ("region", "eu")], 7),
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
