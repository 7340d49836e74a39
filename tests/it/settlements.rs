//! R7 of reservations: after every settlement a bucket stands at least as high as if each settled
//! reservation had been charged its actual cost at its start, and exactly as high as long as no
//! mark had to be dropped and nothing overshot. Quotas conserve their counts.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate::algorithm::{Calendar, Counting as _, Period, Quota, Throttle};
use tollgate::judge::reservation::{Adjusted, Reserved, adjust, reserve};
use tollgate::judge::{RowTable, Rows as _, judge, offered_windows};
use tollgate::limit::{
    AdjustedUnits, Adjustment, AdjustmentKind, Charge, ChargeAdjustment, ChargeMode, Limit,
    NewReservation, ReservationName, ReservationTerms, Subject, Unit,
};
use tollgate::time::Micros;

/// Rates whose levels all count the same parts of a unit.
const RATES: [&str; 4] = ["1.000001/s", "3.000001/s", "20.000001/s", "0.200001/s"];
const BURST: u64 = 100;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The clock moves, in ms.
    Clock(i64),
    Rate(usize),
    /// A reservation of so many units.
    Reserve(u64),
    /// A plain check, or a report.
    Charge(u64, ChargeMode),
    /// An open reservation is settled for these 16ths of its estimate.
    Settle {
        which: usize,
        part: u64,
    },
    /// It is extended and charged at least so many 16ths.
    Extend {
        which: usize,
        part: u64,
    },
    /// The store loses the subject.
    Forget,
}

fn events(len: usize, overshoot: bool) -> impl Strategy<Value = Vec<Event>> {
    let most: u64 = if overshoot { 32 } else { 16 };
    let steady = prop_oneof![
        3 => (0_i64..40_000).prop_map(Event::Clock),
        1 => (-30_000_i64..0).prop_map(Event::Clock),
        1 => (0_usize..RATES.len()).prop_map(Event::Rate),
        4 => (1_u64..60).prop_map(Event::Reserve),
        2 => (1_u64..40).prop_map(|units| Event::Charge(units, ChargeMode::IfFits)),
        4 => (any::<usize>(), 0..=most).prop_map(|(which, part)| Event::Settle { which, part }),
    ];
    let faulty = prop_oneof![
        3 => (1_u64..40).prop_map(|units| Event::Charge(units, ChargeMode::Always)),
        3 => (any::<usize>(), 0..=most).prop_map(|(which, part)| Event::Extend { which, part }),
        1 => Just(Event::Forget),
    ];
    if overshoot {
        vec(prop_oneof![16 => steady.boxed(), 1 => faulty.boxed()], 1..len).boxed()
    } else {
        vec(steady, 1..len).boxed()
    }
}

/// A bucket, and what would have happened to it had every settled charge been known at its start.
struct History {
    rows: RowTable,
    now: Micros,
    rate: usize,
    open: Vec<Open>,
    count: u64,
    /// The clock of the bucket's last change.
    at: Option<Micros>,
    /// Each change of the level: what drained, or an index into `charges`.
    path: Vec<Step>,
    charges: Vec<u64>,
}

#[derive(Clone)]
struct Open {
    new: NewReservation,
    estimate: u64,
    /// The indices of its charges, that at its start first, and the units of each.
    charges: Vec<(usize, u64)>,
}

enum Step {
    Drained(u64),
    Charged(usize),
}

impl History {
    fn new() -> Self {
        Self {
            rows: RowTable::default(),
            now: Micros::from_secs(1_800_000_000),
            rate: 1,
            open: Vec::new(),
            count: 0,
            at: None,
            path: Vec::new(),
            charges: Vec::new(),
        }
    }

    fn charge(&self, cost: u64) -> Charge {
        let throttle = Throttle::new(RATES[self.rate].parse().unwrap(), BURST).unwrap();
        let limit = Limit::new("tpm", Unit::requests(), throttle, false);
        Charge::new(Subject::api_key("a"), Arc::new(limit), cost)
    }

