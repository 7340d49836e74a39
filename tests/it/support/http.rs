//! An HTTP client: whole requests, or raw bytes that are not valid HTTP.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::TEST_TIMEOUT;

/// A response: status, headers with names in lower case, body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends one request on a connection of its own.
pub fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    try_send(address, method, path, headers, body)
        .unwrap_or_else(|| panic!("no response from {address}"))
}

/// Sends one request on a connection of its own; `None` if there is no response.
pub fn try_send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<Response> {
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        request += &format!("content-length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body;
    send_raw(address, request.as_bytes())
}

/// Sends `bytes`, and reads the response until the server closes the connection.
pub fn send_raw(address: &str, bytes: &[u8]) -> Option<Response> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    // A server that refuses early may close before it has read everything, after its response.
    let _closed_early = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _reset_after_answer = stream.read_to_end(&mut answer);
    parse(&answer)
}

/// A keep-alive connection.
pub struct KeepAlive {
    stream: TcpStream,
    address: String,
}

impl KeepAlive {
    pub fn open(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TEST_TIMEOUT))?;
        Ok(Self { stream, address: address.to_owned() })
    }

    /// Sends a POST request; `None` if the connection fails.
    pub fn post(&mut self, path: &str, body: &str) -> Option<Response> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.write_all(head.as_bytes()).ok()?;
        let mut answer = Vec::new();
        let mut buffer = [0; 16384];
        loop {
            let count = self.stream.read(&mut buffer).ok()?;
            if count == 0 {
                return None;
            }
            answer.extend_from_slice(&buffer[..count]);
            if let Some(parsed) = parse_complete(&answer) {
                return Some(parsed);
            }
        }
    }
}

/// A response of server-sent events, which is read while it arrives.
pub struct EventStream {
    lines: std::io::Lines<std::io::BufReader<TcpStream>>,
    pub status: u16,
}

impl EventStream {
    pub fn open(address: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let headers: String = headers.collect();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n").unwrap();
        let mut lines = std::io::BufReader::new(stream).lines();
        let status = lines.next().unwrap().unwrap();
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        Self { lines, status }
    }

    /// The next event and its data; `None` at the end. The server sends each line in one piece, so
    /// what lies between them, such as the lengths of chunks, is passed over.
    pub fn next_event(&mut self) -> Option<(String, Value)> {
        let mut name = String::new();
        loop {
            let line = self.lines.next()?.ok()?;
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// The next decision; what was missed is passed over.
    pub fn next_decision(&mut self) -> Value {
        loop {
            let (name, data) = self.next_event().expect("the stream goes on");
            if name == "decision" {
                return data;
            }
        }
    }
}

/// Parses a response; `None` until its whole body has arrived.
pub fn parse_complete(answer: &[u8]) -> Option<Response> {
    parse(answer).filter(|parsed| {
        let length = parsed.header("content-length");
        length.is_some_and(|length| length.parse() == Ok(parsed.body.len()))
    })
}

fn parse(answer: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Some(Response { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
}

/// Sends `first` and then nothing. Returns true if the server closes the connection in time.
pub fn is_cut_off_within(address: &str, first: &[u8], at_most: Duration) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(at_most)).unwrap();
    stream.write_all(first).unwrap();
    let mut buffer = Vec::new();
    stream.read_to_end(&mut buffer).is_ok()
}
