//! A repeated check that today's catalog refuses: it is still the same check as the one that has
//! opened its reservation, so it gets the same handle, and nothing is charged.
//!
//! The key, its plan and the stage must still exist: the reservation is found under them. Without a
//! key it is found under the first policy, which may be gone unless its keys are addresses. A check that the catalog accepts is
//! repeated in `reserve`.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::new_reservation::new_reservation;
use super::reserve::PreparedReservation;
use super::{Engine, PlanContext, ReservationRequest, slots};
use crate::algorithm::{Rate, Throttle};
use crate::catalog::{Catalog, CheckRequest, Cost};
use crate::control::ClientKey;
use crate::failure_policy::FailurePolicy;
use crate::limit::{Charge, Charges, Limit, ReservationTerms, Subject, Unit};
use crate::store::{CheckContext, HeldLeases, ReserveReply, StoreVerdict};
use crate::time::Micros;

/// A reservation that is open for a repeated check.
pub(super) struct OpenReservation<'r, 'q> {
    /// The check by today's catalog, which charges nothing.
    pub(super) prepared: PreparedReservation<'r, 'q>,
    /// The counters as they are.
    pub(super) verdict: StoreVerdict,
    /// The terms under which it was opened.
    pub(super) terms: ReservationTerms,
}

impl Engine {
    /// The reservation that an earlier request has opened for the same check under the same id;
    /// `None` if none has, or the store does not reply. No row is written.
    pub(super) async fn find_open<'r, 'q>(
        &self,
        client: Option<ClientKey<'_>>,
        request: &'r CheckRequest<'q>,
        reservation: &ReservationRequest<'_>,
        context: &CheckContext,
    ) -> Option<OpenReservation<'r, 'q>> {
        let started = Instant::now();
        let id = reservation.id?;
        let key = self.identify(client, started).await;
        let catalog = arc_swap::Guard::into_inner(self.catalog());
        let lasting = lasting_part(request, client.is_some());
        let resolved = self.resolve(&catalog, client, key, &lasting);
        let Ok((plan, mut charges)) = resolved else {
            if client.is_some() {
                return None;
            }
            return self.find_by_policy(&catalog, request, reservation, context, started).await;
        };
        let PlanContext { key, name, label, on_store_failure, is_report, .. } = plan;
        let plan = PlanContext { request, key, name, label, on_store_failure, is_report };
        charges.iter_mut().for_each(|charge: &mut Charge| charge.cost = 0);
        let ttl = slots::open_for(reservation.ttl, charges.iter().map(|charge| &charge.limit));
        let (cost, none) = (&lasting.cost, HeldLeases::default());
        let (check, new) =
            new_reservation(&plan, &charges, request, Some(id), cost, ttl, &none).ok()?;
        let deadline = started + self.parts.deadline;
        let reply = self.parts.store.dry_run(&charges, Some(&new), context, deadline).await;
        let Ok(ReserveReply::Replayed(verdict, terms)) = reply else { return None };
        let prepared = PreparedReservation { plan, charges, check, new };
        Some(OpenReservation { prepared, verdict, terms })
    }

    /// As [`Engine::find_open`], for a check without a key whose policies are gone: the subject of
    /// its first policy is known by the names alone, unless it is one that counted keys in another
    /// form than they were written in (`key_type`). The limits are not known any more.
    async fn find_by_policy<'r, 'q>(
        &self,
        catalog: &Catalog,
        request: &'r CheckRequest<'q>,
        reservation: &ReservationRequest<'_>,
        context: &CheckContext,
        started: Instant,
    ) -> Option<OpenReservation<'r, 'q>> {
        let first = request.policies.first()?;
        let counted = catalog.policy_key(first.policy, first.key).and_then(Result::ok);
        let subject = counted.map_or(Subject::policy(first.policy, first.key), |it| it.subject);
        let look = Charge::new(subject, unlimited()?, 0);
        let plan = PlanContext {
            request,
            key: None,
            name: None,
            label: None,
            on_store_failure: FailurePolicy::default(),
            is_report: false,
        };
        let charges = Charges::from_iter([look]);
        let ttl = slots::open_for(reservation.ttl, std::iter::empty());
        let (id, cost, none) = (reservation.id, Cost::Requests(0), HeldLeases::default());
        let (check, new) = new_reservation(&plan, &charges, request, id, &cost, ttl, &none).ok()?;
        let deadline = started + self.parts.deadline;
        let reply = self.parts.store.dry_run(&charges, Some(&new), context, deadline).await;
        let Ok(ReserveReply::Replayed(mut verdict, terms)) = reply else { return None };
        verdict.verdict.states.clear();
        let prepared = PreparedReservation { plan, charges: Charges::new(), check, new };
        Some(OpenReservation { prepared, verdict, terms })
    }
}

/// A limit that a look at a subject needs, and that no response names.
fn unlimited() -> Option<Arc<Limit>> {
    let throttle = Throttle::new(Rate::new(1, Micros::new(1))?, 1).ok()?;
    Some(Arc::new(Limit::new("", Unit::requests(), throttle, false)))
}

/// The part of a request that prices, units and policies have no say in.
fn lasting_part<'q>(request: &CheckRequest<'q>, has_key: bool) -> CheckRequest<'q> {
    CheckRequest {
        api: request.api,
        stage: request.stage,
        method: request.method,
        path: request.path,
        policies: if has_key { SmallVec::default() } else { request.policies.clone() },
        cost: Cost::Requests(0),
        after_the_fact: false,
        model: None,
        usage: None,
    }
}
