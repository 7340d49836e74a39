//! Throttles, quotas and further limits of a plan, a policy or a stage, as written to as valid.

use std::sync::Arc;

use jiff::civil::Weekday;

use super::findings::Findings;
use super::written::{
    Consistency, Mode, WrittenLimit, WrittenPeriod, WrittenQuota, WrittenStart, WrittenThrottle,
};
use crate::limit::{Calendar, Limit, Period, Quota, Rate, Rule, Throttle, Unit};
use crate::time::MAX_EXACT;

/// What holds for limits that do not say otherwise.
#[derive(Clone, Copy, Default)]
pub(super) struct Defaults {
    pub(super) consistency: Consistency,
    pub(super) mode: Mode,
    /// Whether operators correct the counters.
    pub(super) corrected: bool,
}

/// Reads the limits of one owner.
pub(super) struct Limits<'f> {
    prefix: &'f str,
    defaults: Defaults,
    at: &'f str,
    findings: &'f mut Findings,
}

impl<'f> Limits<'f> {
    /// Limits whose names begin with `prefix`, written at `at`.
    pub(super) fn new(
        prefix: &'f str,
        defaults: Defaults,
        at: &'f str,
        findings: &'f mut Findings,
    ) -> Self {
        Self { prefix, defaults, at, findings }
    }

    /// All limits in the order in which they are judged.
    pub(super) fn all(
        &mut self,
        throttle: Option<&WrittenThrottle>,
        quota: Option<&WrittenQuota>,
        more: &[WrittenLimit],
    ) -> Vec<Arc<Limit>> {
        let mut limits: Vec<Arc<Limit>> = Vec::new();
        limits.extend(throttle.and_then(|throttle| self.throttle(throttle)));
        let at = format!("{}.quota", self.at);
        let rule = quota.and_then(|quota| self.quota_rule(quota, &at));
        limits.extend(rule.map(|rule| self.limit("quota", Unit::requests(), rule, None, None)));
        for (index, written) in more.iter().enumerate() {
            let at = format!("{}.limits[{index}]", self.at);
            let Some(limit) = self.named(written, &at) else { continue };
            if limits.iter().any(|other| other.name() == limit.name()) {
                self.findings.fault(
                    &format!("{at}.name"),
                    format_args!("the limit `{}` is there twice; rename one", written.name),
                );
            }
            limits.push(limit);
        }
        limits
    }

    /// The throttle in requests that is written as `throttle`.
    pub(super) fn throttle(&mut self, written: &WrittenThrottle) -> Option<Arc<Limit>> {
        let at = format!("{}.throttle", self.at);
        let rule = self.throttle_rule(written, &at)?;
        Some(self.limit("throttle", Unit::requests(), rule, None, None))
    }

    fn named(&mut self, written: &WrittenLimit, at: &str) -> Option<Arc<Limit>> {
        self.findings.name(&format!("{at}.name"), &written.name);
        self.findings.name(&format!("{at}.unit"), &written.unit);
        if matches!(&*written.name, "throttle" | "quota") {
            self.findings.fault(
                &format!("{at}.name"),
                format_args!("`{}` is the name of the plan's own; choose another", written.name),
            );
        }
        let rule = match (&written.throttle, &written.quota, &written.concurrency) {
            (Some(throttle), None, None) => self.throttle_rule(throttle, &format!("{at}.throttle")),
            (None, Some(quota), None) => self.quota_rule(quota, &format!("{at}.quota")),
            (None, None, Some(_)) => {
                self.findings.fault(
                    &format!("{at}.concurrency"),
                    "limits of concurrency are not there yet; use a throttle",
                );
                None
            }
            _ => {
                self.findings
                    .fault(at, "a limit is one of `throttle` and `quota`; give it exactly one");
                None
            }
        }?;
        Some(self.limit(
            &written.name,
            Unit::new(&written.unit),
            rule,
            written.mode,
            written.consistency,
        ))
    }