    /// A call that writes nothing, unless the clock has stepped back behind the bucket.
    fn look(&mut self) {
        if self.at.is_some_and(|at| at > self.now) {
            self.touch();
        }
    }

    /// A call that writes the bucket.
    fn touch(&mut self) {
        let drained =
            self.charge(0).limit.algorithm().drained(self.now.since(self.at.unwrap_or(self.now)));
        self.path.push(Step::Drained(drained));
        self.at = Some(self.now);
    }

    fn charged(&mut self, amount: u64) -> usize {
        self.charges.push(amount);
        self.path.push(Step::Charged(self.charges.len() - 1));
        self.charges.len() - 1
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Clock(millis) => {
                let micros = self.now.get().saturating_add_signed(millis * 1_000);
                self.now = Micros::new(micros);
            }
            Event::Rate(rate) => {
                // The new rate drains from the last change on; so does the path.
                self.rate = rate;
            }
            Event::Reserve(units) => self.reserve(units),
            Event::Charge(units, mode) => {
                let charge = Charge { mode, ..self.charge(units) };
                let verdict =
                    judge(std::slice::from_ref(&charge), &[None], self.now, &mut self.rows)
                        .unwrap();
                if verdict.allowed || charge.is_forced() {
                    self.touch();
                    self.charged(charge.amount());
                } else {
                    self.look();
                }
            }
            Event::Settle { which, part } => self.adjust(which, part, None),
            Event::Extend { which, part } => {
                self.adjust(which, part, Some(Micros::from_secs(3_600)));
            }
            Event::Forget => {
                self.rows.forget(Subject::api_key("a"));
                self.path.clear();
                self.at = None;
            }
        }
    }

    fn reserve(&mut self, units: u64) {
        let charge = self.charge(units);
        self.count += 1;
        let new = NewReservation {
            name: ReservationName::new(&charge.subject, &self.count.to_string()),
            check: [0; 8],
            ttl: Micros::from_secs(3_600),
            terms: ReservationTerms::new(&self.count.to_le_bytes()).unwrap(),
        };
        let charges = [charge.clone()];
        let reserved = reserve(&charges, &[None], &new, self.now, &mut self.rows).unwrap();
        if matches!(reserved, Reserved::Judged(verdict) if verdict.allowed) {
            self.touch();
            let index = self.charged(charge.amount());
            self.open.push(Open { new, estimate: units, charges: vec![(index, units)] });
        } else {
            self.look();
        }
    }

    fn adjust(&mut self, which: usize, part: u64, extend: Option<Micros>) {
        if self.open.is_empty() {
            return;
        }
        let place = which % self.open.len();
        let Open { new, estimate, mut charges } = self.open[place].clone();
        let units = estimate * part / 16;
        let charge = self.charge(units);
        let (kind, units) = match extend {
            Some(ttl) => (AdjustmentKind::Extend { ttl }, AdjustedUnits::AtLeast(units)),
            None => (AdjustmentKind::Close, AdjustedUnits::Exactly(units)),
        };
        let adjusted =
            ChargeAdjustment { subject: charge.subject, limit: Some(charge.limit.clone()), units };
        let adjustment =
            Adjustment { name: new.name, terms: new.terms.clone(), kind, charges: vec![adjusted] };
        let done = adjust(&adjustment, &[None], self.now, &mut self.rows).unwrap();
        let Adjusted::Done { charges: adjusted, .. } = done else {
            // Its ttl and ten minutes are over.
            self.open.remove(place);
            return;
        };
        self.touch();
        let mut left = units.over(adjusted[0].charged.unwrap());
        for (index, units) in &mut charges {
            *units = left.min(*units);
            left -= *units;
            self.charges[*index] = charge.limit.amount(*units);
        }
        // Units beyond its charges are charged now.
        let index = self.charged(charge.limit.amount(left));
        charges.push((index, left));
        if extend.is_some() {
            self.open[place].charges = charges;
        } else {
            self.open.remove(place);
        }
    }

    fn level(&self) -> u64 {
        let look = self.charge(0);
        let row = self.rows.read(&look);
        let reading = look.limit.algorithm().read((row.as_ref(), &[]), None, self.now);
        reading.unwrap().state.unsigned_level()
    }

    /// The level had every settled reservation been charged its actual cost at its start.
    fn ideal(&self) -> u64 {
        let end =
            self.charge(0).limit.algorithm().drained(self.now.since(self.at.unwrap_or(self.now)));
        let level = self.path.iter().fold(0_u64, |level, step| match step {
            Step::Drained(drained) => level.saturating_sub(*drained),
            Step::Charged(index) => level + self.charges[*index],
        });
        level.saturating_sub(end)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_settled_bucket_never_stands_lower_than_had_the_actual_been_charged_at_the_start(
        events in events(120, true),
    ) {
        let mut history = History::new();
        for event in events {
            history.apply(event);
            let (level, ideal) = (history.level(), history.ideal());
            prop_assert!(level >= ideal, "{level} < {ideal} after {event:?}");
        }
    }

    #[test]
    fn it_stands_exactly_so_high_without_overshoot_as_long_as_every_reservation_has_a_mark(
        events in events(60, false),
    ) {
        let mut history = History::new();
        for event in events {
            history.apply(event);
            if history.count > 8 {
                break;
            }
            let (level, ideal) = (history.level(), history.ideal());
            prop_assert_eq!(level, ideal, "after {:?}", event);
        }
    }

    #[test]
    fn a_quota_counts_what_was_finally_charged_in_any_order_within_its_window(
        reserved in vec((1_u64..50, 0_u64..100, any::<bool>(), any::<u32>()), 1..30),
    ) {
        let calendar = Arc::new(Calendar::new(Period::Day, "UTC").unwrap());
        let quota = Quota { limit: 10_000, calendar };
        let limit = Arc::new(Limit::new("q", Unit::requests(), quota, false));
        let (mut rows, now) = (RowTable::default(), Micros::from_secs(1_800_000_000));
        let subject = Subject::api_key("a");
        let look = [Charge::new(subject, Arc::clone(&limit), 0)];
        let offered = offered_windows(&look, now);
        let mut settlements = Vec::new();
        for (number, (estimate, actual, twice, order)) in reserved.into_iter().enumerate() {
            let new = NewReservation {
                name: ReservationName::new(&subject, &number.to_string()),
                check: [0; 8],
                ttl: Micros::from_secs(60),
                terms: ReservationTerms::new(&number.to_le_bytes()).unwrap(),
            };
            let charge = Charge { cost: estimate, ..look[0].clone() };
            reserve(&[charge], &offered, &new, now, &mut rows).unwrap();
            let times = if twice { 2 } else { 1 };
            settlements.extend((0..times).map(|time| (order ^ time, new.clone(), actual)));
        }
        let expected: u64 = {
            let mut names: Vec<_> = settlements.iter().map(|(_, new, actual)| (new.name, *actual)).collect();
            names.sort_unstable();
            names.dedup();
            names.iter().map(|(_, actual)| actual).sum()
        };
        settlements.sort_by_key(|(order, ..)| *order);
        for (_, new, actual) in settlements {
            let charge = ChargeAdjustment {
                subject,
                limit: Some(Arc::clone(&limit)),
                units: AdjustedUnits::Exactly(actual),
            };
            let adjustment = Adjustment {
                name: new.name,
                terms: new.terms,
                kind: AdjustmentKind::Close,
                charges: vec![charge],
            };
            adjust(&adjustment, &offered, now, &mut rows).unwrap();
        }
        let counted = judge(&look, &offered, now, &mut rows).unwrap().states[0].level;
        prop_assert_eq!(counted, expected.cast_signed());
    }
}
