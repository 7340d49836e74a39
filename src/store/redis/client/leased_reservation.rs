//! The units of reservations that were taken from leases, from the reserve to the settlement.
//!
//! The reservation in Redis holds what is charged beyond them, so a settlement charges an overshoot
//! in its own call. Units that are left over go back behind its response by the plain refund of a
//! lease, and only if this call has ended the reservation: so at most once. A crash in between loses
//! them until the token bucket has drained. Charges that Redis made are `reservation`'s alone.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

use super::RedisClient;
use super::cross_slot::SlotShare;
use super::job::{CheckResult, Operation, QueuedCheck, Work, wrong_result};
use super::leases::HeldLeases;
use crate::algorithm::{ChargeTime, Counting as _, WindowStart};
use crate::limit::{
    AdjustedUnits, Adjustment, AdjustmentKind, Charge, ChargeAdjustment, Charges, LeasedUnits,
    NewReservation, Refund,
};
use crate::store::redis::StoreError;
use crate::store::{AdjustReply, AdjustedReservation, CheckContext};
use crate::time::boot_clock;

/// The part of an adjustment under one hash tag.
pub(super) struct AdjustmentShare {
    /// The change of what the store's reservation holds.
    pub(super) adjustment: Adjustment,
    /// The positions of its charges.
    pub(super) positions: SmallVec<[usize; 4]>,
    /// Its charges that were taken from leases.
    leased: Vec<LeasedCharge>,
}

/// A charge of a share that was taken from a lease.
struct LeasedCharge {
    /// Its place among the charges of the share.
    place: usize,
    units: LeasedUnits,
    /// The units that are left over if the reservation ends with this adjustment.
    unused: u64,
}

impl AdjustmentShare {
    /// The shares of an adjustment; one if all subjects lie together. `leased` has the leased units
    /// of each charge, or nothing at all.
    pub(super) fn of(
        adjustment: &Adjustment,
        leased: &[Option<LeasedUnits>],
        is_sharded: bool,
    ) -> Vec<Self> {
        let mut shares: Vec<Self> = Vec::new();
        for (position, charge) in adjustment.charges.iter().enumerate() {
            let lies_here = |share: &Self| {
                !is_sharded
                    || share.adjustment.charges[0].subject.has_same_hash_tag(&charge.subject)
            };
            let known = shares.iter().position(lies_here).unwrap_or_else(|| {
                let adjustment = Adjustment { charges: Vec::new(), ..adjustment.clone() };
                shares.push(Self { adjustment, positions: SmallVec::new(), leased: Vec::new() });
                shares.len() - 1
            });
            shares[known].add(position, charge.clone(), leased.get(position).copied().flatten());
        }
        shares
    }

    /// Gives back all charges of a share that was opened.
    pub(super) fn closing(share: &SlotShare, new: &NewReservation) -> Self {
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
        Self { adjustment, positions: share.positions.clone(), leased: Vec::new() }
    }

    fn add(&mut self, position: usize, mut charge: ChargeAdjustment, leased: Option<LeasedUnits>) {
        if let Some(units) = leased {
            let (place, unused) = (self.positions.len(), units.unused(charge.units));
            charge.units = charge.units.beyond(units.units);
            self.leased.push(LeasedCharge { place, units, unused });
        }
        self.adjustment.charges.push(charge);
        self.positions.push(position);
    }

    /// The refunds of what is left over once the reservation has ended, and the places of their
    /// charges. What has drained already takes no call.
    pub(super) fn refunds(
        &self,
        adjusted: &AdjustedReservation,
    ) -> (Vec<Refund>, SmallVec<[usize; 4]>) {
        let (mut refunds, mut places) = (Vec::new(), SmallVec::new());
        let ends = self.adjustment.kind == AdjustmentKind::Close;
        for LeasedCharge { place, units, unused } in self.leased.iter().filter(|_| ends) {
            let Some(look) = self.adjustment.charges[*place].look() else { continue };
            let age = adjusted.now.since(units.charged_at);
            let charge = Charge { cost: *unused, ..look };
            if charge.amount() > charge.limit.algorithm().drained(age) {
                let charged = ChargeTime { at: units.charged_at, window: WindowStart::new(0) };
                refunds.push(Refund { charge, charged });
                places.push(*place);
            }
        }
        (refunds, places)
    }
}

impl RedisClient {
    /// Takes the charges of a check that is to open a reservation from the leases that cover them.
    #[must_use]
    pub fn hold_leases(&self, charges: &Charges) -> HeldLeases {
        if !self.redis.leases {
            return HeldLeases::default();
        }
        HeldLeases::take(charges, &self.leases, boot_clock())
    }

    /// The charges that [`RedisClient::hold_leases`] would take now. Takes nothing.
    pub(super) fn peek_held_leases(&self, charges: &Charges) -> HeldLeases {
        if !self.redis.leases {
            return HeldLeases::default();
        }
        HeldLeases::peek(charges, &self.leases, boot_clock())
    }

    /// Adjusts the part of a reservation under one hash tag, and gives back the leased units that
    /// are left over.
    pub(super) async fn adjust_share(
        &self,
        share: &AdjustmentShare,
        deadline: Instant,
    ) -> Result<AdjustReply, StoreError> {
        let looks = share.adjustment.looks();
        let operation = Some(Arc::new(Operation::Adjust(share.adjustment.clone())));
        let check = QueuedCheck { operation, ..QueuedCheck::new(&looks, &CheckContext::NONE) };
        let mut reply = match self.router.run(check, deadline).await? {
            CheckResult::Adjusted(reply) => *reply,
            CheckResult::Verdict(_) | CheckResult::Reserved(_) => return Err(wrong_result()),
        };
        if let AdjustReply::Adjusted(adjusted) = &mut reply {
            for LeasedCharge { place, units, .. } in &share.leased {
                let charged = &mut adjusted.charges[*place].charged;
                *charged = charged.map(|beyond| beyond + units.units);
            }
            self.give_back_unused(share, adjusted, deadline).await;
        }
        Ok(reply)
    }

    /// Refunds the leased units that a reservation which has just ended leaves over, and reads their
    /// counters behind that, since the response reports them. Never sent twice: a lost refund makes
    /// a limit stricter for a moment, and a repeated one looser.
    async fn give_back_unused(
        &self,
        share: &AdjustmentShare,
        adjusted: &mut AdjustedReservation,
        deadline: Instant,
    ) {
        let (refunds, places) = share.refunds(adjusted);
        if refunds.is_empty() {
            return;
        }
        let looks = refunds.iter().map(|refund| Charge { cost: 0, ..refund.charge.clone() });
        let look = QueuedCheck::new(&looks.collect(), &CheckContext::NONE);
        let work = Work { checks: smallvec![look], refunds, ..Work::default() };
        // The reservation has ended, so this goes on if little is left of the deadline.
        let deadline = deadline.max(Instant::now() + self.redis.deadline);
        match self.router.send(work, deadline).await.into_iter().next() {
            Some(Ok(CheckResult::Verdict(judged))) => {
                for (place, state) in places.into_iter().zip(judged.verdict.states) {
                    adjusted.charges[place].state = Some(state);
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "unused leased units of a reservation are lost");
            }
            _ => {}
        }
    }
}
