//! A simulation that tests the published bound of leases on random histories of several clients:
//! checks, replies that are late or lost, crashes, and changes of the limit. The reference
//! implementation stands in for Redis, and time passes as the history says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::algorithm::{Rate, Throttle};
use crate::judge::{self, RowTable};
use crate::limit::{Charges, Limit, Subject, Unit};

const CLIENTS: usize = 3;

#[derive(Clone, Debug)]
enum SimulatedEvent {
    /// A client judges `count` checks of this cost, one after the other.
    Checks { client: usize, count: u64, cost: u64 },
    /// This many microseconds pass.
    Pass(u64),
    /// A client crashes and loses its leases.
    Crash(usize),
    /// A client refunds unspent units, and with `all` every unit.
    Refund { client: usize, all: bool },
    /// The reply to a client's oldest renewal arrives, or is lost.
    RenewalReply { client: usize, arrives: bool },
    /// The limit is replaced: this many quarters of its first rate and burst.
    Change(u64),
}

fn events() -> impl Strategy<Value = Vec<SimulatedEvent>> {
    let event = prop_oneof![
        6 => (0..CLIENTS, 1_u64..80, 1_u64..4).prop_map(|(client, count, cost)| SimulatedEvent::Checks { client, count, cost }),
        5 => (0_u64..60_000).prop_map(SimulatedEvent::Pass),
        1 => (100_000_u64..400_000).prop_map(SimulatedEvent::Pass),
        4 => (0..CLIENTS, prop::bool::weighted(0.8)).prop_map(|(client, arrives)| SimulatedEvent::RenewalReply { client, arrives }),
        3 => (0..CLIENTS, prop::bool::weighted(0.3)).prop_map(|(client, all)| SimulatedEvent::Refund { client, all }),
        1 => (0..CLIENTS).prop_map(SimulatedEvent::Crash),
        1 => (2_u64..8).prop_map(SimulatedEvent::Change),
    ];
    vec(event, 1..150)
}

/// A client, and its renewals that Redis has judged and whose replies are still to come.
#[derive(Default)]
struct SimulatedClient {
    leases: Leases,
    pending_renewals: Vec<(Renewal, Option<Micros>)>,
}

/// The state that a response reports, if the charge is decided without a call.
fn state(coverage: &Coverage) -> Option<CounterState> {
    match coverage {
        Coverage::Leased(state, _) | Coverage::Refused(state) => Some(*state),
        Coverage::NotLeased | Coverage::Awaited(_) => None,
    }
}

struct Simulation {
    redis: RowTable,
    clients: Vec<SimulatedClient>,
    now: Micros,
    limit: Arc<Limit>,
    admitted: Vec<(u64, u64)>,
    /// The time and cost of each charge in Redis.
    charged: Vec<(u64, u64)>,
    leased: u64,
}

fn limit(quarters: u64) -> Arc<Limit> {
    let rate = Rate::new(500 * quarters, Micros::from_secs(1)).unwrap();
    let throttle = Throttle::new(rate, 250 * quarters).unwrap();
    Arc::new(Limit::new("t", Unit::requests(), throttle, false).as_leased())
}

impl Simulation {
    fn new() -> Self {
        let clients = (0..CLIENTS).map(|_| SimulatedClient::default()).collect();
        let (redis, now) = (RowTable::default(), Micros::from_secs(1_774_656_000));
        Self {
            redis,
            clients,
            now,
            limit: limit(4),
            admitted: Vec::new(),
            charged: Vec::new(),
            leased: 0,
        }
    }

    /// The boot clock, which shows the same time as Redis' clock here.
    fn clock(&self) -> Duration {
        Duration::from_micros(self.now.get())
    }

    fn judge(&mut self, charge: &Charge) -> (bool, u64) {
        let charges: Charges = [charge.clone()].into_iter().collect();
        let verdict = judge::judge(&charges, &[None], self.now, &mut self.redis).unwrap();
        let made = if verdict.allowed { charge.amount() } else { 0 };
        if verdict.allowed {
            self.charged.push((self.now.get(), charge.cost));
        }
        (verdict.allowed, verdict.states[0].unsigned_level() + made)
    }

