//! Dry runs: the decision that a check would get now, of which nothing stays.
//!
//! No observer sees them, so they are in no metric of decisions, no record, no webhook and not in
//! the denial memo. They are judged as a check is otherwise: by the memo, the leases of the worker,
//! the store, and the failure policy.

use tokio::time::Instant;

use super::fallback::{Fallback, FallbackDecision, LocalReservation};
use super::full_store::without_new;
use super::new_reservation::new_reservation;
use super::repeat::OpenReservation;
use super::reserve::PreparedReservation;
use super::{
    DecidedBy, Decision, DecisionStatus, Engine, PlanContext, Reservation, ReservationRequest,
    slots,
};
use crate::catalog::{Catalog, CheckError, CheckRequest, Cost};
use crate::control::ClientKey;
use crate::limit::{Charge, Charges, NewReservation};
use crate::reservation::ReservedCheck;
use crate::store::{CheckContext, HeldLeases, ReserveReply, StoreError, StoreVerdict};
use crate::time::Micros;

/// A check that is ready to be run dry.
pub(super) struct DryCheck<'i, 'r, 'q> {
    plan: PlanContext<'r, 'q>,
    /// Its charges, as the store would judge them.
    pub(super) charges: Charges,
    reservation: Option<DryReservation<'i>>,
    pub(super) deadline: Instant,
}

/// A reservation that a dry run requests.
struct DryReservation<'r> {
    id: Option<&'r str>,
    cost: Cost<'static>,
    ttl: Micros,
}

/// A check and the reservation that it would open.
type Opening = Option<(ReservedCheck, NewReservation)>;

impl Engine {
    /// Decides a check as [`Engine::check`] or, if it requests a reservation, as
    /// [`Engine::reserve`] would now. Nothing is charged, opened, counted or remembered.
    ///
    /// # Errors
    /// As the check itself.
    pub async fn dry_run(
        &self,
        client: Option<ClientKey<'_>>,
        request: &CheckRequest<'_>,
        reservation: Option<&ReservationRequest<'_>>,
        context: &CheckContext,
    ) -> Result<Decision, CheckError> {
        match (self.dry_run_now(client, request, reservation, context).await, reservation) {
            (Err(refusal @ CheckError::Invalid { .. }), Some(asked)) => {
                let open = Box::pin(self.find_open(client, request, asked, context)).await;
                let OpenReservation { prepared, verdict, terms } = open.ok_or(refusal)?;
                let PreparedReservation { plan, charges, check, new } = prepared;
                let reply = ReserveReply::Replayed(verdict, terms);
                self.dry_run_by_reply(&plan, &charges, Some((check, new)), reply)
            }
            (decided, _) => decided,
        }
    }

    /// As [`Engine::dry_run`], for a check that today's catalog accepts.
    async fn dry_run_now(
        &self,
        client: Option<ClientKey<'_>>,
        request: &CheckRequest<'_>,
        reservation: Option<&ReservationRequest<'_>>,
        context: &CheckContext,
    ) -> Result<Decision, CheckError> {
        let catalog = arc_swap::Guard::into_inner(self.catalog());
        let check = self.prepare_dry_run(&catalog, client, request, reservation).await?;
        self.decide_dry(&check, request, context, true).await
    }

