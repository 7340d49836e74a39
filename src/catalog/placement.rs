//! What a catalog must be where the counters of different subjects lie apart.
//!
//! A check of a stage's client charges the client and the stage. In a Redis Cluster no script judges
//! both, so what the clients of a stage share is refused there unless it is leased: charged ahead.

use super::validation::ValidationError;
use super::{Catalog, CheckError, StageLimits};
use crate::limit::{Charge, Limit};

/// Where the counters of different subjects lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterPlacement {
    /// In one place, where all of a check are judged as one.
    Together,
    /// In a Redis Cluster, where those of each subject are judged as one.
    PerSubject {
        /// Whether what is declared `leased` is: not where decisions are recorded.
        leases: bool,
    },
}

impl Catalog {
    /// Whether all its limits can be kept where counters lie like this; `origin` is what errors
    /// call it.
    ///
    /// # Errors
    /// Where clients share a limit that is not leased, and counters lie apart.
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
                    let write = if leases {
                        format!("write `consistency: leased` in the stage `{name}` of the api `{api}`")
                    } else {
                        "with --record nothing is: record on one primary, or without it".into()
                    };
                    format!("`{}` is shared by all clients of its stage, and on a Redis Cluster must be leased: {write}", limit.name())
                }));
            }
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
    /// That two exact limits cannot be judged as one where their subjects lie apart.
    #[must_use]
    pub fn cross_subject(one: &Charge, other: &Charge) -> Self {
        let detail = format!(
            "the limits `{}` and `{}` count two subjects, and both are exact: a Redis Cluster cannot judge them as one; ask for them in two checks, or declare one of them `consistency: leased`",
            one.limit.name(),
            other.limit.name()
        );
        Self::Invalid { field: "policies".into(), detail }
    }
}

impl StageLimits {
    /// The limits that its clients share.
    fn shared_limits(&self) -> impl Iterator<Item = &Limit> {
        self.throttle.iter().chain(self.methods.all()).map(AsRef::as_ref)
    }
}
