//! What a catalog must be where the counters of different subjects lie apart.
//!
//! A check of a stage's client charges the client and the stage. In a Redis Cluster no script judges
//! both, so what the clients of a stage share is refused there unless it is leased: charged ahead.

use super::findings::Invalid;
use super::{Catalog, Refusal, Stage};
use crate::limit::{Charge, Limit};

/// Where the counters of different subjects lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counters {
    /// In one place, where all of a check are judged as one.
    Together,
    /// In a Redis Cluster, where those of each subject are judged as one.
    Apart {
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
    pub fn fit(&self, counters: Counters, origin: &str) -> Result<(), Invalid> {
        let Counters::Apart { leases } = counters else { return Ok(()) };
        let mut faults = Vec::new();
        for (api, stages) in &self.apis {
            for (name, stage) in stages {
                let exact = stage.shared().filter(|limit| !(leases && limit.leased()));
                faults.extend(exact.map(|limit| {
                    let write = if leases {
                        format!("write `consistency: leased` in the stage `{name}` of the api `{api}`")
                    } else {
                        "with --record nothing is: record on one primary, or without it".into()
                    };
                    format!("`{}` is shared by all clients of its stage, and on a Redis Cluster must be leased: {write}", limit.name())
                }));
            }
        }
        faults.sort();
        if faults.is_empty() { Ok(()) } else { Err(Invalid { origin: origin.into(), faults }) }
    }
}

impl Refusal {
    /// That two exact limits cannot be judged as one where their subjects lie apart.
    #[must_use]
    pub fn apart(one: &Charge, other: &Charge) -> Self {
        let detail = format!(
            "the limits `{}` and `{}` count two subjects, and both are exact: a Redis Cluster cannot judge them as one; ask for them in two checks, or declare one of them `consistency: leased`",
            one.limit.name(),
            other.limit.name()
        );
        Self::Invalid { field: "policies".into(), detail }
    }
}

impl Stage {
    /// The limits that its clients share.
    fn shared(&self) -> impl Iterator<Item = &Limit> {
        let methods = self.methods.listed.iter().map(|(_, limit)| limit);
        let other = self.methods.other.iter().map(|other| &other.limit);
        self.throttle.iter().chain(methods).chain(other).map(AsRef::as_ref)
    }
}