    fn limit(
        &self,
        name: &str,
        unit: Unit,
        rule: Rule,
        mode: Option<Mode>,
        consistency: Option<Consistency>,
    ) -> Arc<Limit> {
        let shadow = mode.unwrap_or(self.defaults.mode) == Mode::Shadow;
        // A quota has no rate at which leases would come back: it stays exact.
        let leased = consistency.unwrap_or(self.defaults.consistency) == Consistency::Leased
            && matches!(rule, Rule::Throttle(_));
        let limit = Limit::new(&format!("{}{name}", self.prefix), unit, rule, shadow);
        Arc::new(if leased {
            limit.leased_ahead()
        } else if self.defaults.corrected {
            limit.given_back()
        } else {
            limit
        })
    }

    fn throttle_rule(&mut self, written: &WrittenThrottle, at: &str) -> Option<Rule> {
        let rate: Rate = match written.rate.0.parse() {
            Ok(rate) => rate,
            Err(error) => {
                self.findings.fault(&format!("{at}.rate"), error);
                return None;
            }
        };
        match Throttle::new(rate, written.burst) {
            Err(error) => {
                self.findings.fault(at, error);
                None
            }
            Ok(throttle) => {
                kept_slower(rate, &throttle, at, self.findings);
                Some(Rule::Throttle(throttle))
            }
        }
    }

    fn quota_rule(&mut self, written: &WrittenQuota, at: &str) -> Option<Rule> {
        quota_limit(written.limit, at, self.findings);
        let period = match period(written.period, written.starts_on.as_ref()) {
            Ok(period) => period,
            Err(why) => {
                self.findings.fault(&format!("{at}.starts_on"), why);
                return None;
            }
        };
        let zone = written.time_zone.as_deref().unwrap_or("UTC");
        let Some(calendar) = Calendar::new(period, zone) else {
            let shown: String = zone.chars().take(64).collect();
            self.findings.fault(&format!("{at}.time_zone"), format_args!("there is no time zone `{shown}`; write an IANA name such as Europe/Berlin or UTC"));
            return None;
        };
        Some(Rule::Quota(Quota { limit: written.limit, calendar: Arc::new(calendar) }))
    }
}

/// Warns where a throttle's rate is not quite the one that was wanted, and says by how much.
pub(super) fn kept_slower(rate: Rate, kept: &Throttle, at: &str, findings: &mut Findings) {
    if kept.rate() != rate {
        let slower = rate.excess_over(kept.rate());
        findings.warning(at, format_args!("the rate {rate} cannot be exact beside so large a burst and is kept slower, by a part of {slower:.1e}"));
    }
}

/// That a quota's limit can be one.
pub(super) fn quota_limit(limit: u64, at: &str, findings: &mut Findings) {
    if !(1..=MAX_EXACT).contains(&limit) {
        findings.fault(
            &format!("{at}.limit"),
            "a quota's limit is a whole number from 1 to 9007199254740991 (2^53 - 1)",
        );
    }
}

fn period(period: WrittenPeriod, start: Option<&WrittenStart>) -> Result<Period, &'static str> {
    let start = start.map(|start| start.0.to_ascii_lowercase());
    match (period, start.as_deref()) {
        (WrittenPeriod::Day, None) => Ok(Period::Day),
        (WrittenPeriod::Day, Some(_)) => {
            Err("a day starts at midnight of its time_zone; leave starts_on out")
        }
        (WrittenPeriod::Week, start) => weekday(start.unwrap_or("monday")).map(Period::Week).ok_or(
            "a week starts on monday, tuesday, wednesday, thursday, friday, saturday or sunday",
        ),
        (WrittenPeriod::Month, start) => match start.unwrap_or("1").parse() {
            Ok(day @ 1..=31) => Ok(Period::Month(day)),
            _ => {
                Err("a month starts on a day from 1 to 31; in shorter months that is the last day")
            }
        },
    }
}

fn weekday(name: &str) -> Option<Weekday> {
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
