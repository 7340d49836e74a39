//! The round trips of one connection, and from them the pace at which calls follow each other
//! while others are in flight.
//!
//! A round trip is the network's part, which the shortest one shows, and the time that a call
//! waits and runs in Redis. Calls that leave faster than Redis runs them only become smaller, and
//! a small call costs Redis more for each check. So the pace follows Redis' part, and the network's
//! part does not count, unless checks would miss their deadline. Sending is not done here.

#[cfg(test)]
mod simulation;

use std::time::Duration;

use tokio::time::Instant;

/// The shortest round trip counts for one to two times as long. Until then a Redis that was busy
/// all the time looks like a far one.
const WINDOW: Duration = Duration::from_mins(1);
/// The shortest round trip from which on Redis counts as far: half of it is more than a check
/// should wait for the call before.
const FAR: Duration = Duration::from_micros(500);
/// Redis' part of the usual round trip from which on it counts as busy: a call waits there for
/// several others.
const BUSY: Duration = Duration::from_micros(250);
/// The shortest pause between two calls to a Redis that is far, and the most calls that leave in a
/// round trip: further ones would wait for the first reply and then leave in a burst.
const MIN_PACE_FAR: Duration = Duration::from_micros(100);
const MAX_CALLS_PER_ROUND_TRIP: u32 = 48;
/// The shortest pause between two calls to a Redis that is near, where a call has its reply before
/// that. It is also the resolution of timers.
const MIN_PACE_NEAR: Duration = Duration::from_millis(1);
/// The parts of the difference by which the usual round trip moves towards a longer and a shorter
/// one. A busy Redis makes all of them longer; a stalled machine or a lost packet only some, which
/// say nothing of the next request.
const USUAL_RISE: u32 = 8;
const USUAL_FALL: u32 = 2;

/// The round trips of one connection.
pub(super) struct RoundTrips {
    /// The usual one, which is below the mean: shorter ones count more.
    usual: Duration,
    /// The longest of late: it falls by an eighth with each shorter one.
    longest: Duration,
    /// The shortest one of this window and of the one before.
    shortest: [Option<Duration>; 2],
    window_start: Instant,
}

impl RoundTrips {
    /// No round trip yet.
    pub(super) fn new(now: Instant) -> Self {
        let (usual, longest) = (Duration::ZERO, Duration::ZERO);
        Self { usual, longest, shortest: [None, None], window_start: now }
    }

    /// Counts a round trip that has ended.
    pub(super) fn observe(&mut self, round_trip: Duration, now: Instant) {
        if self.shortest == [None, None] {
            self.usual = round_trip;
        }
        if now.saturating_duration_since(self.window_start) >= WINDOW {
            self.shortest = [None, self.shortest[0]];
            self.window_start = now;
        }
        let [shortest, _] = &mut self.shortest;
        *shortest = Some(shortest.map_or(round_trip, |shortest| shortest.min(round_trip)));
        let part = if round_trip > self.usual { USUAL_RISE } else { USUAL_FALL };
        self.usual = self.usual / part * (part - 1) + round_trip / part;
        self.longest = (self.longest * 7 / 8).max(round_trip);
    }

    /// True if Redis is so far that checks should not wait for the reply to the call before.
    pub(super) fn is_far(&self) -> bool {
        self.shortest().is_some_and(|shortest| shortest >= FAR)
    }

    /// True if Redis has so little time to spare that small calls would cost it too much of it.
    pub(super) fn is_busy(&self) -> bool {
        self.in_redis() >= BUSY
    }

    /// The pause between two calls while others are in flight.
    ///
    /// It is twice the time that a call is in Redis, so that a call does not often wait there for
    /// the one before. But a check that has waited for it still has its reply within `deadline`.
    pub(super) fn pace(&self, deadline: Duration) -> Duration {
        let least = match self.shortest() {
            Some(network) if self.is_far() => MIN_PACE_FAR.max(network / MAX_CALLS_PER_ROUND_TRIP),
            _ => MIN_PACE_NEAR,
        };
        let most = (deadline / 8 * 7).saturating_sub(self.longest).max(deadline / 16);
        (self.in_redis() * 2).max(least).min(most)
    }

    /// The usual time that a call waits and runs in Redis.
    fn in_redis(&self) -> Duration {
        self.usual.saturating_sub(self.shortest().unwrap_or_default())
    }

    fn shortest(&self) -> Option<Duration> {
        self.shortest.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(50);

    fn ms(number: f64) -> Duration {
        Duration::from_secs_f64(number / 1000.0)
    }

    /// The round trips of a connection with `count` calls of each of these milliseconds.
    fn round_trips(count: usize, milliseconds: &[f64]) -> RoundTrips {
        let now = Instant::now();
        let mut trips = RoundTrips::new(now);
        for &sample in milliseconds {
            (0..count).for_each(|_| trips.observe(ms(sample), now));
        }
        trips
    }

    #[test]
    #[rustfmt::skip]
    fn the_pace_follows_redis_and_not_the_network() {
        let cases = [
            // why                                          ms of round trips  far    ms, least and most
            ("nothing is known yet",                        &[][..],           false, 1.0, 1.0),
            ("loopback: a call has its reply before that",  &[0.1],            false, 1.0, 1.0),
            ("a call of a busy Redis nearby leaves alone",  &[0.1, 4.0],       false, 7.0, 8.0),
            ("another zone",                                &[1.0],            true,  0.1, 0.1),
            ("far, and Redis idles",                        &[20.0],           true,  0.4, 0.5),
            ("far, and Redis is busy for 2 ms",             &[20.0, 22.0],     true,  3.0, 4.0),
            ("0.8 of the deadline, since a moment ago",     &[0.1, 40.0],      false, 3.0, 4.0),
            ("slower than the deadline",                    &[0.1, 60.0],      false, 3.0, 3.2),
        ];
        for (why, samples, is_far, least, most) in cases {
            let trips = round_trips(20, samples);
            assert_eq!(trips.is_far(), is_far, "{why}");
            let pace = trips.pace(DEADLINE);
            assert!((ms(least)..=ms(most)).contains(&pace), "{why}: {pace:?}");
        }
    }

    #[test]
    fn slow_replies_now_and_then_do_not_slow_down_the_pace() {
        let mut trips = round_trips(100, &[1.0]);
        for sample in [1.0, 1.0, 6.0, 5.0, 1.0, 1.0].repeat(50) {
            trips.observe(ms(sample), Instant::now());
        }
        assert!(trips.pace(DEADLINE) < ms(1.0), "{:?}", trips.pace(DEADLINE));
    }

    #[test]
    fn one_slow_reply_is_enough_to_keep_the_deadline_of_the_next_checks() {
        let mut trips = round_trips(100, &[0.1]);
        trips.observe(ms(40.0), Instant::now());
        assert!(trips.pace(DEADLINE) + ms(40.0) <= DEADLINE);
    }

    #[test]
    fn a_redis_that_has_moved_away_counts_as_far_after_two_windows() {
        let now = Instant::now();
        let mut trips = RoundTrips::new(now);
        trips.observe(ms(0.1), now);
        trips.observe(ms(5.0), now + WINDOW);
        assert!(!trips.is_far(), "the short one is of the last window");
        trips.observe(ms(5.0), now + WINDOW * 2);
        assert!(trips.is_far());
    }
}
