//! Retries of a change that conflicted with a commit of another request.
//!
//! A conflict means that another change was committed, so of several editors one always succeeds.
//! The pauses are random, so that retries do not come at the same time. The changes themselves are
//! made by the caller, anew for each attempt.

use std::time::Duration;

use tokio::time::Instant;

use crate::control::model::ControlError;

/// The time from a request to its last attempt at a commit.
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause after the first conflict. It doubles with each further one.
const MIN_BACKOFF: Duration = Duration::from_millis(4);
/// The longest pause after any conflict.
const MAX_BACKOFF: Duration = Duration::from_millis(64);

/// The retries of one request.
pub(super) struct ConflictRetry {
    deadline: Instant,
    backoff: Duration,
}

impl ConflictRetry {
    /// The retries of a request that begins now.
    pub(super) fn start() -> Self {
        Self { deadline: Instant::now() + RETRY_TIMEOUT, backoff: MIN_BACKOFF }
    }

    /// The time after which there is no further attempt.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits for a random part of the backoff after a conflict.
    ///
    /// # Errors
    /// If the retries have taken 10 s.
    pub(super) async fn pause(&mut self) -> Result<(), ControlError> {
        let part = getrandom::u32().unwrap_or_default() % 1024;
        let until = Instant::now() + self.backoff * part / 1024;
        if until >= self.deadline {
            return Err(ControlError::too_many_conflicts());
        }
        tokio::time::sleep_until(until).await;
        self.backoff = MAX_BACKOFF.min(2 * self.backoff);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_conflict_is_told_in_the_words_after_which_aws_clients_retry() {
        let mut retry = ConflictRetry { deadline: Instant::now(), backoff: MIN_BACKOFF };
        let refused = retry.pause().await.unwrap_err().to_string();
        assert!(refused.contains("try again later"), "{refused}");
        let mut retry = ConflictRetry::start();
        assert!(retry.pause().await.is_ok() && retry.pause().await.is_ok());
        assert_eq!(retry.backoff, 4 * MIN_BACKOFF);
    }
}
