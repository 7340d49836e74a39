//! The metrics of reservations. Labels come from the catalog and from the enum of outcomes.

use prometheus::{IntCounterVec, Registry};

use super::register::counter_vec;

/// The outcome of a request about a reservation in `tollgate_reservations_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationOutcome {
    /// A check opened it.
    Opened,
    /// A retry of the check found it open.
    Replayed,
    /// It was settled within its ttl.
    Settled,
    /// It was settled or cancelled after its ttl.
    Late,
    /// It was cancelled within its ttl.
    Cancelled,
    /// It was not found: it is settled, forgotten or forged.
    Unknown,
    /// It was extended, and one of its limits is in debt.
    Stopped,
}

impl ReservationOutcome {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Replayed => "replayed",
            Self::Settled => "settled",
            Self::Late => "late",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
            Self::Stopped => "stopped",
        }
    }
}

/// The metrics of reservations.
pub struct ReservationMetrics {
    outcomes: IntCounterVec,
    reserved: IntCounterVec,
    used: IntCounterVec,
    overrun: IntCounterVec,
    expired_slots: IntCounterVec,
}

impl ReservationMetrics {
    pub(super) fn new(r: &Registry) -> Self {
        let by_limit = ["plan", "limit"];
        Self {
            outcomes: counter_vec(
                r,
                "reservations_total",
                "Requests about reservations, by plan (or policy) and outcome.",
                &["plan", "outcome"],
            ),
            reserved: counter_vec(
                r,
                "reserved_units_total",
                "Units charged by checks that opened a reservation.",
                &by_limit,
            ),
            used: counter_vec(
                r,
                "used_units_total",
                "Units that settled reservations came to.",
                &by_limit,
            ),
            overrun: counter_vec(
                r,
                "overrun_units_total",
                "Units by which settled reservations came to more than was reserved.",
                &by_limit,
            ),
            expired_slots: counter_vec(
                r,
                "slots_expired_total",
                "Slots of concurrency limits whose ttl was over before they were given back.",
                &by_limit,
            ),
        }
    }

    /// Counts an outcome.
    pub(super) fn record_outcome(&self, plan: &str, outcome: ReservationOutcome) {
        self.outcomes.with_label_values(&[plan, outcome.as_str()]).inc();
    }

    /// Counts units that were reserved.
    pub(super) fn record_reserved(&self, plan: &str, limit: &str, units: u64) {
        self.reserved.with_label_values(&[plan, limit]).inc_by(units);
    }

    /// Counts slots that have run out.
    pub(super) fn record_expired_slots(&self, plan: &str, limit: &str, slots: u64) {
        self.expired_slots.with_label_values(&[plan, limit]).inc_by(slots);
    }

    /// Counts the units that a settled charge came to, where `reserved` were expected.
    pub(super) fn record_used(&self, plan: &str, limit: &str, reserved: u64, used: u64) {
        let labels = [plan, limit];
        self.used.with_label_values(&labels).inc_by(used);
        self.overrun.with_label_values(&labels).inc_by(used.saturating_sub(reserved));
    }
}
