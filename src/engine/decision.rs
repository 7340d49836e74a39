//! The answer to a check: allowed or not, and for each limit what is left and when to come back.
//!
//! How it is written in JSON or headers is for those who answer.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::catalog::ApiKey;
use crate::judge::{self, LimitStatus, Verdict};
use crate::limit::{Charges, Limit};
use crate::store::Store;
use crate::time::Micros;

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// Redis.
    Redis,
    /// The node's own memory, which is the store.
    Memory,
    /// The node, from what it has charged in Redis ahead.
    Lease,
    /// The node, because Redis has refused the same a moment ago.
    Memo,
    /// The node alone, because the store was lost.
    Fallback,
}

impl DecidedBy {
    pub(super) fn from_store(store: &Store) -> Self {
        match store {
            Store::Memory(_) => Self::Memory,
            Store::Redis(_) => Self::Redis,
        }
    }

    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memory => "memory",
            Self::Lease => "lease",
            Self::Memo => "memo",
            Self::Fallback => "fallback",
        }
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionStatus {
    /// Every limit had room.
    Allowed,
    /// A limit has no room now.
    Refused,
    /// The cost could never fit.
    TooLarge,
    /// The store is lost and the plan lets nothing pass without it.
    Unavailable,
}

/// One limit as the check found it.
#[derive(Clone, Debug)]
pub struct LimitOutcome {
    /// The limit.
    pub limit: Arc<Limit>,
    /// How it stands.
    pub status: LimitStatus,
    /// Whether the check is refused because of this limit.
    pub refuses: bool,
}

/// The answer to a check.
#[derive(Clone, Debug)]
pub struct Decision {
    /// How it ended.
    pub status: DecisionStatus,
    /// The first limit that refuses, by name.
    pub violated: Option<Arc<str>>,
    /// Until every limit has room for this very cost.
    pub retry_after: Micros,
    /// The API key that asked.
    pub key: Option<Arc<ApiKey>>,
    /// The plan by which it was judged.
    pub plan: Option<Arc<str>>,
    /// Every limit judged, in order, without meters; empty where the store did not judge.
    pub limits: SmallVec<[LimitOutcome; 2]>,
    /// Who decided.
    pub decided_by: DecidedBy,
}

impl Decision {
    /// What a store's verdict means.
    #[must_use]
    pub fn from_verdict(charges: &Charges, verdict: &Verdict, decided_by: DecidedBy) -> Self {
        let limited = charges.iter().zip(&verdict.states);
        let limited = limited.filter(|(charge, _)| !charge.limit.is_meter());
        let outcomes = limited.map(|(charge, &state)| {
            let is_made = judge::is_made(charge, state, verdict.allowed);
            let status = judge::limit_status(charge, state, is_made, verdict.now);
            let refuses = !status.fits
                && (charge.limit.refuses_alone() || charge.limit.alternative() && !verdict.allowed);
            LimitOutcome { limit: Arc::clone(&charge.limit), status, refuses }
        });
        let limits: SmallVec<[LimitOutcome; 2]> = outcomes.collect();
        let refusing = limits.iter().filter(|outcome| outcome.refuses);
        // All that refuse alone must have room, and of the alternatives one.
        let retry_afters = |alone| {
            let same_kind = move |outcome: &&LimitOutcome| outcome.limit.refuses_alone() == alone;
            refusing.clone().filter(same_kind).map(|outcome| outcome.status.retry_after)
        };
        let retry_after = retry_afters(true).max().max(retry_afters(false).min());
        let violated = refusing.map(|outcome| Arc::clone(outcome.limit.name())).next();
        Self {
            status: if verdict.allowed { DecisionStatus::Allowed } else { DecisionStatus::Refused },
            violated,
            retry_after: retry_after.unwrap_or_default(),
            key: None,
            plan: None,
            limits,
            decided_by,
        }
    }

    /// The node's own word: no limit was judged by the store.
    pub(super) fn without_limits(
        status: DecisionStatus,
        violated: Option<Arc<str>>,
        retry_after: Micros,
    ) -> Self {
        Self {
            status,
            violated,
            retry_after,
            key: None,
            plan: None,
            limits: SmallVec::new(),
            decided_by: DecidedBy::Fallback,
        }
    }

    pub(super) fn too_large(
        violated: Arc<str>,
        key: Option<Arc<ApiKey>>,
        plan: Option<Arc<str>>,
        decided_by: DecidedBy,
    ) -> Self {
        let decision = Self::without_limits(DecisionStatus::TooLarge, Some(violated), Micros::ZERO);
        Self { key, plan, decided_by, ..decision }
    }

    pub(super) fn set_key_and_plan(&mut self, key: Option<Arc<ApiKey>>, plan: Option<Arc<str>>) {
        self.key = key;
        self.plan = plan;
    }

    /// Whether the request may pass.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.status == DecisionStatus::Allowed
    }

    /// The first limit that refuses, where the store judged.
    #[must_use]
    pub fn violated_limit(&self) -> Option<&Arc<Limit>> {
        self.limits.iter().find(|outcome| outcome.refuses).map(|outcome| &outcome.limit)
    }
}
