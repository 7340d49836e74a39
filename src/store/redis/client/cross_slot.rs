//! Checks whose subjects lie in different slots of a Cluster.
//!
//! No script call can judge them together. The subject with exact limits is judged last. All others
//! are charged in advance, each by a call of its own, and are refunded if the check is refused. For
//! a token bucket such a charge is a lease of exactly the check's cost, which lasts no longer than
//! the check's deadline. No request is admitted that has not been charged.

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use super::RedisClient;
use super::router::Router;
use crate::algorithm::{ChargeTime, CounterState};
use crate::judge::{self, Verdict};
use crate::limit::{Charge, Charges, Refund};
use crate::store::redis::StoreError;
use crate::store::{CheckContext, StoreVerdict};

/// The charges of one check whose subjects have the same hash tag.
#[derive(Default)]
pub(super) struct SlotShare {
    pub(super) charges: Charges,
    /// Their positions in the check.
    pub(super) positions: SmallVec<[usize; 4]>,
}

impl RedisClient {
    /// Judges one check in a Cluster.
    pub(super) async fn judge_sharded(
        &self,
        charges: &Charges,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        let Some(first) = charges.first() else {
            // A plan without limits has no charges.
            let verdict = Verdict { now: self.now(), allowed: true, states: SmallVec::new() };
            return Ok(StoreVerdict { verdict, index: 0, leased: false });
        };
        if charges.iter().all(|charge| charge.subject.has_same_hash_tag(&first.subject)) {
            return self.router.judge(charges, context, deadline).await;
        }
        // A task of its own, so that advance charges are refunded even if the caller is dropped.
        let (client, charges, context) = (self.clone(), charges.clone(), context.clone());
        let judged = async move { client.judge_across_slots(&charges, &context, deadline).await };
        let ended = |_| Err(StoreError::Unreachable("the client's runtime has ended".into()));
        tokio::spawn(judged).await.unwrap_or_else(ended)
    }

    async fn judge_across_slots(
        &self,
        charges: &Charges,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        let (ahead, last) = self.split_by_slot(charges);
        if ahead.iter().any(SlotShare::has_alternatives) {
            let why = "alternative limits lie in different slots of the Redis Cluster";
            return Err(StoreError::Refused(why.into()));
        }
        let judged = ahead.iter().map(|share| self.router.judge(&share.charges, context, deadline));
        let judged = join_all(judged).await;
        let result = judge_last(&self.router, &last, &judged, context, deadline).await;
        if !result.as_ref().is_ok_and(|result| result.verdict.allowed) {
            // A forced charge stays if the check is refused. If the check fails, its caller may
            // repeat all of it.
            let keep_forced = result.is_ok();
            let refunds = ahead.iter().zip(&judged).filter_map(|(share, result)| {
                // A call without a reply is not refunded: it may not have charged anything.
                result.as_ref().ok().map(|result| share.refunds(&result.verdict, keep_forced))
            });
            let (client, refunds) = (self.clone(), refunds.flatten().collect());
            let refunding = tokio::spawn(async move { client.refund_best_effort(refunds).await });
            let _continues_after_the_deadline = timeout_at(deadline, refunding).await;
        }
        let mut result = result?;
        let mut states: SmallVec<[(usize, CounterState); 4]> = SmallVec::new();
        states.extend(last.positions.into_iter().zip(result.verdict.states));
        for (share, judged) in ahead.into_iter().zip(judged) {
            states.extend(share.positions.into_iter().zip(judged?.verdict.states));
        }
        states.sort_unstable_by_key(|(position, _)| *position);
        result.verdict.states = states.into_iter().map(|(_, state)| state).collect();
        Ok(result)
    }

