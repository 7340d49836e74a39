//! A simulation of reservations that are charged to leases, on random histories of several clients:
//! responses that are late or lost, refusals, crashes, and settlements in any order and more than
//! once. The reference implementation stands in for Redis.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod examples;
mod history;

use proptest::prelude::*;

use super::*;
use crate::algorithm::{Counting as _, Rate, Throttle};
use crate::judge::reservation::{self, Adjusted, Reserved};
use crate::judge::{self, RowTable, Rows as _};
use crate::limit::{
    AdjustedUnits, Adjustment, AdjustmentKind, ChargeAdjustment, Charges, LeasedUnits, Limit,
    NewReservation, ReservationName, ReservationTerms, Subject, Unit,
};
use crate::store::AdjustedReservation;
use crate::store::redis::client::leased_reservation::AdjustmentShare;
use history::{CLIENTS, Change, Event, ReserveEnd, events};

const RATE: u64 = 4_000;
const BURST: u64 = 2_000;
const TTL: Micros = Micros::from_secs(60);

#[derive(Default)]
struct Client {
    leases: Arc<Leases>,
    /// Renewals that Redis has judged and whose replies are still to come.
    renewals: Vec<(Renewal, Option<Micros>)>,
}

/// A lease that Redis has granted.
struct Grant {
    client: usize,
    /// Its entry among the charges.
    charge: usize,
    remaining: u64,
    /// False before its reply has arrived, and after a crash: then nothing of it goes back.
    is_held: bool,
}

/// A reservation whose gateway has the handle.
struct Opened {
    new: NewReservation,
    estimate: u64,
    leased: Option<LeasedUnits>,
    /// The entry of its estimate among the charges, and among what was admitted.
    charge: usize,
    admitted: usize,
    /// The entries of what was charged beyond the estimate.
    beyond: Vec<usize>,
    is_settled: bool,
}

struct Simulation {
    redis: RowTable,
    clients: Vec<Client>,
    now: Micros,
    limit: Arc<Limit>,
    /// The units that were charged in Redis and have not been given back, with their times.
    charges: Vec<(Micros, u64)>,
    grants: Vec<Grant>,
    /// The units of admitted requests, without overruns, with their times.
    admitted: Vec<(Micros, u64)>,
    opened: Vec<Opened>,
    count: u64,
    leased: usize,
}

fn throttle(rate: u64, burst: u64) -> Throttle {
    Throttle::new(Rate::new(rate, Micros::from_secs(1)).unwrap(), burst).unwrap()
}

