//! Envoy's service on a Cluster: the descriptors of one request lie on different primaries.
//! Needs programs besides Rust, so `make fast` skips it.

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

#[test]
fn two_descriptors_are_both_charged_or_neither_wherever_they_lie() {
    let cluster = RedisCluster::start(0, 0);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("d.yaml"), CONFIG).unwrap();
    let (url, path) = (cluster.url(), folder.path().display().to_string());
    let flags = ["--store", &url, "--check-deadline", DEADLINE, "--denial-memo", "false"];
    let envoys = ["--envoy-config", &path, "--listen-grpc", "127.0.0.1:0"];
    let nodes = [0, 1].map(|_| Node::start(&[&flags[..], &envoys].concat()));
    let clients = nodes.each_ref().map(|node| GrpcClient::connect(node.grpc()));
    let codes_and_left = |turn: usize, entries: &[(&str, &str)]| {
        let descriptors = entries.iter().map(|entry| descriptor(&[*entry])).collect();
        let answer = clients[turn % 2].ask(request("d", descriptors)).unwrap();
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
