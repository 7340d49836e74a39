//! Streams of a model's answers through three nodes, of which one is killed again and again, like
//! the clients: what is charged in the end is what was settled, and the estimates of the rest.
//! Needs programs besides Rust, so `make fast` skips it.
//!
//! `STREAMS_SECONDS` sets for how long (4 by default), `STREAMS_SEED` the choices of the clients.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{KeepAlive, Response};
use crate::support::node::Node;
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::support::{eventually, free_port, repository};

const KEYS: usize = 2;
const CLIENTS: usize = 50;
/// The ttl of every reservation and its slot.
const TTL_MS: i64 = 600_000;
/// Charged before: with so much in the bucket no mark limits what goes back, however many are
/// dropped.
const BASE: i64 = 1_000_000;

const CATALOG: &str = r#"
version: 1
models:
  stand-in: { input: 1250000, output: 10000000, max_output: 4096 }
plans:
  - id: pro
    quota: { limit: 1000000000, period: month }
    limits:
      - { name: tpm, unit: total_tokens, throttle: { rate: 1/h, burst: 2400000 } }
      - { name: tpd, unit: total_tokens, quota: { limit: 2000000000, period: month } }
      - { name: spend, unit: cost_microusd, quota: { limit: 4000000000000, period: month } }
      - { name: streams, concurrency: { limit: 400, ttl: 10min } }
keys:
  - { id: k0, value: key-0, plans: [pro] }
  - { id: k1, value: key-1, plans: [pro] }
"#;

/// Random numbers that the seed determines.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Units by limit: requests, tokens, microdollars.
type Spent = [i64; 3];

/// The cost of a number of tokens.
fn spent(input: u64, output: u64) -> Spent {
    let microdollars = (input * 1_250_000 + output * 10_000_000).div_ceil(1_000_000);
    [1, input + output, microdollars].map(|units| i64::try_from(units).unwrap())
}

struct Fleet {
    redis: RedisServer,
    model: String,
    _model: Process,
    nodes: Mutex<Vec<Node>>,
    addresses: RwLock<Vec<String>>,
    /// The units that each key spent.
    totals: Mutex<[Spent; KEYS]>,
    /// Checks whose clients were killed before the answer, by id.
    unanswered: Mutex<BTreeMap<String, (usize, Value, Spent)>>,
    /// Reservations that were never settled.
    abandoned: AtomicU64,
    settled: AtomicU64,
    /// Requests that were sent to a node that was killed.
    repeated: AtomicU64,
}

impl Fleet {
    fn start() -> Self {
        let redis = RedisServer::start_with_clock();
        let model = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("python3");
        let process = command.arg(repository("docs/how-to/model.py")).arg(&model);
        let process = Process::spawn(process);
        eventually("the model listens", || TcpStream::connect(&model).is_ok());
        let nodes: Vec<Node> = (0..3).map(|_| Self::node(&redis)).collect();
        let addresses = nodes.iter().map(|node| node.address().to_owned()).collect();
        Self {
            redis,
            model,
            _model: process,
            nodes: Mutex::new(nodes),
            addresses: RwLock::new(addresses),
            totals: Mutex::default(),
            unanswered: Mutex::default(),
            abandoned: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        }
    }

    fn node(redis: &RedisServer) -> Node {
        Node::with_catalog(CATALOG, &["--store", &redis.url(), "--check-deadline", "10s"])
    }

    /// Kills a node, and starts another in its place. Clients ask the killed one for a while.
    fn replace_a_node(&self, killed: u64) {
        let mut nodes = self.nodes.lock().unwrap();
        drop(nodes.remove(usize::try_from(killed).unwrap()));
        nodes.push(Self::node(&self.redis));
        *self.addresses.write().unwrap() =
            nodes.iter().map(|node| node.address().to_owned()).collect();
    }

    fn any_address(&self, random: &mut Random) -> String {
        let addresses = self.addresses.read().unwrap();
        addresses[usize::try_from(random.below(3)).unwrap()].clone()
    }

    /// Sends a request until a node answers. Returns true if an earlier attempt may have been
    /// served.
    fn post(&self, random: &mut Random, path: &str, body: &Value) -> (Response, bool) {
        let mut is_repeated = false;
        loop {
            let connection = KeepAlive::open(&self.any_address(random));
            let answer = connection.ok().and_then(|mut it| it.post(path, &body.to_string()));
            match answer {
                Some(answer) => return (answer, is_repeated),
                None => self.repeated.fetch_add(1, Ordering::Relaxed),
            };
            is_repeated = true;
            std::thread::yield_now();
        }
    }