impl Simulation {
    fn new() -> Self {
        let limit = Limit::new("t", Unit::requests(), throttle(RATE, BURST), false).as_leased();
        Self {
            redis: RowTable::default(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            now: Micros::from_secs(1_774_656_000),
            limit: Arc::new(limit),
            charges: Vec::new(),
            grants: Vec::new(),
            admitted: Vec::new(),
            opened: Vec::new(),
            count: 0,
            leased: 0,
        }
    }

    fn clock(&self) -> Duration {
        Duration::from_micros(self.now.get())
    }

    fn charge(&self, cost: u64) -> Charge {
        Charge::new(Subject::api_key("a"), Arc::clone(&self.limit), cost)
    }

    fn judge(&mut self, charge: &Charge) -> (bool, u64) {
        let charges = std::slice::from_ref(charge);
        let verdict = judge::judge(charges, &[None], self.now, &mut self.redis).unwrap();
        let made = if verdict.allowed { charge.amount() } else { 0 };
        if verdict.allowed {
            self.charges.push((self.now, charge.cost));
        }
        (verdict.allowed, verdict.states[0].unsigned_level() + made)
    }

    fn check(&mut self, client: usize, cost: u64) {
        let (charge, now, clock) = (self.charge(cost), self.now, self.clock());
        let leases = &self.clients[client].leases;
        let (coverage, renewal) =
            leases.take(&charge, now, clock, CLIENTS as u64, Uncovered::Judged);
        if let Some(renewal) = renewal {
            let (granted, level) = self.judge(&renewal.charge);
            self.clients[client].leases.observe_level(&renewal.charge, level, now);
            if granted {
                let (charge, remaining) = (self.charges.len() - 1, renewal.charge.cost);
                self.grants.push(Grant { client, charge, remaining, is_held: false });
                // A lease is known by its time.
                self.now = self.now + Micros::new(1);
            }
            self.clients[client].renewals.push((renewal, granted.then_some(now)));
        }
        let allowed = if let Coverage::Leased(_, origin) = coverage {
            self.spend(client, origin.charged_at, cost);
            true
        } else {
            let (allowed, level) = self.judge(&charge);
            self.clients[client].leases.observe_level(&charge, level, now);
            allowed
        };
        if allowed {
            self.admitted.push((now, cost));
        }
    }

    /// Spends units of a client's lease, and returns its entry among the charges.
    fn spend(&mut self, client: usize, charged_at: Micros, cost: u64) -> usize {
        let charges = &self.charges;
        let is_spent = |grant: &&mut Grant| {
            let is_same = grant.client == client && charges[grant.charge].0 == charged_at;
            is_same && grant.is_held && grant.remaining >= cost
        };
        let grant = self.grants.iter_mut().find(is_spent).unwrap();
        grant.remaining -= cost;
        grant.charge
    }

    /// Refunds a client's unspent units: those of all leases, or of those that have ended.
    fn refund_unspent(&mut self, client: usize, all: bool) {
        for refund in self.clients[client].leases.take_unspent(self.clock(), all) {
            judge::refund(&refund, self.now, &mut self.redis);
            let units =
                |grants: &[&mut Grant]| -> u64 { grants.iter().map(|grant| grant.remaining).sum() };
            let held = self.grants.iter_mut();
            let mut held: Vec<_> =
                held.filter(|grant| grant.client == client && grant.is_held).collect();
            if units(&held) != refund.charge.cost {
                let lifetime = u64::try_from(LEASE_LIFETIME.as_micros()).unwrap();
                let ends = |grant: &Grant| self.charges[grant.charge].0 + Micros::new(lifetime);
                held.retain(|grant| ends(grant) <= self.now);
            }
            assert_eq!(units(&held), refund.charge.cost);
            for grant in held {
                self.charges[grant.charge].1 -= std::mem::take(&mut grant.remaining);
            }
        }
    }

    /// Opens a reservation as a client of Redis does.
    fn reserve(&mut self, client: usize, cost: u64, end: ReserveEnd) {
        let other = Arc::new(Limit::new("other", Unit::requests(), throttle(1, 1), false));
        let refused = u64::from(end == ReserveEnd::RefusedByAnotherLimit);
        let other = Charge::new(Subject::api_key("b"), other, 2 * refused);
        let charges: Charges = [self.charge(cost), other].into_iter().collect();
        let mut held = HeldLeases::take(&charges, &self.clients[client].leases, self.clock());
        let leased = held.charged_at(0).map(|charged_at| LeasedUnits { units: cost, charged_at });
        if end == ReserveEnd::GivenUpBeforeTheCall {
            return;
        }
        let exact = held.exact_part(&charges);
        held.set_spent(true);
        let is_lost = matches!(end, ReserveEnd::Lost { .. });
        if end == (ReserveEnd::Lost { runs: false }) {
            if let Some(leased) = leased {
                self.spend(client, leased.charged_at, cost);
            }
            return;
        }
        self.count += 1;
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.count.to_le_bytes());
        let new = NewReservation {
            name: ReservationName::from_bytes(name),
            check: [0; 8],
            ttl: TTL,
            terms: ReservationTerms::new(&name).unwrap(),
        };
        let reserved =
            reservation::reserve(&exact, &[None, None], &new, self.now, &mut self.redis).unwrap();
        let Reserved::Judged(verdict) = reserved else { panic!("the name is new") };
        held.set_spent(verdict.allowed || is_lost);
        drop(held);
        if !verdict.allowed {
            return;
        }
        let charge = if let Some(leased) = leased {
            self.spend(client, leased.charged_at, cost)
        } else {
            self.charges.push((self.now, cost));
            self.charges.len() - 1
        };
        if !is_lost {
            self.leased += usize::from(leased.is_some());
            self.admitted.push((self.now, cost));
            let admitted = self.admitted.len() - 1;
            let (estimate, beyond, is_settled) = (cost, Vec::new(), false);
            self.opened.push(Opened {
                new,
                estimate,
                leased,
                charge,
                admitted,
                beyond,
                is_settled,
            });
        }
    }

    /// Adjusts a reservation as a client of Redis does.
    fn adjust(&mut self, which: usize, tenths: u64, change: Change) {
        let Some(place) = self.opened.len().checked_sub(1 + which) else { return };
        let opened = &self.opened[place];
        let units = opened.estimate * tenths / 10;
        let (units, kind) = match change {
            Change::Settle => (AdjustedUnits::Exactly(units), AdjustmentKind::Close),
            Change::SettleAtLeast => (AdjustedUnits::AtLeast(units), AdjustmentKind::Close),
            Change::Extend => (AdjustedUnits::AtLeast(units), AdjustmentKind::Extend { ttl: TTL }),
        };
        let (name, terms) = (opened.new.name, opened.new.terms.clone());
        let own = ChargeAdjustment {
            subject: Subject::api_key("a"),
            limit: Some(Arc::clone(&self.limit)),
            units,
        };
        let other = ChargeAdjustment { subject: Subject::api_key("b"), limit: None, ..own.clone() };
        let adjustment = Adjustment { name, terms, kind, charges: vec![own, other] };
        let share = AdjustmentShare::of(&adjustment, &[opened.leased, None], false).remove(0);
        let (now, redis) = (self.now, &mut self.redis);
        match reservation::adjust(&share.adjustment, &[None, None], now, redis).unwrap() {
            Adjusted::Unknown => assert!(opened.is_settled),
            Adjusted::Done { is_late, charges } => {
                assert!(!opened.is_settled);
                let adjusted = AdjustedReservation { now, index: 0, is_late, charges };
                for refund in share.refunds(&adjusted).0 {
                    judge::refund(&refund, now, redis);
                }
                self.note_change(place, units, kind == AdjustmentKind::Close);
            }
        }
    }

