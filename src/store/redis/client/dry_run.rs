//! Dry runs: a check is judged by the leases that this node holds and by Redis, and neither is
//! changed.
//!
//! Charges that leases cover would be taken from them; Redis judges the others, and counts units
//! that any node has leased as charged. Of a reservation it also looks at the counters of leases. In
//! a Cluster each hash tag is judged by itself: nothing is charged ahead, so nothing has to be given
//! back.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::RedisClient;
use super::cross_slot::SlotShare;
use super::job::{CheckResult, Operation, QueuedCheck, wrong_result};
use super::reservation::merge_replies;
use crate::limit::{Charges, NewReservation};
use crate::store::redis::StoreError;
use crate::store::{CheckContext, ReserveReply, StoreVerdict};

impl RedisClient {
    /// The reply that a check, or a check that opens `reservation`, would get now.
    ///
    /// # Errors
    /// If Redis did not judge the check, or not by `deadline`.
    pub async fn dry_run(
        &self,
        charges: &Charges,
        reservation: Option<&NewReservation>,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<ReserveReply, StoreError> {
        let held = reservation.map(|_| self.peek_held_leases(charges)).unwrap_or_default();
        let exact = held.exact_part(charges);
        let charges = &*exact;
        let check = self.peek_leases(charges, reservation.is_some());
        if charges.is_empty() || check.is_decided() {
            let verdict = check.verdict(self.known_states(&check));
            return Ok(ReserveReply::Judged(StoreVerdict {
                leased: !charges.is_empty(),
                ..verdict
            }));
        }
        let uncovered = check.uncovered();
        let shares = self.shares(uncovered);
        let replies = shares
            .iter()
            .map(|share| self.dry_run_together(&share.charges, reservation, context, deadline));
        let replies = join_all(replies).await;
        let is_allowed = replies.iter().all(
            |reply| matches!(reply, Ok(ReserveReply::Judged(verdict)) if verdict.verdict.allowed),
        );
        let is_open = is_allowed || have_same_terms(&replies);
        let mut reply = merge_replies(uncovered.len(), &shares, replies, is_open)?;
        if let ReserveReply::Judged(verdict) = &mut reply {
            let states = std::mem::take(&mut verdict.verdict.states);
            verdict.verdict.states = check.states(states.into_iter());
            held.count_as_remaining(&mut verdict.verdict.states);
        }
        Ok(reply)
    }

    /// The charges by the script calls that judge them.
    fn shares(&self, charges: &Charges) -> Vec<SlotShare> {
        if self.redis.topology.is_sharded() {
            return SlotShare::by_hash_tag(charges);
        }
        let positions = (0..charges.len()).collect();
        vec![SlotShare { charges: charges.clone(), positions }]
    }

    async fn dry_run_together(
        &self,
        charges: &Charges,
        reservation: Option<&NewReservation>,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<ReserveReply, StoreError> {
        let operation = Some(Arc::new(Operation::DryRun(reservation.cloned())));
        let check = QueuedCheck { operation, ..QueuedCheck::new(charges, context) };
        match self.router.run(check, deadline).await? {
            CheckResult::Reserved(reply) => Ok(*reply),
            CheckResult::Verdict(_) | CheckResult::Adjusted(_) => Err(wrong_result()),
        }
    }
}

/// True if one reservation is open under all hash tags.
fn have_same_terms(replies: &[Result<ReserveReply, StoreError>]) -> bool {
    let mut terms = replies.iter().map(|reply| match reply {
        Ok(ReserveReply::Replayed(_, terms)) => Some(terms),
        _ => None,
    });
    let first = terms.next().flatten();
    first.is_some() && terms.all(|other| other == first)
}
