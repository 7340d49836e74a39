//! A TCP proxy in front of Redis that can delay requests and drop responses.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Forwards connections to a port, with a delay that can be changed.
pub struct Proxy {
    port: u16,
    delay_ms: Arc<AtomicU64>,
    cuts: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
}

impl Proxy {
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let delay_ms = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&delay_ms);
        let cuts = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&cuts);
        let writes = Arc::<AtomicU64>::default();
        let written = Arc::clone(&writes);
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                pass(from, to, Arc::clone(&delay), Arc::default(), Arc::clone(&written));
                pass(server, client, Arc::default(), Arc::clone(&cut), Arc::default());
            }
        });
        Self { port, delay_ms, cuts, writes }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets whether the proxy closes the connection instead of forwarding a response.
    pub fn cut_responses(&self, cuts: bool) {
        self.cuts.store(cuts, Ordering::SeqCst);
    }

    /// The number of writes to the target, if each one waits for the response to the one before.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sets the delay of everything that is sent to the target.
    pub fn delay(&self, by: Duration) {
        self.delay_ms.store(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// Forwards in one direction. The delay is that of a long line: it holds back each byte for the same
/// time, and what follows does not wait for what is under way.
fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    delay_ms: Arc<AtomicU64>,
    cuts: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
) {
    let (sender, under_way) = mpsc::channel::<(Instant, Vec<u8>)>();
    let mut source = from.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(count @ 1..) = source.read(&mut buffer) {
            reads.fetch_add(1, Ordering::SeqCst);
            let due = Instant::now() + Duration::from_millis(delay_ms.load(Ordering::SeqCst));
            if sender.send((due, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in under_way {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if cuts.load(Ordering::SeqCst) || to.write_all(&bytes).is_err() {
                break;
            }
        }
        for end in [&mut to, &mut from] {
            let _closed = end.shutdown(std::net::Shutdown::Both);
        }
    });
}
