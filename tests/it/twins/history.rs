//! Random histories: clock steps, changes of limits, checks of several limits and subjects.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate::algorithm::{
    Algorithm, Calendar, ChargeTime, Concurrency, Correction, Period, Quota, Throttle, WindowStart,
};
use tollgate::judge::Verdict;
use tollgate::limit::{Charge, ChargeMode, Charges, Limit, Refund, Subject, Unit};
use tollgate::time::Micros;

use super::foreign_rows::Planting;
use super::plan::{VERSIONS, correction, versions};
use super::reservations::{ReservationStep, reservation_steps};

/// 2026-03-28, a day before summer time begins in Europe.
pub const START: Micros = Micros::new(1_774_656_000_000_000);

const RATES: [&str; 14] = [
    "1/s",
    "10/s",
    "3/min",
    "7/h",
    "1234567/d",
    "0.1/s",
    "1000000/s",
    "5000000/s",
    "333.333/s",
    "1/d",
    "99999/h",
    "0.000001/s",
    "123456789/min",
    "2/s",
];
const BURSTS: [u64; 9] = [1, 2, 5, 10, 100, 12_345, 1_000_000, 1 << 33, (1 << 53) - 1];
const QUOTAS: [u64; 5] = [1, 3, 10, 1000, (1 << 53) - 1];
pub const CONCURRENCIES: [u64; 4] = [1, 2, 4, 400];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"];

/// The move of the clock before a step.
#[derive(Clone, Debug)]
pub enum ClockMove {
    /// By so many microseconds.
    By(i64),
    /// By a multiple of the time in which one unit of a throttle drains, plus an offset.
    Drains { slot: usize, times: u32, off: i64 },
}

/// True if the limit is in shadow; true if it is one of the check's alternatives.
type Mode = (bool, bool);

/// A limit as a slot may have it.
#[derive(Clone, Debug)]
pub enum LimitSpec {
    Throttle { rate: usize, burst: usize, mode: Mode },
    Quota { limit: usize, period: u8, zone: usize, mode: Mode },
    Concurrency { limit: usize, mode: Mode },
}

/// One charge: which subject, which slot, and a cost of the limit's size.
#[derive(Clone, Debug)]
pub struct ChargeSpec {
    subject: usize,
    slot: usize,
    cost: CostSpec,
    forced: bool,
}

#[derive(Clone, Copy, Debug)]
enum CostSpec {
    Units(u64),
    /// The burst or quota, and so much more or less.
    Capacity(i64),
    /// This part of it, in 64ths.
    Part(u64),
}

/// One call to the store.
#[derive(Clone, Debug)]
pub struct HistoryStep {
    clock: ClockMove,
    change: Option<(usize, LimitSpec)>,
    /// Which of the last charges, and how many 64ths of it.
    refunds: Vec<(usize, u64)>,
    /// Of which subject by which version of the plan, and for each which limit.
    corrections: (usize, usize, Vec<(usize, Correction)>),
    checks: Vec<Vec<ChargeSpec>>,
    /// Operations on reservations, after the checks.
    pub reservations: Vec<ReservationStep>,
    /// The row of an unknown kind that is planted before the checks.
    pub planting: Option<Planting>,
    /// True if the store takes no new subjects during the checks.
    pub is_full: bool,
}

impl HistoryStep {
    /// A step without refunds, corrections and planted rows.
    pub fn new(
        clock: ClockMove,
        change: Option<(usize, LimitSpec)>,
        checks: Vec<Vec<ChargeSpec>>,
        reservations: Vec<ReservationStep>,
    ) -> Self {
        let (refunds, corrections) = (Vec::new(), (0, 0, Vec::new()));
        let (planting, is_full) = (None, false);
        Self { clock, change, refunds, corrections, checks, reservations, planting, is_full }
    }
}

impl ChargeSpec {
    /// So many units of the second subject and a slot.
    pub fn of_units(slot: usize, units: u64) -> Self {
        Self { subject: 1, slot, cost: CostSpec::Units(units), forced: false }
    }
}

const SLOTS: usize = 4;
const SUBJECTS: usize = 3;
/// Charges that are remembered, to be given back.
const RECENT_CHARGES: usize = 12;

pub fn histories(steps: usize) -> impl Strategy<Value = Vec<HistoryStep>> {
    vec(step(), 1..=steps)
}