    fn spend(&self, key: usize, spent: Spent) {
        let mut totals = self.totals.lock().unwrap();
        for (total, units) in totals[key].iter_mut().zip(spent) {
            *total += units;
        }
    }

    fn abandon(&self, key: usize, spent: Spent) {
        self.spend(key, spent);
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// One request of a client: reserved, streamed and settled, unless something is killed.
    fn stream(&self, id: &str, key: usize, random: &mut Random) {
        let (input, at_most) = (1 + random.below(20), 1 + random.below(60));
        // Some answers go beyond what was reserved.
        let most = if random.once_in(8) { at_most + 20 } else { at_most };
        let output = 1 + random.below(most);
        let check = json!({
            "api_key": format!("key-{key}"), "model": "stand-in",
            "usage": {"input_tokens": input, "output_tokens": at_most},
            "reservation": {"id": id, "ttl_ms": TTL_MS},
        });
        let mut charged = spent(input, at_most);
        if random.once_in(12) {
            self.send_and_die(&check, random);
            self.unanswered.lock().unwrap().insert(id.to_owned(), (key, check, charged));
            return;
        }
        let (answer, _) = self.post(random, "/check", &check);
        assert_eq!(answer.status, 200, "{answer:?}");
        let reserved = &answer.json()["reservation"];
        let of_check = ["requests", "total_tokens", "cost_microusd"];
        let named = of_check.map(|unit| reserved["reserved"][unit].as_i64().unwrap());
        assert_eq!(named, charged, "{answer:?}");
        let handle = reserved["handle"].clone();
        let mut dies_after = random.once_in(8).then(|| random.below(output));
        let mut extends_after = random.once_in(4).then(|| random.below(output));
        let mut words = 0;
        let usage = self.ask_model(input, output, |_| {
            words += 1;
            if extends_after.take_if(|after| *after < words).is_some() {
                let so_far = json!({"prompt_tokens": input, "completion_tokens": words});
                let body = json!({"handle": handle, "usage": so_far, "ttl_ms": TTL_MS});
                let (answer, _) = self.post(random, "/reservations/extend", &body);
                assert_eq!(
                    (answer.status, &answer.json()["stop"]),
                    (200, &json!(false)),
                    "{answer:?}"
                );
                let so_far = spent(input, words);
                charged = std::array::from_fn(|unit| charged[unit].max(so_far[unit]));
            }
            dies_after.take_if(|after| *after < words).is_none()
        });
        let Some(usage) = usage else {
            self.abandon(key, charged);
            return;
        };
        let (path, body, actual) = match random.below(10) {
            0 => ("/reservations/cancel", json!({"handle": handle}), [0; 3]),
            1 => ("/reservations/settle", json!({"handle": handle, "usage": null}), charged),
            _ => {
                let body = json!({"handle": handle, "usage": usage});
                ("/reservations/settle", body, spent(input, output))
            }
        };
        let (answer, is_repeated) = self.post(random, path, &body);
        assert!(answer.status == 200 || answer.status == 404 && is_repeated, "{answer:?}");
        self.settled.fetch_add(1, Ordering::Relaxed);
        self.spend(key, actual);
    }

    /// Sends a check, and is killed before the answer.
    fn send_and_die(&self, check: &Value, random: &mut Random) {
        let Ok(mut stream) = TcpStream::connect(self.any_address(random)) else { return };
        let body = check.to_string();
        let head = "POST /check HTTP/1.1\r\nhost: x\r\ncontent-length:";
        let _node_is_killed = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
    }

    /// Streams an answer, and returns its usage object; `None` if `on_word` ends it.
    fn ask_model(
        &self,
        input: u64,
        output: u64,
        mut on_word: impl FnMut(&Value) -> bool,
    ) -> Option<Value> {
        let prompt = vec!["word"; usize::try_from(input).unwrap()].join(" ");
        let body = json!({
            "model": "stand-in", "stream": true, "words": output, "max_tokens": output,
            "messages": [{"role": "user", "content": prompt}],
        });
        let body = body.to_string();
        let mut stream = TcpStream::connect(&self.model).unwrap();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length:";
        write!(stream, "{head} {}\r\n\r\n{body}", body.len()).unwrap();
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            let Some(event) = line.strip_prefix("data: ") else { continue };
            let event: Value = serde_json::from_str(event).unwrap();
            if event["usage"].is_object() {
                return Some(event["usage"].clone());
            }
            if !on_word(&event) {
                return None;
            }
        }
        panic!("the model has ended without a usage object");
    }

