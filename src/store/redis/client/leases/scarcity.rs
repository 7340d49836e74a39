//! A simulation of the calls about one counter far over its limit: nodes whose workers share their
//! leases, and connections that send a request as soon as they have a response. The reference
//! implementation stands in for Redis. Each worker remembers a refusal as its denial memo would.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::algorithm::{Rate, Throttle};
use crate::judge::{self, RowTable};
use crate::limit::{Charges, Limit, Subject, Unit};

const STEP: Micros = Micros::new(100);
const ROUND_TRIP: u64 = 4;
const SWEEP: u64 = 500;
/// In the first second the burst is spent, which takes a call for many requests.
const WARM_UP: u64 = 10_000;
const STEPS: u64 = 30_000;

#[derive(Clone, Copy)]
struct Fleet {
    nodes: u64,
    busy: usize,
    workers: usize,
    connections: usize,
    cost: u64,
    rate: u64,
    burst: u64,
}

const FLEET: Fleet =
    Fleet { nodes: 1, busy: 1, workers: 8, connections: 8, cost: 1, rate: 2_000, burst: 1_000 };

#[derive(Default)]
struct BusyNode {
    leases: Leases,
    /// The renewal whose response is on its way, when it arrives, and the charge's time if it was
    /// granted.
    renewal: Option<(Renewal, u64, Option<Micros>)>,
    /// The steps until which the workers' memos refuse.
    memos: Vec<u64>,
    connections: Vec<Connection>,
}

/// A connection, and the refusal or the admission on its way from Redis.
#[derive(Default)]
struct Connection {
    worker: usize,
    free_at: u64,
    response: Option<(bool, u64)>,
}

struct Load {
    fleet: Fleet,
    redis: RowTable,
    charge: Charge,
    step: u64,
    calls: u64,
    admitted: u64,
}

impl Load {
    fn now(&self) -> Micros {
        Micros::from_secs(1_774_656_000) + Micros::new(self.step * STEP.get())
    }

    /// The boot clock, which shows the same time as Redis' clock here.
    fn clock(&self) -> Duration {
        Duration::from_micros(self.now().get())
    }

    /// One script call. Returns true if the charge fits, and the level after it.
    fn call(&mut self, charge: &Charge) -> (bool, u64) {
        self.calls += 1;
        let charges: Charges = [charge.clone()].into_iter().collect();
        let now = self.now();
        let verdict = judge::judge(&charges, &[None], now, &mut self.redis).unwrap();
        let made = if verdict.allowed { charge.amount() } else { 0 };
        (verdict.allowed, verdict.states[0].unsigned_level() + made)
    }

    fn remember(&self, node: &mut BusyNode, worker: usize) {
        let (now, clock, nodes) = (self.now(), self.clock(), self.fleet.nodes);
        let pause = node.leases.pause_after_refusal(&self.charge, now, clock, nodes);
        let steps = u64::try_from(pause.as_micros()).unwrap().div_ceil(STEP.get());
        node.memos[worker] = self.step + steps;
    }

    fn refund_unspent(&mut self, node: &BusyNode) {
        for refund in node.leases.take_unspent(self.clock(), false) {
            self.calls += 1;
            judge::refund(&refund, self.now(), &mut self.redis);
        }
    }

    fn receive(&mut self, node: &mut BusyNode) {
        let step = self.step;
        if let Some((renewal, _, granted)) = node.renewal.take_if(|(_, at, _)| *at <= step) {
            node.leases.complete_renewal(&renewal, granted);
        }
        for at in 0..node.connections.len() {
            let connection = &mut node.connections[at];
            if connection.free_at > step {
                continue;
            }
            let (worker, response) = (connection.worker, connection.response.take());
            if let Some((allowed, level)) = response {
                node.leases.observe_level(&self.charge, level, self.now());
                if allowed {
                    self.admitted += self.fleet.cost;
                } else {
                    node.leases.observe_refusal(&self.charge, self.clock());
                    self.remember(node, worker);
                }
            }
        }
    }

