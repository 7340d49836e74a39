//! Checks that open a reservation: judged and charged as any other, and settled later with what was
//! used.
//!
//! They never meet the denial memo, and once a node has opened one it caches no refusal for
//! long: settlements make room. Adjusting reservations is `adjust`.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::conclude::Origin;
use super::fallback::LocalReservation;
use super::new_reservation::{encode_terms, new_reservation};
use super::repeat::OpenReservation;
use super::{DecidedBy, Decision, Engine, MAX_REQUEST_CHARGES, PlanContext, Prepared, slots};
use crate::catalog::{CheckError, CheckRequest, Cost};
use crate::control::ClientKey;
use crate::limit::{Charges, MAX_CHARGES, NewReservation, ReservationTerms};
use crate::reservation::{Handle, NodeId, ReservedAmount, ReservedCharge, ReservedCheck};
use crate::store::{CheckContext, HeldLeases, ReserveReply, Store, StoreError, StoreVerdict};
use crate::time::Micros;

/// A reservation as a check requests it.
#[derive(Clone, Copy)]
pub struct ReservationRequest<'a> {
    /// The gateway's own id: 1 to 128 printable ASCII characters. The node draws one if there is
    /// none.
    pub id: Option<&'a str>,
    /// The time for which it is open, in whole milliseconds: 1 s to 1 h. No longer than the ttl of
    /// any concurrency limit, which is also the default; without one that is 60 s.
    pub ttl: Option<Micros>,
}

/// The reservation of an admitted check that requested one.
#[derive(Clone, Debug)]
pub enum Reservation {
    /// There is none, since the store is lost: there is nothing to settle.
    Unavailable,
    /// It would have been opened: the check was a dry run.
    DryRun {
        /// The time for which it would be open.
        ttl: Micros,
        /// True if an earlier request has opened it.
        replayed: bool,
        /// The amounts that would be charged.
        amounts: Vec<ReservedAmount>,
    },
    /// It is open.
    Open {
        /// The handle, by which it is adjusted.
        handle: Handle,
        /// True if an earlier request has opened it, and this one was not charged.
        replayed: bool,
    },
}

impl Reservation {
    fn open(handle: Handle, replayed: bool) -> Box<Self> {
        Box::new(Self::Open { handle, replayed })
    }
}

/// The state of reservations that the workers of a node share.
pub struct NodeReservations {
    /// Identifies the node in handles that no other node knows.
    pub(super) node: NodeId,
    has_opened: AtomicBool,
}

impl Default for NodeReservations {
    fn default() -> Self {
        Self { node: random_bytes(), has_opened: AtomicBool::new(false) }
    }
}

impl NodeReservations {
    /// True if this node has opened reservations, so that settlements may make room at any time.
    pub(super) fn has_opened(&self) -> bool {
        self.has_opened.load(Ordering::Relaxed)
    }

    /// Notes that this node opens or adjusts a reservation.
    pub(super) fn note_opened(&self) {
        self.has_opened.store(true, Ordering::Relaxed);
    }
}

/// Bytes that nobody can guess.
pub(super) fn random_bytes() -> [u8; 8] {
    getrandom::u64().unwrap_or_else(|error| unreachable!("no randomness: {error}")).to_le_bytes()
}

/// An id for a reservation whose gateway gives none.
pub(super) fn random_id() -> String {
    URL_SAFE_NO_PAD.encode([random_bytes(), random_bytes()].concat())
}

/// A check that is ready to be reserved.
pub(super) struct PreparedReservation<'r, 'q> {
    pub(super) plan: PlanContext<'r, 'q>,
    pub(super) charges: Charges,
    pub(super) check: ReservedCheck,
    pub(super) new: NewReservation,
}

impl Engine {
    /// Refuses checks that are reserved one by one and have too many charges together. Invalid ones
    /// have no charges.
    ///
    /// # Errors
    /// If they have more than 65,536 charges in all.
    pub async fn limit_charges(
        &self,
        requests: impl Iterator<Item = (Option<ClientKey<'_>>, CheckRequest<'_>)>,
    ) -> Result<(), CheckError> {
        let (requests, started): (Vec<_>, _) = (requests.collect(), Instant::now());
        if requests.len() * MAX_CHARGES <= MAX_REQUEST_CHARGES {
            return Ok(());
        }
        let keys = join_all(requests.iter().map(|(client, _)| self.identify(*client, started)));
        let (keys, catalog) = (keys.await, self.catalog());
        let charges = requests.iter().zip(keys).filter_map(|((client, request), key)| {
            let (_, charges) = self.resolve(&catalog, *client, key, request).ok()?;
            Some(charges.len())
        });
        if charges.sum::<usize>() > MAX_REQUEST_CHARGES {
            return Err(CheckError::TooManyCharges { max: MAX_REQUEST_CHARGES });
        }
        Ok(())
    }

