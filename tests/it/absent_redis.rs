//! R10: a node whose Redis was never there, or is another server.

use std::io::Write as _;
use std::net::TcpListener;

use crate::outage::{assert_decided_without_redis, node};
use crate::startup::refuses_to_start;
use crate::support::free_port;

#[test]
fn a_redis_that_is_not_there_at_the_start() {
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}");
    let node = node(&url, &["--start-without-store", "true"]);
    assert_decided_without_redis(&node);
}

#[test]
fn a_server_that_is_no_redis_ends_the_start() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let _gone = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    refuses_to_start(&format!("redis://{address}"), "check the host and the port");
}
