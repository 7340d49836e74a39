//! A simulation of many connections to one Redis: the rules by which calls leave, compared with one
//! call in flight at a time. No check misses its deadline where Redis is far, and a busy Redis
//! nearby takes no longer for a check, also if its many connections have few checks each. A Redis
//! that stalls now and then gets its calls at the same pace.

#![allow(clippy::cast_precision_loss, reason = "means of numbers far below 2^53")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::RoundTrips;
use crate::store::redis::client::MAX_BATCH;
use crate::store::redis::client::calls_in_flight::MAX_LONE_CHARGES;

const DEADLINE: Duration = Duration::from_millis(50);
/// The time that a call takes in Redis: for itself and for each check, and as a whole if it has one
/// check, for which the script has a path of its own.
const CALL_MICROS: u64 = 15;
const CHECK_MICROS: u64 = 4;
const LONE_CALL_MICROS: u64 = 9;
/// The resolution of timers.
const TICK_MICROS: u64 = 1_000;

/// The time for which Redis runs nothing when it stalls, as a machine that is shared does.
const STALL_MICROS: u64 = 4_000;

/// The load on Redis.
#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    checks_per_second: u64,
    network_micros: u64,
    seconds: u64,
    stalls_per_second: u64,
}

/// The outcome for all checks.
#[derive(Default)]
struct Outcome {
    checks: u64,
    late: u64,
    redis_micros: u64,
    waits: Vec<u64>,
}

struct Connection {
    waiting: VecDeque<u64>,
    in_flight: usize,
    checks_in_flight: usize,
    last_sent: u64,
    has_timer: bool,
    round_trips: RoundTrips,
}

/// The next thing that happens to a connection. Times are microseconds.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Timer,
    Reply { sent: u64, arrivals: Vec<u64> },
}

struct Simulation {
    load: Load,
    is_paced: bool,
    start: Instant,
    connections: Vec<Connection>,
    events: BinaryHeap<Reverse<(u64, usize, Event)>>,
    redis_free_at: u64,
    stalls: u64,
    random: u64,
    outcome: Outcome,
}

impl Simulation {
    fn run(load: Load, is_paced: bool) -> Outcome {
        let start = Instant::now();
        let connection = |_| Connection {
            waiting: VecDeque::new(),
            in_flight: 0,
            checks_in_flight: 0,
            last_sent: 0,
            has_timer: false,
            round_trips: RoundTrips::new(start),
        };
        let mut simulation = Self {
            load,
            is_paced,
            start,
            connections: (0..load.connections).map(connection).collect(),
            events: BinaryHeap::new(),
            redis_free_at: 0,
            stalls: 0,
            random: 1,
            outcome: Outcome::default(),
        };
        for place in 0..load.connections {
            let first = simulation.next_gap();
            simulation.events.push(Reverse((first, place, Event::Arrival)));
        }
        while let Some(Reverse((now, place, event))) = simulation.events.pop()
            && now < load.seconds * 1_000_000
        {
            simulation.apply(now, place, event);
        }
        simulation.outcome
    }

    /// A random time between two checks of a connection, with the mean of the load.
    fn next_gap(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mean = self.load.connections as u64 * 1_000_000 / self.load.checks_per_second;
        (self.random >> 33) % (2 * mean + 1)
    }

    fn apply(&mut self, now: u64, place: usize, event: Event) {
        match event {
            Event::Timer => self.connections[place].has_timer = false,
            Event::Arrival => {
                let next = now + self.next_gap();
                self.events.push(Reverse((next, place, Event::Arrival)));
                self.connections[place].waiting.push_back(now);
            }
            Event::Reply { sent, arrivals } => {
                let connection = &mut self.connections[place];
                connection.in_flight -= 1;
                connection.checks_in_flight -= arrivals.len();
                let at = self.start + Duration::from_micros(now);
                connection.round_trips.observe(Duration::from_micros(now - sent), at);
                self.outcome.checks += arrivals.len() as u64;
                for arrival in arrivals {
                    self.outcome.waits.push(now - arrival);
                    self.outcome.late += u64::from(now - arrival > 50_000);
                }
            }
        }
        self.send(now, place);
    }

