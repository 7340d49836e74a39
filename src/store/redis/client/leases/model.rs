//! A model check of leases: threads take, put back, renew and refund in thousands of interleavings.
//! Every unit that was charged is spent or refunded exactly once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use super::*;
use crate::algorithm::{Rate, Throttle};
use crate::limit::{Limit, Subject, Unit};

const SCHEDULES: usize = 5_000;
const GRANT: u64 = 20;

fn limit() -> Arc<Limit> {
    let throttle = Throttle::new(Rate::new(1_000, Micros::from_secs(1)).unwrap(), 500).unwrap();
    Arc::new(Limit::new("t", Unit::requests(), throttle, false).as_leased())
}

#[derive(Default)]
struct UnitTotals {
    granted: AtomicU64,
    spent: AtomicU64,
    refunded: AtomicU64,
}

struct LeaseModel {
    leases: Leases,
    charge: Charge,
    totals: UnitTotals,
}

const CLOCK: Duration = Duration::from_secs(5);
const NOW: Micros = Micros::new(9_000_000);

impl LeaseModel {
    /// Makes some checks. If `refused`, another limit of the check refuses it.
    fn check(&self, refused: bool) {
        for _ in 0..3 {
            let (cover, renewal) = self.leases.take(&self.charge, NOW, CLOCK, 1, Uncovered::InTurn);
            if let Some(renewal) = renewal {
                self.leases.complete_renewal(&renewal, None);
            }
            let Coverage::Leased(_, origin) = cover else { continue };
            if refused {
                self.leases.put_back(&self.charge, origin);
            } else {
                self.totals.spent.fetch_add(self.charge.cost, Ordering::SeqCst);
            }
        }
    }

    fn grant(&self) {
        let charge = Charge { cost: GRANT, ..self.charge.clone() };
        self.totals.granted.fetch_add(GRANT, Ordering::SeqCst);
        self.leases.complete_renewal(&Renewal::new(charge, CLOCK), Some(NOW));
    }

    fn refund_unspent(&self, clock: Duration, all: bool) {
        let refunded: u64 =
            self.leases.take_unspent(clock, all).iter().map(|refund| refund.charge.cost).sum();
        self.totals.refunded.fetch_add(refunded, Ordering::SeqCst);
    }
}

#[test]
fn every_unit_is_spent_or_refunded_exactly_once() {
    let run = || {
        let charge = Charge::new(Subject::api_key("a"), limit(), 7);
        let model = Arc::new(LeaseModel {
            leases: Leases::default(),
            charge,
            totals: UnitTotals::default(),
        });
        // Creates the counter, so that the first renewal finds it.
        let _ = model.leases.take(&model.charge, NOW, CLOCK, 1, Uncovered::Judged);
        let jobs: [fn(&LeaseModel); 6] = [
            |model| model.check(false),
            |model| model.check(false),
            |model| model.check(true),
            |model| model.grant(),
            |model| model.grant(),
            |model| model.refund_unspent(CLOCK + LEASE_LIFETIME, false),
        ];
        let threads = jobs.map(|job| {
            let model = Arc::clone(&model);
            thread::spawn(move || job(&model))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        model.refund_unspent(CLOCK, true);
        let UnitTotals { granted, spent, refunded } = &model.totals;
        let [granted, spent, refunded] =
            [granted, spent, refunded].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(granted, spent + refunded);
    };
    shuttle::check_pct(run, SCHEDULES, 3);
    shuttle::check_random(run, SCHEDULES);
}

#[test]
fn of_all_workers_one_asks_while_units_are_scarce() {
    let run = || {
        let charge = Charge::new(Subject::api_key("a"), limit(), 7);
        let leases = Arc::new(Leases::default());
        let _ = leases.take(&charge, NOW, CLOCK, 1, Uncovered::Judged);
        // 80 units are left: more than what gathers in a pause, and less than twice as many.
        leases.observe_level(&charge, charge.limit.amount(420), NOW);
        leases.observe_refusal(&charge, CLOCK);
        let workers = [(); 3].map(|()| {
            let (leases, charge) = (Arc::clone(&leases), charge.clone());
            thread::spawn(move || leases.take(&charge, NOW, CLOCK, 1, Uncovered::InTurn))
        });
        let taken = workers.map(|worker| worker.join().unwrap());
        assert!(taken.iter().all(|(coverage, _)| matches!(coverage, Coverage::Awaited(_))));
        assert_eq!(taken.iter().filter(|(_, renewal)| renewal.is_some()).count(), 1);
    };
    shuttle::check_random(run, SCHEDULES);
}
