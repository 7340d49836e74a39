//! The lines of a record, as JSON.
//!
//! Subjects and limits are digests and names; of a reservation's terms there is a digest, which
//! nobody could settle with.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::request::RecordedRequest;
use super::{Decided, Event};
use crate::algorithm::{Algorithm, CounterState, Counting as _};
use crate::judge::reservation::AdjustedCharge;
use crate::limit::{
    AdjustedUnits, Adjustment, AdjustmentKind, Charge, ChargeAdjustment, ChargeMode, Limit,
    NewReservation, ReservationName, ReservationTerms, Subject, Unit,
};
use crate::store::AdjustedReservation;
use crate::time::Micros;

/// One line of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RecordedLine {
    /// A reservation that was settled, cancelled or extended.
    Adjustment(RecordedAdjustment),
    /// A verdict.
    Decision(RecordedDecision),
    /// A decision of the node without the store.
    Unjudged(RecordedUnjudged),
    /// Decisions that could not be written.
    Gap(RecordedGap),
}

impl RecordedLine {
    /// The line of an event; `None` if it has none.
    pub(super) fn new(event: Event) -> Option<Self> {
        match event {
            Event::Decided(decided) => Some(Self::Decision(RecordedDecision::new(*decided))),
            Event::Unjudged(line) => Some(Self::Unjudged(*line)),
            Event::Adjusted(event) => {
                let (adjustment, adjusted) = &*event;
                Some(Self::Adjustment(RecordedAdjustment::new(adjustment, adjusted)))
            }
            Event::Reopen => None,
        }
    }

    /// The store's clock, and the order among lines of the same time.
    pub(super) fn order(&self) -> (u64, u64) {
        match self {
            Self::Adjustment(line) => (line.now_us, line.index),
            Self::Decision(line) => (line.now_us, line.index),
            Self::Unjudged(line) => (line.now_us, line.index),
            Self::Gap(line) => (line.now_us, line.index),
        }
    }
}

/// A place from which on decisions are missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedGap {
    /// The store's clock at the first of them, in microseconds since 1970.
    pub now_us: u64,
    /// The position of the first of them among the lines with the same `now_us`.
    pub index: u64,
    /// The number of missing lines.
    pub lost: u64,
}

impl RecordedGap {
    /// An empty gap that begins in this place of the order.
    pub(super) fn new((now_us, index): (u64, u64)) -> Self {
        Self { now_us, index, lost: 0 }
    }
}

/// One verdict of a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedDecision {
    /// The store's clock, in microseconds since 1970.
    pub now_us: u64,
    /// The position among the verdicts with the same `now_us`.
    pub index: u64,
    /// The charges of the check, in order.
    pub charges: Vec<RecordedCharge>,
    /// True if the check was allowed.
    pub allowed: bool,
    /// The level of each charge's counter before the check, and the start of its window.
    pub readings: Vec<(i64, u64)>,
    /// The reservation that the check opens if it is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserves: Option<RecordedReservation>,
    /// The label of the limit that refuses the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<Box<str>>,
    /// The request; older records have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RecordedRequest>,
}

/// A decision of the node without the store, of which a replay knows nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedUnjudged {
    /// The store's clock as the node estimates it, in microseconds since 1970.
    pub now_us: u64,
    /// 0: the store has given it no position.
    pub index: u64,
    /// The place of the decision, as in responses: `memo`, `fallback`, `new_keys`.
    pub decided_by: Box<str>,
    /// True if the check was allowed, or is a report.
    pub allowed: bool,
    /// The label of the limit that refuses the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<Box<str>>,
    /// The request.
    pub request: RecordedRequest,
}

/// A reservation as a record names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedReservation {
    name: String,
    /// A digest of its terms.
    terms: String,
    /// A digest of its check; empty after it was opened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    check: String,
    /// The time for which it is open from now on; 0 if it has ended.
    ttl_us: u64,
}

/// One change of a reservation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedAdjustment {
    /// The store's clock, in microseconds since 1970.
    pub now_us: u64,
    /// The position among the lines with the same `now_us`.
    pub index: u64,
    /// The reservation.
    pub adjusts: RecordedReservation,
    /// True if its ttl was over.
    pub late: bool,
    /// Its charges, in order.
    pub charges: Vec<RecordedAdjustedCharge>,
}

