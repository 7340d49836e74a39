//! A model check: threads take, put back, are granted and give back in thousands of interleavings.
//! Nothing is spent or given back that was not charged, and nothing twice.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use super::*;
use crate::limit::{Rate, Unit};

const SCHEDULES: usize = 5_000;
const GRANT: u64 = 20;

fn limit() -> Arc<Limit> {
    let throttle = Throttle::new(Rate::new(1_000, Micros::from_secs(1)).unwrap(), 500).unwrap();
    Arc::new(Limit::new("t", Unit::requests(), Rule::Throttle(throttle), false).leased_ahead())
}

#[derive(Default)]
struct Counts {
    granted: AtomicU64,
    spent: AtomicU64,
    given_back: AtomicU64,
}

struct Model {
    leases: Leases,
    charge: Charge,
    counts: Counts,
}

const CLOCK: Duration = Duration::from_secs(5);
const NOW: Micros = Micros::new(9_000_000);

impl Model {
    /// Some checks, each of which another limit may still refuse.
    fn check(&self, refused: bool) {
        for _ in 0..3 {
            let (cover, renewal) = self.leases.take(&self.charge, NOW, CLOCK, 1);
            if let Some(renewal) = renewal {
                self.leases.settle(&renewal, None);
            }
            let Cover::Taken(_, origin) = cover else { continue };
            if refused {
                self.leases.put_back(&self.charge, origin);
            } else {
                self.counts.spent.fetch_add(self.charge.cost, Ordering::SeqCst);
            }
        }
    }

    fn grant(&self) {
        let charge = Charge { cost: GRANT, ..self.charge.clone() };
        self.counts.granted.fetch_add(GRANT, Ordering::SeqCst);
        self.leases.settle(&Renewal { charge, asked_at: CLOCK }, Some(NOW));
    }

    fn give_back(&self, clock: Duration, all: bool) {
        let given: u64 =
            self.leases.unspent(clock, all).iter().map(|refund| refund.charge.cost).sum();
        self.counts.given_back.fetch_add(given, Ordering::SeqCst);
    }
}

#[test]
fn every_unit_is_spent_once_or_given_back_once() {
    let run = || {
        let charge = Charge { subject: Subject::api_key("a"), limit: limit(), cost: 7 };
        let model =
            Arc::new(Model { leases: Leases::default(), charge, counts: Counts::default() });
        // The counter is known from here on.
        let _ = model.leases.take(&model.charge, NOW, CLOCK, 1);
        let jobs: [fn(&Model); 6] = [
            |model| model.check(false),
            |model| model.check(false),
            |model| model.check(true),
            |model| model.grant(),
            |model| model.grant(),
            |model| model.give_back(CLOCK + LIFE, false),
        ];
        let threads = jobs.map(|job| {
            let model = Arc::clone(&model);
            thread::spawn(move || job(&model))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        model.give_back(CLOCK, true);
        let Counts { granted, spent, given_back } = &model.counts;
        let [granted, spent, given_back] =
            [granted, spent, given_back].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(granted, spent + given_back);
    };
    shuttle::check_pct(run, SCHEDULES, 3);
    shuttle::check_random(run, SCHEDULES);
}
