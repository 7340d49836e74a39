//! Reservations in Redis. They are never charged to leases: opening one takes a call in any case,
//! and what is charged exactly can be settled exactly.
//!
//! In a Cluster there is a reservation of the same name and terms beside each hash tag. That of the
//! first tag is opened ahead and the others together; all are closed again if one refuses.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use smallvec::{SmallVec, smallvec};
use tokio::time::{Instant, sleep, timeout_at};

use super::RedisClient;
use super::cross_slot::SlotShare;
use super::job::{CheckResult, Operation, QueuedCheck, wrong_result};
use crate::algorithm::CounterState;
use crate::judge::Verdict;
use crate::judge::reservation::AdjustedCharge;
use crate::limit::{
    AdjustedUnits, Adjustment, AdjustmentKind, Charge, ChargeAdjustment, Charges, NewReservation,
};
use crate::store::redis::StoreError;
use crate::store::{AdjustReply, AdjustedReservation, CheckContext, ReserveReply, StoreVerdict};

impl RedisClient {
    /// Judges a check by `deadline` and opens a reservation if it is allowed.
    ///
    /// # Errors
    /// If Redis did not judge the check, or not in time. The reservation may be open.
    pub async fn reserve(
        &self,
        charges: &Charges,
        new: &NewReservation,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<ReserveReply, StoreError> {
        if charges.is_empty() {
            return Err(StoreError::Refused("a reservation needs at least one limit".into()));
        }
        let is_together = !self.redis.topology.is_sharded()
            || charges.iter().all(|charge| charge.subject.has_same_hash_tag(&charges[0].subject));
        if is_together {
            return self.reserve_together(charges, new, context, deadline).await;
        }
        // A task of its own, so that what was opened ahead is closed even if the caller is dropped.
        let (client, charges, new, context) =
            (self.clone(), charges.clone(), new.clone(), context.clone());
        let reserved =
            async move { client.reserve_across_slots(&charges, &new, &context, deadline).await };
        let ended = |_| Err(StoreError::Unreachable("the client's runtime has ended".into()));
        tokio::spawn(reserved).await.unwrap_or_else(ended)
    }

    /// Settles, cancels or extends a reservation by `deadline`. In a Cluster each hash tag settles
    /// by itself.
    ///
    /// # Errors
    /// If the adjustment failed or may have failed, under any hash tag.
    pub async fn adjust(
        &self,
        adjustment: &Adjustment,
        deadline: Instant,
    ) -> Result<AdjustReply, StoreError> {
        let shares = self.adjustment_shares(adjustment);
        let adjusted = shares.iter().map(|share| self.adjust_together(share, deadline));
        let mut known: Option<AdjustedReservation> = None;
        let charges = vec![KEPT_ELSEWHERE; adjustment.charges.len()];
        for (share, reply) in shares.iter().zip(join_all(adjusted).await) {
            let AdjustReply::Adjusted(reservation) = reply? else { continue };
            let AdjustedReservation { now, index, is_late, charges: adjusted } = reservation;
            let all = known.get_or_insert(AdjustedReservation {
                now,
                index,
                is_late,
                charges: charges.clone(),
            });
            all.is_late |= is_late;
            for (&position, charge) in share.positions.iter().zip(adjusted) {
                all.charges[position] = charge;
            }
        }
        Ok(known.map_or(AdjustReply::Unknown, AdjustReply::Adjusted))
    }

    async fn reserve_together(
        &self,
        charges: &Charges,
        new: &NewReservation,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<ReserveReply, StoreError> {
        let operation = Some(Arc::new(Operation::Reserve(new.clone())));
        let check = QueuedCheck { operation, ..QueuedCheck::new(charges, context) };
        match self.router.run(check, deadline).await? {
            CheckResult::Reserved(reply) => Ok(*reply),
            CheckResult::Verdict(_) | CheckResult::Adjusted(_) => Err(wrong_result()),
        }
    }

    async fn adjust_together(
        &self,
        share: &AdjustmentShare,
        deadline: Instant,
    ) -> Result<AdjustReply, StoreError> {
        let looks = share.adjustment.looks();
        let operation = Some(Arc::new(Operation::Adjust(share.adjustment.clone())));
        let check = QueuedCheck { operation, ..QueuedCheck::new(&looks, &CheckContext::NONE) };
        match self.router.run(check, deadline).await? {
            CheckResult::Adjusted(reply) => Ok(*reply),
            CheckResult::Verdict(_) | CheckResult::Reserved(_) => Err(wrong_result()),
        }
    }

    /// Opens the first hash tag's reservation, then with its terms those of the others: what an
    /// earlier attempt has opened is found again.
    async fn reserve_across_slots(
        &self,
        charges: &Charges,
        new: &NewReservation,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<ReserveReply, StoreError> {
        let shares = SlotShare::by_hash_tag(charges);
        let (mut replies, mut new) = (Vec::with_capacity(shares.len()), new.clone());
        if let Some(first) = shares.first() {
            let reply = self.reserve_together(&first.charges, &new, context, deadline).await;
            match &reply {
                Ok(ReserveReply::Replayed(_, terms)) => new.terms = terms.clone(),
                Ok(ReserveReply::Conflict) => return reply,
                Ok(ReserveReply::Judged(_)) => {}
                Err(_) => {
                    self.close_shares(&shares[..1], std::slice::from_ref(&reply), &new, deadline)
                        .await;
                    return reply;
                }
            }
            replies.push(reply);
        }
        if let Some(Ok(ReserveReply::Judged(verdict))) = replies.first()
            && !verdict.verdict.allowed
        {
            let looks = shares[1..].iter().map(|share| {
                let looks = share.charges.iter().map(|charge| Charge { cost: 0, ..charge.clone() });
                let looks: Charges = looks.collect();
                async move { self.router.judge(&looks, context, deadline).await }
            });
            replies
                .extend(join_all(looks).await.into_iter().map(|it| it.map(ReserveReply::Judged)));
            return merge_replies(charges.len(), &shares, replies, false);
        }
        let others = shares
            .iter()
            .skip(1)
            .map(|share| self.reserve_together(&share.charges, &new, context, deadline));
        replies.extend(join_all(others).await);
        // Part of an earlier attempt may be closed by that attempt at any time: nothing is added to
        // it.
        let is_new = replies.iter().all(
            |reply| matches!(reply, Ok(ReserveReply::Judged(verdict)) if verdict.verdict.allowed),
        );
        let is_replayed = replies.iter().all(
            |reply| matches!(reply, Ok(ReserveReply::Replayed(_, terms)) if *terms == new.terms),
        );
        let is_open = is_new || is_replayed;
        if !is_open {
            self.close_shares(&shares, &replies, &new, deadline).await;
        }
        merge_replies(charges.len(), &shares, replies, is_open)
    }

    /// Closes what this attempt has opened, or may have opened, beyond the check's deadline if need
    /// be: a share that stays open is charged until the reservation is forgotten.
    async fn close_shares(
        &self,
        shares: &[SlotShare],
        replies: &[Result<ReserveReply, StoreError>],
        new: &NewReservation,
        deadline: Instant,
    ) {
        let opened = shares.iter().zip(replies).filter_map(|(share, reply)| match reply {
            Ok(ReserveReply::Judged(verdict)) if !verdict.verdict.allowed => None,
            Ok(ReserveReply::Judged(_)) | Err(_) => Some(AdjustmentShare::closing(share, new)),
            Ok(ReserveReply::Replayed(..) | ReserveReply::Conflict) => None,
        });
        let opened: Vec<_> = opened.collect();
        let client = self.clone();
        let closing = tokio::spawn(async move {
            join_all(opened.iter().map(|share| client.close_share(share))).await;
        });
        let _continues_after_the_deadline = timeout_at(deadline, closing).await;
    }

    /// Closes one share. Closing twice does no harm.
    async fn close_share(&self, share: &AdjustmentShare) {
        for _ in 0..CLOSE_ATTEMPTS {
            match self.adjust_together(share, Instant::now() + self.redis.deadline).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "a refused reservation stays charged in part");
                    sleep(CLOSE_PAUSE).await;
                }
            }
        }
    }

