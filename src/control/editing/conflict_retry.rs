//! Retries of a change that conflicted with a commit of another request.
//!
//! A conflict means that another change was committed, so of several editors one always succeeds,
//! and a node that met one has the next turn. So a few attempts are enough, and the time is for a
//! machine that is slow.
//! The pauses are random, so that retries do not come at the same time. The changes themselves are
//! made by the caller, anew for each attempt.

use std::time::Duration;

use tokio::time::Instant;

use crate::control::model::ControlError;

/// The time after which a request makes no further attempt.
const PATIENCE: Duration = Duration::from_secs(1);
/// The attempts that a request makes at least: on a machine that stands still, one may take long.
const MIN_ATTEMPTS: u32 = 10;
/// The longest pause after the first conflict. It doubles with each further one.
const MIN_BACKOFF: Duration = Duration::from_millis(4);
/// The longest pause after any conflict.
const MAX_BACKOFF: Duration = Duration::from_millis(64);

/// The pauses after conflicts that follow each other.
pub(super) struct Backoff(Duration);

impl Backoff {
    /// The backoff before the first conflict.
    pub(super) fn new() -> Self {
        Self(MIN_BACKOFF)
    }

    /// A random part of the backoff, which then doubles.
    pub(super) fn next_pause(&mut self) -> Duration {
        let part = getrandom::u32().unwrap_or_default() % 1024;
        let pause = self.0 * part / 1024;
        self.0 = MAX_BACKOFF.min(2 * self.0);
        pause
    }
}

/// The retries of one request.
pub(super) struct ConflictRetry {
    deadline: Instant,
    attempts: u32,
    backoff: Backoff,
}

impl ConflictRetry {
    /// The retries of a request that begins now.
    pub(super) fn start() -> Self {
        Self { deadline: Instant::now() + PATIENCE, attempts: 0, backoff: Backoff::new() }
    }

    /// Counts an attempt that conflicted.
    ///
    /// # Errors
    /// If the request has made ten attempts or more, and they have taken a second.
    pub(super) fn count(&mut self) -> Result<(), ControlError> {
        self.attempts += 1;
        if self.attempts >= MIN_ATTEMPTS && Instant::now() >= self.deadline {
            return Err(ControlError::too_many_conflicts());
        }
        Ok(())
    }

    /// Counts an attempt that conflicted, and waits for a random part of the backoff.
    ///
    /// # Errors
    /// As [`ConflictRetry::count`].
    pub(super) async fn pause(&mut self) -> Result<(), ControlError> {
        self.count()?;
        tokio::time::sleep(self.backoff.next_pause()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_conflict_is_told_in_the_words_after_which_aws_clients_retry() {
        let mut retry = ConflictRetry::start();
        retry.deadline = Instant::now();
        for attempt in 1..MIN_ATTEMPTS {
            assert!(retry.pause().await.is_ok(), "attempt {attempt}");
        }
        assert_eq!(retry.backoff.0, MAX_BACKOFF);
        let refused = retry.pause().await.unwrap_err().to_string();
        assert!(refused.contains("try again later"), "{refused}");
    }
}