fn step() -> impl Strategy<Value = HistoryStep> {
    let clock = prop_oneof![
        4 => (0_i64..50).prop_map(ClockMove::By),
        3 => (0..SLOTS, 0_u32..6, -1_i64..=1).prop_map(|(slot, times, off)| ClockMove::Drains { slot, times, off }),
        2 => (0_i64..3_000_000).prop_map(ClockMove::By),
        1 => (0_i64..200_000_000_000).prop_map(ClockMove::By),
        1 => (-3_000_000_i64..0).prop_map(ClockMove::By),
        1 => (-400_000_000_000_i64..0).prop_map(ClockMove::By),
    ];
    let change = prop_oneof![4 => Just(None), 1 => (0..SLOTS, limit_spec()).prop_map(Some)];
    let refunds = vec((0..RECENT_CHARGES, 1_u64..=64), 0..3);
    let corrections = (0..SUBJECTS, 0..VERSIONS, vec((0_usize..3, correction()), 0..3));
    let corrections = prop_oneof![3 => Just((0, 0, Vec::new())), 1 => corrections];
    let planting = (0..SUBJECTS, prop::bool::weighted(0.3), any::<u8>(), 0_u8..60);
    let planting = prop::option::weighted(0.05, planting);
    let checks = vec(vec(charge_spec(), 1..4), 1..4);
    let is_full = prop::bool::weighted(0.15);
    (clock, change, refunds, corrections, checks, reservation_steps(), planting, is_full).prop_map(
        |(clock, change, refunds, corrections, checks, reservations, planting, is_full)| {
            HistoryStep {
                clock,
                change,
                refunds,
                corrections,
                checks,
                reservations,
                planting,
                is_full,
            }
        },
    )
}

fn mode() -> impl Strategy<Value = Mode> {
    (prop::bool::weighted(0.15), prop::bool::weighted(0.3))
}

/// A concurrency limit; the last one is the largest.
pub fn concurrency() -> impl Strategy<Value = LimitSpec> {
    (0..CONCURRENCIES.len(), mode())
        .prop_map(|(limit, mode)| LimitSpec::Concurrency { limit, mode })
}

fn limit_spec() -> impl Strategy<Value = LimitSpec> {
    prop_oneof![
        3 => (0..RATES.len(), 0..BURSTS.len(), mode())
            .prop_map(|(rate, burst, mode)| LimitSpec::Throttle { rate, burst, mode }),
        1 => (0..QUOTAS.len(), 0_u8..7, 0..ZONES.len(), mode())
            .prop_map(|(limit, period, zone, mode)| LimitSpec::Quota { limit, period, zone, mode }),
        1 => concurrency(),
    ]
}

pub fn charge_spec() -> impl Strategy<Value = ChargeSpec> {
    let cost = prop_oneof![
        1 => Just(CostSpec::Units(0)),
        6 => (1_u64..4).prop_map(CostSpec::Units),
        1 => any::<u32>().prop_map(|units| CostSpec::Units(units.into())),
        2 => (-1_i64..=1).prop_map(CostSpec::Capacity),
        2 => (1_u64..64).prop_map(CostSpec::Part),
    ];
    let forced = prop::bool::weighted(0.1);
    (0..SUBJECTS, 0..SLOTS + VERSIONS, cost, forced)
        .prop_map(|(subject, slot, cost, forced)| ChargeSpec { subject, slot, cost, forced })
}

/// The state of a history: clock, limits and recent charges.
pub struct World {
    now: Micros,
    slots: Vec<Arc<Limit>>,
    versions: [Vec<Arc<Limit>>; VERSIONS],
    charged: VecDeque<Refund>,
    /// True once a limit was changed. A check that first keeps a day may then drop a row that a dry
    /// run still finds: the row's limit would have drained by now, and the limit of today has not.
    pub has_changed_limits: bool,
}

impl Default for World {
    fn default() -> Self {
        let first = [
            LimitSpec::Throttle { rate: 1, burst: 2, mode: (false, false) },
            LimitSpec::Quota { limit: 2, period: 0, zone: 1, mode: (false, false) },
            LimitSpec::Throttle { rate: 4, burst: 3, mode: (false, false) },
            LimitSpec::Throttle { rate: 2, burst: 1, mode: (true, false) },
        ];
        let slots = first.iter().enumerate().filter_map(|(slot, spec)| limit(slot, spec)).collect();
        let (versions, charged) = (versions(), VecDeque::new());
        Self { now: START, slots, versions, charged, has_changed_limits: false }
    }
}

impl World {
    pub fn subjects() -> impl Iterator<Item = Subject> {
        (0..SUBJECTS).map(|number| match number {
            0 => Subject::api_key("one").method("GET /"),
            number => Subject::policy("p", &number.to_string()),
        })
    }

    /// The time of the current step.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Moves the clock and changes limits as `step` says.
    pub fn advance(&mut self, step: &HistoryStep) -> Micros {
        let by = match step.clock {
            ClockMove::By(by) => by,
            ClockMove::Drains { slot, times, off } => {
                let interval = self.slots[slot].algorithm().throttle().map_or(0, |throttle| {
                    (throttle.per() / throttle.drain()).min(1 << 40).cast_signed()
                });
                interval * i64::from(times) + off
            }
        };
        let earliest = START.get().cast_signed() - 1_000_000_000_000;
        let now = (self.now.get().cast_signed() + by).clamp(earliest, earliest + (1 << 50));
        self.now = Micros::new(now.cast_unsigned());
        if let Some((slot, spec)) = &step.change
            && let Some(limit) = limit(*slot, spec)
        {
            self.has_changed_limits = true;
            self.slots[*slot] = limit;
        }
        self.now
    }

