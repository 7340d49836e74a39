//! Bodies: begun and never ended, on every listener.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::http::Request;
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{TOKEN, begin, node, serves_new_clients};
use crate::support::http;
use crate::support::{TEST_TIMEOUT, eventually};

const METHODS: [&str; 3] = [
    "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// A connection of HTTP/2 that keeps flow control and answers pings.
async fn connect(address: &str) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Sends a message but for its last byte. Returns the status of gRPC in the response.
async fn send_unfinished(
    sender: SendRequest<Bytes>,
    method: &'static str,
    token: &str,
    message: Bytes,
) -> String {
    let request = Request::post(format!("http://x{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", token);
    let mut sender = match sender.ready().await {
        Ok(sender) => sender,
        Err(closed) => return closed.to_string(),
    };
    let (response, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(message, false).unwrap();
    let answer = async {
        let (head, mut body) = response.await?.into_parts();
        while let Some(data) = body.data().await {
            data?;
        }
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        Ok::<_, h2::Error>(trailers["grpc-status"].to_str().unwrap().to_owned())
    };
    let answer = tokio::time::timeout(TEST_TIMEOUT, answer).await.expect("an answer");
    answer.unwrap_or_else(|error| error.to_string())
}

/// A message of one MiB but for its last byte.
fn unfinished_message() -> Bytes {
    let mut message = vec![0; 5 + (1 << 20) - 1];
    message[1..5].copy_from_slice(&(1_u32 << 20).to_be_bytes());
    message.into()
}

#[test]
fn a_connection_with_1000_unfinished_messages_holds_little_memory_and_for_5_s() {
    let node = node(&[]);
    let before = node.peak_memory_mib();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for method in METHODS {
        let begun = Instant::now();
        let statuses = runtime.block_on(async {
            let sender = connect(node.grpc()).await;
            let message = unfinished_message();
            let mut requests = JoinSet::new();
            for _ in 0..1_000 {
                let message = message.clone();
                requests.spawn(send_unfinished(sender.clone(), method, "", message));
            }
            let mut statuses = BTreeMap::<String, usize>::new();
            while let Some(status) = requests.join_next().await {
                *statuses.entry(status.unwrap()).or_default() += 1;
            }
            statuses
        });
        // RESOURCE_EXHAUSTED, and DEADLINE_EXCEEDED for those that fit. The reflection service ends
        // its stream without an error, and h2 the connection of a client that sends on.
        let refused = statuses.get("8").copied().unwrap_or_default();
        assert!(refused > 100 || method != METHODS[0], "{statuses:?}");
        assert!(!statuses.contains_key("0") || method == METHODS[2], "{statuses:?}");
        assert!(begun.elapsed().as_secs() < 30, "{method}: {:?}", begun.elapsed());
        assert!(serves_new_clients(&node));
        let more = node.peak_memory_mib() - before;
        assert!(more <= 64, "{method}: {more} MiB");
    }
}

#[test]
fn responses_that_a_client_of_http_2_takes_nothing_of_are_held_for_30_s() {
    let node = node(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let held = runtime.block_on(async {
        let stream = TcpStream::connect(node.grpc()).await.unwrap();
        let mut client = h2::client::Builder::new();
        let client = client.initial_window_size(0).handshake::<_, Bytes>(stream);
        let (mut sender, connection) = client.await.unwrap();
        // It goes on to answer pings.
        let closed = tokio::spawn(connection);
        let begun = Instant::now();
        let mut responses = Vec::new();
        for _ in 0..20 {
            sender = sender.ready().await.unwrap();
            let request = Request::post(format!("http://x{}", METHODS[1]))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("authorization", format!("Bearer {TOKEN}"));
            let (response, mut body) =
                sender.send_request(request.body(()).unwrap(), false).unwrap();
            body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
            responses.push(response.await.unwrap());
        }
        let _reason =
            tokio::time::timeout(TEST_TIMEOUT, closed).await.expect("a closed connection");
        begun.elapsed()
    });
    assert!((29..48).contains(&held.as_secs()), "{held:?}");
    assert_eq!(node.metric("tollgate_connections_closed_total", "unread"), 1.0);
}

#[test]
fn a_message_of_a_caller_without_the_token_is_not_read() {
    let node = node(&["--check-token", "s3cret"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = runtime.block_on(async {
        let sender = connect(node.grpc()).await;
        send_unfinished(sender, METHODS[0], "Bearer wrong", unfinished_message()).await
    });
    assert_eq!(status, "16");
    assert_eq!(node.metric("tollgate_responses_total", r#"endpoint="grpc",status="16""#), 1.0);
}

/// The head of a request and all of its body but the last byte, of `size` bytes.
fn unfinished_request(method_and_path: &str, header: &str, size: usize) -> Vec<u8> {
    let head =
        format!("{method_and_path} HTTP/1.1\r\nhost: x\r\n{header}content-length: {size}\r\n\r\n");
    [head.into_bytes(), vec![b' '; size - 1]].concat()
}

#[test]
fn unfinished_bodies_of_many_connections_hold_little_memory_and_other_clients_are_served() {
    let node = node(&[]);
    let batch = unfinished_request("POST /check/batch", "", 1 << 20);
    let held: Vec<_> = (0..100).map(|_| begin(node.address(), &batch)).collect();
    eventually("most of them are refused", || {
        node.metric("tollgate_responses_total", r#"endpoint="batch",status="503""#) > 60.0
    });
    assert!(serves_new_clients(&node));
    eventually("the others have 5 s", || {
        node.metric("tollgate_responses_total", r#"endpoint="batch""#) == 100.0
    });
    drop(held);
    let peak = node.peak_memory_mib();
    assert!(peak <= 96, "{peak} MiB");
}

#[test]
fn the_admin_api_reads_no_body_of_a_client_that_its_head_shows_to_be_a_stranger() {
    let node = node(&[]);
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let (old, day) = ("20200101T000000Z", &now[..8]);
    let signed = |key: &str, day: &str, date: &str, headers: &str| {
        format!(
            "authorization: AWS4-HMAC-SHA256 Credential={key}/{day}/r/apigateway/aws4_request, SignedHeaders={headers}, Signature=x\r\nx-amz-date: {date}\r\n"
        )
    };
    let all = "host;x-amz-date";
    let heads = [
        ("no credential", String::new()),
        ("a wrong token", "authorization: Bearer wrong\r\n".to_owned()),
        ("another scheme", "authorization: Basic YTpi\r\n".to_owned()),
        (
            "a signature that is not whole",
            "authorization: AWS4-HMAC-SHA256 Credential=nobody\r\n".to_owned(),
        ),
        ("an unknown access key", signed("AKIAOTHER", day, &now, all)),
        ("another service", signed("AKIATEST", day, &now, all).replace("/apigateway/", "/s3/")),
        ("an old date", signed("AKIATEST", "20200101", old, all)),
        ("another day than the date's", signed("AKIATEST", "20200101", &now, all)),
        ("the date is not signed", signed("AKIATEST", day, &now, "host")),
    ];
    for (what, head) in &heads {
        let begun =
            unfinished_request("POST /usageplans", &format!("connection: close\r\n{head}"), 50);
        let answer = http::send_raw(node.admin(), &begun).unwrap();
        assert!([401, 403].contains(&answer.status), "{what}: {answer:?}");
    }
    // Only the body can show that this signature is wrong. It is read, within the ceiling.
    let begun =
        unfinished_request("POST /usageplans", &signed("AKIATEST", day, &now, all), 10 << 20);
    let held: Vec<_> = (0..12).map(|_| begin(node.admin(), &begun)).collect();
    eventually("some are refused", || node.log().contains("status=503"));
    drop(held);
    let peak = node.peak_memory_mib();
    assert!(peak <= 256, "{peak} MiB");
}

#[test]
fn a_right_credential_passes_however_often_others_at_its_address_fail() {
    let node = node(&[]);
    let ask = |token: &str| {
        let bearer = format!("Bearer {token}");
        http::send(node.admin(), "GET", "/apikeys", &[("authorization", &bearer)], "").status
    };
    let guesses: Vec<u16> = (0..30).map(|_| ask("a-guess")).collect();
    assert_eq!((guesses[0], guesses[29]), (401, 429), "{guesses:?}");
    for _ in 0..100 {
        assert_eq!(ask(TOKEN), 200);
    }
    assert_eq!(ask("a-guess"), 429);
}
