//! A TCP proxy in front of Redis that can delay requests and drop responses.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Forwards connections to a port, with a delay that can be changed.
pub struct Proxy {
    port: u16,
    delay_ms: Arc<AtomicU64>,
    cuts: Arc<AtomicBool>,
}

impl Proxy {
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let delay_ms = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&delay_ms);
        let cuts = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&cuts);
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                pass(from, to, Arc::clone(&delay), Arc::default());
                pass(server, client, Arc::default(), Arc::clone(&cut));
            }
        });
        Self { port, delay_ms, cuts }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets whether the proxy closes the connection instead of forwarding a response.
    pub fn cut_responses(&self, cuts: bool) {
        self.cuts.store(cuts, Ordering::SeqCst);
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sets the delay of everything that is sent to the target.
    pub fn delay(&self, by: Duration) {
        self.delay_ms.store(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay_ms: Arc<AtomicU64>, cuts: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            std::thread::sleep(Duration::from_millis(delay_ms.load(Ordering::SeqCst)));
            if cuts.load(Ordering::SeqCst) {
                break;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        for end in [to, from] {
            let _closed = end.shutdown(std::net::Shutdown::Both);
        }
    });
}