    /// Remembers the charges of an allowed check.
    pub fn record(&mut self, charges: &Charges, verdict: &Verdict) {
        for (charge, state) in charges.iter().zip(&verdict.states) {
            let (charge, window): (_, WindowStart) = (charge.clone(), state.window);
            self.charged
                .push_front(Refund { charge, charged: ChargeTime { at: verdict.now, window } });
        }
        self.charged.truncate(RECENT_CHARGES);
    }

    /// The step's refunds, also of charges under other limits, and more than once.
    pub fn refunds(&self, step: &HistoryStep) -> Vec<Refund> {
        let part = |&(which, part): &(usize, u64)| {
            let charged = self.charged.get(which)?;
            let cost = charged.charge.cost.div_ceil(64) * part;
            Some(Refund { charge: Charge { cost, ..charged.charge.clone() }, ..charged.clone() })
        };
        step.refunds.iter().filter_map(part).collect()
    }

    /// The step's corrections. A meter gets no grants.
    pub fn corrections(&self, step: &HistoryStep) -> (Vec<Charge>, Vec<(usize, Correction)>) {
        let (subject, version, corrections) = &step.corrections;
        let charges = self.peeks(*subject, *version);
        let places = corrections.iter().map(|(place, what)| (place % charges.len(), *what));
        let valid = |(place, what): &(usize, Correction)| {
            matches!(what, Correction::Refund(_)) || !charges[*place].limit.is_meter()
        };
        let valid = places.filter(valid).collect();
        (charges, valid)
    }

    /// Peeks at all counters whose days are kept.
    pub fn tracked(&self) -> Vec<Charge> {
        let peeks = |subject| (0..VERSIONS).flat_map(move |version| self.peeks(subject, version));
        (0..SUBJECTS).flat_map(peeks).filter(|charge| charge.limit.tracks_days()).collect()
    }

    fn peeks(&self, subject: usize, version: usize) -> Vec<Charge> {
        let subject = Self::subjects().nth(subject).unwrap();
        let peek = |limit: &Arc<Limit>| Charge::new(subject, Arc::clone(limit), 0);
        self.versions[version].iter().map(peek).collect()
    }

    /// The step's checks.
    pub fn checks(&self, step: &HistoryStep) -> Vec<Charges> {
        step.checks.iter().map(|specs| self.check(specs)).collect()
    }

    /// A check, which charges no counter twice.
    pub fn check(&self, specs: &[ChargeSpec]) -> Charges {
        let subjects: Vec<Subject> = Self::subjects().collect();
        let mut charges = Charges::new();
        for charge_spec in specs {
            let limits = match charge_spec.slot.checked_sub(SLOTS) {
                None => std::slice::from_ref(&self.slots[charge_spec.slot]),
                Some(version) => &self.versions[version],
            };
            let cost = cost(charge_spec.cost, limits[0].capacity());
            let subject = subjects[charge_spec.subject];
            for limit in limits {
                let twice =
                    |other: &Charge| other.subject == subject && other.limit.row() == limit.row();
                if !charges.iter().any(twice) {
                    let mode =
                        if charge_spec.forced { ChargeMode::Always } else { ChargeMode::IfFits };
                    let charge = Charge::new(subject, Arc::clone(limit), cost);
                    charges.push(Charge { mode, ..charge });
                }
            }
        }
        charges
    }
}

fn cost(spec: CostSpec, capacity: u64) -> u64 {
    match spec {
        CostSpec::Units(units) => units,
        CostSpec::Capacity(off) => capacity.saturating_add_signed(off),
        CostSpec::Part(part) => (capacity / 64).max(1) * part,
    }
}

/// A slot's limit; a throttle keeps its name through all changes of rate and burst.
fn limit(slot: usize, spec: &LimitSpec) -> Option<Arc<Limit>> {
    let (algorithm, (shadow, alternative)) = match *spec {
        LimitSpec::Throttle { rate, burst, mode } => {
            let throttle = Throttle::new(RATES[rate].parse().unwrap(), BURSTS[burst]).ok()?;
            (Algorithm::from(throttle), mode)
        }
        LimitSpec::Quota { limit, period, zone, mode } => {
            let period = match period {
                0 => Period::Day,
                1 => Period::Week(jiff::civil::Weekday::Monday),
                2 => Period::Week(jiff::civil::Weekday::Thursday),
                3 => Period::Month(1),
                4 => Period::Month(31),
                5 => Period::Seconds(NonZeroU32::MIN),
                _ => Period::Seconds(NonZeroU32::new(3600).unwrap()),
            };
            let calendar = Arc::new(Calendar::new(period, ZONES[zone]).unwrap());
            (Quota { limit: QUOTAS[limit], calendar }.into(), mode)
        }
        LimitSpec::Concurrency { limit, mode } => {
            (Concurrency::new(CONCURRENCIES[limit], Micros::from_secs(60)).unwrap().into(), mode)
        }
    };
    let limit = Limit::new(&format!("slot{slot}"), Unit::requests(), algorithm, shadow);
    let limit = limit.as_open_ended();
    Some(Arc::new(if alternative { limit.as_alternative() } else { limit }))
}