    fn check(&mut self, client: usize, cost: u64) {
        let charge = Charge::new(Subject::api_key("a"), Arc::clone(&self.limit), cost);
        let (now, clock) = (self.now, self.clock());
        let leases = &self.clients[client].leases;
        let (holders, in_turn) = (CLIENTS as u64, Uncovered::InTurn);
        let peeked = state(&leases.peek(&charge, now, clock, holders, in_turn));
        let (cover, renewal) = leases.take(&charge, now, clock, holders, in_turn);
        assert_eq!(peeked, state(&cover), "a peek says what is taken");
        if let Some(renewal) = renewal {
            let (granted, level) = self.judge(&renewal.charge);
            self.clients[client].leases.observe_level(&renewal.charge, level, now);
            self.clients[client].pending_renewals.push((renewal, granted.then_some(now)));
        }
        let allowed = match cover {
            Coverage::Leased(..) => {
                self.leased += cost;
                true
            }
            Coverage::Refused(_) => false,
            // One that waited in vain is judged like any other.
            Coverage::NotLeased | Coverage::Awaited(_) => {
                let (allowed, level) = self.judge(&charge);
                self.clients[client].leases.observe_level(&charge, level, now);
                if !allowed {
                    self.clients[client].leases.observe_refusal(&charge, clock);
                }
                allowed
            }
        };
        if allowed {
            self.admitted.push((now.get(), cost));
        }
    }

