//! Throttles, quotas and further limits of a plan, a policy or a stage, as written to as valid.

use std::sync::Arc;

use jiff::civil::Weekday;

use super::raw::{Consistency, Mode, RawLimit, RawPeriod, RawQuota, RawStart, RawThrottle};
use super::validation::Report;
use crate::limit::{Algorithm, Calendar, Limit, Period, Quota, Rate, Throttle, Unit};
use crate::time::MAX_EXACT;

/// What holds for limits that do not say otherwise.
#[derive(Clone, Copy, Default)]
pub(super) struct Defaults {
    pub(super) consistency: Consistency,
    pub(super) mode: Mode,
    /// Whether operators correct the counters.
    pub(super) correctable: bool,
}

/// Reads the limits of one owner.
pub(super) struct LimitsBuilder<'f> {
    prefix: &'f str,
    defaults: Defaults,
    at: &'f str,
    report: &'f mut Report,
}

impl<'f> LimitsBuilder<'f> {
    /// Limits whose names begin with `prefix`, written at `at`.
    pub(super) fn new(
        prefix: &'f str,
        defaults: Defaults,
        at: &'f str,
        report: &'f mut Report,
    ) -> Self {
        Self { prefix, defaults, at, report }
    }

    /// All limits in the order in which they are judged.
    pub(super) fn build_all(
        &mut self,
        throttle: Option<&RawThrottle>,
        quota: Option<&RawQuota>,
        more: &[RawLimit],
    ) -> Vec<Arc<Limit>> {
        let mut limits: Vec<Arc<Limit>> = Vec::new();
        limits.extend(throttle.and_then(|throttle| self.build_throttle(throttle)));
        let at = format!("{}.quota", self.at);
        let rule = quota.and_then(|quota| self.parse_quota(quota, &at));
        limits
            .extend(rule.map(|rule| self.make_limit("quota", Unit::requests(), rule, None, None)));
        for (index, raw) in more.iter().enumerate() {
            let at = format!("{}.limits[{index}]", self.at);
            let Some(limit) = self.build_named(raw, &at) else { continue };
            if limits.iter().any(|other| other.name() == limit.name()) {
                self.report.error(
                    &format!("{at}.name"),
                    format_args!("the limit `{}` is there twice; rename one", raw.name),
                );
            }
            limits.push(limit);
        }
        limits
    }

    /// The throttle in requests that is written as `throttle`.
    pub(super) fn build_throttle(&mut self, raw: &RawThrottle) -> Option<Arc<Limit>> {
        let at = format!("{}.throttle", self.at);
        let rule = self.parse_throttle(raw, &at)?;
        Some(self.make_limit("throttle", Unit::requests(), rule, None, None))
    }

    fn build_named(&mut self, raw: &RawLimit, at: &str) -> Option<Arc<Limit>> {
        self.report.check_name(&format!("{at}.name"), &raw.name);
        self.report.check_name(&format!("{at}.unit"), &raw.unit);
        if matches!(&*raw.name, "throttle" | "quota") {
            self.report.error(
                &format!("{at}.name"),
                format_args!("`{}` is the name of the plan's own; choose another", raw.name),
            );
        }
        let rule = match (&raw.throttle, &raw.quota, &raw.concurrency) {
            (Some(throttle), None, None) => {
                self.parse_throttle(throttle, &format!("{at}.throttle"))
            }
            (None, Some(quota), None) => self.parse_quota(quota, &format!("{at}.quota")),
            (None, None, Some(_)) => {
                self.report.error(
                    &format!("{at}.concurrency"),
                    "limits of concurrency are not there yet; use a throttle",
                );
                None
            }
            _ => {
                self.report
                    .error(at, "a limit is one of `throttle` and `quota`; give it exactly one");
                None
            }
        }?;
        Some(self.make_limit(&raw.name, Unit::new(&raw.unit), rule, raw.mode, raw.consistency))
    }

