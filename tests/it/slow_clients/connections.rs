//! Connections: silent, half begun, never read, and more than the limit.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{TOKEN, begin, node, serves_new_clients};
use crate::support::http::{self, KeepAlive};
use crate::support::{TEST_TIMEOUT, eventually};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The time until the server closes a connection on which it receives these bytes and no more.
fn time_until_closed(address: &str, bytes: &[u8]) -> Duration {
    let begun = Instant::now();
    assert!(http::is_cut_off_within(address, bytes, TEST_TIMEOUT), "still open: {bytes:?}");
    begun.elapsed()
}

#[test]
fn a_connection_to_any_listener_ends_without_a_preface_or_without_progress() {
    let node = node(&[]);
    let [http, grpc, ops] = [node.address(), node.grpc(), node.ops()];
    let first_frame = [PREFACE, b"\0\x40\0\x04\0\0\0\0\0"].concat();
    #[rustfmt::skip]
    let cases: [(&str, &[u8], u64, &str); 7] = [
        (grpc,         b"",              10, "a silent client of gRPC"),
        (grpc,         &PREFACE[..12],   10, "half a preface"),
        (grpc,         PREFACE,          10, "a preface without a frame"),
        (grpc,         &first_frame,     30, "a frame that never ends"),
        (http,         b"",              30, "a silent client"),
        (ops,          b"GET /healthz",  30, "half a head"),
        (node.admin(), b"GET /apikeys",  30, "half a head for the admin API"),
    ];
    std::thread::scope(|scope| {
        let timed = cases.map(|(address, bytes, seconds, what)| {
            (what, seconds, scope.spawn(move || time_until_closed(address, bytes)))
        });
        for (what, seconds, timed) in timed {
            let took = timed.join().unwrap();
            let (least, most) =
                (Duration::from_secs(seconds - 1), Duration::from_secs(seconds + 8));
            assert!((least..most).contains(&took), "{what}: {took:?}");
        }
    });
    assert_eq!(node.metric("tollgate_connections_closed_total", "handshake"), 3.0);
}

/// Bytes that the kernel keeps to be sent from a port.
fn bytes_in_the_kernel(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_port = |line: &&str| {
        let local = line.split_whitespace().nth(1).unwrap_or_default();
        local.ends_with(&format!(":{port:04X}"))
    };
    let sent = |line: &str| {
        let queues = line.split_whitespace().nth(4).unwrap();
        usize::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap()
    };
    table.lines().filter(of_port).map(sent).sum()
}

#[test]
fn clients_that_never_read_their_responses_are_closed_after_30_s() {
    let node = node(&[]);
    let address: SocketAddr = node.address().parse().unwrap();
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    let unread: Vec<TcpStream> = (0..4)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(2304).unwrap();
            socket.connect(&address.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            while stream.write_all(requests.as_bytes()).is_ok() {}
            stream
        })
        .collect();
    let waiting = bytes_in_the_kernel(address.port());
    assert!((1..4 * (512 << 10)).contains(&waiting), "{waiting} bytes of four connections");
    eventually("they are closed", || {
        node.metric("tollgate_connections_closed_total", "unread") == 4.0
    });
    assert_eq!(node.metric("tollgate_connections", ""), 1.0, "and none of them is left");
    drop(unread);
}

#[test]
fn at_the_connection_limit_the_idlest_goes_and_new_clients_and_probes_are_served() {
    let node = node(&["--max-connections", "8"]);
    let mut busy = KeepAlive::open(node.address()).unwrap();
    let mut is_served = || busy.post("/check", r#"{"api_key":"demo-key","cost":0}"#).is_some();
    let half_a_head: &[u8] = b"POST /check HTTP/1.1\r\n";
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(begin(node.address(), b""));
        held.push(begin(node.address(), half_a_head));
        held.push(begin(node.grpc(), PREFACE));
        for _ in 0..3 {
            held.push(begin(node.admin(), b""));
        }
        held.push(begin(node.ops(), b""));
        assert!(is_served(), "a client with requests keeps its connection");
    }
    assert!(serves_new_clients(&node));
    for path in ["/healthz", "/readyz", "/metrics"] {
        for address in [node.address(), node.ops()] {
            assert_eq!(http::send(address, "GET", path, &[], "").status, 200, "{address}{path}");
        }
    }
    let bearer = format!("Bearer {TOKEN}");
    let admin = http::send(node.admin(), "GET", "/apikeys", &[("authorization", &bearer)], "");
    assert_eq!(admin.status, 200);
    assert!(is_served());
    assert!(node.metric("tollgate_connections_closed_total", "limit") > 300.0);
    assert!(node.metric("tollgate_connections", "") <= 8.0 + 8.0 + 64.0 + 256.0);
    let log = node.log();
    let warnings: Vec<&str> =
        log.lines().filter(|line| line.contains("connection limit is reached")).collect();
    for listener in ["--listen\"", "--listen-grpc\"", "--listen-ops\"", "--listen-admin\""] {
        let count = warnings.iter().filter(|line| line.contains(listener)).count();
        // One in ten seconds, however long this takes.
        assert!((1..=6).contains(&count), "{listener}: {log}");
    }
}

#[test]
fn the_listener_for_operation_has_health_and_metrics_and_nothing_else() {
    let node = node(&[]);
    let get = |path| http::send(node.ops(), "GET", path, &[], "");
    assert_eq!(get("/healthz").body, r#"{"status":"ok"}"#);
    assert_eq!(get("/readyz").body, r#"{"status":"ok"}"#);
    assert!(get("/metrics").body.contains("tollgate_build_info"));
    for path in ["/", "/check", "/authz", "/openapi.json", "/apikeys"] {
        assert_eq!(get(path).status, 404, "{path}");
    }
}