    /// Decides one check and, if it is admitted, opens a reservation.
    ///
    /// # Errors
    /// As [`Engine::check`]; also if the check has no room in a handle, or if another check is open
    /// under the same id.
    pub async fn reserve(
        &self,
        client: Option<ClientKey<'_>>,
        request: &CheckRequest<'_>,
        reservation: &ReservationRequest<'_>,
        context: &CheckContext,
    ) -> Result<Decision, CheckError> {
        match self.reserve_now(client, request, reservation, context).await {
            Err(refusal @ CheckError::Invalid { .. }) => {
                // Boxed, so that the futures of valid checks stay small.
                let open = Box::pin(self.find_open(client, request, reservation, context)).await;
                let OpenReservation { prepared, verdict, terms } = open.ok_or(refusal)?;
                self.replay(prepared, &verdict, terms, context)
            }
            decided => decided,
        }
    }

    /// As [`Engine::reserve`], for a check that today's catalog accepts.
    async fn reserve_now(
        &self,
        client: Option<ClientKey<'_>>,
        request: &CheckRequest<'_>,
        reservation: &ReservationRequest<'_>,
        context: &CheckContext,
    ) -> Result<Decision, CheckError> {
        let started = Instant::now();
        let key = self.identify(client, started).await;
        let catalog = arc_swap::Guard::into_inner(self.catalog());
        let (plan, mut charges) = self.resolve(&catalog, client, key, request)?;
        let cost = catalog.reserve_costs(request, &mut charges)?;
        let ttl = slots::take(&mut charges, reservation.ttl);
        // With an id it may have been opened before, in a larger limit.
        if reservation.id.is_none()
            && let Some(decision) = self.refuse_too_large(&plan, &charges, context)
        {
            return Ok(decision);
        }
        if let Some(decision) = self.refuse_new_keys(&plan, &charges, context) {
            return Ok(decision);
        }
        self.parts.reservations.note_opened();
        let in_flight = self.parts.metrics.start_checks(1);
        let deadline = started + self.parts.deadline;
        let mut prepared = Prepared::Judge(plan, charges);
        let mut is_full = false;
        let decision = loop {
            let (plan, charges) = match prepared {
                Prepared::Judge(plan, charges) => (plan, charges),
                Prepared::Decided(mut decision) => {
                    if decision.allowed() {
                        decision.reservation = Some(Box::new(Reservation::Unavailable));
                    }
                    break Ok(decision);
                }
            };
            let store = &self.parts.store;
            let (ready, held) =
                prepare((plan, charges), request, reservation.id, &cost, ttl, store)?;
            let reply = store.reserve(&ready.charges, &ready.new, held, context, deadline).await;
            break match reply {
                Ok(ReserveReply::Judged(verdict)) => {
                    let mut decision = self.open(ready, &verdict, context);
                    if is_full {
                        decision.decided_by = DecidedBy::FullStore;
                    }
                    Ok(decision)
                }
                Ok(ReserveReply::Replayed(verdict, terms)) => {
                    self.replay(ready, &verdict, terms, context)
                }
                Ok(ReserveReply::Conflict) => Err(CheckError::ReservationConflict),
                Err(StoreError::NewSubject(subject)) => {
                    is_full = true;
                    prepared = self.leave_out(*subject, ready.plan, &ready.charges, context);
                    continue;
                }
                Err(error) => self.reserve_by_fallback(ready, context, &error),
            };
        };
        drop(in_flight);
        self.parts.metrics.record_duration(started.elapsed());
        decision
    }

