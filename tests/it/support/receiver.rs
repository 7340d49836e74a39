//! A receiver of webhooks, or of traces: an HTTP server that records requests and responds with a
//! given status.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A POST request as received.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Delivery {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// The `data` of the event.
    pub fn data(&self) -> Value {
        serde_json::from_slice::<Value>(&self.body).unwrap()["data"].clone()
    }
}

/// A receiver that runs until the tests end.
pub struct WebhookReceiver {
    port: u16,
    status: Arc<AtomicU16>,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl WebhookReceiver {
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Starts on a given port, which must be free.
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

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sets the status of the following responses.
    pub fn respond_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// All requests, also those that got an error status.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap().clone()
    }

    /// The thresholds in the events of a key, in rising order.
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
    deliveries.lock().unwrap().push(Delivery { path, headers, body });
    let status = status.load(Ordering::SeqCst);
    // A redirect's target does not exist: redirects are not followed.
    let answer =
        format!("HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
    let _gone = stream.write_all(answer.as_bytes());
}
