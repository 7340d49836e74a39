//! Checks that are charged to leases, wholly or in part.
//!
//! Charges that leases cover are taken from them first, and Redis judges the others. If it refuses
//! them, the leases get their units back: the check is charged as a whole or not at all. Only
//! forced charges stay. While the units of a counter are scarce, the checks of all workers wait for
//! one call, or are refused without one. The leases themselves are in `leases`.

use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

use super::RedisClient;
use super::leases::{Coverage, Leases, PendingRenewal, Renewal, Uncovered};
use crate::algorithm::CounterState;
use crate::judge::{self, Verdict};
use crate::limit::{Charge, Charges};
use crate::store::redis::StoreError;
use crate::store::{CheckContext, StoreVerdict};
use crate::time::{Micros, boot_clock};

/// A check with at least one charge that may be leased.
pub(super) struct LeasedCheck {
    /// Redis' time, estimated from the last reply, and the boot clock.
    now: Micros,
    clock: Duration,
    /// The coverage of each charge.
    coverages: SmallVec<[Coverage; 4]>,
    /// The charges that no lease covers.
    uncovered: Charges,
}

impl LeasedCheck {
    fn new(
        (now, clock): (Micros, Duration),
        charges: &Charges,
        coverages: SmallVec<[Coverage; 4]>,
    ) -> Self {
        let not_leased = charges
            .iter()
            .zip(&coverages)
            .filter(|(_, coverage)| matches!(coverage, Coverage::NotLeased | Coverage::Awaited(_)));
        let uncovered = not_leased.map(|(charge, _)| charge.clone()).collect();
        Self { now, clock, coverages, uncovered }
    }

    /// The charges that Redis has to judge.
    pub(super) fn uncovered(&self) -> &Charges {
        &self.uncovered
    }

    /// The verdict on a decided check. `uncovered` gives the states of uncovered charges.
    pub(super) fn verdict(&self, uncovered: impl Iterator<Item = CounterState>) -> StoreVerdict {
        let (allowed, states) = (!self.is_refused(), self.states(uncovered));
        StoreVerdict { verdict: Verdict { now: self.now, allowed, states }, index: 0, leased: true }
    }

    /// True if the node decides the check without a call.
    pub(super) fn is_decided(&self) -> bool {
        self.is_fully_leased() || self.is_refused()
    }

    fn is_refused(&self) -> bool {
        self.coverages.iter().any(|coverage| matches!(coverage, Coverage::Refused(_)))
    }

    /// The lease on its way that the check has to wait for.
    fn awaited(&self) -> Option<PendingRenewal> {
        self.coverages.iter().find_map(|coverage| match coverage {
            Coverage::Awaited(renewal) => Some(renewal.clone()),
            _ => None,
        })
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
            Coverage::Leased(state, _) | Coverage::Refused(state) => Some(*state),
            Coverage::NotLeased | Coverage::Awaited(_) => uncovered.next(),
        };
        self.coverages.iter().filter_map(state).collect()
    }
}

impl RedisClient {
    /// Takes the charges that leases cover from them, and starts renewals of leases in the
    /// background.
    pub(super) fn take_leases(&self, charges: &Charges) -> LeasedCheck {
        self.take(charges, Uncovered::Judged)
    }

    /// As [`RedisClient::take_leases`], for a check that may be decided without a call, or wait for
    /// that of another.
    pub(super) fn take_leases_in_turn(&self, charges: &Charges) -> LeasedCheck {
        self.take(charges, self.uncovered(charges))
    }

    fn take(&self, charges: &Charges, uncovered: Uncovered) -> LeasedCheck {
        let (now, clock, holders) = (self.now(), boot_clock(), self.redis.live_nodes());
        let mut coverages = SmallVec::new();
        for charge in charges {
            let is_leasable = Leases::is_leasable(charge);
            let (coverage, renewal) = if is_leasable {
                self.leases.take(charge, now, clock, holders, uncovered)
            } else {
                (Coverage::NotLeased, None)
            };
            coverages.push(coverage);
            if let Some(renewal) = renewal {
                tokio::spawn(self.clone().renew(renewal));
            }
        }
        LeasedCheck::new((now, clock), charges, coverages)
    }

    /// The charges that leases would cover now: as [`RedisClient::take_leases`], and nothing is
    /// taken. A check that is `reserved` has its leases from `leases::held`.
    pub(super) fn peek_leases(&self, charges: &Charges, is_reserved: bool) -> LeasedCheck {
        let (now, clock, holders) = (self.now(), boot_clock(), self.redis.live_nodes());
        let uncovered = self.uncovered(charges);
        let peek = |charge| {
            if self.redis.leases && !is_reserved && Leases::is_leasable(charge) {
                self.leases.peek(charge, now, clock, holders, uncovered)
            } else {
                Coverage::NotLeased
            }
        };
        LeasedCheck::new((now, clock), charges, charges.iter().map(peek).collect())
    }