    /// The decision that follows from a verdict, with the reservation that it opens.
    fn open(
        &self,
        prepared: PreparedReservation<'_, '_>,
        judged: &StoreVerdict,
        context: &CheckContext,
    ) -> Decision {
        let PreparedReservation { plan, charges, check, new } = prepared;
        if !judged.verdict.allowed
            && let Some(decision) = self.refuse_too_large(&plan, &charges, context)
        {
            return decision;
        }
        let mut decision = self.decide_by_verdict(&charges, judged);
        let origin = Origin::new(context, plan.label.as_ref(), plan.request);
        decision.set_key_and_plan(plan.key, plan.name);
        if judged.verdict.allowed {
            let handle = Handle { name: new.name, terms: new.terms.clone(), check };
            decision.reservation = Some(Reservation::open(handle, false));
        }
        self.observe_limits(origin, &charges, Some(judged), &decision, Some(&new));
        decision
    }

    /// The decision of a check that an earlier request has reserved: nothing was charged now.
    fn replay(
        &self,
        prepared: PreparedReservation<'_, '_>,
        judged: &StoreVerdict,
        terms: ReservationTerms,
        context: &CheckContext,
    ) -> Result<Decision, CheckError> {
        let PreparedReservation { plan, charges, new, .. } = prepared;
        // Terms that a later release wrote cannot be read.
        let handle = Handle::new(new.name, terms).ok_or(CheckError::ReservationConflict)?;
        let mut decision = self.replayed(&charges, judged);
        let origin = Origin::new(context, plan.label.as_ref(), plan.request);
        decision.set_key_and_plan(plan.key, plan.name);
        decision.reservation = Some(Reservation::open(handle, true));
        self.observe_limits(origin, &charges, None, &decision, None);
        Ok(decision)
    }

    /// The decision without the store. Only under `local` there is a reservation, which this node
    /// alone knows.
    fn reserve_by_fallback(
        &self,
        prepared: PreparedReservation<'_, '_>,
        context: &CheckContext,
        error: &StoreError,
    ) -> Result<Decision, CheckError> {
        let PreparedReservation { plan, charges, mut check, mut new } = prepared;
        if let Some(decision) = self.refuse_too_large(&plan, &charges, context) {
            return Ok(decision);
        }
        if matches!(error, StoreError::Overloaded) {
            let mut decision = self.conclude_by_fallback(plan, &charges, context, error);
            if decision.allowed() {
                decision.reservation = Some(Box::new(Reservation::Unavailable));
            }
            return Ok(decision);
        }
        check.node = Some(self.parts.reservations.node);
        let is_metered = charges.iter().map(|charge| charge.limit.is_meter());
        let shared = check.charges.iter().zip(is_metered).filter(|(_, is_meter)| !is_meter);
        // The share is charged for all of it. Leased units stay spent: Redis may have the reservation.
        let charged = |charge: &ReservedCharge| ReservedCharge { leased_at: None, ..*charge };
        check.charges = shared.map(|(charge, _)| charged(charge)).collect();
        new.terms = encode_terms(&check)?;
        tracing::debug!(kind = error.kind(), %error, "a reservation is decided without the store");
        let (mut fallback, local) = self
            .parts
            .fallback
            .reserve(&charges, plan.on_store_failure, &new)
            .ok_or(CheckError::ReservationConflict)?;
        fallback.decision.reservation = match local {
            Some(LocalReservation { terms, replayed }) => {
                let handle = Handle::new(new.name, terms);
                let handle = handle.ok_or(CheckError::ReservationConflict)?;
                Some(Reservation::open(handle, replayed))
            }
            None if fallback.decision.allowed() => Some(Box::new(Reservation::Unavailable)),
            None => None,
        };
        let origin = Origin::new(context, plan.label.as_ref(), plan.request);
        fallback.decision.set_key_and_plan(plan.key, plan.name);
        self.observe_fallback(origin, &charges, &fallback);
        Ok(fallback.decision)
    }
}

/// The reservation of these charges, and the leases that cover some of them.
fn prepare<'r, 'q>(
    (plan, charges): (PlanContext<'r, 'q>, Charges),
    request: &CheckRequest<'_>,
    id: Option<&str>,
    cost: &Cost<'_>,
    ttl: Micros,
    store: &Store,
) -> Result<(PreparedReservation<'r, 'q>, HeldLeases), CheckError> {
    let mut held = store.hold_leases(&charges);
    let opened = |held: &_| new_reservation(&plan, &charges, request, id, cost, ttl, held);
    let mut opening = opened(&held);
    if opening.is_err() && !held.is_empty() {
        // The handle has no room for the times of the leases, so the store charges all of it.
        held = HeldLeases::default();
        opening = opened(&held);
    }
    let (check, new) = opening?;
    Ok((PreparedReservation { plan, charges, check, new }, held))
}
