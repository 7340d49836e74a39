//! Daily usage: the counters whose days are kept when they are over.
//!
//! If a plan has a daily quota, that quota's counter is used. Every other unit has a *meter*: a
//! daily counter without a limit, absent from responses. Keeping days is `judge::usage`.

use std::sync::Arc;

use super::{Limit, RowId, Unit};
use crate::algorithm::{Algorithm, Calendar, Period, Quota};
use crate::time::{MAX_EXACT, Micros};

/// The retention of a day's usage, in days.
pub const USAGE_RETENTION_DAYS: u64 = 62;

/// The prefix of a meter's name, before the plan.
const METER_PREFIX: &str = "usage:";

/// The part of a limit's counter in daily usage.
#[derive(Clone, Debug)]
pub enum DailyUsage {
    /// None.
    Untracked,
    /// The counter of an enforced daily quota, which also yields the remaining units. The row is
    /// that of the meter that it replaces.
    Quota(RowId),
    /// A counter without a limit.
    Meter {
        /// The quota of a longer window in the same unit, if there is one.
        quota: Option<Arc<Limit>>,
        /// The row of the plan's daily quota, which may have counted earlier on the same day.
        counterpart: Option<RowId>,
    },
}

impl Limit {
    /// The meter of a plan and a unit, with days of the time zone `zone`; `None` if there is no
    /// such zone. It counts up to 2^53 - 1 units a day.
    #[must_use]
    pub fn meter(plan: &str, unit: Unit, zone: &str, quota: Option<Arc<Self>>) -> Option<Self> {
        let calendar = Arc::new(Calendar::new(Period::Day, zone)?);
        let algorithm = Algorithm::from(Quota { limit: MAX_EXACT, calendar });
        let own = RowId::for_limit(&format!("{plan}/quota"), &unit, &algorithm);
        let counterpart = (unit == Unit::requests()).then_some(own);
        let row = RowId::for_meter(plan, &unit, &algorithm);
        // No limit that a plan declares can have this name.
        let meter = Self::new(&format!("{METER_PREFIX}{plan}"), unit, algorithm, true);
        Some(Self { row, daily_usage: DailyUsage::Meter { quota, counterpart }, ..meter })
    }

    /// The same limit and counter without tracking days, for replays of recorded histories.
    #[must_use]
    pub fn without_days(self) -> Self {
        Self { daily_usage: DailyUsage::Untracked, ..self }
    }

    /// The same meter beside a daily quota in shadow mode, which has a counter of its own.
    #[must_use]
    pub fn without_counterpart(self) -> Self {
        let DailyUsage::Meter { quota, .. } = self.daily_usage else { return self };
        Self { daily_usage: DailyUsage::Meter { quota, counterpart: None }, ..self }
    }

    /// The same meter beside its quota in another size.
    #[must_use]
    pub fn with_quota(&self, quota: Arc<Self>) -> Self {
        let meter = self.resized(self.algorithm.clone());
        let DailyUsage::Meter { counterpart, .. } = self.daily_usage else { return meter };
        Self { daily_usage: DailyUsage::Meter { quota: Some(quota), counterpart }, ..meter }
    }

    /// Tracks the days of this limit, an enforced daily quota of `plan`.
    pub fn track_days(&mut self, plan: &str) {
        self.daily_usage = DailyUsage::Quota(RowId::for_meter(plan, &self.unit, &self.algorithm));
    }

    /// True if it only counts, and is absent from responses.
    #[must_use]
    pub fn is_meter(&self) -> bool {
        matches!(self.daily_usage, DailyUsage::Meter { .. })
    }

    /// The plan of a meter.
    #[must_use]
    pub fn metered_plan(&self) -> Option<&str> {
        if self.is_meter() { self.name().strip_prefix(METER_PREFIX) } else { None }
    }

    /// True if its days are kept when they are over.
    #[must_use]
    pub fn tracks_days(&self) -> bool {
        !matches!(self.daily_usage, DailyUsage::Untracked)
    }

    /// The quota whose remaining units are reported with this limit's daily usage.
    #[must_use]
    pub fn reported_quota(self: &Arc<Self>) -> Option<&Arc<Self>> {
        match &self.daily_usage {
            DailyUsage::Untracked => None,
            DailyUsage::Quota(_) => Some(self),
            DailyUsage::Meter { quota, .. } => quota.as_ref(),
        }
    }

    /// The row under which its days are kept: the same for all counters of a plan and unit, so that
    /// changes of the plan's quota and time zone lose no day.
    #[must_use]
    pub fn usage_row(&self) -> Option<RowId> {
        match self.daily_usage {
            DailyUsage::Untracked => None,
            DailyUsage::Quota(meter) => Some(meter),
            DailyUsage::Meter { .. } => Some(self.row),
        }
    }

    /// The row under which the units granted in its window are kept: that of its days, if it has
    /// any.
    #[must_use]
    pub fn grants_row(&self) -> RowId {
        self.usage_row().unwrap_or(self.row)
    }

    /// The row that may have counted earlier on the same day, before the plan was changed.
    #[must_use]
    pub fn counterpart_row(&self) -> Option<RowId> {
        match self.daily_usage {
            DailyUsage::Untracked => None,
            DailyUsage::Quota(meter) => Some(meter),
            DailyUsage::Meter { counterpart, .. } => counterpart,
        }
    }

    /// The time for which a row still matters after the end of its window.
    #[must_use]
    pub fn retention(&self) -> Micros {
        if self.tracks_days() {
            Micros::from_secs(USAGE_RETENTION_DAYS * 86_400)
        } else {
            Micros::ZERO
        }
    }
}