/// One charge of a changed reservation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedAdjustedCharge {
    subject: String,
    /// The limit, with the units that the charge comes to as its cost; `None` if it is gone.
    limit: Option<RecordedCharge>,
    /// True if the charge comes to no less than was charged.
    at_least: bool,
    /// The units charged before; `None` if the charge was not made.
    charged: Option<u64>,
    /// The level of its counter afterwards, and the start of its window.
    reading: Option<(i64, u64)>,
}

/// One charge of a recorded verdict. The subject is its Redis key, a digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedCharge {
    subject: String,
    limit: String,
    unit: String,
    cost: u64,
    /// True if the charge is made in any case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    always: bool,
    shadow: bool,
    #[serde(default)]
    alternative: bool,
    /// The plan, if the limit is that plan's meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meter_of: Option<String>,
    #[serde(flatten)]
    algorithm: Algorithm,
}

impl RecordedDecision {
    fn new(decided: Decided) -> Self {
        let verdict = &decided.judged.verdict;
        Self {
            now_us: verdict.now.get(),
            index: decided.judged.index,
            charges: decided.charges.iter().map(RecordedCharge::new).collect(),
            allowed: verdict.allowed,
            readings: verdict.states.iter().map(reading).collect(),
            reserves: decided.reservation.as_ref().map(RecordedReservation::new),
            refused_by: decided.refused_by.map(|label| (*label).into()),
            request: decided.request,
        }
    }
}

/// A counter's state as it is written.
pub(super) fn reading(state: &CounterState) -> (i64, u64) {
    (state.level, state.window.get())
}

/// A digest of terms: nobody can settle with it, and distinct terms stay distinct.
fn digest_terms(terms: &ReservationTerms) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(terms.as_bytes())[..ReservationTerms::SECRET_LEN])
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

impl RecordedReservation {
    fn new(new: &NewReservation) -> Self {
        Self {
            name: URL_SAFE_NO_PAD.encode(new.name.to_bytes()),
            terms: digest_terms(&new.terms),
            check: URL_SAFE_NO_PAD.encode(new.check),
            ttl_us: new.ttl.get(),
        }
    }

    fn adjusted(adjustment: &Adjustment) -> Self {
        let ttl = match adjustment.kind {
            AdjustmentKind::Close => Micros::ZERO,
            AdjustmentKind::Extend { ttl } => ttl,
        };
        Self {
            name: URL_SAFE_NO_PAD.encode(adjustment.name.to_bytes()),
            terms: digest_terms(&adjustment.terms),
            check: String::new(),
            ttl_us: ttl.get(),
        }
    }

    /// The name, and terms that stand for those of the reservation.
    pub(super) fn name_and_terms(&self) -> Option<(ReservationName, ReservationTerms)> {
        let terms: [u8; ReservationTerms::SECRET_LEN] = decode(&self.terms)?;
        Some((ReservationName::from_bytes(decode(&self.name)?), ReservationTerms::new(&terms)?))
    }

    /// The reservation for a replay; its terms are their digest.
    pub(super) fn to_new(&self) -> Option<NewReservation> {
        let (name, terms) = self.name_and_terms()?;
        let (check, ttl) = (decode(&self.check)?, Micros::new(self.ttl_us));
        Some(NewReservation { name, check, ttl, terms })
    }
}

impl RecordedAdjustment {
    fn new(adjustment: &Adjustment, adjusted: &AdjustedReservation) -> Self {
        let charges = adjustment.charges.iter().zip(&adjusted.charges);
        Self {
            now_us: adjusted.now.get(),
            index: adjusted.index,
            adjusts: RecordedReservation::adjusted(adjustment),
            late: adjusted.is_late,
            charges: charges
                .map(|(charge, after)| RecordedAdjustedCharge::new(charge, after))
                .collect(),
        }
    }

    /// The adjustment for a replay.
    pub(super) fn to_adjustment(&self) -> Option<Adjustment> {
        let (name, terms) = self.adjusts.name_and_terms()?;
        let kind = self.kind();
        let charges = self.charges.iter().map(RecordedAdjustedCharge::to_charge);
        Some(Adjustment { name, terms, kind, charges: charges.collect::<Option<_>>()? })
    }

