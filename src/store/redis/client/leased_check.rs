//! Checks that are charged to leases, wholly or in part.
//!
//! Charges that leases cover are taken from them first, and Redis judges the others. If it refuses
//! them, the leases get their units back: the check is charged as a whole or not at all. Only
//! forced charges stay. The leases themselves are in `leases`.

use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

use super::RedisClient;
use super::leases::{Coverage, Leases, Renewal};
use crate::algorithm::CounterState;
use crate::judge::{self, Verdict};
use crate::limit::Charges;
use crate::store::redis::StoreError;
use crate::store::{CheckContext, StoreVerdict};
use crate::time::{Micros, boot_clock};

/// A check with at least one charge that may be leased.
pub(super) struct LeasedCheck {
    /// Redis' time, estimated from the last reply.
    now: Micros,
    /// The coverage of each charge.
    coverages: SmallVec<[Coverage; 4]>,
    /// The charges that no lease covers.
    uncovered: Charges,
}

impl LeasedCheck {
    fn new(now: Micros, charges: &Charges, coverages: SmallVec<[Coverage; 4]>) -> Self {
        let not_leased = charges
            .iter()
            .zip(&coverages)
            .filter(|(_, coverage)| matches!(coverage, Coverage::NotLeased));
        let uncovered = not_leased.map(|(charge, _)| charge.clone()).collect();
        Self { now, coverages, uncovered }
    }

    /// The charges that Redis has to judge.
    pub(super) fn uncovered(&self) -> &Charges {
        &self.uncovered
    }

    /// The verdict on a fully leased check.
    pub(super) fn verdict(&self) -> StoreVerdict {
        let unknown = CounterState::of_level(0);
        let states = self.states(std::iter::repeat(unknown));
        StoreVerdict {
            verdict: Verdict { now: self.now, allowed: true, states },
            index: 0,
            leased: true,
        }
    }

    /// True if leases cover every charge that could be refused, so that only meters are uncovered.
    pub(super) fn is_fully_leased(&self) -> bool {
        self.uncovered.len() < self.coverages.len()
            && self.uncovered.iter().all(|charge| charge.limit.is_meter())
    }

    /// The counter states of all charges, in order. Those of uncovered charges come from
    /// `uncovered`.
    pub(super) fn states(
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
    /// Takes the charges that leases cover from them, and starts renewals of leases in the
    /// background.
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
        LeasedCheck::new(now, charges, coverages)
    }

    /// The charges that leases would cover now: as [`RedisClient::take_leases`], and nothing is
    /// taken. A check that is `reserved` is never charged to leases.
    pub(super) fn peek_leases(&self, charges: &Charges, is_reserved: bool) -> LeasedCheck {
        let (now, clock, holders) = (self.now(), boot_clock(), self.redis.lease_holders());
        let peek = |charge| {
            if self.redis.leases && !is_reserved && Leases::is_leasable(charge) {
                self.leases.peek(charge, now, clock, holders)
            } else {
                Coverage::NotLeased
            }
        };
        LeasedCheck::new(now, charges, charges.iter().map(peek).collect())
    }

    /// Allows a fully leased check. Its meters are charged later.
    pub(super) fn allow_from_leases(&self, check: &LeasedCheck) -> StoreVerdict {
        for charge in &check.uncovered {
            if self.pending_usage.add(charge) {
                self.sweep_needed.notify_one();
            }
        }
        check.verdict()
    }

    /// Judges the charges that leases do not cover in Redis.
    pub(super) async fn judge_uncovered(
        &self,
        charges: &Charges,
        check: LeasedCheck,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        let mut guard =
            PutBackGuard { client: self, charges, coverages: &check.coverages, allowed: None };
        let judged = self.judge_without_leases(&check.uncovered, context, deadline).await;
        guard.allowed = judged.as_ref().ok().map(|result| result.verdict.allowed);
        drop(guard);
        let mut result = judged?;
        self.observe_levels(&check.uncovered, &result.verdict);
        result.verdict.states =
            check.states(std::mem::take(&mut result.verdict.states).into_iter());
        Ok(result)
    }

    /// Charges a new lease in Redis.
    async fn renew(self, renewal: Renewal) {
        let charges: Charges = smallvec![renewal.charge.clone()];
        // The deadline of a check. A lease whose request has no response by then is lost, and one
        // that is granted too late is refunded unspent.
        let deadline = Instant::now() + self.redis.deadline;
        let judged = self.judge_without_leases(&charges, &CheckContext::NONE, deadline).await;
        if let Ok(result) = &judged {
            self.observe_levels(&charges, &result.verdict);
        }
        let granted = judged.ok().filter(|result| result.verdict.allowed);
        self.leases.complete_renewal(&renewal, granted.map(|result| result.verdict.now));
        self.sweep_needed.notify_one();
    }

    fn observe_levels(&self, charges: &Charges, verdict: &Verdict) {
        for (charge, state) in charges.iter().zip(&verdict.states) {
            if Leases::is_leasable(charge) {
                let made = judge::is_made(charge, *state, verdict.allowed);
                let more = if made { charge.amount() } else { 0 };
                self.leases.observe_level(charge, state.unsigned_level() + more, verdict.now);
            }
        }
    }
}

/// The units that a check has taken from leases. They are put back when this guard is dropped,
/// unless the check was allowed or they are charged in any case; so they are even if the caller
/// stops waiting.
struct PutBackGuard<'c> {
    client: &'c RedisClient,
    charges: &'c Charges,
    coverages: &'c [Coverage],
    /// The verdict of Redis on the other charges; `None` if there is none.
    allowed: Option<bool>,
}

impl Drop for PutBackGuard<'_> {
    fn drop(&mut self) {
        for (charge, coverage) in self.charges.iter().zip(self.coverages) {
            let is_spent = self.allowed.is_some_and(|allowed| allowed || charge.is_forced());
            if let Coverage::Leased(_, origin) = coverage
                && !is_spent
            {
                self.client.leases.put_back(charge, *origin);
                self.client.sweep_needed.notify_one();
            }
        }
    }
}
