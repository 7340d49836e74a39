//! The published bound of leases, on random histories of several lanes: demands, answers that come
//! late or never, crashes, changes of the limit. Redis is the reference; time is the history's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::algorithm::{self, Row, Rows};
use crate::limit::{Charges, Rate, Subject, Unit};

const LANES: usize = 3;

#[derive(Clone, Debug)]
enum Event {
    /// So many checks of this cost at a lane, one after the other.
    Checks { lane: usize, count: u64, cost: u64 },
    /// Microseconds pass.
    Pass(u64),
    /// A lane forgets everything.
    Crash(usize),
    /// A lane gives back what it will not spend; at the node's end, everything.
    GiveBack { lane: usize, all: bool },
    /// The answer to a lane's oldest renewal arrives, or is lost.
    Answer { lane: usize, arrives: bool },
    /// The limit becomes another one: a factor of its rate and burst, in quarters.
    Change(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0..LANES, 1_u64..80, 1_u64..4).prop_map(|(lane, count, cost)| Event::Checks { lane, count, cost }),
        5 => (0_u64..60_000).prop_map(Event::Pass),
        1 => (100_000_u64..400_000).prop_map(Event::Pass),
        4 => (0..LANES, prop::bool::weighted(0.8)).prop_map(|(lane, arrives)| Event::Answer { lane, arrives }),
        3 => (0..LANES, prop::bool::weighted(0.3)).prop_map(|(lane, all)| Event::GiveBack { lane, all }),
        1 => (0..LANES).prop_map(Event::Crash),
        1 => (2_u64..8).prop_map(Event::Change),
    ];
    vec(event, 1..150)
}

#[derive(Default)]
struct Redis(HashMap<u64, Row>);

impl Rows for Redis {
    fn read(&self, charge: &Charge) -> Option<Row> {
        self.0.get(&charge.limit.row().get()).copied()
    }

    fn write(&mut self, charge: &Charge, row: Row, _until: Micros) {
        self.0.insert(charge.limit.row().get(), row);
    }
}

/// A lane, and its renewals that Redis has judged but that have not been answered.
#[derive(Default)]
struct Lane {
    leases: Leases,
    under_way: Vec<(Renewal, Option<Micros>)>,
}

struct World {
    redis: Redis,
    lanes: Vec<Lane>,
    now: Micros,
    limit: Arc<Limit>,
    admitted: Vec<(u64, u64)>,
    /// What Redis has charged, and when.
    charged: Vec<(u64, u64)>,
    leased: u64,
}

fn limit(quarters: u64) -> Arc<Limit> {
    let rate = Rate::new(500 * quarters, Micros::from_secs(1)).unwrap();
    let throttle = Throttle::new(rate, 250 * quarters).unwrap();
    Arc::new(Limit::new("t", Unit::requests(), Rule::Throttle(throttle), false).leased_ahead())
}

impl World {
    fn new() -> Self {
        let lanes = (0..LANES).map(|_| Lane::default()).collect();
        let (redis, now) = (Redis::default(), Micros::from_secs(1_774_656_000));
        Self {
            redis,
            lanes,
            now,
            limit: limit(4),
            admitted: Vec::new(),
            charged: Vec::new(),
            leased: 0,
        }
    }

    /// Both clocks run together.
    fn clock(&self) -> Duration {
        Duration::from_micros(self.now.get())
    }

    fn judge(&mut self, charge: &Charge) -> (bool, u64) {
        let charges: Charges = [charge.clone()].into_iter().collect();
        let verdict = algorithm::judge(&charges, &[None], self.now, &mut self.redis).unwrap();
        let made = if verdict.allowed { charge.amount() } else { 0 };
        if verdict.allowed {
            self.charged.push((self.now.get(), charge.cost));
        }
        (verdict.allowed, verdict.readings[0].level() + made)
    }