    /// Returns two charges that cannot be judged together, if there are any: both are exact, and
    /// their subjects lie in different slots. The last `key_policies` charges may be charged ahead,
    /// unless --record forbids it.
    #[must_use]
    pub fn unjudgeable<'c>(
        &self,
        charges: &'c Charges,
        key_policies: usize,
    ) -> Option<(&'c Charge, &'c Charge)> {
        if !self.redis.topology.is_sharded() {
            return None;
        }
        let ahead = if self.redis.leases { key_policies } else { 0 };
        let together = &charges[..charges.len().saturating_sub(ahead)];
        let mut exact = together.iter().filter(|charge| self.is_exact(charge));
        let first = exact.next()?;
        exact
            .find(|other| !other.subject.has_same_hash_tag(&first.subject))
            .map(|other| (first, other))
    }

    /// True if the charge must be judged together with all others of its check. A charge to a lease
    /// or a meter need not be: it can be refunded if the check is refused.
    fn is_exact(&self, charge: &Charge) -> bool {
        let leased = self.redis.leases && charge.limit.leased();
        !(leased || charge.limit.is_meter()) || charge.limit.alternative()
    }

    /// Divides charges by slot into those to charge in advance and those to judge last. Judged last
    /// are alternatives, else exact charges, else meters (which then need no refund), each with all
    /// other charges of the same hash tag.
    fn split_by_slot(&self, charges: &Charges) -> (Vec<SlotShare>, SlotShare) {
        let alternative = charges.iter().find(|charge| charge.limit.alternative());
        let exact = alternative.or_else(|| charges.iter().find(|charge| self.is_exact(charge)));
        let exact = exact.or_else(|| charges.iter().find(|charge| charge.limit.is_meter()));
        let mut shares = SlotShare::by_hash_tag(charges);
        let is_last = |share: &SlotShare| {
            exact.is_none_or(|exact| share.charges[0].subject.has_same_hash_tag(&exact.subject))
        };
        let last = shares.iter().position(is_last).map(|position| shares.remove(position));
        (shares, last.unwrap_or_default())
    }
}

/// Judges the last share. If a charge in advance was refused, the check is refused, and the last
/// share is only read, with a cost of 0, so that the response can report the status of all limits.
async fn judge_last(
    router: &Router,
    last: &SlotShare,
    judged: &[Result<StoreVerdict, StoreError>],
    context: &CheckContext,
    deadline: Instant,
) -> Result<StoreVerdict, StoreError> {
    let mut is_refused = false;
    for result in judged {
        is_refused |= !result.as_ref().map_err(Clone::clone)?.verdict.allowed;
    }
    if !is_refused {
        return router.judge(&last.charges, context, deadline).await;
    }
    let mut peeks = last.charges.clone();
    // A charge that is made in any case is made although the check is refused.
    peeks.iter_mut().filter(|charge| !charge.is_forced()).for_each(|charge| charge.cost = 0);
    let mut result = router.judge(&peeks, context, deadline).await?;
    result.verdict.allowed = false;
    Ok(result)
}

impl SlotShare {
    /// Divides charges by the hash tags of their subjects, in the order of their first charges.
    pub(super) fn by_hash_tag(charges: &Charges) -> Vec<Self> {
        let mut shares: Vec<Self> = Vec::new();
        for (position, charge) in charges.iter().enumerate() {
            let lies_here =
                |share: &Self| share.charges[0].subject.has_same_hash_tag(&charge.subject);
            let known = shares.iter().position(lies_here).unwrap_or_else(|| {
                shares.push(Self::default());
                shares.len() - 1
            });
            shares[known].charges.push(charge.clone());
            shares[known].positions.push(position);
        }
        shares
    }

    fn has_alternatives(&self) -> bool {
        self.charges.iter().any(|charge| charge.limit.alternative())
    }

    /// The refunds of what this share's verdict charged, for a check that is refused or failed;
    /// with `keep_forced` without what is charged in any case.
    fn refunds(&self, verdict: &Verdict, keep_forced: bool) -> Vec<Refund> {
        let charged = self.charges.iter().zip(&verdict.states);
        charged
            .filter(|(charge, _)| !(keep_forced && charge.is_forced()))
            .filter(|(charge, state)| judge::is_made(*charge, **state, verdict.allowed))
            .map(|(charge, state)| Refund {
                charge: charge.clone(),
                charged: ChargeTime { at: verdict.now, window: state.window },
            })
            .collect()
    }
}
