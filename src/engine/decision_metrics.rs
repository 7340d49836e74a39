//! Decisions as metrics: one count for each check, and one for each shadow limit without room; the
//! debts that reports and settlements leave; and reservations, by the units of each limit.

use std::sync::Arc;

use smallvec::SmallVec;

use super::decision::LimitOutcome;
use super::observer::{AdjustedCheck, DecidedCheck, DecisionObserver};
use super::reserve::Reservation;
use crate::judge;
use crate::limit::AdjustmentKind;
use crate::telemetry::{DecisionOutcome, ReservationOutcome, WorkerMetrics};

impl DecisionObserver for WorkerMetrics {
    fn on_decision(&self, check: &DecidedCheck<'_>) {
        let Some(label) = check.label else { return };
        let shadow_refusals = check.decision.limits.iter();
        let shadow_refusals = shadow_refusals
            .filter(|outcome| outcome.limit.shadow() && !outcome.status.fits)
            .map(|outcome| outcome.limit.label());
        for limit in shadow_refusals {
            self.record_decision(label, Some(limit), DecisionOutcome::ShadowRefused, None);
        }
        let place = Some(check.decision.decided_by);
        self.record_decision(label, check.refusing, check.outcome, place);
        if check.outcome == DecisionOutcome::Reported {
            // A limit that the report did not charge is left out.
            let limited = check.charges.iter().filter(|charge| !charge.limit.is_meter());
            let charged = limited.zip(&check.decision.limits);
            let charged = charged.filter(|(charge, _)| charge.cost > 0);
            self.record_debts(label, charged.map(|(_, outcome)| outcome));
        }
        if let Some(reservation) = check.decision.reservation.as_deref() {
            self.record_opened(label, reservation, check);
        }
    }

    fn on_adjustment(&self, check: &AdjustedCheck<'_>) {
        let label = check.label.map_or("", |label| label);
        let charges = check.adjustment.charges.iter().zip(&check.adjusted.charges);
        let charges = charges.zip(&check.reserved.charges).filter_map(|((charge, after), of)| {
            let (limit, before) = (charge.limit.as_ref()?, after.charged?);
            let used = charge.units.over(before);
            let counts_units = !limit.is_meter() && !limit.row().kind().counts_slots();
            counts_units.then_some((limit, before, used, of.unit))
        });
        for (charge, after) in check.adjustment.charges.iter().zip(&check.adjusted.charges) {
            let changed = charge.limit.as_ref().zip(after.charged.and(after.state));
            if let Some((limit, state)) = changed.filter(|it| it.0.row().kind().counts_slots()) {
                self.record_expired_slots(label, limit.label(), state.expired_slots);
            }
        }
        let rising: SmallVec<[_; 4]> = charges
            .clone()
            .filter(|(_, before, used, _)| used > before)
            .map(|(limit, ..)| limit)
            .collect();
        let limits = check.status.limits.iter();
        let limits =
            limits.filter(|outcome| rising.iter().any(|it| Arc::ptr_eq(it, &outcome.limit)));
        self.record_debts(label, limits);
        if check.adjustment.kind == AdjustmentKind::Close {
            for (limit, _, used, unit) in charges {
                let reserved = check.reserved.amounts[unit].amount;
                self.record_used(label, limit.label(), reserved, used);
            }
        }
    }
}

impl WorkerMetrics {
    /// Records the debts among these limits.
    fn record_debts<'o>(&self, label: &str, limits: impl Iterator<Item = &'o LimitOutcome>) {
        for outcome in limits.filter(|outcome| outcome.status.debt > 0) {
            self.record_debt(label, outcome.limit.label(), outcome.status.debt);
        }
    }

    /// Counts a reservation, and the units that the store has charged to each limit for it.
    fn record_opened(&self, label: &Arc<str>, reservation: &Reservation, check: &DecidedCheck<'_>) {
        let Reservation::Open { replayed, .. } = reservation else { return };
        let outcome =
            if *replayed { ReservationOutcome::Replayed } else { ReservationOutcome::Opened };
        self.record_reservation(Some(label), outcome);
        let Some(judged) = check.verdict else { return };
        for (charge, state) in check.charges.iter().zip(&judged.verdict.states) {
            let made = judge::is_made(charge, *state, judged.verdict.allowed);
            if made && charge.limit.row().kind().counts_slots() {
                self.record_expired_slots(label, charge.limit.label(), state.expired_slots);
            } else if made && !charge.limit.is_meter() {
                self.record_reserved(label, charge.limit.label(), charge.cost);
            }
        }
    }
}