    fn check(&mut self, lane: usize, cost: u64) {
        let charge =
            Charge { subject: Subject::api_key("a"), limit: Arc::clone(&self.limit), cost };
        let (now, clock) = (self.now, self.clock());
        let (cover, renewal) = self.lanes[lane].leases.take(&charge, now, clock, LANES as u64);
        if let Some(renewal) = renewal {
            let (granted, level) = self.judge(&renewal.charge);
            self.lanes[lane].leases.learn(&renewal.charge, level, now);
            self.lanes[lane].under_way.push((renewal, granted.then_some(now)));
        }
        let allowed = match cover {
            Cover::Taken(..) => {
                self.leased += cost;
                true
            }
            Cover::Ask => {
                let (allowed, level) = self.judge(&charge);
                self.lanes[lane].leases.learn(&charge, level, now);
                allowed
            }
        };
        if allowed {
            self.admitted.push((now.get(), cost));
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Checks { lane, count, cost } => (0..count).for_each(|_| self.check(lane, cost)),
            Event::Pass(time) => self.now = self.now + Micros::new(time),
            Event::Crash(lane) => self.lanes[lane] = Lane::default(),
            Event::Answer { lane, arrives } => {
                let lane = &mut self.lanes[lane];
                if !lane.under_way.is_empty() {
                    let (renewal, granted) = lane.under_way.remove(0);
                    lane.leases.settle(&renewal, granted.filter(|_| arrives));
                }
            }
            Event::GiveBack { lane, all } => {
                for refund in self.lanes[lane].leases.unspent(self.clock(), all) {
                    algorithm::refund(&refund, self.now, &mut self.redis);
                }
            }
            Event::Change(quarters) => self.limit = limit(quarters),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_window_admits_more_than_burst_and_rate_over_its_length_and_a_leases_life(events in events()) {
        let mut world = World::new();
        let mut most = 4;
        for event in &events {
            if let Event::Change(quarters) = event {
                most = most.max(*quarters);
            }
            world.happen(event);
        }
        let (burst, rate) = (250 * most, 500 * most);
        let life = u64::try_from(LIFE.as_micros()).unwrap();
        for (from, &(start, _)) in world.admitted.iter().enumerate() {
            let mut cost = 0;
            for &(at, more) in &world.admitted[from..] {
                cost += more;
                let bound = u128::from(burst) * 1_000_000 + u128::from(rate) * u128::from(at - start + life);
                prop_assert!(u128::from(cost) * 1_000_000 <= bound, "{cost} within {} us", at - start);
            }
            // Why that is so: whatever is spent was charged no more than a lease's life before.
            let charged = world.charged.iter().filter(|&&(at, _)| at + life >= start);
            let charged: u64 = charged.map(|&(_, cost)| cost).sum();
            prop_assert!(cost <= charged, "{cost} of {charged}");
        }
    }
}

#[test]
fn a_hot_key_is_spent_from_leases() {
    let mut world = World::new();
    for _ in 0..200 {
        world.happen(&Event::Checks { lane: 0, count: 2, cost: 1 });
        world.happen(&Event::Answer { lane: 0, arrives: true });
        world.happen(&Event::Pass(2_000));
    }
    let admitted: u64 = world.admitted.iter().map(|(_, cost)| cost).sum();
    assert_eq!(admitted, 400, "the rate is 2,000 a second, and these are 1,000");
    assert!(world.leased > 300, "only {} of them without Redis", world.leased);
}

#[test]
fn what_goes_back_lives_no_longer_than_it_did() {
    let leases = Leases::default();
    let charge = Charge { subject: Subject::api_key("a"), limit: limit(4), cost: 10 };
    let clock = Duration::from_secs(5);
    let _ = leases.take(&charge, Micros::from_secs(9), clock, 1);
    let renewal = Renewal { charge: Charge { cost: 40, ..charge.clone() }, asked_at: clock };
    leases.settle(&renewal, None);
    let (refused, _) = leases.take(&charge, Micros::from_secs(9), clock, 1);
    assert!(matches!(refused, Cover::Ask), "what Redis refused is not there to spend");
    leases.settle(&renewal, Some(Micros::from_secs(9)));
    let (Cover::Taken(_, origin), _) = leases.take(&charge, Micros::from_secs(9), clock, 1) else {
        panic!("the lease covers it");
    };
    assert_eq!(origin.ends, clock + LIFE);
    leases.put_back(&charge, origin);
    let (late, _) = leases.take(&charge, Micros::from_secs(9), clock + LIFE, 1);
    assert!(matches!(late, Cover::Ask), "it has ended");
    let given: Vec<_> = leases.unspent(clock + LIFE, false);
    assert_eq!(given.iter().map(|refund| refund.charge.cost).sum::<u64>(), 40, "all goes back");
    assert!(leases.unspent(clock + LIFE, true).is_empty(), "and once");
}

#[test]
fn leases_go_back_as_one_from_when_the_first_was_charged() {
    let leases = Leases::default();
    let charge = Charge { subject: Subject::api_key("a"), limit: limit(4), cost: 1 };
    let clock = Duration::from_secs(5);
    let _ = leases.take(&charge, Micros::from_secs(9), clock, 1);
    for second in [9, 8, 10] {
        let renewal = Renewal { charge: Charge { cost: 20, ..charge.clone() }, asked_at: clock };
        leases.settle(&renewal, Some(Micros::from_secs(second)));
    }
    let given = leases.unspent(clock + LIFE, false);
    assert_eq!(given.len(), 1);
    assert_eq!((given[0].charge.cost, given[0].charged), (60, Micros::from_secs(8)));
}

#[test]
fn an_idle_lease_goes_back_before_its_end_and_a_changed_limits_does_not() {
    let mut world = World::new();
    let spend = |world: &mut World| {
        world.happen(&Event::Checks { lane: 0, count: 80, cost: 1 });
        world.happen(&Event::Answer { lane: 0, arrives: true });
    };
    spend(&mut world);
    assert!(world.lanes[0].leases.unspent(world.clock(), false).is_empty(), "it is in use");
    world.happen(&Event::Pass(100_000));
    assert!(!world.lanes[0].leases.unspent(world.clock(), false).is_empty());
    spend(&mut world);
    world.happen(&Event::Change(8));
    world.happen(&Event::Checks { lane: 0, count: 1, cost: 1 });
    assert!(world.lanes[0].leases.unspent(world.clock(), true).is_empty());
}
