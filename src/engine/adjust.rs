//! Adjusting reservations: settled with what was used, cancelled, or extended.
//!
//! The charges are those in the handle, whatever has become of the key, its plan or the limits
//! since; the store knows if the handle is genuine. Nothing here is refused: what was used is
//! charged in any case.

use std::sync::Arc;

use tokio::time::Instant;

use super::observer::AdjustedCheck;
use super::{Engine, LimitOutcome, slots};
use crate::catalog::{ApiKey, Catalog, CheckError};
use crate::control::ClientKey;
use crate::judge;
use crate::limit::{AdjustedUnits, Adjustment, AdjustmentKind, ChargeAdjustment};
use crate::reservation::{Actual, Handle, ReservedAmount, ReservedCheck};
use crate::store::{AdjustReply, AdjustedReservation};
use crate::telemetry::ReservationOutcome;
use crate::time::Micros;

/// A change of a reservation, as a gateway requests it.
pub struct AdjustRequest<'a> {
    /// The handle.
    pub handle: Handle,
    /// The change.
    pub change: ReservationChange<'a>,
}

/// The kinds of changes.
pub enum ReservationChange<'a> {
    /// Charges what was used, and ends the reservation.
    Settle(Actual<'a>),
    /// Gives all back, and ends the reservation.
    Cancel,
    /// Charges what was used so far, and keeps the reservation open.
    Extend {
        /// The usage so far.
        actual: Actual<'a>,
        /// The time from now for which it stays open; that of its check if there is none.
        ttl: Option<Micros>,
    },
}

/// A reservation after a change.
#[derive(Debug)]
pub struct ReservationStatus {
    /// The units charged in all.
    pub charged: Vec<ReservedAmount>,
    /// The limits that were charged and still exist, without meters.
    pub limits: Vec<LimitOutcome>,
    /// The first limit in debt, which refuses whatever comes next.
    pub violated: Option<Arc<str>>,
    /// The time for which the reservation stays open; `None` if it has ended.
    pub open_for: Option<Micros>,
}

/// The reason why a reservation was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdjustError {
    /// The request is invalid, or the node has no catalog yet.
    Check(CheckError),
    /// There is no such reservation; nothing was charged.
    Unknown,
    /// The store is unreachable: the change may have been made, and may be repeated.
    Unavailable,
}

impl From<CheckError> for AdjustError {
    fn from(error: CheckError) -> Self {
        Self::Check(error)
    }
}

impl Engine {
    /// Changes a reservation.
    ///
    /// # Errors
    /// If there is no such reservation, if an amount is in an unknown unit, or if the store is
    /// unreachable.
    pub async fn adjust(
        &self,
        request: &AdjustRequest<'_>,
    ) -> Result<ReservationStatus, AdjustError> {
        let started = Instant::now();
        if !self.is_ready() {
            return Err(CheckError::NotReady.into());
        }
        let Handle { name, terms, check } = &request.handle;
        let key = self.reserving_key(check, started).await?;
        self.parts.reservations.note_opened();
        let (adjustment, units, label) = {
            let catalog = self.catalog();
            let units = adjusted_units(check, &request.change, &catalog)?;
            let charges = adjusted_charges(check, &units, &catalog, key.as_deref());
            let kind = match &request.change {
                ReservationChange::Settle(_) | ReservationChange::Cancel => AdjustmentKind::Close,
                ReservationChange::Extend { ttl, .. } => {
                    let limits = charges.iter().filter_map(|charge| charge.limit.as_ref());
                    let ttl = slots::open_for(ttl.or(Some(check.ttl)), limits);
                    AdjustmentKind::Extend { ttl }
                }
            };
            let label = check.label.as_deref().and_then(|label| catalog.label(label)).cloned();
            (Adjustment { name: *name, terms: terms.clone(), kind, charges }, units, label)
        };
        let in_flight = self.parts.metrics.start_checks(1);
        let reply = self.adjust_in_store(check, &adjustment, started).await?;
        drop(in_flight);
        let AdjustReply::Adjusted(adjusted) = reply else {
            self.parts.metrics.record_reservation(label.as_ref(), ReservationOutcome::Unknown);
            return Err(AdjustError::Unknown);
        };
        let status = reservation_status(check, &adjustment, &units, &adjusted);
        let outcome = outcome(&request.change, &status, adjusted.is_late);
        if let Some(outcome) = outcome {
            self.parts.metrics.record_reservation(label.as_ref(), outcome);
        }
        if check.node.is_none() {
            let event = AdjustedCheck {
                key: key.as_ref(),
                label: label.as_ref(),
                reserved: check,
                adjustment: &adjustment,
                adjusted: &adjusted,
                status: &status,
            };
            self.parts.observers.iter().for_each(|observer| observer.on_adjustment(&event));
        }
        Ok(status)
    }