    fn make_limit(
        &self,
        name: &str,
        unit: Unit,
        rule: Algorithm,
        mode: Option<Mode>,
        consistency: Option<Consistency>,
    ) -> Arc<Limit> {
        let shadow = mode.unwrap_or(self.defaults.mode) == Mode::Shadow;
        // A quota has no rate at which leases would come back: it stays exact.
        let leased = consistency.unwrap_or(self.defaults.consistency) == Consistency::Leased
            && matches!(rule, Algorithm::TokenBucket(_));
        let limit = Limit::new(&format!("{}{name}", self.prefix), unit, rule, shadow);
        Arc::new(if leased {
            limit.as_leased()
        } else if self.defaults.correctable {
            limit.as_refundable()
        } else {
            limit
        })
    }

    fn parse_throttle(&mut self, raw: &RawThrottle, at: &str) -> Option<Algorithm> {
        let rate: Rate = match raw.rate.0.parse() {
            Ok(rate) => rate,
            Err(error) => {
                self.report.error(&format!("{at}.rate"), error);
                return None;
            }
        };
        match Throttle::new(rate, raw.burst) {
            Err(error) => {
                self.report.error(at, error);
                None
            }
            Ok(throttle) => {
                warn_if_slower(rate, &throttle, at, self.report);
                Some(Algorithm::TokenBucket(throttle))
            }
        }
    }

    fn parse_quota(&mut self, raw: &RawQuota, at: &str) -> Option<Algorithm> {
        check_quota_limit(raw.limit, at, self.report);
        let period = match parse_period(raw.period, raw.starts_on.as_ref()) {
            Ok(period) => period,
            Err(why) => {
                self.report.error(&format!("{at}.starts_on"), why);
                return None;
            }
        };
        let zone = raw.time_zone.as_deref().unwrap_or("UTC");
        let Some(calendar) = Calendar::new(period, zone) else {
            let shown: String = zone.chars().take(64).collect();
            self.report.error(&format!("{at}.time_zone"), format_args!("there is no time zone `{shown}`; write an IANA name such as Europe/Berlin or UTC"));
            return None;
        };
        Some(Algorithm::CalendarQuota(Quota { limit: raw.limit, calendar: Arc::new(calendar) }))
    }
}

/// Warns where a throttle's rate is not quite the one that was wanted, and says by how much.
pub(super) fn warn_if_slower(rate: Rate, throttle: &Throttle, at: &str, report: &mut Report) {
    if throttle.rate() != rate {
        let slower = rate.excess_over(throttle.rate());
        report.warning(at, format_args!("the rate {rate} cannot be exact beside so large a burst and is kept slower, by a part of {slower:.1e}"));
    }
}

/// That a quota's limit can be one.
pub(super) fn check_quota_limit(limit: u64, at: &str, report: &mut Report) {
    if !(1..=MAX_EXACT).contains(&limit) {
        report.error(
            &format!("{at}.limit"),
            "a quota's limit is a whole number from 1 to 9007199254740991 (2^53 - 1)",
        );
    }
}

fn parse_period(period: RawPeriod, start: Option<&RawStart>) -> Result<Period, &'static str> {
    let start = start.map(|start| start.0.to_ascii_lowercase());
    match (period, start.as_deref()) {
        (RawPeriod::Day, None) => Ok(Period::Day),
        (RawPeriod::Day, Some(_)) => {
            Err("a day starts at midnight of its time_zone; leave starts_on out")
        }
        (RawPeriod::Week, start) => {
            parse_weekday(start.unwrap_or("monday")).map(Period::Week).ok_or(
                "a week starts on monday, tuesday, wednesday, thursday, friday, saturday or sunday",
            )
        }
        (RawPeriod::Month, start) => match start.unwrap_or("1").parse() {
            Ok(day @ 1..=31) => Ok(Period::Month(day)),
            _ => {
                Err("a month starts on a day from 1 to 31; in shorter months that is the last day")
            }
        },
    }
}

fn parse_weekday(name: &str) -> Option<Weekday> {
    Some(match name {
        "monday" => Weekday::Monday,
        "tuesday" => Weekday::Tuesday,
        "wednesday" => Weekday::Wednesday,
        "thursday" => Weekday::Thursday,
        "friday" => Weekday::Friday,
        "saturday" => Weekday::Saturday,
        "sunday" => Weekday::Sunday,
        _ => return None,
    })
}
