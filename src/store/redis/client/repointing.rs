//! Repointing: a failover gives a connection's task another server, and its queue stays the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use smallvec::smallvec;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::connection_task::ConnectionTask;
use super::job::{CheckResult, QueuedCheck, Work};
use super::queue::Queue;
use crate::limit::Charges;
use crate::store::CheckContext;
use crate::store::redis::instance::RedisInstance;
use crate::store::redis::{Redis, RedisOptions, RedisUrl};
use crate::telemetry::Metrics;

/// A server without the module that answers every script call with an allowed check without
/// charges.
#[derive(Default)]
struct FakeServer {
    port: u16,
    is_down: AtomicBool,
    script_calls: AtomicUsize,
    connections: Mutex<Vec<TcpStream>>,
}

impl FakeServer {
    fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::new(Self { port, ..Self::default() });
        let accepting = Arc::clone(&server);
        thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                if !accepting.is_down.load(Ordering::SeqCst) {
                    accepting.connections.lock().unwrap().push(stream.try_clone().unwrap());
                    let serving = Arc::clone(&accepting);
                    thread::spawn(move || serving.serve(stream));
                }
            }
        });
        server
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut requests = BufReader::new(stream.try_clone().unwrap());
        while let Some(command) = read_command(&mut requests) {
            let reply = match command.as_str() {
                "HELLO" => "%1\r\n+server\r\n+redis\r\n",
                "EVALSHA" => {
                    self.script_calls.fetch_add(1, Ordering::SeqCst);
                    "*2\r\n:1700000000000000\r\n:1\r\n"
                }
                "TG.JUDGE" => "-ERR unknown command 'TG.JUDGE'\r\n",
                _ => "+OK\r\n",
            };
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }

    /// Ends all connections and refuses new ones.
    fn stop(&self) {
        self.is_down.store(true, Ordering::SeqCst);
        for stream in self.connections.lock().unwrap().drain(..) {
            let _already_closed = stream.shutdown(Shutdown::Both);
        }
    }

    fn url(&self) -> RedisUrl {
        format!("redis://127.0.0.1:{}", self.port).parse().unwrap()
    }

    fn instance(&self) -> Arc<RedisInstance> {
        RedisInstance::new(
            &self.url().connector(None, tokio::runtime::Handle::current()).unwrap(),
            "127.0.0.1",
            self.port,
        )
        .unwrap()
    }

    fn script_calls(&self) -> usize {
        self.script_calls.load(Ordering::SeqCst)
    }
}

/// The name of the next command; `None` at the connection's end.
fn read_command(requests: &mut BufReader<TcpStream>) -> Option<String> {
    let count = read_length(requests, '*')?;
    let mut name = None;
    for _ in 0..count {
        let mut bytes = vec![0; read_length(requests, '$')? + 2];
        requests.read_exact(&mut bytes).ok()?;
        name = name.or_else(|| Some(String::from_utf8_lossy(&bytes).trim_end().to_owned()));
    }
    name
}

fn read_length(requests: &mut BufReader<TcpStream>, prefix: char) -> Option<usize> {
    let mut line = String::new();
    requests.read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(prefix)?.parse().ok()
}

fn start_task(server: &FakeServer) -> (Queue, ConnectionTask, watch::Sender<Arc<RedisInstance>>) {
    let options = RedisOptions {
        url: server.url(),
        ca_file: None,
        deadline: Duration::from_millis(500),
        min_nodes: 1,
        leases: false,
        repeats_refusals: false,
        start_without_store: false,
        runtime: tokio::runtime::Handle::current(),
    };
    let redis = Redis::new(&options, Arc::new(Metrics::new()), None).unwrap();
    let (primary, receiver) = watch::channel(server.instance());
    let (queue, task) = ConnectionTask::with_queue(&redis, receiver.into());
    (queue, task, primary)
}

/// True if a check without charges is allowed.
async fn is_served(queue: &Queue) -> bool {
    let check = QueuedCheck::new(&Charges::new(), &CheckContext::NONE);
    let work = Work { checks: smallvec![check], ..Work::default() };
    match queue.send(work, Instant::now() + Duration::from_secs(2)) {
        Ok(results) => {
            matches!(&results.await.unwrap()[..], [Ok(CheckResult::Verdict(result))] if result.verdict.allowed)
        }
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_failover_repoints_the_task_and_keeps_its_queue() {
    let (before, after) = (FakeServer::start(), FakeServer::start());
    let (queue, task, primary) = start_task(&before);
    tokio::spawn(task.run());
    assert!(is_served(&queue).await);
    let calls_before = before.script_calls();
    primary.send_replace(after.instance());
    assert!(is_served(&queue).await);
    assert_eq!(before.script_calls(), calls_before, "the old primary gets no more calls");
    assert_eq!(after.script_calls(), 2, "the new primary is probed once and judges the check");
    before.stop();
    assert!(is_served(&queue).await, "the old primary is of no concern any more");
}

#[tokio::test]
async fn a_task_whose_primary_is_lost_connects_to_the_one_that_replaces_it() {
    let (before, after) = (FakeServer::start(), FakeServer::start());
    let (queue, mut task, primary) = start_task(&before);
    task.connect_once().await;
    tokio::spawn(task.run());
    before.stop();
    let lost = async {
        while is_served(&queue).await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), lost).await.unwrap();
    primary.send_replace(after.instance());
    let recovered = async {
        while !is_served(&queue).await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), recovered).await.unwrap();
}
