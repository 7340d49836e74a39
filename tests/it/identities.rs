//! Requests that would evade their limit, or be somebody else's, where they are written otherwise.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::support::node::Node;

const CATALOG: &str = r#"
version: 1
apis: [ { id: a, stages: [ { name: s } ] } ]
plans:
  - id: p
    api_stages:
      - api: a
        stage: s
        methods:
          "GET /secret": { throttle: { rate: 1/d, burst: 100 } }
          "GET /files/*": { throttle: { rate: 1/d, burst: 100 } }
          "HEAD /files/*": { throttle: { rate: 1/d, burst: 100 } }
          "*": { throttle: { rate: 1/d, burst: 100 } }
  - { id: q, throttle: { rate: 1/d, burst: 100 } }
keys:
  - { id: alice, value: alice-key, plans: [p] }
  - { id: bob, value: bob-key, plans: [q] }
"#;

#[test]
fn head_counts_as_get_unless_it_is_named() {
    let node = Node::with_catalog(CATALOG, &[]);
    for (method, path, limit, left) in [
        ("HEAD", "/secret", "GET /secret", 99),
        ("head", "/secret", "GET /secret", 98),
        ("GET", "/secret", "GET /secret", 97),
        ("HEAD", "/files/1", "HEAD /files/*", 99),
        ("GET", "/files/1", "GET /files/*", 99),
        ("GET", "/other", "GET /other", 99),
        ("HEAD", "/other", "GET /other", 98),
        ("POST", "/other", "POST /other", 99),
    ] {
        let body = json!({"api_key": "alice-key", "api": "a", "stage": "s", "method": method, "path": path});
        let answer = node.check(body).json();
        let row = &answer["limits"][0];
        assert_eq!(row["name"], format!("p/a/s/{limit}/throttle"), "{method} {path}");
        assert_eq!(row["remaining"], left, "{method} {path}");
    }
}

#[test]
fn parameters_of_a_paths_segments_are_no_part_of_it() {
    let node = Node::with_catalog(CATALOG, &[]);
    let spellings =
        ["/secret;a=b", "/secret;", "/;a/secret", "/..;/secret", "/x/..;a/secret", "/%73ecret;%2e"];
    for (left, path) in (0..100).rev().zip(spellings) {
        let headers =
            [("x-api-key", "alice-key"), ("x-forwarded-method", "GET"), ("x-forwarded-uri", path)];
        let answer = node.send("GET", "/authz?api=a&stage=s", &headers, "").json();
        let row = &answer["limits"][0];
        assert_eq!(row["name"], "p/a/s/GET /secret/throttle", "{path}");
        assert_eq!(row["remaining"], left, "{path}");
    }
}

#[test]
fn two_api_keys_in_two_headers_are_400_and_a_token_beside_a_key_is_usual() {
    let node = Node::with_catalog(CATALOG, &[]);
    let ask = |key: &str, bearer: &str| {
        let authorization = format!("Bearer {bearer}");
        let headers = [("x-api-key", key), ("authorization", authorization.as_str())];
        node.send("GET", "/authz", &headers, "")
    };
    let both = ask("bob-key", "alice-key");
    assert_eq!((both.status, &both.json()["field"]), (400, &json!("authorization")));
    for (key, bearer) in [
        ("bob-key", "bob-key"),
        ("bob-key", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"),
        ("", "bob-key"),
    ] {
        let answer = ask(key, bearer);
        assert_eq!((answer.status, answer.header("x-tollgate-key-id")), (200, Some("bob")));
    }
    assert_eq!(ask("nobody", "alice-key").status, 403, "the key header is the one that counts");
}

#[test]
fn a_request_with_two_hosts_or_none_is_refused() {
    let node = Node::with_catalog(CATALOG, &[]);
    let ask = |head: &str| {
        let mut stream = TcpStream::connect(node.address()).unwrap();
        stream.write_all(format!("GET {head}connection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for (head, status, field) in [
        ("/healthz HTTP/1.1\r\nhost: a\r\n", "200", ""),
        ("/healthz HTTP/1.0\r\n", "200", ""),
        ("/healthz HTTP/1.1\r\n", "400", r#""field":"host""#),
        ("/healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n", "400", r#""field":"host""#),
        ("/healthz HTTP/1.1\r\nhost: a\r\nhost: a\r\n", "400", r#""field":"host""#),
        ("/healthz HTTP/1.0\r\nhost: a\r\nhost: a\r\n", "400", r#""field":"host""#),
    ] {
        let answer = ask(head);
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head}: {answer}");
        assert!(answer.contains(field), "{head}: {answer}");
    }
}

#[test]
fn after_a_request_whose_end_is_ambiguous_the_connection_has_no_further_request() {
    let node = Node::with_catalog(CATALOG, &[]);
    let next = "GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let doubled = format!("host: a\r\n{chunked}{chunked}");
    let list = "host: a\r\ntransfer-encoding: identity, chunked\r\n".to_owned();
    for (what, head, body, responses) in [
        ("one coding", format!("host: a\r\n{chunked}"), "0\r\n\r\n", 2),
        ("two codings", doubled, "0\r\n\r\n", 1),
        ("a list of codings", list, "0\r\n\r\n", 1),
        ("two hosts", "host: a\r\nhost: b\r\n".to_owned(), "", 1),
        ("no host", String::new(), "", 1),
    ] {
        let mut stream = TcpStream::connect(node.address()).unwrap();
        let request = format!("POST /check HTTP/1.1\r\n{head}\r\n{body}{next}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset may follow the response, since not all was read.
        let _reset = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.matches("\r\ndate: ").count(), responses, "{what}: {answer}");
    }
}
