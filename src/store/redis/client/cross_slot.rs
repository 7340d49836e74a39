//! Checks whose subjects lie on different primaries of a Cluster.
//!
//! No script judges them as one. One subject is judged last: of what the catalog declares, the one
//! with exact limits. The others are charged ahead, each by a call of its own, and get back what
//! they were charged where the check is refused; for a throttle that is a lease of just this cost,
//! for no longer than the check may take. Nothing is admitted that has not been charged.

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use super::RedisClient;
use super::router::Router;
use crate::algorithm::{self, CounterState, Verdict};
use crate::limit::{Charge, Charges, Refund};
use crate::store::StoreVerdict;
use crate::store::redis::StoreError;

/// Charges of one check that lie together.
#[derive(Default)]
struct SlotShare {
    charges: Charges,
    /// Their positions in the check.
    positions: SmallVec<[usize; 4]>,
}

impl RedisClient {
    /// Judges one check in a Cluster.
    pub(super) async fn judge_sharded(
        &self,
        charges: &Charges,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        let Some(first) = charges.first() else {
            // A plan may limit nothing.
            let verdict = Verdict { now: self.now(), allowed: true, states: SmallVec::new() };
            return Ok(StoreVerdict { verdict, index: 0, leased: false });
        };
        if charges.iter().all(|charge| charge.subject.has_same_hash_tag(&first.subject)) {
            return self.router.judge(charges, deadline).await;
        }
        // On its own: what was charged ahead goes back also where nobody waits any more.
        let (client, charges) = (self.clone(), charges.clone());
        let judged = async move { client.judge_across_slots(&charges, deadline).await };
        let ended = |_| Err(StoreError::Unreachable("the lane has ended".into()));
        tokio::spawn(judged).await.unwrap_or_else(ended)
    }

    async fn judge_across_slots(
        &self,
        charges: &Charges,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        let (ahead, last) = self.split_by_slot(charges);
        if ahead.iter().any(SlotShare::has_alternatives) {
            let why = "limits of which one with room is enough lie apart in the Redis Cluster";
            return Err(StoreError::Refused(why.into()));
        }
        let judged = ahead.iter().map(|share| self.router.judge(&share.charges, deadline));
        let judged = join_all(judged).await;
        let answer = judge_last(&self.router, &last, &judged, deadline).await;
        if !answer.as_ref().is_ok_and(|answer| answer.verdict.allowed) {
            let refunds = ahead.iter().zip(&judged).filter_map(|(share, answer)| {
                // Of what gave no answer nothing goes back: it was perhaps not charged.
                answer.as_ref().ok().map(|answer| share.refunds(&answer.verdict))
            });
            let (client, refunds) = (self.clone(), refunds.flatten().collect());
            let given = tokio::spawn(async move { client.refund_best_effort(refunds).await });
            let _goes_on_alone = timeout_at(deadline, given).await;
        }
        let mut answer = answer?;
        let mut states: SmallVec<[(usize, CounterState); 4]> = SmallVec::new();
        states.extend(last.positions.into_iter().zip(answer.verdict.states));
        for (share, judged) in ahead.into_iter().zip(judged) {
            states.extend(share.positions.into_iter().zip(judged?.verdict.states));
        }
        states.sort_unstable_by_key(|(position, _)| *position);
        answer.verdict.states = states.into_iter().map(|(_, state)| state).collect();
        Ok(answer)
    }

    /// Two charges that cannot be judged as one: both are exact, and their subjects lie apart.
    #[must_use]
    pub fn unjudgeable<'c>(&self, charges: &'c Charges) -> Option<(&'c Charge, &'c Charge)> {
        if !self.redis.topology.is_sharded() {
            return None;
        }
        let mut exact = charges.iter().filter(|charge| self.is_exact(charge));
        let first = exact.next()?;
        exact
            .find(|other| !other.subject.has_same_hash_tag(&first.subject))
            .map(|other| (first, other))
    }

    /// Whether the charge must be judged together with all others of its check. What a meter has
    /// counted of a refused check can go back like a lease.
    fn is_exact(&self, charge: &Charge) -> bool {
        let leased = self.redis.leases && charge.limit.leased();
        !(leased || charge.limit.is_meter()) || charge.limit.alternative()
    }

    /// What is charged ahead, by subject, and what is judged last: the exact charges with all that
    /// lie with them, or those of which one with room is enough; where neither are there, meters,
    /// since what they count need not go back then.
    fn split_by_slot(&self, charges: &Charges) -> (Vec<SlotShare>, SlotShare) {
        let alternative = charges.iter().find(|charge| charge.limit.alternative());
        let exact = alternative.or_else(|| charges.iter().find(|charge| self.is_exact(charge)));
        let exact = exact.or_else(|| charges.iter().find(|charge| charge.limit.is_meter()));
        let mut shares: Vec<SlotShare> = Vec::new();
        for (position, charge) in charges.iter().enumerate() {
            let lies_here =
                |share: &SlotShare| share.charges[0].subject.has_same_hash_tag(&charge.subject);
            let known = shares.iter().position(lies_here).unwrap_or_else(|| {
                shares.push(SlotShare::default());
                shares.len() - 1
            });
            shares[known].charges.push(charge.clone());
            shares[known].positions.push(position);
        }
        let is_last = |share: &SlotShare| {
            exact.is_none_or(|exact| share.charges[0].subject.has_same_hash_tag(&exact.subject))
        };
        let last = shares.iter().position(is_last).map(|position| shares.remove(position));
        (shares, last.unwrap_or_default())
    }
}

/// Judges the last share. Where one ahead of it is refused the check is: the last is then only
/// looked at, so that the answer can say how all limits stand.
async fn judge_last(
    router: &Router,
    last: &SlotShare,
    judged: &[Result<StoreVerdict, StoreError>],
    deadline: Instant,
) -> Result<StoreVerdict, StoreError> {
    let mut is_refused = false;
    for answer in judged {
        is_refused |= !answer.as_ref().map_err(Clone::clone)?.verdict.allowed;
    }
    if !is_refused {
        return router.judge(&last.charges, deadline).await;
    }
    let mut peeks = last.charges.clone();
    peeks.iter_mut().for_each(|charge| charge.cost = 0);
    let mut answer = router.judge(&peeks, deadline).await?;
    answer.verdict.allowed = false;
    Ok(answer)
}

impl SlotShare {
    fn has_alternatives(&self) -> bool {
        self.charges.iter().any(|charge| charge.limit.alternative())
    }

    /// What goes back where the check is refused: what this share's verdict charged.
    fn refunds(&self, verdict: &Verdict) -> Vec<Refund> {
        if !verdict.allowed {
            return Vec::new();
        }
        let made = self.charges.iter().zip(&verdict.states);
        made.filter(|(charge, state)| charge.cost > 0 && algorithm::fits(charge, **state))
            .map(|(charge, state)| Refund {
                charge: charge.clone(),
                charged_at: verdict.now,
                window: state.window,
            })
            .collect()
    }
}
