//! Checks that leases cover, whole or in part.
//!
//! What leases cover is taken from them first; Redis judges the rest. Where it refuses, what was
//! taken goes back: so the check is still charged as one, or not at all. How leases are kept is
//! `leases`'.

use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

use super::RedisClient;
use super::leases::{Coverage, Leases, Renewal};
use crate::algorithm::{CounterState, Verdict};
use crate::limit::{Charges, WindowStart};
use crate::store::StoreVerdict;
use crate::store::redis::StoreError;
use crate::time::{Micros, boot_clock};

/// A check of which leases cover some.
pub(super) struct LeasedCheck {
    /// Redis' clock, as far as known.
    now: Micros,
    /// For each charge.
    coverages: SmallVec<[Coverage; 4]>,
    /// What they do not cover.
    uncovered: Charges,
}

impl LeasedCheck {
    /// Whether leases cover all that can refuse: what is left, if anything, only counts.
    pub(super) fn is_fully_leased(&self) -> bool {
        self.uncovered.len() < self.coverages.len()
            && self.uncovered.iter().all(|charge| charge.limit.is_meter())
    }

    /// The states of all charges in their order, with those of the rest among them.
    fn states(
        &self,
        mut uncovered: impl Iterator<Item = CounterState>,
    ) -> SmallVec<[CounterState; 4]> {
        let state = |coverage: &Coverage| match coverage {
            Coverage::Leased(state, _) => Some(*state),
            Coverage::NotLeased => uncovered.next(),
        };
        self.coverages.iter().filter_map(state).collect()
    }
}

impl RedisClient {
    /// Takes from leases what they cover.
    pub(super) fn take_leases(&self, charges: &Charges) -> LeasedCheck {
        let (now, clock, holders) = (self.now(), boot_clock(), self.redis.lease_holders());
        let mut coverages = SmallVec::new();
        for charge in charges {
            let is_leasable = Leases::is_leasable(charge);
            let (coverage, renewal) = if is_leasable {
                self.leases.take(charge, now, clock, holders)
            } else {
                (Coverage::NotLeased, None)
            };
            coverages.push(coverage);
            if let Some(renewal) = renewal {
                tokio::spawn(self.clone().renew(renewal));
            }
        }
        let asked = charges
            .iter()
            .zip(&coverages)
            .filter(|(_, coverage)| matches!(coverage, Coverage::NotLeased));
        let uncovered = asked.map(|(charge, _)| charge.clone()).collect();
        LeasedCheck { now, coverages, uncovered }
    }

    /// Allows a check that leases cover but for its meters, which are counted later.
    pub(super) fn allow_from_leases(&self, check: &LeasedCheck) -> StoreVerdict {
        check.uncovered.iter().for_each(|charge| self.pending_usage.add(charge));
        let unknown = CounterState { level: 0, window: WindowStart::new(0) };
        let states = check.states(std::iter::repeat(unknown));
        StoreVerdict {
            verdict: Verdict { now: check.now, allowed: true, states },
            index: 0,
            leased: true,
        }
    }

    /// Has Redis judge what leases do not cover.
    pub(super) async fn judge_uncovered(
        &self,
        charges: &Charges,
        check: LeasedCheck,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        let mut guard =
            PutBackGuard { client: self, charges, coverages: &check.coverages, is_spent: false };
        let judged = self.judge_without_leases(&check.uncovered, deadline).await;
        guard.is_spent = judged.as_ref().is_ok_and(|answer| answer.verdict.allowed);
        drop(guard);
        let mut answer = judged?;
        self.observe_levels(&check.uncovered, &answer.verdict);
        answer.verdict.states =
            check.states(std::mem::take(&mut answer.verdict.states).into_iter());
        Ok(answer)
    }

    /// Charges a lease in the background.
    async fn renew(self, renewal: Renewal) {
        let charges: Charges = smallvec![renewal.charge.clone()];
        // As long as a check: those that share its call are not made to hurry, nor those behind it to
        // wait. What comes too late to be spent goes back.
        let deadline = Instant::now() + self.redis.deadline;
        let judged = self.judge_without_leases(&charges, deadline).await;
        if let Ok(answer) = &judged {
            self.observe_levels(&charges, &answer.verdict);
        }
        let granted = judged.ok().filter(|answer| answer.verdict.allowed);
        self.leases.complete_renewal(&renewal, granted.map(|answer| answer.verdict.now));
    }

    fn observe_levels(&self, charges: &Charges, verdict: &Verdict) {
        for (charge, state) in charges.iter().zip(&verdict.states) {
            if Leases::is_leasable(charge) {
                let more = if verdict.allowed { charge.amount() } else { 0 };
                self.leases.observe_level(charge, state.unsigned_level() + more, verdict.now);
            }
        }
    }
}

/// What leases gave for a check; it goes back unless the check is allowed, also where nobody waits for
/// the answer any more.
struct PutBackGuard<'c> {
    client: &'c RedisClient,
    charges: &'c Charges,
    coverages: &'c [Coverage],
    is_spent: bool,
}

impl Drop for PutBackGuard<'_> {
    fn drop(&mut self) {
        if self.is_spent {
            return;
        }
        for (charge, coverage) in self.charges.iter().zip(self.coverages) {
            if let Coverage::Leased(_, origin) = coverage {
                self.client.leases.put_back(charge, *origin);
            }
        }
    }
}
