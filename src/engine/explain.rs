//! Explanations: a dry run with the charge and the status of every limit, also of those that a
//! decision leaves out.
//!
//! The denial memo is not asked, since it knows only limits that refuse. The places where limits are
//! declared are `control`'s.

use std::sync::Arc;

use super::dry_run::DryCheck;
use super::{Decision, Engine, LimitOutcome, ReservationRequest};
use crate::catalog::{Catalog, CheckError, CheckRequest};
use crate::control::ClientKey;
use crate::limit::Charge;
use crate::store::{CheckContext, ReserveReply};

/// The explanation of a check.
pub struct Explanation {
    /// The decision that the check would get now.
    pub decision: Decision,
    /// The catalog that it was resolved in.
    pub catalog: Arc<Catalog>,
    /// Its limits in the order of judging, without meters.
    pub limits: Vec<ExplainedLimit>,
}

/// A limit of a check that is explained.
pub struct ExplainedLimit {
    /// The charge that the check would make.
    pub charge: Charge,
    /// Its status; `None` if the store did not judge it.
    pub outcome: Option<LimitOutcome>,
}

impl Engine {
    /// Explains a check: runs it dry, and tells all of its limits.
    ///
    /// # Errors
    /// As [`Engine::dry_run`].
    pub async fn explain(
        &self,
        client: Option<ClientKey<'_>>,
        request: &CheckRequest<'_>,
        reservation: Option<&ReservationRequest<'_>>,
    ) -> Result<Explanation, CheckError> {
        let catalog = arc_swap::Guard::into_inner(self.catalog());
        let check = self.prepare_dry_run(&catalog, client, request, reservation).await?;
        let decision = self.decide_dry(&check, request, &CheckContext::NONE, false).await?;
        let outcomes = if decision.limits.is_empty() {
            self.judged_limits(&check).await
        } else {
            decision.limits.to_vec()
        };
        let mut outcomes = outcomes.into_iter().peekable();
        let charges = check.charges.clone().into_iter().filter(|charge| !charge.limit.is_meter());
        let limits = charges.map(|charge| {
            let outcome = outcomes.next_if(|it| it.limit.name() == charge.limit.name());
            ExplainedLimit { charge, outcome }
        });
        let limits = limits.collect();
        Ok(Explanation { decision, catalog, limits })
    }

    /// The status of each limit by the store, for a check that the node decides without it.
    async fn judged_limits(&self, check: &DryCheck<'_, '_, '_>) -> Vec<LimitOutcome> {
        let store = &self.parts.store;
        let reply = store.dry_run(&check.charges, None, &CheckContext::NONE, check.deadline).await;
        match reply {
            Ok(ReserveReply::Judged(verdict)) => {
                self.decide_by_verdict(&check.charges, &verdict).limits.to_vec()
            }
            _ => Vec::new(),
        }
    }
}
