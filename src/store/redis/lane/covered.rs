//! Checks that leases cover, whole or in part.
//!
//! What leases cover is taken from them first; Redis judges the rest. Where it refuses, what was
//! taken goes back: so the check is still charged as one, or not at all. How leases are kept is
//! `leases`'.

use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

use super::Lane;
use super::leases::{Cover, Leases, Renewal};
use crate::algorithm::{Reading, Verdict};
use crate::limit::{Charges, Start};
use crate::store::Answer;
use crate::store::redis::Error;
use crate::time::{Micros, boot_clock};

/// A check of which leases cover some.
pub(super) struct Covered {
    /// Redis' clock, as far as known.
    now: Micros,
    /// For each charge.
    covers: SmallVec<[Cover; 4]>,
    /// What they do not cover.
    rest: Charges,
}

impl Covered {
    /// Whether leases cover all that can refuse: what is left, if anything, only counts.
    pub(super) fn is_whole(&self) -> bool {
        self.rest.len() < self.covers.len()
            && self.rest.iter().all(|charge| charge.limit.is_meter())
    }

    /// The readings of all charges in their order, with those of the rest among them.
    fn readings(&self, mut rest: impl Iterator<Item = Reading>) -> SmallVec<[Reading; 4]> {
        let reading = |cover: &Cover| match cover {
            Cover::Taken(reading, _) => Some(*reading),
            Cover::Ask => rest.next(),
        };
        self.covers.iter().filter_map(reading).collect()
    }
}

impl Lane {
    /// Takes from leases what they cover.
    pub(super) fn cover(&self, charges: &Charges) -> Covered {
        let (now, clock, holders) = (self.now(), boot_clock(), self.redis.holders());
        let mut covers = SmallVec::new();
        for charge in charges {
            let concerned = Leases::concern(charge);
            let (cover, renewal) = if concerned {
                self.leases.take(charge, now, clock, holders)
            } else {
                (Cover::Ask, None)
            };
            covers.push(cover);
            if let Some(renewal) = renewal {
                tokio::spawn(self.clone().renew(renewal));
            }
        }
        let asked = charges.iter().zip(&covers).filter(|(_, cover)| matches!(cover, Cover::Ask));
        let rest = asked.map(|(charge, _)| charge.clone()).collect();
        Covered { now, covers, rest }
    }

    /// Allows a check that leases cover but for its meters, which are counted later.
    pub(super) fn spend(&self, covered: &Covered) -> Answer {
        covered.rest.iter().for_each(|charge| self.metered.add(charge));
        let unread = Reading { held: 0, window: Start::new(0) };
        let readings = covered.readings(std::iter::repeat(unread));
        Answer {
            verdict: Verdict { now: covered.now, allowed: true, readings },
            index: 0,
            leased: true,
        }
    }

    /// Has Redis judge what leases do not cover.
    pub(super) async fn judge_rest(
        &self,
        charges: &Charges,
        covered: Covered,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let mut taken = Taken { lane: self, charges, covers: &covered.covers, is_spent: false };
        let judged = self.judge_exactly(&covered.rest, deadline).await;
        taken.is_spent = judged.as_ref().is_ok_and(|answer| answer.verdict.allowed);
        drop(taken);
        let mut answer = judged?;
        self.learn(&covered.rest, &answer.verdict);
        answer.verdict.readings =
            covered.readings(std::mem::take(&mut answer.verdict.readings).into_iter());
        Ok(answer)
    }

    /// Charges a lease in the background.
    async fn renew(self, renewal: Renewal) {
        let charges: Charges = smallvec![renewal.charge.clone()];
        // As long as a check: those that share its call are not made to hurry, nor those behind it to
        // wait. What comes too late to be spent goes back.
        let deadline = Instant::now() + self.redis.deadline;
        let judged = self.judge_exactly(&charges, deadline).await;
        if let Ok(answer) = &judged {
            self.learn(&charges, &answer.verdict);
        }
        let granted = judged.ok().filter(|answer| answer.verdict.allowed);
        self.leases.settle(&renewal, granted.map(|answer| answer.verdict.now));
    }

    fn learn(&self, charges: &Charges, verdict: &Verdict) {
        for (charge, reading) in charges.iter().zip(&verdict.readings) {
            if Leases::concern(charge) {
                let more = if verdict.allowed { charge.amount() } else { 0 };
                self.leases.learn(charge, reading.level() + more, verdict.now);
            }
        }
    }
}

/// What leases gave for a check; it goes back unless the check is allowed, also where nobody waits for
/// the answer any more.
struct Taken<'c> {
    lane: &'c Lane,
    charges: &'c Charges,
    covers: &'c [Cover],
    is_spent: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.is_spent {
            return;
        }
        for (charge, cover) in self.charges.iter().zip(self.covers) {
            if let Cover::Taken(_, origin) = cover {
                self.lane.leases.put_back(charge, *origin);
            }
        }
    }
}
