//! The time for which a connection had calls in flight and no reply in time.
//!
//! A reply in time is one for which a check still waited: a Redis that replies later is as useless
//! as one that does not reply. The time counts only while calls are in flight, and it adds up over
//! calls whose deadlines have all passed. The consequences are for `connection_task` to decide.

use std::time::Duration;

use tokio::time::Instant;

/// The silence of one connection.
#[derive(Default)]
pub(super) struct Silence {
    /// The calls in flight.
    calls: usize,
    /// The time from which on the current silence is counted; `None` without calls in flight.
    since: Option<Instant>,
    /// The silence before that.
    before: Duration,
}

impl Silence {
    /// Counts a call that has been sent.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.calls += 1;
        self.since.get_or_insert(now);
    }

    /// Counts the end of a call. A reply in time ends the silence.
    pub(super) fn on_end(&mut self, in_time: bool, now: Instant) {
        self.calls -= 1;
        if in_time {
            (self.before, self.since) = (Duration::ZERO, Some(now));
        }
        if self.calls == 0 {
            self.before = self.duration(now);
            self.since = None;
        }
    }

    /// The silence until now.
    fn duration(&self, now: Instant) -> Duration {
        let current =
            self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.before + current
    }

    /// True if Redis has not been silent for half of `deadline`: it replies.
    pub(super) fn is_short(&self, deadline: Duration, now: Instant) -> bool {
        self.duration(now) < deadline / 2
    }

    /// The time at which the silence will have lasted for `limit`; `None` without calls in flight.
    pub(super) fn lasts_for(&self, limit: Duration) -> Option<Instant> {
        self.since.map(|since| since + limit.saturating_sub(self.before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_the_time_with_calls_in_flight_since_the_last_reply_in_time() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let lasted = |silence: &Silence, ms| silence.duration(at(ms)).as_millis();
        assert_eq!(lasted(&silence, 10), 0, "nothing was sent");
        silence.on_sent(at(10));
        silence.on_sent(at(20));
        assert_eq!(lasted(&silence, 30), 20);
        silence.on_end(true, at(30));
        assert_eq!(lasted(&silence, 35), 5, "the other call is in flight");
        silence.on_end(false, at(50));
        assert_eq!(lasted(&silence, 90), 20, "a late reply ends no silence, but none is in flight");
        assert_eq!(silence.lasts_for(Duration::from_millis(25)), None);
        silence.on_sent(at(100));
        assert_eq!(silence.lasts_for(Duration::from_millis(25)), Some(at(105)));
        silence.on_end(true, at(104));
        assert_eq!(lasted(&silence, 200), 0);
    }
}
