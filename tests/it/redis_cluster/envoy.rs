//! Envoy's service on a Cluster: the descriptors of one request lie on different primaries.
//! Needs programs besides Rust, so `make fast` skips it.

use tollgate::grpc::proto::RateLimitDescriptor;
use tollgate::grpc::proto::rate_limit_response::{Code, DescriptorStatus};

use super::*;
use crate::support::grpc::{GrpcClient, descriptor, request};

const CONFIG: &str = r#"
domain: d
descriptors:
  - { key: wide, rate_limit: { unit: year, requests_per_unit: 3 } }
  - { key: narrow, rate_limit: { unit: year, requests_per_unit: 2 } }
"#;

const OK: Code = Code::Ok;
const OVER: Code = Code::OverLimit;

/// A node with these limits, and a connection to it.
fn node_for_envoy(cluster: &RedisCluster, folder: &std::path::Path) -> (Node, GrpcClient) {
    fs::write(folder.join("d.yaml"), CONFIG).unwrap();
    let (url, path) = (cluster.url(), folder.display().to_string());
    let flags = ["--store", &url, "--check-deadline", DEADLINE, "--denial-memo", "false"];
    let envoys = ["--envoy-config", &path, "--listen-grpc", "127.0.0.1:0"];
    let node = Node::start(&[&flags[..], &envoys].concat());
    let client = GrpcClient::connect(node.grpc());
    (node, client)
}

fn hits(entry: (&str, &str), hits: u64) -> RateLimitDescriptor {
    RateLimitDescriptor { hits_addend: Some(hits.into()), ..descriptor(&[entry]) }
}

#[test]
fn a_report_is_made_wherever_it_lies_and_refuses_the_usual_hits_where_it_does_not_fit() {
    let cluster = RedisCluster::start(0, 0);
    let folder = tempfile::tempdir().unwrap();
    let (_node, client) = node_for_envoy(&cluster, folder.path());
    let codes = |descriptors| -> Vec<Code> {
        let answer = client.ask(request("d", descriptors)).unwrap();
        answer.statuses.iter().map(DescriptorStatus::code).collect()
    };
    for value in (0..10).map(|number| format!("r{number}")) {
        let (wide, narrow) = (("wide", &*value), ("narrow", &*value));
        assert_eq!(codes(vec![hits(wide, 2), descriptor(&[narrow])]), [OK, OK]);
        assert_eq!(codes(vec![descriptor(&[narrow]), hits(wide, 2)]), [OK, OVER]);
        assert_eq!(codes(vec![hits(wide, 0), hits(narrow, 1)]), [OVER, OK], "narrow has 1 of 2");
        assert_eq!(codes(vec![hits(narrow, 0), hits(narrow, 1)]), [OVER, OVER], "and now 3");
        let other = format!("{value}x");
        let (wide, narrow) = (("wide", &*other), ("narrow", &*other));
        assert_eq!(codes(vec![hits(narrow, 3), hits(wide, 3)]), [OVER, OK], "both are made");
        assert_eq!(codes(vec![descriptor(&[wide])]), [OVER]);
        assert_eq!(codes(vec![hits(narrow, 0)]), [OVER]);
    }
}

#[test]
fn two_descriptors_are_both_charged_or_neither_wherever_they_lie() {
    let cluster = RedisCluster::start(0, 0);
    let folder = tempfile::tempdir().unwrap();
    let nodes = [0, 1].map(|_| node_for_envoy(&cluster, folder.path()));
    let codes_and_left = |turn: usize, entries: &[(&str, &str)]| {
        let descriptors = entries.iter().map(|entry| descriptor(&[*entry])).collect();
        let answer = nodes[turn % 2].1.ask(request("d", descriptors)).unwrap();
        let code_and_left = |status: &DescriptorStatus| (status.code(), status.limit_remaining);
        (answer.overall_code(), answer.statuses.iter().map(code_and_left).collect::<Vec<_>>())
    };
    for value in (0..20).map(|number| format!("v{number}")) {
        let (wide, narrow) = (("wide", &*value), ("narrow", &*value));
        assert_eq!(codes_and_left(0, &[wide, narrow]), (OK, vec![(OK, 2), (OK, 1)]));
        assert_eq!(codes_and_left(1, &[narrow, wide]), (OK, vec![(OK, 0), (OK, 1)]));
        // The first descriptor is judged last, so each of the two is charged in advance once.
        for turn in 0..4 {
            let (overall, statuses) = codes_and_left(turn, &[narrow, wide]);
            assert_eq!((overall, statuses[0], statuses[1].0), (OVER, (OVER, 0), OK), "{value}");
            let (overall, statuses) = codes_and_left(turn, &[wide, narrow]);
            assert_eq!((overall, statuses[1], statuses[0].0), (OVER, (OVER, 0), OK), "{value}");
        }
        assert_eq!(codes_and_left(0, &[wide]), (OK, vec![(OK, 0)]), "refused charges are refunded");
        assert_eq!(codes_and_left(1, &[wide]), (OVER, vec![(OVER, 0)]), "{value}");
    }
    let homes = cluster.keys();
    let homes = |server| homes.values().filter(|home| **home == server).count();
    assert!((0..3).all(|server| homes(server) > 5), "they lie on all primaries");
}