    /// The change that it makes.
    pub(super) fn kind(&self) -> AdjustmentKind {
        match Micros::new(self.adjusts.ttl_us) {
            Micros::ZERO => AdjustmentKind::Close,
            ttl => AdjustmentKind::Extend { ttl },
        }
    }

    /// The amount of a unit that its charges come to; unknown if no charge is in this unit.
    pub(super) fn units_of(&self, unit: &Unit) -> AdjustedUnits {
        let of_unit = |charge: &RecordedAdjustedCharge| {
            let limit = charge.limit.as_ref()?;
            (limit.unit == unit.as_str()).then(|| charge.units(limit.cost))
        };
        self.charges.iter().find_map(of_unit).unwrap_or(AdjustedUnits::UNKNOWN)
    }

    /// True if the reference has adjusted the same charges to the same counters.
    pub(super) fn matches(&self, is_late: bool, charges: &[AdjustedCharge]) -> bool {
        let after = |charge: &RecordedAdjustedCharge| (charge.charged, charge.reading);
        let reference =
            |charge: &AdjustedCharge| (charge.charged, charge.state.as_ref().map(reading));
        self.late == is_late && self.charges.iter().map(after).eq(charges.iter().map(reference))
    }
}

impl RecordedAdjustedCharge {
    fn new(charge: &ChargeAdjustment, after: &AdjustedCharge) -> Self {
        let (units, at_least) = match charge.units {
            AdjustedUnits::Exactly(units) => (units, false),
            AdjustedUnits::AtLeast(units) => (units, true),
        };
        let limit = charge.look().map(|look| RecordedCharge::new(&Charge { cost: units, ..look }));
        Self {
            subject: charge.subject.redis_key(),
            limit,
            at_least,
            charged: after.charged,
            reading: after.state.as_ref().map(reading),
        }
    }

    fn to_charge(&self) -> Option<ChargeAdjustment> {
        let subject = Subject::policy("replay", &self.subject);
        let (mut limit, mut units) = (None, AdjustedUnits::UNKNOWN);
        if let Some(recorded) = &self.limit {
            let Charge { limit: found, cost, .. } = recorded.to_charge()?;
            (limit, units) = (Some(found), self.units(cost));
        }
        Some(ChargeAdjustment { subject, limit, units })
    }

    fn units(&self, cost: u64) -> AdjustedUnits {
        if self.at_least { AdjustedUnits::AtLeast(cost) } else { AdjustedUnits::Exactly(cost) }
    }
}

impl RecordedCharge {
    fn new(charge: &Charge) -> Self {
        Self {
            subject: charge.subject.redis_key(),
            limit: charge.limit.label().to_string(),
            unit: charge.limit.unit().to_string(),
            cost: charge.cost,
            always: charge.is_forced(),
            shadow: charge.limit.shadow(),
            alternative: charge.limit.alternative(),
            meter_of: charge.limit.metered_plan().map(str::to_owned),
            algorithm: charge.limit.algorithm().clone(),
        }
    }

    /// The charge to its own subject.
    pub(super) fn to_own_charge(&self) -> Option<Charge> {
        let subject = Subject::from_redis_key(&self.subject)?;
        self.to_charge().map(|charge| Charge { subject, ..charge })
    }

    /// The charge for a replay. Its subject is another one, but distinct subjects stay distinct.
    pub(super) fn to_charge(&self) -> Option<Charge> {
        let unit = Unit::new(&self.unit);
        let limit = match (&self.meter_of, self.algorithm.calendar()) {
            (Some(plan), Some(calendar)) => {
                Limit::meter(plan, unit, calendar.zone_name(), None)?.without_days()
            }
            _ => Limit::new(&self.limit, unit, self.algorithm.clone(), self.shadow),
        };
        let limit = Arc::new(if self.alternative { limit.as_alternative() } else { limit });
        let charge = Charge::new(Subject::policy("replay", &self.subject), limit, self.cost);
        let mode = if self.always { ChargeMode::Always } else { ChargeMode::IfFits };
        Some(Charge { mode, ..charge })
    }
}