    /// Notes the units that a reservation has come to.
    fn note_change(&mut self, place: usize, units: AdjustedUnits, ends: bool) {
        let Opened { estimate, charge, admitted, beyond, is_settled, .. } = &mut self.opened[place];
        let extended: u64 = beyond.iter().map(|&entry| self.charges[entry].1).sum();
        let total = units.over(*estimate + extended);
        self.charges.push((self.now, total.saturating_sub(*estimate + extended)));
        beyond.push(self.charges.len() - 1);
        if ends {
            *is_settled = true;
            self.charges[*charge].1 -= estimate.saturating_sub(total);
            self.admitted[*admitted].1 = total.min(*estimate);
            // The newest ones go back first.
            let mut over = (*estimate + extended).saturating_sub(total.max(*estimate));
            for &entry in beyond.iter().rev() {
                let part = over.min(self.charges[entry].1);
                (over, self.charges[entry].1) = (over - part, self.charges[entry].1 - part);
            }
        }
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Checks { client, count, cost } => {
                (0..count).for_each(|_| self.check(client, cost));
            }
            Event::Pass(time) => self.now = self.now + Micros::new(time),
            Event::Crash(client) => {
                self.clients[client] = Client::default();
                let lost = self.grants.iter_mut().filter(|grant| grant.client == client);
                lost.for_each(|grant| grant.is_held = false);
            }
            Event::RenewalReply { client: number, arrives } => {
                let client = &mut self.clients[number];
                if !client.renewals.is_empty() {
                    let (renewal, granted) = client.renewals.remove(0);
                    let granted = granted.filter(|_| arrives);
                    client.leases.complete_renewal(&renewal, granted);
                    if granted.is_some() {
                        self.grants.iter_mut().rfind(|it| it.client == number).unwrap().is_held =
                            true;
                    }
                }
            }
            Event::Refund { client, all } => self.refund_unspent(client, all),
            Event::Reserve { client, cost, end } => self.reserve(client, cost, end),
            Event::Adjust { which, tenths, change } => self.adjust(which, tenths, change),
        }
    }

    /// The level in Redis.
    fn level(&self) -> u64 {
        let row = self.redis.read(&self.charge(0));
        let reading = self.limit.algorithm().read((row.as_ref(), &[]), None, self.now);
        reading.unwrap().state.unsigned_level()
    }

    /// The level if what was given back had never been charged.
    fn ideal_level(&self) -> u64 {
        let mut charges = self.charges.clone();
        charges.push((self.now, 0));
        charges.sort_unstable();
        let (mut level, mut before) = (0_u64, Micros::ZERO);
        for (at, units) in charges {
            level = level.saturating_sub(self.limit.algorithm().drained(at.since(before)));
            (level, before) = (level + self.limit.amount(units), at);
        }
        level
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// R7 for leases and what they hold of reservations, and the published bound: what was used, less
    /// the overrun, is at most the burst and the rate over the window and a lease's lifetime.
    #[test]
    fn no_more_goes_back_than_was_unused_and_no_window_has_more_than_the_bound(events in events()) {
        let mut simulation = Simulation::new();
        for event in &events {
            simulation.apply(event);
            let (real, ideal) = (simulation.level(), simulation.ideal_level());
            prop_assert!(real >= ideal, "{real} is less than {ideal} after {event:?}");
        }
        let lifetime = u64::try_from(LEASE_LIFETIME.as_micros()).unwrap();
        let admitted = &simulation.admitted;
        for (from, (first, _)) in admitted.iter().enumerate() {
            let mut cost = 0;
            for (at, units) in &admitted[from..] {
                cost += units;
                let time = at.since(*first).get() + lifetime;
                let bound = u128::from(BURST) * 1_000_000 + u128::from(RATE) * u128::from(time);
                prop_assert!(u128::from(cost) * 1_000_000 <= bound, "{cost} within {time} us");
            }
        }
    }
}