    /// Sends a call if it may leave now, by the rules of `calls_in_flight`.
    fn send(&mut self, now: u64, place: usize) {
        let connection = &mut self.connections[place];
        if connection.waiting.is_empty() {
            return;
        }
        let waiting = connection.waiting.len();
        let is_idle = self.is_paced && !connection.round_trips.is_busy();
        let max_lone = if is_idle { MAX_LONE_CHARGES } else { 0 };
        let is_thin = connection.checks_in_flight + waiting <= max_lone;
        let is_early = connection.checks_in_flight < max_lone;
        if connection.in_flight > 0 && !is_early {
            let pause = connection.round_trips.pace(DEADLINE).as_micros();
            let due = connection.last_sent + u64::try_from(pause).unwrap_or(u64::MAX);
            let is_full = connection.round_trips.is_far() && waiting >= MAX_BATCH;
            if !self.is_paced || connection.in_flight >= 64 {
                return;
            }
            if now < due && !is_full {
                if !std::mem::replace(&mut connection.has_timer, true) {
                    let alarm = due.next_multiple_of(TICK_MICROS);
                    self.events.push(Reverse((alarm, place, Event::Timer)));
                }
                return;
            }
        }
        let count = if is_thin { 1 } else { waiting.min(MAX_BATCH) };
        let arrivals: Vec<u64> = connection.waiting.drain(..count).collect();
        (connection.in_flight, connection.last_sent) = (connection.in_flight + 1, now);
        connection.checks_in_flight += count;
        let reaches = now + self.load.network_micros / 2;
        if now * self.load.stalls_per_second / 1_000_000 > self.stalls {
            self.stalls += 1;
            self.redis_free_at = self.redis_free_at.max(reaches) + STALL_MICROS;
        }
        let took = match count {
            1 => LONE_CALL_MICROS,
            _ => CALL_MICROS + CHECK_MICROS * count as u64,
        };
        self.outcome.redis_micros += took;
        self.redis_free_at = self.redis_free_at.max(reaches) + took;
        let reply = self.redis_free_at + self.load.network_micros / 2;
        self.events.push(Reverse((reply, place, Event::Reply { sent: now, arrivals })));
    }
}

impl Outcome {
    fn redis_micros_per_check(&self) -> f64 {
        self.redis_micros as f64 / self.checks as f64
    }

    fn mean_ms(&self) -> f64 {
        self.waits.iter().sum::<u64>() as f64 / self.checks as f64 / 1000.0
    }

    fn median_ms(&mut self) -> f64 {
        let middle = self.waits.len() / 2;
        *self.waits.select_nth_unstable(middle).1 as f64 / 1000.0
    }
}

#[test]
fn a_far_redis_judges_every_check_in_time_and_one_call_in_flight_does_not() {
    for network_ms in [1, 5, 20, 30, 40] {
        let load = Load {
            connections: 4,
            checks_per_second: 20_000,
            network_micros: network_ms * 1000,
            seconds: 1,
            stalls_per_second: 0,
        };
        let paced = Simulation::run(load, true);
        assert_eq!(paced.late, 0, "{network_ms} ms");
        assert!(paced.mean_ms() < network_ms as f64 + 0.5, "{network_ms}: {}", paced.mean_ms());
        let single = Simulation::run(load, false);
        assert_eq!(single.late > 0, network_ms > 25, "{network_ms} ms: {}", single.late);
    }
}

#[test]
fn half_of_the_checks_reach_a_far_redis_that_stalls_now_and_then_without_a_pause_that_shows() {
    let loads = [(2, 8_000, 1), (2, 40_000, 1), (4, 40_000, 5), (4, 40_000, 20), (40, 40_000, 1)];
    for (connections, checks_per_second, network_ms) in loads {
        for stalls_per_second in [0, 40] {
            let load = Load {
                connections,
                checks_per_second,
                network_micros: network_ms * 1000,
                seconds: 2,
                stalls_per_second,
            };
            let mut paced = Simulation::run(load, true);
            let added = paced.median_ms() - network_ms as f64;
            assert!(
                added < 0.35 && paced.late == 0,
                "{connections} connections, {checks_per_second}/s, {network_ms} ms, {stalls_per_second}: {added:.2} ms, {} late",
                paced.late
            );
        }
    }
}

#[test]
fn a_busy_redis_nearby_takes_as_little_time_for_a_check_as_with_one_call_in_flight() {
    // Redis is busy for half of the time to nearly all of it. With time to spare, it may take a fifth
    // more of it for checks that wait for a third less. The last loads are of a large fleet.
    let loads = [
        (2, 60_000, 1.2),
        (2, 150_000, 1.05),
        (40, 120_000, 1.05),
        (200, 120_000, 1.05),
        (500, 140_000, 1.05),
    ];
    for (connections, checks_per_second, most) in loads {
        let load = Load {
            connections,
            checks_per_second,
            network_micros: 100,
            seconds: 1,
            stalls_per_second: 0,
        };
        let [paced, single] = [true, false].map(|is_paced| Simulation::run(load, is_paced));
        let case = format!(
            "{connections} connections, {checks_per_second}/s: {:.1} and {:.1} us of Redis, {:.2} and {:.2} ms",
            paced.redis_micros_per_check(),
            single.redis_micros_per_check(),
            paced.mean_ms(),
            single.mean_ms()
        );
        assert!(paced.redis_micros_per_check() <= most * single.redis_micros_per_check(), "{case}");
        assert!(paced.mean_ms() <= 1.1 * single.mean_ms(), "{case}");
        assert_eq!(paced.late, 0, "{case}");
    }
}
