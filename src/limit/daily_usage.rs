//! Which counters say what a key used on a day, so that their days are kept when they are over.
//!
//! A plan's quota of a day does so itself. For every other unit there is a meter: a quota of a day
//! that refuses nothing and that no answer tells of. Keeping days is `algorithm::usage`.

use std::sync::Arc;

use super::{Limit, RowId, Unit};
use crate::algorithm::{Algorithm, Calendar, Period, Quota};
use crate::time::{MAX_EXACT, Micros};

/// For how many days after it a day can be told.
pub const USAGE_RETENTION_DAYS: u64 = 62;

/// What stands before the plan in a meter's name.
const METER_PREFIX: &str = "usage:";

/// Whether a limit's counter says what was used on a day.
#[derive(Clone, Debug)]
pub enum DailyUsage {
    /// It does not.
    Untracked,
    /// It is an enforced quota of a day, and tells what is left of itself. The row is that of the
    /// meter which it stands for.
    Quota(RowId),
    /// It only counts.
    Meter {
        /// The quota of a longer window that it counts beside, if there is one.
        quota: Option<Arc<Limit>>,
        /// The row of the plan's quota of a day that it stands for, which may have counted earlier
        /// in the day.
        counterpart: Option<RowId>,
    },
}

impl Limit {
    /// The meter of a plan and a unit, in the days of `zone_name`; `None` where there is no such
    /// zone. It counts up to 2^53 - 1 units a day.
    #[must_use]
    pub fn meter(plan: &str, unit: Unit, zone: &str, quota: Option<Arc<Self>>) -> Option<Self> {
        let calendar = Arc::new(Calendar::new(Period::Day, zone)?);
        let algorithm = Algorithm::from(Quota { limit: MAX_EXACT, calendar });
        let own = RowId::for_limit(&format!("{plan}/quota"), &unit, &algorithm);
        let counterpart = (unit == Unit::requests()).then_some(own);
        let row = RowId::for_meter(plan, &unit, &algorithm);
        // No plan's own limit can have this name.
        let meter = Self::new(&format!("{METER_PREFIX}{plan}"), unit, algorithm, true);
        Some(Self { row, daily_usage: DailyUsage::Meter { quota, counterpart }, ..meter })
    }

    /// The same with its counter, keeping no days: for histories that are judged again.
    #[must_use]
    pub fn without_days(self) -> Self {
        Self { daily_usage: DailyUsage::Untracked, ..self }
    }

    /// The same meter beside a quota of a day that is only tried, and counts too.
    #[must_use]
    pub fn without_counterpart(self) -> Self {
        let DailyUsage::Meter { quota, .. } = self.daily_usage else { return self };
        Self { daily_usage: DailyUsage::Meter { quota, counterpart: None }, ..self }
    }

    /// The same meter beside another size of its quota.
    #[must_use]
    pub fn with_quota(&self, quota: Arc<Self>) -> Self {
        let meter = self.resized(self.algorithm.clone());
        let DailyUsage::Meter { counterpart, .. } = self.daily_usage else { return meter };
        Self { daily_usage: DailyUsage::Meter { quota: Some(quota), counterpart }, ..meter }
    }

    /// From now on an enforced quota of a day of this plan, whose days are kept.
    pub fn track_days(&mut self, plan: &str) {
        self.daily_usage = DailyUsage::Quota(RowId::for_meter(plan, &self.unit, &self.algorithm));
    }

    /// Whether it only counts, and is told in no answer.
    #[must_use]
    pub fn is_meter(&self) -> bool {
        matches!(self.daily_usage, DailyUsage::Meter { .. })
    }

    /// Of a meter its plan.
    #[must_use]
    pub fn metered_plan(&self) -> Option<&str> {
        if self.is_meter() { self.name().strip_prefix(METER_PREFIX) } else { None }
    }

    /// Whether its days are kept when they are over.
    #[must_use]
    pub fn tracks_days(&self) -> bool {
        !matches!(self.daily_usage, DailyUsage::Untracked)
    }

    /// Of a limit whose days are kept the quota whose rest is told with them.
    #[must_use]
    pub fn reported_quota(self: &Arc<Self>) -> Option<&Arc<Self>> {
        match &self.daily_usage {
            DailyUsage::Untracked => None,
            DailyUsage::Quota(_) => Some(self),
            DailyUsage::Meter { quota, .. } => quota.as_ref(),
        }
    }

    /// Under which row its days are kept: for all counts of a plan and unit the same, whatever the
    /// plan's quota and time zone come to be.
    #[must_use]
    pub fn usage_row(&self) -> Option<RowId> {
        match self.daily_usage {
            DailyUsage::Untracked => None,
            DailyUsage::Quota(meter) => Some(meter),
            DailyUsage::Meter { .. } => Some(self.row),
        }
    }

    /// Under which row is kept what was granted in its window: where its days are, if they are kept.
    #[must_use]
    pub fn grants_row(&self) -> RowId {
        self.usage_row().unwrap_or(self.row)
    }

    /// The other row that may have counted earlier in the same day, before the plan was changed.
    #[must_use]
    pub fn counterpart_row(&self) -> Option<RowId> {
        match self.daily_usage {
            DailyUsage::Untracked => None,
            DailyUsage::Quota(meter) => Some(meter),
            DailyUsage::Meter { counterpart, .. } => counterpart,
        }
    }

    /// For how long a row still matters when its window has ended.
    #[must_use]
    pub fn retention(&self) -> Micros {
        if self.tracks_days() {
            Micros::from_secs(USAGE_RETENTION_DAYS * 86_400)
        } else {
            Micros::ZERO
        }
    }
}