    /// The adjustments under each hash tag.
    fn adjustment_shares(&self, adjustment: &Adjustment) -> Vec<AdjustmentShare> {
        let is_sharded = self.redis.topology.is_sharded();
        let mut shares: Vec<AdjustmentShare> = Vec::new();
        for (position, charge) in adjustment.charges.iter().enumerate() {
            let lies_here = |share: &AdjustmentShare| {
                !is_sharded
                    || share.adjustment.charges[0].subject.has_same_hash_tag(&charge.subject)
            };
            let known = shares.iter().position(lies_here).unwrap_or_else(|| {
                let adjustment = Adjustment { charges: Vec::new(), ..adjustment.clone() };
                shares.push(AdjustmentShare { adjustment, positions: SmallVec::new() });
                shares.len() - 1
            });
            shares[known].adjustment.charges.push(charge.clone());
            shares[known].positions.push(position);
        }
        shares
    }
}

/// The attempts to close what a refused reservation has opened, and the pause between them.
const CLOSE_ATTEMPTS: usize = 5;
const CLOSE_PAUSE: Duration = Duration::from_millis(200);

/// The charge of a hash tag whose reservation was not found.
const KEPT_ELSEWHERE: AdjustedCharge = AdjustedCharge { charged: None, state: None };

/// The part of an adjustment under one hash tag.
struct AdjustmentShare {
    adjustment: Adjustment,
    /// The positions of its charges.
    positions: SmallVec<[usize; 4]>,
}

