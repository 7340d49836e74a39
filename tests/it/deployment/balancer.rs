//! The nodes and the balancer of docker-compose.yml as plain processes, with a real HAProxy and a
//! name server in the place of Docker's.
//! Needs programs besides Rust, so `make fast` skips it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

use serde_json::Value;

use crate::support::http;
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::support::{eventually, free_port, repository};

const TOKEN: &str = "a-token-of-32-characters-of-a-test";

type Addresses = Arc<Mutex<BTreeMap<String, Ipv4Addr>>>;

/// A name server that knows IPv4 addresses only.
struct NameServer {
    port: u16,
    addresses: Addresses,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let addresses = Addresses::default();
        let known = Arc::clone(&addresses);
        let thread = spawn(move || {
            let mut query = [0; 1024];
            loop {
                let (length, from) = socket.recv_from(&mut query).unwrap();
                if length == 0 {
                    return;
                }
                socket.send_to(&response(&query[..length], &known.lock().unwrap()), from).unwrap();
            }
        });
        Self { port, addresses, thread: Some(thread) }
    }

    fn set(&self, name: &str, address: Ipv4Addr) {
        self.addresses.lock().unwrap().insert(name.to_owned(), address);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _ends_the_thread = socket.send_to(&[], ("127.0.0.1", self.port));
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

/// The response to a query of one question (RFC 1035).
fn response(query: &[u8], addresses: &BTreeMap<String, Ipv4Addr>) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] > 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let known = addresses.get(&labels.join("."));
    let is_for_ipv4 = query[at + 1..at + 3] == [0, 1];
    let found = known.filter(|_| is_for_ipv4);
    let code = if known.is_some() { 0 } else { 3 };
    let mut response = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1];
    response.extend([0, u8::from(found.is_some()), 0, 0, 0, 0]);
    response.extend(&query[12..at + 5]);
    if let Some(address) = found {
        // The name of the question, type A, class IN, one second, four bytes.
        response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        response.extend(address.octets());
    }
    response
}

/// The ports that every node has, each on an address of its own.
struct Ports {
    checks: u16,
    admin: u16,
}

/// Starts a node with the environment that docker-compose.yml gives it.
fn start_node(address: Ipv4Addr, ports: &Ports, redis: &RedisServer) -> Process {
    let compose = fs::read_to_string(repository("docker-compose.yml")).unwrap();
    let compose: Value = serde_saphyr::from_str(&compose).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    for (name, value) in compose["x-node"]["environment"].as_object().unwrap() {
        let value = value.as_str().unwrap();
        let value = value.replace("redis://redis:6379/0", &redis.url());
        let value = value.replace("/etc/tollgate", repository("deploy").to_str().unwrap());
        let value = value.replace("${TOLLGATE_ADMIN_TOKEN:-}", TOKEN);
        command.env(name, value.replace("0.0.0.0:8082", &format!("{address}:{}", ports.admin)));
    }
    command.args(["serve", "--check-deadline", "5s", "--listen"]);
    command.arg(format!("{address}:{}", ports.checks));
    Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

/// Starts HAProxy with the shipped configuration, but for addresses. Returns those of its own.
fn start_balancer(
    folder: &std::path::Path,
    names: &NameServer,
    nodes: &Ports,
) -> (Process, [String; 2]) {
    let own = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let shipped = fs::read_to_string(repository("deploy/balancer.cfg")).unwrap();
    let here = shipped
        .replace("parse-resolv-conf", &format!("nameserver here 127.0.0.1:{}", names.port))
        .replace("bind :8080", &format!("bind {}", own[0]))
        .replace("bind :8082", &format!("bind {}", own[1]))
        .replace("port 8080", &format!("port {}", nodes.checks))
        .replace(":8080", &format!(":{}", nodes.checks))
        .replace(":8082", &format!(":{}", nodes.admin));
    fs::write(folder.join("haproxy.cfg"), here).unwrap();
    let mut haproxy = Command::new("haproxy");
    haproxy.env("PATH", "/usr/sbin:/usr/bin:/bin").args(["-db", "-f", "haproxy.cfg"]);
    haproxy.current_dir(folder).stdout(Stdio::null());
    (Process::spawn(&mut haproxy), own)
}

fn checks_answered(address: Ipv4Addr, ports: &Ports) -> f64 {
    let node = format!("{address}:{}", ports.checks);
    let metrics = http::try_send(&node, "GET", "/metrics", &[], "");
    let metrics = metrics.map_or_else(String::new, |response| response.body);
    let mut lines = metrics.lines().filter(|line| line.contains(r#"endpoint="check""#));
    let count = lines.find_map(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or_default()
}

#[test]
fn three_nodes_behind_the_shipped_balancer_share_one_budget_and_one_may_move() {
    let redis = RedisServer::start();
    let names = NameServer::start();
    let ports = Ports { checks: free_port(), admin: free_port() };
    let folder = tempfile::tempdir().unwrap();
    let address = |number: u8| Ipv4Addr::new(127, 0, 0, 10 + number);
    let mut nodes: Vec<_> = (1..4).map(|it| start_node(address(it), &ports, &redis)).collect();
    for number in 1..4 {
        names.set(&format!("tollgate-{number}"), address(number));
    }
    let (_balancer, [checks, admin]) = start_balancer(folder.path(), &names, &ports);
    let check = |body| http::try_send(&checks, "POST", "/check", &[], body);
    let peek = r#"{"policy":"login","key":"203.0.113.8","cost":0}"#;
    eventually("all nodes answer through the balancer", || {
        check(peek);
        (1..4).all(|number| checks_answered(address(number), &ports) > 0.0)
    });
    let body = r#"{"policy":"login","key":"203.0.113.7"}"#;
    let statuses: Vec<u16> = (0..8).map(|_| check(body).unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5, "{statuses:?}");

    let token = format!("Bearer {TOKEN}");
    let keys = |headers: &[_]| http::try_send(&admin, "GET", "/apikeys", headers, "");
    eventually("the admin API answers through the balancer", || {
        keys(&[("authorization", &token)]).is_some_and(|response| response.status == 200)
    });
    assert_eq!(keys(&[]).unwrap().status, 403);

    // A container that is replaced has the old name and another address.
    nodes[1] = start_node(address(4), &ports, &redis);
    names.set("tollgate-2", address(4));
    eventually("the balancer finds the node at its new address", || {
        check(peek);
        checks_answered(address(4), &ports) > 0.0
    });
}
