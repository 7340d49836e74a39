//! A receiver of webhooks: an HTTP server that notes what it is sent and answers as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A POST as it came.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Delivery {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// What the event tells.
    pub fn data(&self) -> Value {
        serde_json::from_str::<Value>(&self.body).unwrap()["data"].clone()
    }
}

/// A server that goes on for as long as the tests run.
pub struct WebhookReceiver {
    port: u16,
    status: Arc<AtomicU16>,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl WebhookReceiver {
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// On a port that nobody listens on yet.
    pub fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            status: Arc::new(AtomicU16::new(204)),
            deliveries: Arc::default(),
        };
        let (status, deliveries) = (Arc::clone(&receiver.status), Arc::clone(&receiver.deliveries));
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let (status, deliveries) = (Arc::clone(&status), Arc::clone(&deliveries));
                std::thread::spawn(move || serve(&stream, &status, &deliveries));
            }
        });
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks?of=tollgate", self.port)
    }

    /// How it answers from now on.
    pub fn respond_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// All that came, also what was not taken.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap().clone()
    }

    /// The thresholds that were told of a key, in order.
    pub fn thresholds_of(&self, key: &str) -> Vec<u64> {
        let of_key = |delivery: &Delivery| {
            let data = delivery.data();
            (data["key"] == key).then(|| data["threshold"].as_u64().unwrap())
        };
        let mut thresholds: Vec<u64> = self.deliveries().iter().filter_map(of_key).collect();
        thresholds.sort_unstable();
        thresholds
    }
}

fn serve(mut stream: &TcpStream, status: &AtomicU16, deliveries: &Mutex<Vec<Delivery>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    deliveries.lock().unwrap().push(Delivery { path, headers, body });
    let status = status.load(Ordering::SeqCst);
    // Where it leads to nobody has to know: redirects are not followed.
    let answer =
        format!("HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
    let _gone = stream.write_all(answer.as_bytes());
}