    /// The check of a connection that has the response to the one before.
    fn check(&mut self, node: &mut BusyNode, at: usize) {
        let worker = node.connections[at].worker;
        if node.connections[at].free_at > self.step || self.step < node.memos[worker] {
            return;
        }
        let (now, clock, nodes) = (self.now(), self.clock(), self.fleet.nodes);
        let (coverage, renewal) =
            node.leases.take(&self.charge, now, clock, nodes, Uncovered::InTurn);
        if let Some(renewal) = renewal {
            let (granted, level) = self.call(&renewal.charge);
            node.leases.observe_level(&renewal.charge, level, now);
            node.renewal = Some((renewal, self.step + ROUND_TRIP, granted.then_some(now)));
        }
        match coverage {
            Coverage::Leased(..) => self.admitted += self.fleet.cost,
            Coverage::Refused(_) => self.remember(node, worker),
            Coverage::Awaited(_) => {
                node.connections[at].free_at = node.renewal.as_ref().unwrap().1;
            }
            Coverage::NotLeased => {
                let charge = self.charge.clone();
                node.connections[at].response = Some(self.call(&charge));
                node.connections[at].free_at = self.step + ROUND_TRIP;
            }
        }
    }
}

/// Loads the nodes. Returns the calls and the admitted units of two seconds.
fn load(fleet: Fleet) -> (u64, u64) {
    let rate = Rate::new(fleet.rate, Micros::from_secs(1)).unwrap();
    let throttle = Throttle::new(rate, fleet.burst).unwrap();
    let limit = Arc::new(Limit::new("t", Unit::requests(), throttle, false).as_leased());
    let charge = Charge::new(Subject::api_key("a"), limit, fleet.cost);
    let mut load =
        Load { fleet, redis: RowTable::default(), charge, step: 0, calls: 0, admitted: 0 };
    let connection = |number| Connection { worker: number % fleet.workers, ..Default::default() };
    let node = || BusyNode {
        memos: vec![0; fleet.workers],
        connections: (0..fleet.connections).map(connection).collect(),
        ..Default::default()
    };
    let mut nodes: Vec<BusyNode> = (0..fleet.busy).map(|_| node()).collect();
    let mut warm = (0, 0);
    for step in 0..STEPS {
        load.step = step;
        if step == WARM_UP {
            warm = (load.calls, load.admitted);
        }
        for node in &mut nodes {
            load.receive(node);
            for at in 0..fleet.connections {
                load.check(node, at);
            }
            if step % SWEEP == 0 {
                load.refund_unspent(node);
            }
        }
        let (millions, passed) = (u128::from(load.admitted) * 1_000_000, step * STEP.get());
        let within = passed + u64::try_from(LEASE_LIFETIME.as_micros()).unwrap();
        let bound = u128::from(fleet.burst) * 1_000_000 + u128::from(fleet.rate * within);
        assert!(millions <= bound, "{} within {passed} us", load.admitted);
    }
    (load.calls - warm.0, load.admitted - warm.1)
}

#[test]
fn a_key_far_over_its_limit_takes_few_calls_whatever_the_nodes_the_workers_and_the_connections() {
    let fleets = [
        FLEET,
        Fleet { workers: 2, ..FLEET },
        Fleet { workers: 32, connections: 64, ..FLEET },
        Fleet { nodes: 3, ..FLEET },
        Fleet { nodes: 3, busy: 3, ..FLEET },
        Fleet { nodes: 3, busy: 3, workers: 2, connections: 64, ..FLEET },
        Fleet { nodes: 20, busy: 10, workers: 4, ..FLEET },
        Fleet { cost: 70, ..FLEET },
        Fleet { nodes: 3, busy: 3, cost: 300, ..FLEET },
        Fleet { burst: 100, ..FLEET },
        Fleet { rate: 100, burst: 100, ..FLEET },
        Fleet { rate: 8_000, burst: 8_000, ..FLEET },
    ];
    for fleet in fleets {
        let (calls, admitted) = load(fleet);
        let name = format!(
            "{} nodes, {} busy, {} workers, {} connections, cost {}, {}/s, burst {}: {calls} calls, {admitted} admitted",
            fleet.nodes,
            fleet.busy,
            fleet.workers,
            fleet.connections,
            fleet.cost,
            fleet.rate,
            fleet.burst
        );
        assert!(admitted >= fleet.rate * 2 * 97 / 100, "{name}");
        assert!(calls <= 2 * 200 * fleet.busy as u64, "{name}");
    }
}