    /// Sends the checks of killed clients again: under the same id they are replayed if they were
    /// charged, and otherwise new, and cancelled.
    fn ask_for_the_unanswered(&self, random: &mut Random) {
        let unanswered = std::mem::take(&mut *self.unanswered.lock().unwrap());
        for (key, check, estimate) in unanswered.into_values() {
            let (answer, _) = self.post(random, "/check", &check);
            let reservation = &answer.json()["reservation"];
            if reservation["replayed"] == true {
                self.abandon(key, estimate);
                continue;
            }
            let body = json!({"handle": reservation["handle"]});
            let (cancelled, _) = self.post(random, "/reservations/cancel", &body);
            assert_eq!(cancelled.status, 200, "{cancelled:?}");
        }
    }

    fn open_reservations(&self) -> u64 {
        let keys: Vec<String> =
            redis::from_redis_value(self.redis.command(&["KEYS", "tg:*:r:*"])).unwrap();
        keys.len() as u64
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn budgets_are_what_was_settled_and_the_estimates_of_the_rest_whoever_is_killed() {
    let (seconds, seed) = (setting("STREAMS_SECONDS", 4), setting("STREAMS_SEED", 18));
    let (fleet, over) = (Fleet::start(), AtomicBool::new(false));
    let mut random = Random(seed);
    for key in 0..KEYS {
        let base =
            json!({"api_key": format!("key-{key}"), "cost": {"requests": 0, "total_tokens": BASE}});
        assert_eq!(fleet.post(&mut random, "/check", &base).0.status, 200);
        fleet.spend(key, [0, BASE, 0]);
    }
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (fleet, over) = (&fleet, &over);
            let mut random = Random(seed ^ ((client as u64 + 1) << 32));
            scope.spawn(move || {
                for turn in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    fleet.stream(&format!("{client}/{turn}"), client % KEYS, &mut random);
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            let enough = fleet.settled.load(Ordering::Relaxed) + 10 + random.below(50);
            eventually("more streams are settled", || {
                fleet.settled.load(Ordering::Relaxed) >= enough
            });
            fleet.replace_a_node(random.below(3));
        }
        over.store(true, Ordering::Relaxed);
    });
    // Whatever was still under way ends with its node.
    (0..3).for_each(|_| fleet.replace_a_node(0));
    fleet.ask_for_the_unanswered(&mut random);
    let totals = *fleet.totals.lock().unwrap();
    let abandoned = fleet.abandoned.load(Ordering::Relaxed);
    let mut slots = 0;
    for (key, [requests, tokens, microdollars]) in totals.into_iter().enumerate() {
        let look = json!({"api_key": format!("key-{key}"), "cost": 0});
        let body = fleet.post(&mut random, "/check", &look).0.json();
        let charged =
            |limit: &Value| limit["limit"].as_i64().unwrap() - limit["remaining"].as_i64().unwrap();
        let mut charged: Vec<i64> =
            body["limits"].as_array().unwrap().iter().map(charged).collect();
        slots += charged.pop().unwrap();
        assert_eq!(
            charged,
            [requests, tokens, tokens, microdollars],
            "key {key}, seed {seed}: {body}"
        );
    }
    let settled = &fleet.settled;
    assert_eq!(fleet.open_reservations(), abandoned, "seed {seed}");
    assert_eq!(slots.cast_unsigned(), abandoned, "slots in use, seed {seed}");
    fleet.redis.shift_clock(TTL_MS * 1_000);
    for key in 0..KEYS {
        let look = json!({"api_key": format!("key-{key}"), "cost": 0});
        let body = fleet.post(&mut random, "/check", &look).0.json();
        assert_eq!(body["limits"][4]["remaining"], 400, "all are free after the last ttl: {body}");
    }
    let repeated = &fleet.repeated;
    eprintln!("{settled:?} settled, {abandoned} abandoned, {repeated:?} requests repeated");
    let settled = settled.load(Ordering::Relaxed);
    assert!(settled > 100 && abandoned > 5, "only {settled} settled and {abandoned} abandoned");
}