    fn apply(&mut self, event: &SimulatedEvent) {
        match *event {
            SimulatedEvent::Checks { client, count, cost } => {
                (0..count).for_each(|_| self.check(client, cost));
            }
            SimulatedEvent::Pass(time) => self.now = self.now + Micros::new(time),
            SimulatedEvent::Crash(client) => self.clients[client] = SimulatedClient::default(),
            SimulatedEvent::RenewalReply { client, arrives } => {
                let client = &mut self.clients[client];
                if !client.pending_renewals.is_empty() {
                    let (renewal, granted) = client.pending_renewals.remove(0);
                    client.leases.complete_renewal(&renewal, granted.filter(|_| arrives));
                }
            }
            SimulatedEvent::Refund { client, all } => {
                for refund in self.clients[client].leases.take_unspent(self.clock(), all) {
                    judge::refund(&refund, self.now, &mut self.redis);
                }
            }
            SimulatedEvent::Change(quarters) => self.limit = limit(quarters),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_window_admits_more_than_the_burst_and_the_rate_over_the_window_and_a_lease_lifetime(events in events()) {
        let mut simulation = Simulation::new();
        let mut max_quarters = 4;
        for event in &events {
            if let SimulatedEvent::Change(quarters) = event {
                max_quarters = max_quarters.max(*quarters);
            }
            simulation.apply(event);
        }
        let (burst, rate) = (250 * max_quarters, 500 * max_quarters);
        let lifetime = u64::try_from(LEASE_LIFETIME.as_micros()).unwrap();
        for (from, &(start, _)) in simulation.admitted.iter().enumerate() {
            let mut cost = 0;
            for &(at, more) in &simulation.admitted[from..] {
                cost += more;
                let bound = u128::from(burst) * 1_000_000 + u128::from(rate) * u128::from(at - start + lifetime);
                prop_assert!(u128::from(cost) * 1_000_000 <= bound, "{cost} within {} us", at - start);
            }
            // The reason for the bound: every unit was charged at most a lease's lifetime ago.
            let charged = simulation.charged.iter().filter(|&&(at, _)| at + lifetime >= start);
            let charged: u64 = charged.map(|&(_, cost)| cost).sum();
            prop_assert!(cost <= charged, "{cost} of {charged}");
        }
    }
}

#[test]
fn a_hot_key_is_charged_to_leases() {
    let mut simulation = Simulation::new();
    for _ in 0..200 {
        simulation.apply(&SimulatedEvent::Checks { client: 0, count: 2, cost: 1 });
        simulation.apply(&SimulatedEvent::RenewalReply { client: 0, arrives: true });
        simulation.apply(&SimulatedEvent::Pass(2_000));
    }
    let admitted: u64 = simulation.admitted.iter().map(|(_, cost)| cost).sum();
    assert_eq!(admitted, 400, "the rate is 2,000 a second, and these are 1,000");
    assert!(simulation.leased > 300, "only {} of them without Redis", simulation.leased);
}

#[test]
fn a_unit_that_is_put_back_expires_with_its_lease() {
    let leases = Leases::default();
    let charge = Charge::new(Subject::api_key("a"), limit(4), 10);
    let clock = Duration::from_secs(5);
    let _ = leases.take(&charge, Micros::from_secs(9), clock, 1, Uncovered::Judged);
    let renewal = Renewal::new(Charge { cost: 40, ..charge.clone() }, clock);
    leases.complete_renewal(&renewal, None);
    let (refused, _) = leases.take(&charge, Micros::from_secs(9), clock, 1, Uncovered::Judged);
    assert!(matches!(refused, Coverage::NotLeased), "Redis refused the lease");
    leases.complete_renewal(&renewal, Some(Micros::from_secs(9)));
    let (Coverage::Leased(_, origin), _) =
        leases.take(&charge, Micros::from_secs(9), clock, 1, Uncovered::Judged)
    else {
        panic!("the lease covers it");
    };
    assert_eq!(origin.expires_at, clock + LEASE_LIFETIME);
    leases.put_back(&charge, origin);
    let (late, _) =
        leases.take(&charge, Micros::from_secs(9), clock + LEASE_LIFETIME, 1, Uncovered::Judged);
    assert!(matches!(late, Coverage::NotLeased), "it has ended");
    let refunds: Vec<_> = leases.take_unspent(clock + LEASE_LIFETIME, false);
    assert_eq!(refunds.iter().map(|refund| refund.charge.cost).sum::<u64>(), 40, "all goes back");
    assert!(leases.take_unspent(clock + LEASE_LIFETIME, true).is_empty(), "and once");
}

#[test]
fn leases_are_refunded_together_as_of_the_first_charge() {
    let leases = Leases::default();
    let charge = Charge::new(Subject::api_key("a"), limit(4), 1);
    let clock = Duration::from_secs(5);
    let _ = leases.take(&charge, Micros::from_secs(9), clock, 1, Uncovered::Judged);
    for second in [9, 8, 10] {
        let renewal = Renewal::new(Charge { cost: 20, ..charge.clone() }, clock);
        leases.complete_renewal(&renewal, Some(Micros::from_secs(second)));
    }
    let refunds = leases.take_unspent(clock + LEASE_LIFETIME, false);
    assert_eq!(refunds.len(), 1);
    assert_eq!((refunds[0].charge.cost, refunds[0].charged.at), (60, Micros::from_secs(8)));
}

#[test]
fn an_idle_lease_is_refunded_early_and_one_of_a_replaced_limit_is_not() {
    let mut simulation = Simulation::new();
    let spend = |simulation: &mut Simulation| {
        simulation.apply(&SimulatedEvent::Checks { client: 0, count: 80, cost: 1 });
        simulation.apply(&SimulatedEvent::RenewalReply { client: 0, arrives: true });
    };
    spend(&mut simulation);
    assert!(
        simulation.clients[0].leases.take_unspent(simulation.clock(), false).is_empty(),
        "it is in use"
    );
    simulation.apply(&SimulatedEvent::Pass(100_000));
    assert!(!simulation.clients[0].leases.take_unspent(simulation.clock(), false).is_empty());
    spend(&mut simulation);
    simulation.apply(&SimulatedEvent::Change(8));
    simulation.apply(&SimulatedEvent::Checks { client: 0, count: 1, cost: 1 });
    assert!(simulation.clients[0].leases.take_unspent(simulation.clock(), true).is_empty());
}