    /// A check that is ready to be run dry.
    pub(super) async fn prepare_dry_run<'i, 'r, 'q>(
        &self,
        catalog: &Catalog,
        client: Option<ClientKey<'_>>,
        request: &'r CheckRequest<'q>,
        reservation: Option<&ReservationRequest<'i>>,
    ) -> Result<DryCheck<'i, 'r, 'q>, CheckError> {
        let started = Instant::now();
        let key = self.identify(client, started).await;
        let (plan, mut charges) = self.resolve(catalog, client, key, request)?;
        let reservation = match reservation {
            None => {
                slots::only_read(&mut charges)?;
                None
            }
            Some(asked) => {
                let cost = catalog.reserve_costs(request, &mut charges)?.into_owned();
                let ttl = slots::take(&mut charges, asked.ttl);
                Some(DryReservation { id: asked.id, cost, ttl })
            }
        };
        let deadline = started + self.parts.deadline;
        Ok(DryCheck { plan, charges, reservation, deadline })
    }

    /// Decides a check that is ready; without `meets_memo` as if no refusal were remembered.
    pub(super) async fn decide_dry(
        &self,
        check: &DryCheck<'_, '_, '_>,
        request: &CheckRequest<'_>,
        context: &CheckContext,
        meets_memo: bool,
    ) -> Result<Decision, CheckError> {
        let DryCheck { plan, reservation, deadline, .. } = check;
        let mut charges = check.charges.clone();
        if let Some(decision) = self.dry_run_without_store(check, meets_memo) {
            return Ok(decision);
        }
        let mut is_full = false;
        loop {
            let opening = reservation.as_ref().map(|asked| {
                let (cost, none) = (&asked.cost, HeldLeases::default());
                new_reservation(plan, &charges, request, asked.id, cost, asked.ttl, &none)
            });
            let opening = opening.transpose()?;
            let new = opening.as_ref().map(|(_, new)| new);
            let reply = self.parts.store.dry_run(&charges, new, context, *deadline).await;
            return match reply {
                Err(StoreError::NewSubject(subject)) => {
                    match without_new(*subject, plan, &charges) {
                        Ok(rest) => {
                            (charges, is_full) = (rest, true);
                            continue;
                        }
                        Err(policy) => {
                            let fallback = self.parts.fallback.dry_run(&charges, policy, None);
                            let (fallback, _) = fallback.ok_or(CheckError::ReservationConflict)?;
                            Ok(fall_back(plan, (fallback.because_full(), None), opening))
                        }
                    }
                }
                Err(error) => self.dry_run_by_fallback(plan, &charges, opening, &error),
                Ok(reply) => {
                    let mut decision = self.dry_run_by_reply(plan, &charges, opening, reply)?;
                    if is_full {
                        decision.decided_by = DecidedBy::FullStore;
                    }
                    Ok(decision)
                }
            };
        }
    }

    /// The decision that the node would make before it asks the store.
    fn dry_run_without_store(
        &self,
        check: &DryCheck<'_, '_, '_>,
        meets_memo: bool,
    ) -> Option<Decision> {
        let DryCheck { plan, charges, reservation, .. } = check;
        // As for the reservation itself: with an id it may be open, and it does not meet the memo.
        let has_id = reservation.as_ref().is_some_and(|asked| asked.id.is_some());
        if let Some((_, decision)) = self.too_large(plan, charges).filter(|_| !has_id) {
            return Some(decision);
        }
        let memo = self.memo.as_ref().filter(|_| meets_memo && reservation.is_none());
        let refusal = memo.and_then(|memo| memo.peek(charges));
        let mut decision = refusal.or_else(|| self.parts.known_subjects.would_refuse(charges))?;
        decision.set_key_and_plan(plan.key.clone(), plan.name.clone());
        Some(decision)
    }

    fn dry_run_by_reply(
        &self,
        plan: &PlanContext<'_, '_>,
        charges: &Charges,
        mut opening: Opening,
        reply: ReserveReply,
    ) -> Result<Decision, CheckError> {
        let (mut decision, replayed) = match reply {
            ReserveReply::Judged(verdict) => {
                let too_large = self.too_large(plan, charges).filter(|_| opening.is_some());
                if let Some((_, decision)) = too_large.filter(|_| !verdict.verdict.allowed) {
                    return Ok(decision);
                }
                (self.decide_by_verdict(charges, &verdict), false)
            }
            ReserveReply::Replayed(verdict, terms) => {
                let opened = ReservedCheck::decode(&terms);
                let opened = opened.ok_or(CheckError::ReservationConflict)?;
                opening = opening.map(|(_, new)| (opened, new));
                (self.replayed(charges, &verdict), true)
            }
            ReserveReply::Conflict => return Err(CheckError::ReservationConflict),
        };
        if plan.is_report {
            decision.status = DecisionStatus::Reported;
        }
        decision.set_key_and_plan(plan.key.clone(), plan.name.clone());
        let opening = opening.filter(|_| decision.allowed());
        decision.reservation = opening.map(|(check, _)| would_open(check, replayed));
        Ok(decision)
    }

    /// The decision about a reservation that is open: its charges were made before.
    pub(super) fn replayed(&self, charges: &Charges, judged: &StoreVerdict) -> Decision {
        let looks = charges.iter().map(|charge| Charge { cost: 0, ..charge.clone() }).collect();
        self.decide_by_verdict(&looks, judged).without_refusal()
    }

    fn dry_run_by_fallback(
        &self,
        plan: &PlanContext<'_, '_>,
        charges: &Charges,
        opening: Opening,
        error: &StoreError,
    ) -> Result<Decision, CheckError> {
        let too_large = self.too_large(plan, charges).filter(|_| opening.is_some());
        if let Some((_, decision)) = too_large {
            return Ok(decision);
        }
        tracing::debug!(kind = error.kind(), %error, "a dry run is decided without the store");
        let fallback = if matches!(error, StoreError::Overloaded) {
            (Fallback::decide_overloaded(charges), None)
        } else {
            let new = opening.as_ref().map(|(_, new)| new);
            let decided = self.parts.fallback.dry_run(charges, plan.on_store_failure, new);
            decided.ok_or(CheckError::ReservationConflict)?
        };
        Ok(fall_back(plan, fallback, opening))
    }
}

/// The decision of a fallback, with the reservation that it would open in the node's own share.
fn fall_back(
    plan: &PlanContext<'_, '_>,
    (fallback, local): (FallbackDecision, Option<LocalReservation>),
    opening: Opening,
) -> Decision {
    let fallback = if plan.is_report { fallback.into_report() } else { fallback };
    let mut decision = fallback.decision;
    decision.set_key_and_plan(plan.key.clone(), plan.name.clone());
    let opening = opening.filter(|_| decision.allowed());
    decision.reservation = opening.map(|(check, _)| match local {
        Some(local) => would_open(check, local.replayed),
        None => Box::new(Reservation::Unavailable),
    });
    decision
}

fn would_open(check: ReservedCheck, replayed: bool) -> Box<Reservation> {
    Box::new(Reservation::DryRun { ttl: check.ttl, replayed, amounts: check.amounts })
}
