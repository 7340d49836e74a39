//! Clients that hold what a node has: connections without requests, responses that they do not
//! read, bodies that never end. Each listener lets go of them, and other clients are served.

mod bodies;
mod connections;

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::json;

use crate::support::grpc::{GrpcClient, descriptor, request};
use crate::support::node::Node;

const ENVOY: &str = "
domain: d
descriptors: [ { key: user, rate_limit: { unit: year, requests_per_unit: 100000 } } ]
";
const TOKEN: &str = "a-token-for-tests";
const CREDENTIALS: [(&str, &str); 4] = [
    ("TOLLGATE_ADMIN_TOKEN", TOKEN),
    ("TOLLGATE_ADMIN_ACCESS_KEY_ID", "AKIATEST"),
    ("TOLLGATE_ADMIN_SECRET_ACCESS_KEY", "a-secret-for-tests"),
    ("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"),
];

/// A node with all listeners.
fn node(flags: &[&str]) -> Node {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("d.yaml"), ENVOY).unwrap();
    let path = folder.path().display().to_string();
    let own =
        ["--envoy-config", &path, "--listen-grpc", "127.0.0.1:0", "--listen-ops", "127.0.0.1:0"];
    Node::launch(None, &[&own, flags].concat(), &CREDENTIALS)
}

/// Connects and sends these bytes, or as many as are taken.
fn begin(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let _closed_early = stream.write_all(bytes);
    stream
}

/// True if a new client is served by the listeners of checks and by that of Envoy.
fn serves_new_clients(node: &Node) -> bool {
    let envoy = GrpcClient::connect(node.grpc());
    node.check(json!({"policy": "login", "key": "a", "cost": 0})).status == 200
        && envoy.ask(request("d", vec![descriptor(&[("user", "x")])])).is_ok()
}
