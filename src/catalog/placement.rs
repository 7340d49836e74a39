//! Constraints on a catalog whose counters are spread over the slots of a Redis Cluster.
//!
//! A check charges the API key and the stage. In a Redis Cluster no script can judge counters of
//! two slots, so limits that the clients of a stage share must be leased there: charged in advance.

use std::sync::Arc;

use super::validation::ValidationError;
use super::{Catalog, CheckError, StageLimits};
use crate::algorithm::Counting as _;
use crate::limit::{Charge, Limit};

/// The placement of the counters of different subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterPlacement {
    /// In one server, where all charges of a check are judged as one.
    Together,
    /// In a Redis Cluster, where the charges to each subject are judged as one.
    PerSubject {
        /// False if leases are disabled, as with --record: all limits are exact then.
        leases: bool,
    },
}

impl Catalog {
    /// Checks that a store with this placement can keep all limits. Errors begin with `origin`.
    ///
    /// # Errors
    /// If clients share a limit that is not leased, and the placement is per subject.
    pub fn check_placement(
        &self,
        placement: CounterPlacement,
        origin: &str,
    ) -> Result<(), ValidationError> {
        let CounterPlacement::PerSubject { leases } = placement else { return Ok(()) };
        let mut errors = Vec::new();
        for (api, stages) in &self.apis {
            for (name, stage) in stages {
                let exact = stage.shared_limits().filter(|limit| !(leases && limit.leased()));
                errors.extend(exact.map(|limit| {
                    let write = if !leases {
                        "with --record nothing is leased: use a single Redis, or leave --record out".into()
                    } else if limit.algorithm().is_leasable() {
                        format!("write `consistency: leased` in the stage `{name}` of the api `{api}`")
                    } else if limit.algorithm().slot_ttl().is_some() {
                        "a concurrency limit cannot be leased: move it to a plan, or use a single Redis".into()
                    } else {
                        "a quota cannot be leased: write a throttle, or use a single Redis".into()
                    };
                    format!("`{}` is shared by all clients of its stage, and on a Redis Cluster must be leased: {write}", limit.name())
                }));
            }
        }
        let slots = |limits: &[Arc<Limit>]| {
            let slots = limits.iter().filter(|limit| limit.algorithm().slot_ttl().is_some());
            slots.map(|limit| limit.name().to_string()).collect::<Vec<_>>()
        };
        let slots = self.policies.values().flat_map(|policy| slots(&policy.limits));
        errors.extend(slots.map(|name| format!("`{name}` counts the slots of a policy, and on a Redis Cluster only plans can have a concurrency limit: move it to a plan, or use a single Redis")));
        if !leases {
            let keys = self.keys_by_id.values().filter(|key| !key.policies.is_empty());
            errors.extend(keys.map(|key| format!("the policies of the key `{}` are charged ahead on a Redis Cluster, which --record cannot record: use a single Redis, or leave --record out", key.id)));
        }
        errors.sort();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ValidationError { origin: origin.into(), errors })
        }
    }
}

impl CheckError {
    /// The error that two exact limits have different subjects, and a Redis Cluster cannot judge
    /// both.
    #[must_use]
    pub fn cross_subject(one: &Charge, other: &Charge) -> Self {
        let detail = format!(
            "the limits `{}` and `{}` count two subjects, and both are exact: a Redis Cluster cannot judge them as one; send two checks, or declare one of them `consistency: leased`",
            one.limit.name(),
            other.limit.name()
        );
        Self::Invalid { field: "policies".into(), detail }
    }
}

impl StageLimits {
    /// The limits that the clients of the stage share.
    fn shared_limits(&self) -> impl Iterator<Item = &Limit> {
        self.limits.iter().chain(self.methods.all()).map(AsRef::as_ref)
    }
}