    /// Adjusts a reservation where it is kept: in the store, or in the share of one node.
    async fn adjust_in_store(
        &self,
        check: &ReservedCheck,
        adjustment: &Adjustment,
        started: Instant,
    ) -> Result<AdjustReply, AdjustError> {
        let Some(node) = check.node else {
            let (leased, deadline) = (check.leased_units(), started + self.parts.deadline);
            return self.parts.store.adjust(adjustment, &leased, deadline).await.map_err(|error| {
                tracing::debug!(kind = error.kind(), %error, "a reservation is not adjusted");
                AdjustError::Unavailable
            });
        };
        // A share of the limits means nothing once the store is back.
        let is_known = node == self.parts.reservations.node && self.parts.store.is_degraded();
        Ok(if is_known { self.parts.fallback.adjust(adjustment) } else { AdjustReply::Unknown })
    }

    /// The API key of a reservation, if it is still known: its own sizes of limits apply.
    ///
    /// Without knowing, a bucket would drain at the plan's rate. Only the share of a node, which
    /// is used while the store is lost, is adjusted all the same.
    async fn reserving_key(
        &self,
        check: &ReservedCheck,
        started: Instant,
    ) -> Result<Option<Arc<ApiKey>>, AdjustError> {
        let Some(id) = check.key_id.as_deref() else { return Ok(None) };
        match self.identify(Some(ClientKey::Id(id)), started).await {
            Ok(key) => Ok(key),
            Err(CheckError::LookupUnavailable) if check.node.is_none() => {
                Err(AdjustError::Unavailable)
            }
            Err(_) => Ok(None),
        }
    }
}

/// The units that each amount of the check comes to.
fn adjusted_units(
    check: &ReservedCheck,
    change: &ReservationChange<'_>,
    catalog: &Catalog,
) -> Result<Vec<AdjustedUnits>, CheckError> {
    let actual = match change {
        ReservationChange::Cancel => {
            return Ok(vec![AdjustedUnits::Exactly(0); check.amounts.len()]);
        }
        ReservationChange::Settle(actual) => actual.clone(),
        // A count of a stream that goes on.
        ReservationChange::Extend { actual, .. } => Actual { at_least: true, ..actual.clone() },
    };
    let is_reserved = |unit: &str| check.amount(unit).is_some();
    catalog.check_units("actual", &actual.amounts, is_reserved)?;
    Ok(check.actual_units(&actual, catalog))
}

fn adjusted_charges(
    check: &ReservedCheck,
    units: &[AdjustedUnits],
    catalog: &Catalog,
    key: Option<&ApiKey>,
) -> Vec<ChargeAdjustment> {
    let adjusted = check.charges.iter().map(|charge| ChargeAdjustment {
        subject: charge.subject,
        limit: catalog.limit_by_row(charge.row, key),
        units: units[charge.unit],
    });
    adjusted.collect()
}

fn reservation_status(
    check: &ReservedCheck,
    adjustment: &Adjustment,
    units: &[AdjustedUnits],
    adjusted: &AdjustedReservation,
) -> ReservationStatus {
    let charged_units = |index: usize| {
        let of_unit = check.charges.iter().zip(&adjusted.charges);
        let mut of_unit = of_unit
            .filter(|(charge, adjusted)| charge.unit == index && adjusted.charged.is_some())
            // A slot is one whatever the cost.
            .filter(|(charge, _)| !charge.row.kind().counts_slots())
            .map(|(_, adjusted)| *adjusted);
        let first = of_unit.clone().find(|adjusted| adjusted.state.is_some());
        match first.or_else(|| of_unit.next()) {
            // The limits that count the unit are gone, so their charges stay.
            Some(adjusted) if adjusted.state.is_none() => adjusted.charged.unwrap_or_default(),
            Some(adjusted) => units[index].over(adjusted.charged.unwrap_or_default()),
            None => units[index].over(check.amounts[index].amount),
        }
    };
    let charged = check.amounts.iter().enumerate().map(|(index, reserved)| ReservedAmount {
        unit: reserved.unit.clone(),
        amount: charged_units(index),
    });
    let outcomes = adjustment.charges.iter().zip(&adjusted.charges);
    let outcomes = outcomes.filter_map(|(charge, after)| {
        let (look, state) = (charge.look()?, after.state?);
        let limit = Arc::clone(&look.limit);
        let status = judge::limit_status(&look, state, false, adjusted.now);
        let refuses = limit.refuses_alone() && !status.fits;
        (!limit.is_meter()).then_some(LimitOutcome { limit, status, refuses })
    });
    let limits: Vec<LimitOutcome> = outcomes.collect();
    let violated = limits.iter().find(|outcome| outcome.refuses);
    ReservationStatus {
        charged: charged.collect(),
        violated: violated.map(|outcome| Arc::clone(outcome.limit.name())),
        limits,
        open_for: match adjustment.kind {
            AdjustmentKind::Close => None,
            AdjustmentKind::Extend { ttl } => Some(ttl),
        },
    }
}

/// The outcome as metrics count it; `None` for an extension that goes on.
fn outcome(
    change: &ReservationChange<'_>,
    status: &ReservationStatus,
    is_late: bool,
) -> Option<ReservationOutcome> {
    match change {
        ReservationChange::Extend { .. } => {
            status.violated.as_ref().map(|_| ReservationOutcome::Stopped)
        }
        _ if is_late => Some(ReservationOutcome::Late),
        ReservationChange::Settle(_) => Some(ReservationOutcome::Settled),
        ReservationChange::Cancel => Some(ReservationOutcome::Cancelled),
    }
}