impl AdjustmentShare {
    /// Gives back all charges of a share that was opened.
    fn closing(share: &SlotShare, new: &NewReservation) -> Self {
        let charges = share.charges.iter().map(|charge| ChargeAdjustment {
            subject: charge.subject,
            limit: Some(Arc::clone(&charge.limit)),
            units: AdjustedUnits::Exactly(0),
        });
        let adjustment = Adjustment {
            name: new.name,
            terms: new.terms.clone(),
            kind: AdjustmentKind::Close,
            charges: charges.collect(),
        };
        Self { adjustment, positions: share.positions.clone() }
    }
}

/// The reply to a check from those of its shares.
pub(super) fn merge_replies(
    charges: usize,
    shares: &[SlotShare],
    replies: Vec<Result<ReserveReply, StoreError>>,
    is_open: bool,
) -> Result<ReserveReply, StoreError> {
    let unknown = CounterState::of_level(0);
    let mut states: SmallVec<[CounterState; 4]> = smallvec![unknown; charges];
    let (mut first, mut replayed) = (None, None);
    for (share, reply) in shares.iter().zip(replies) {
        let verdict = match reply? {
            ReserveReply::Judged(verdict) => verdict,
            ReserveReply::Replayed(verdict, terms) => {
                replayed = Some(terms);
                verdict
            }
            ReserveReply::Conflict => return Ok(ReserveReply::Conflict),
        };
        for (&position, state) in share.positions.iter().zip(&verdict.verdict.states) {
            states[position] = *state;
        }
        first.get_or_insert((verdict.verdict.now, verdict.index));
    }
    let (now, index) = first.unwrap_or_default();
    let verdict = Verdict { now, allowed: is_open, states };
    let verdict = StoreVerdict { verdict, index, leased: false };
    Ok(match replayed {
        // Terms of an attempt that was never completed.
        Some(_) if !is_open => ReserveReply::Conflict,
        Some(terms) => ReserveReply::Replayed(verdict, terms),
        None => ReserveReply::Judged(verdict),
    })
}