    /// The fate of a check's charges that no lease covers. They wait for the call of another, or are
    /// refused without one, only if the check needs no call for its other charges.
    fn uncovered(&self, charges: &Charges) -> Uncovered {
        let has_turn = |charge: &Charge| {
            charge.limit.is_meter()
                || Leases::is_leasable(charge)
                    && charge.limit.refuses_alone()
                    && !charge.is_forced()
        };
        let in_turn = self.redis.repeats_refusals && charges.iter().all(has_turn);
        if in_turn { Uncovered::InTurn } else { Uncovered::Judged }
    }

    /// Decides a check without a call. If it is allowed, its meters are charged later.
    pub(super) fn decide_by_leases(&self, charges: &Charges, check: &LeasedCheck) -> StoreVerdict {
        if check.is_refused() {
            drop(PutBackGuard::new(self, charges, check));
        } else {
            for charge in &check.uncovered {
                if self.pending_usage.add(charge) {
                    self.usage_added.notify_one();
                }
            }
        }
        check.verdict(self.known_states(check))
    }

    /// The states of the uncovered charges of a decided check, as far as this node knows them. The
    /// responses do not have those of meters.
    pub(super) fn known_states(&self, check: &LeasedCheck) -> impl Iterator<Item = CounterState> {
        check.uncovered.iter().map(|charge| {
            if charge.limit.is_meter() {
                return CounterState::of_level(0);
            }
            self.leases.state(charge, check.now, check.clock)
        })
    }

    /// Judges a check that is not decided yet. It waits for a lease on its way if most of its time is
    /// left, so that the checks of all workers need no calls of their own. If the request for the
    /// lease fails, it is judged by its own call. It waits as long for the lease as it would for that
    /// call: a Redis that needs most of the deadline responds to both in time, or to neither.
    pub(super) async fn judge_in_turn(
        &self,
        charges: &Charges,
        mut check: LeasedCheck,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        while let Some(renewal) = check.awaited()
            && Instant::now() + self.redis.deadline * 3 / 4 < deadline
        {
            drop(PutBackGuard::new(self, charges, &check));
            let has_response = renewal.response(deadline).await;
            check = if has_response {
                self.take_leases_in_turn(charges)
            } else {
                self.take_leases(charges)
            };
            if check.is_decided() {
                return Ok(self.decide_by_leases(charges, &check));
            }
        }
        self.judge_uncovered(charges, check, context, deadline).await
    }

    /// Judges the charges that leases do not cover in Redis.
    pub(super) async fn judge_uncovered(
        &self,
        charges: &Charges,
        check: LeasedCheck,
        context: &CheckContext,
        deadline: Instant,
    ) -> Result<StoreVerdict, StoreError> {
        let mut guard = PutBackGuard::new(self, charges, &check);
        let judged = self.judge_without_leases(&check.uncovered, context, deadline).await;
        guard.allowed = judged.as_ref().ok().map(|result| result.verdict.allowed);
        drop(guard);
        let mut result = judged?;
        self.observe_levels(&check.uncovered, &result.verdict);
        self.observe_refusals(&check.uncovered, &result.verdict);
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
        let granted = judged.as_ref().ok().filter(|result| result.verdict.allowed);
        self.leases.complete_renewal(&renewal, granted.map(|result| result.verdict.now));
        if judged.is_err() {
            renewal.fail();
        }
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

    fn observe_refusals(&self, charges: &Charges, verdict: &Verdict) {
        for (charge, state) in charges.iter().zip(&verdict.states) {
            if !verdict.allowed && Leases::is_leasable(charge) && !judge::fits(charge, *state) {
                self.leases.observe_refusal(charge, boot_clock());
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

impl<'c> PutBackGuard<'c> {
    fn new(client: &'c RedisClient, charges: &'c Charges, check: &'c LeasedCheck) -> Self {
        Self { client, charges, coverages: &check.coverages, allowed: None }
    }
}

impl Drop for PutBackGuard<'_> {
    fn drop(&mut self) {
        for (charge, coverage) in self.charges.iter().zip(self.coverages) {
            let is_spent = self.allowed.is_some_and(|allowed| allowed || charge.is_forced());
            if let Coverage::Leased(_, origin) = coverage
                && !is_spent
            {
                self.client.leases.put_back(charge, *origin);
            }
        }
    }
}
