//! Reservations in Redis. A charge that a lease of this node covers is taken from the lease, and the
//! reservation only looks at its counter: what is used beyond the estimate is charged to it there.
//! The rest of the life of leased units is `leased_reservation`.
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
use super::leased_reservation::AdjustmentShare;
use super::leases::HeldLeases;
use crate::algorithm::CounterState;
use crate::judge::Verdict;
use crate::judge::reservation::AdjustedCharge;
use crate::limit::{Adjustment, Charge, Charges, LeasedUnits, NewReservation};
use crate::store::redis::StoreError;
use crate::store::{AdjustReply, AdjustedReservation, CheckContext, ReserveReply, StoreVerdict};

impl RedisClient {
    /// Judges a check by `deadline` and opens a reservation if it is allowed. The charges that
    /// `held` covers are not made again.
    ///
    /// # Errors
    /// If Redis did not judge the check, or not in time. The reservation may be open.
    pub async fn reserve(
        &self,
        charges: &Charges,
        new: &NewReservation,
        held: HeldLeases,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<ReserveReply, StoreError> {
        if charges.is_empty() {
            return Err(StoreError::Refused("a reservation needs at least one limit".into()));
        }
        if self.lie_together(charges) {
            return self.reserve_holding(charges, new, held, context, deadline).await;
        }
        // A task of its own, so that what was opened ahead is closed even if the caller is dropped.
        let (client, charges, new, context) =
            (self.clone(), charges.clone(), new.clone(), context.clone());
        let reserved =
            async move { client.reserve_holding(&charges, &new, held, &context, deadline).await };
        let ended = |_| Err(StoreError::Unreachable("the client's runtime has ended".into()));
        tokio::spawn(reserved).await.unwrap_or_else(ended)
    }

    /// True if one script call can have all subjects.
    fn lie_together(&self, charges: &Charges) -> bool {
        !self.redis.topology.is_sharded()
            || charges.iter().all(|charge| charge.subject.has_same_hash_tag(&charges[0].subject))
    }

    async fn reserve_holding(
        &self,
        charges: &Charges,
        new: &NewReservation,
        mut held: HeldLeases,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<ReserveReply, StoreError> {
        let exact = held.exact_part(charges);
        // From here on the reservation may be open, also if there is no response or the caller stops
        // waiting. It would be settled as one that holds the units, so they stay spent until it is
        // known not to be open: rather charged without need than given back twice.
        held.set_spent(true);
        let Attempt { mut reply, is_undone } = if self.lie_together(charges) {
            Attempt::new(self.reserve_together(&exact, new, context, deadline).await)
        } else {
            Box::pin(self.reserve_across_slots(&exact, new, context, deadline)).await
        };
        held.set_spent(!is_undone);
        if let Ok(ReserveReply::Judged(verdict)) = &mut reply {
            held.count_as_remaining(&mut verdict.verdict.states);
        }
        reply
    }

    /// Settles, cancels or extends a reservation by `deadline`. In a Cluster each hash tag settles
    /// by itself. `leased` has for each charge the units that it took from a lease; it is empty if
    /// none did. What is left of those units after a settlement goes back behind it, within a further
    /// deadline of a check.
    ///
    /// # Errors
    /// If the adjustment failed or may have failed, under any hash tag.
    pub async fn adjust(
        &self,
        adjustment: &Adjustment,
        leased: &[Option<LeasedUnits>],
        deadline: Instant,
    ) -> Result<AdjustReply, StoreError> {
        let shares = AdjustmentShare::of(adjustment, leased, self.redis.topology.is_sharded());
        let charges = adjustment.charges.len();
        if leased.is_empty() {
            return self.adjust_shares(&shares, charges, deadline).await;
        }
        // A task of its own, so that leased units go back even if the caller is dropped.
        let client = self.clone();
        let adjusted = async move { client.adjust_shares(&shares, charges, deadline).await };
        let ended = |_| Err(StoreError::Unreachable("the client's runtime has ended".into()));
        tokio::spawn(adjusted).await.unwrap_or_else(ended)
    }

    /// Adjusts all shares of a reservation with so many charges.
    async fn adjust_shares(
        &self,
        shares: &[AdjustmentShare],
        charges: usize,
        deadline: Instant,
    ) -> Result<AdjustReply, StoreError> {
        let adjusted = shares.iter().map(|share| self.adjust_share(share, deadline));
        let mut known: Option<AdjustedReservation> = None;
        let charges = vec![KEPT_ELSEWHERE; charges];
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

    /// Opens the first hash tag's reservation, then with its terms those of the others: what an
    /// earlier attempt has opened is found again.
    async fn reserve_across_slots(
        &self,
        charges: &Charges,
        new: &NewReservation,
        context: &CheckContext,
        deadline: Instant,
    ) -> Attempt {
        let shares = SlotShare::by_hash_tag(charges);
        let (mut replies, mut new) = (Vec::with_capacity(shares.len()), new.clone());
        if let Some(first) = shares.first() {
            let reply = self.reserve_together(&first.charges, &new, context, deadline).await;
            match &reply {
                Ok(ReserveReply::Replayed(_, terms)) => new.terms = terms.clone(),
                Ok(ReserveReply::Conflict) => return Attempt::new(reply),
                Ok(ReserveReply::Judged(_)) => {}
                Err(_) => {
                    self.close_shares(&shares[..1], std::slice::from_ref(&reply), &new, deadline)
                        .await;
                    return Attempt::new(reply);
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
            // The first share is refused, and the others are not opened.
            let reply = merge_replies(charges.len(), &shares, replies, false);
            return Attempt { reply, is_undone: true };
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
        let is_undone = if is_open {
            is_replayed
        } else {
            let is_closed = self.close_shares(&shares, &replies, &new, deadline).await;
            is_closed && replies.iter().all(|reply| reply.is_ok() || is_surely_refused(reply))
        };
        Attempt { reply: merge_replies(charges.len(), &shares, replies, is_open), is_undone }
    }

    /// Closes what this attempt has opened, or may have opened, beyond the check's deadline if need
    /// be: a share that stays open is charged until the reservation is forgotten. Returns true if
    /// all of it is closed by the deadline.
    async fn close_shares(
        &self,
        shares: &[SlotShare],
        replies: &[Result<ReserveReply, StoreError>],
        new: &NewReservation,
        deadline: Instant,
    ) -> bool {
        let opened = shares.iter().zip(replies).filter_map(|(share, reply)| match reply {
            Ok(ReserveReply::Judged(verdict)) if !verdict.verdict.allowed => None,
            Ok(ReserveReply::Judged(_)) | Err(_) => Some(AdjustmentShare::closing(share, new)),
            Ok(ReserveReply::Replayed(..) | ReserveReply::Conflict) => None,
        });
        let opened: Vec<_> = opened.collect();
        let client = self.clone();
        let closing = tokio::spawn(async move {
            let closed = join_all(opened.iter().map(|share| client.close_share(share))).await;
            closed.into_iter().all(|is_closed| is_closed)
        });
        // It continues after the deadline.
        matches!(timeout_at(deadline, closing).await, Ok(Ok(true)))
    }

    /// Closes one share, and returns false if that failed. Closing twice does no harm.
    async fn close_share(&self, share: &AdjustmentShare) -> bool {
        for _ in 0..CLOSE_ATTEMPTS {
            match self.adjust_share(share, Instant::now() + self.redis.deadline).await {
                Ok(_) => return true,
                Err(error) => {
                    tracing::debug!(%error, "a refused reservation stays charged in part");
                    sleep(CLOSE_PAUSE).await;
                }
            }
        }
        false
    }
}

/// The attempts to close what a refused reservation has opened, and the pause between them.
const CLOSE_ATTEMPTS: usize = 5;
const CLOSE_PAUSE: Duration = Duration::from_millis(200);

/// The charge of a hash tag whose reservation was not found.
const KEPT_ELSEWHERE: AdjustedCharge = AdjustedCharge { charged: None, state: None };

/// The outcome of an attempt to open a reservation.
struct Attempt {
    reply: Result<ReserveReply, StoreError>,
    /// True if it is known that the attempt has left nothing open.
    is_undone: bool,
}

impl Attempt {
    /// An attempt that needed one call, or came to its first one only.
    fn new(reply: Result<ReserveReply, StoreError>) -> Self {
        let is_undone = is_surely_refused(&reply);
        Self { reply, is_undone }
    }
}

/// True if the call has opened nothing. After any other error it may have.
fn is_surely_refused(reply: &Result<ReserveReply, StoreError>) -> bool {
    match reply {
        Ok(ReserveReply::Judged(verdict)) => !verdict.verdict.allowed,
        Ok(ReserveReply::Replayed(..) | ReserveReply::Conflict) => true,
        Err(error) => matches!(error, StoreError::NewSubject(_)),
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
