//! Which counters say what a key used on a day, so that their days are kept when they are over.
//!
//! A plan's quota of a day does so itself. For every other unit there is a meter: a quota of a day
//! that refuses nothing and that no answer tells of. Keeping days is `algorithm::days`.

use std::sync::Arc;

use super::{Calendar, Limit, Period, Quota, RowId, Rule, Unit};
use crate::time::{MAX_EXACT, Micros};

/// For how many days after it a day can be told.
pub const KEPT_DAYS: u64 = 62;

/// What stands before the plan in a meter's name.
const METER: &str = "usage:";

/// Whether a limit's counter says what was used on a day.
#[derive(Clone, Debug)]
pub enum Tally {
    /// It does not.
    None,
    /// It is an enforced quota of a day, and tells what is left of itself. The row is that of the
    /// meter which it stands for.
    Own(RowId),
    /// It only counts.
    Meter {
        /// The quota of a longer window that it counts beside, if there is one.
        quota: Option<Arc<Limit>>,
        /// The row of the plan's quota of a day that it stands for, which may have counted earlier
        /// in the day.
        stands_for: Option<RowId>,
    },
}

impl Limit {
    /// The meter of a plan and a unit, in the days of `zone_name`; `None` where there is no such
    /// zone. It counts up to 2^53 - 1 units a day.
    #[must_use]
    pub fn meter(plan: &str, unit: Unit, zone: &str, quota: Option<Arc<Self>>) -> Option<Self> {
        let calendar = Arc::new(Calendar::new(Period::Day, zone)?);
        let rule = Rule::Quota(Quota { limit: MAX_EXACT, calendar });
        let own = RowId::of(&format!("{plan}/quota"), &unit, &rule);
        let stands_for = (unit == Unit::requests()).then_some(own);
        let row = RowId::meter(plan, &unit);
        // No plan's own limit can have this name.
        let meter = Self::new(&format!("{METER}{plan}"), unit, rule, true);
        Some(Self { row, tally: Tally::Meter { quota, stands_for }, ..meter })
    }

    /// The same with its counter, keeping no days: for histories that are judged again.
    #[must_use]
    pub fn without_days(self) -> Self {
        Self { tally: Tally::None, ..self }
    }

    /// The same meter beside a quota of a day that is only tried, and counts too.
    #[must_use]
    pub fn alone(self) -> Self {
        let Tally::Meter { quota, .. } = self.tally else { return self };
        Self { tally: Tally::Meter { quota, stands_for: None }, ..self }
    }

    /// The same meter beside another size of its quota.
    #[must_use]
    pub fn beside(&self, quota: Arc<Self>) -> Self {
        let meter = self.resized(self.rule.clone());
        let Tally::Meter { stands_for, .. } = self.tally else { return meter };
        Self { tally: Tally::Meter { quota: Some(quota), stands_for }, ..meter }
    }

    /// From now on an enforced quota of a day of this plan, whose days are kept.
    pub fn keep_days(&mut self, plan: &str) {
        self.tally = Tally::Own(RowId::meter(plan, &self.unit));
    }

    /// Whether it only counts, and is told in no answer.
    #[must_use]
    pub fn is_meter(&self) -> bool {
        matches!(self.tally, Tally::Meter { .. })
    }

    /// Of a meter its plan.
    #[must_use]
    pub fn meters_plan(&self) -> Option<&str> {
        if self.is_meter() { self.name().strip_prefix(METER) } else { None }
    }

    /// Whether its days are kept when they are over.
    #[must_use]
    pub fn keeps_days(&self) -> bool {
        !matches!(self.tally, Tally::None)
    }

    /// Of a limit whose days are kept the quota whose rest is told with them.
    #[must_use]
    pub fn told_quota(self: &Arc<Self>) -> Option<&Arc<Self>> {
        match &self.tally {
            Tally::None => None,
            Tally::Own(_) => Some(self),
            Tally::Meter { quota, .. } => quota.as_ref(),
        }
    }

    /// Under which row its days are kept: for all counts of a plan and unit the same, whatever the
    /// plan's quota and time zone come to be.
    #[must_use]
    pub fn days_row(&self) -> Option<RowId> {
        match self.tally {
            Tally::None => None,
            Tally::Own(meter) => Some(meter),
            Tally::Meter { .. } => Some(self.row),
        }
    }

    /// Under which row is kept what was granted in its window: where its days are, if they are kept.
    #[must_use]
    pub fn grants_row(&self) -> RowId {
        self.days_row().unwrap_or(self.row)
    }

    /// The other row that may have counted earlier in the same day, before the plan was changed.
    #[must_use]
    pub fn other_count(&self) -> Option<RowId> {
        match self.tally {
            Tally::None => None,
            Tally::Own(meter) => Some(meter),
            Tally::Meter { stands_for, .. } => stands_for,
        }
    }

    /// For how long a row still matters when its window has ended.
    #[must_use]
    pub fn outlives_by(&self) -> Micros {
        if self.keeps_days() { Micros::from_secs(KEPT_DAYS * 86_400) } else { Micros::ZERO }
    }
}