/// Leases with a counter that Redis has refused, with this many units left.
fn scarce(left: u64) -> (Leases, Charge) {
    let rate = Rate::new(2_000, Micros::from_secs(1)).unwrap();
    let throttle = Throttle::new(rate, 1_000).unwrap();
    let limit = Arc::new(Limit::new("t", Unit::requests(), throttle, false).as_leased());
    let charge = Charge::new(Subject::api_key("a"), limit, 1);
    let leases = Leases::default();
    let _ = leases.take(&charge, NOW, CLOCK, 1, Uncovered::InTurn);
    leases.observe_level(&charge, charge.limit.amount(1_000 - left), NOW);
    leases.observe_refusal(&charge, CLOCK);
    (leases, charge)
}

const NOW: Micros = Micros::from_secs(9);
const CLOCK: Duration = Duration::from_secs(5);

fn take(leases: &Leases, charge: &Charge, later: u64) -> (Coverage, Option<Renewal>) {
    let clock = CLOCK + Duration::from_micros(later);
    leases.take(charge, NOW + Micros::new(later), clock, 1, Uncovered::InTurn)
}

#[test]
fn a_node_asks_once_the_units_of_a_pause_have_gathered() {
    let (leases, charge) = scarce(0);
    let (refused, renewal) = take(&leases, &charge, 0);
    assert!(matches!(refused, Coverage::Refused(_)) && renewal.is_none());
    let pause = |later| {
        let clock = CLOCK + Duration::from_micros(later);
        leases.pause_after_refusal(&charge, NOW + Micros::new(later), clock, 1).as_millis()
    };
    assert_eq!([pause(0), pause(20_000)], [50, 30]);
    assert!(matches!(take(&leases, &charge, 49_000), (Coverage::Refused(_), None)));
    let (awaited, renewal) = take(&leases, &charge, 50_000);
    let renewal = renewal.unwrap();
    assert!(matches!(awaited, Coverage::Awaited(_)));
    assert!(matches!(take(&leases, &charge, 50_100), (Coverage::Awaited(_), None)), "the same");
    // A task that was dropped with its worker does not end the leases of the others.
    drop(renewal);
    assert!(take(&leases, &charge, 50_200).1.is_some());
}

#[test]
fn a_refusal_says_that_the_charge_does_not_fit() {
    let (leases, charge) = scarce(40);
    let (Coverage::Refused(state), _) = take(&leases, &charge, 0) else { panic!("it is refused") };
    assert!(!judge::fits(&charge, state), "though 40 units are left");
    let peek = |uncovered| leases.peek(&charge, NOW, CLOCK, 1, uncovered);
    assert!(matches!(peek(Uncovered::InTurn), Coverage::Refused(peeked) if peeked == state));
    assert!(matches!(peek(Uncovered::Judged), Coverage::NotLeased));
}

#[test]
fn the_pause_of_a_large_cost_refuses_no_smaller_one() {
    let (leases, charge) = scarce(120);
    let large = Charge { cost: 400, ..charge.clone() };
    assert!(matches!(take(&leases, &large, 0), (Coverage::Refused(_), None)));
    assert!(take(&leases, &charge, 0).1.is_some(), "120 units are more than those of a pause");
}

#[test]
fn redis_judges_at_once_when_many_units_are_left_or_the_limit_is_new() {
    let (leases, charge) = scarce(100);
    assert!(matches!(take(&leases, &charge, 60_000), (Coverage::NotLeased, _)));
    let (leases, charge) = scarce(0);
    let (_, renewed) = scarce(0);
    assert!(matches!(take(&leases, &renewed, 0), (Coverage::NotLeased, _)));
    assert!(matches!(take(&leases, &charge, 0), (Coverage::NotLeased, _)), "and the old one");
}
