//! The usage of a policy's keys, and their reset by operators.
//!
//! Policies are declared in the catalog file only. Refusals that nodes remember, and units that they
//! lease, are not ended here: they end by themselves.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::editor::Editor;
use crate::algorithm::Correction;
use crate::control::model::ControlError;
use crate::judge::{LimitStatus, limit_status};
use crate::limit::{Charge, Charges, Limit};
use crate::store::CounterStore;

/// The characters of a policy's key that the path of its resource has encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b':').remove(b'-').remove(b'_');

/// Reads and resets the counters of policies.
pub struct PolicyLedger {
    editor: Editor,
    counter_store: CounterStore,
}

/// The usage of one key of a policy.
pub struct PolicyUsage {
    /// The spelling under which it is counted.
    pub key: String,
    /// The policy's limits, each with its status for one more unit.
    pub limits: Vec<(Arc<Limit>, LimitStatus)>,
}

/// A key of a policy, with a charge of cost 0 for each of its limits.
struct Looked {
    key: String,
    charges: Vec<Charge>,
}

impl PolicyLedger {
    /// A ledger of the policies of `editor`'s catalog, with their counters in a store.
    #[must_use]
    pub fn new(editor: Editor, counter_store: CounterStore) -> Self {
        Self { editor, counter_store }
    }

    /// The usage of a key, which need not have been checked before.
    ///
    /// # Errors
    /// If there is no such policy, the key is none of its, or the store cannot be read.
    pub async fn usage(&self, policy: &str, key: &str) -> Result<PolicyUsage, ControlError> {
        let Looked { key, charges } = self.find(policy, key)?;
        let charges: Charges = charges.into_iter().collect();
        let verdict = self.counter_store.peek(&charges).await?;
        let limits = charges.into_iter().zip(&verdict.states).map(|(charge, state)| {
            let one_more = Charge::new(charge.subject, Arc::clone(&charge.limit), 1);
            (charge.limit, limit_status(&one_more, *state, false, verdict.now))
        });
        Ok(PolicyUsage { key, limits: limits.collect() })
    }

    /// Empties all counters of a key, and returns its usage then.
    ///
    /// # Errors
    /// As [`Self::usage`]. If the store failed, the counters may be empty.
    pub async fn reset(&self, policy: &str, key: &str) -> Result<PolicyUsage, ControlError> {
        let Looked { key, charges } = self.find(policy, key)?;
        let resets: Vec<_> = (0..charges.len()).map(|place| (place, Correction::Reset)).collect();
        // The audit entry comes first, so that no reset is without one.
        let resource = format!("/policies/{policy}/keys/{}", utf8_percent_encode(&key, ENCODED));
        self.editor.audit_log().record(resource).await?;
        self.counter_store.correct(&charges, &resets).await?;
        self.usage(policy, &key).await
    }

    fn find(&self, policy: &str, key: &str) -> Result<Looked, ControlError> {
        let catalog = self.editor.session().live.catalog();
        let found = catalog.policy_key(policy, key).ok_or_else(|| {
            let why = format!("there is no policy {policy}; the catalog file declares them");
            ControlError::NotFound(why)
        })?;
        let counted =
            found.map_err(|why| ControlError::BadRequest(format!("Invalid key: {why}")))?;
        let charge = |limit: &Arc<Limit>| Charge::new(counted.subject, Arc::clone(limit), 0);
        Ok(Looked { charges: counted.limits.iter().map(charge).collect(), key: counted.key })
    }
}
