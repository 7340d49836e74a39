//! The calendar quota: how much of the current window is used. Twin of `lua/calendar_quota.lua`.
//!
//! Which window is current is given, by name; turning instants into windows is `limit::Calendar`.

use crate::limit::WindowStart;

/// How much of a window is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Units used; below 0 where more than the limit is left.
    pub used: i64,
    /// The window, by its start.
    pub window: WindowStart,
}

/// What counts while `current` is the window that the clock shows.
///
/// A window that begins leaves the old count behind. A stored window that is later holds until
/// the clock reaches it, or a clock that stepped back would open the old window a second time.
#[must_use]
pub fn current_count(count: Option<Count>, current: WindowStart) -> Count {
    match count {
        Some(count) if count.window >= current => count,
        _ => Count { used: 0, window: current },
    }
}

/// How much of a count is left once `amount`, charged in `window`, is given back; `None` where
/// another window counts by now.
///
/// Never does it make more room than there was before the first charge, or than a grant has made.
#[must_use]
pub fn after_refund(count: Count, amount: u64, window: WindowStart) -> Option<Count> {
    let used = count.used.saturating_sub_unsigned(amount).max(count.used.min(0));
    (count.window == window).then_some(Count { used, ..count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_stored_window_holds_until_the_clock_reaches_it() {
        let [monday, tuesday] = [WindowStart::new(20_000), WindowStart::new(20_001)];
        let stored = Some(Count { used: 7, window: tuesday });
        assert_eq!(current_count(stored, monday), Count { used: 7, window: tuesday });
        assert_eq!(current_count(stored, tuesday), Count { used: 7, window: tuesday });
        assert_eq!(current_count(stored, WindowStart::new(20_002)).used, 0);
        assert_eq!(current_count(None, monday), Count { used: 0, window: monday });
    }
}
