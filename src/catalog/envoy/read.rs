//! From envoyproxy/ratelimit's YAML as written to domains that are valid: the only crossing.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::labels::Labels;
use super::pattern::Pattern;
use super::tree::{Level, Node};
use super::written::{Algorithm, WrittenDescriptor, WrittenDomain, WrittenRateLimit};
use super::{Domain, Domains, Rule, TimeUnit};
use crate::catalog::findings::{Findings, Invalid};
use crate::limit::{Calendar, Limit, Period, Quota, Rate, Rule as LimitRule, Throttle, Unit};
use crate::time::Micros;

/// A window is no longer than a leap year: what stored rows are kept for.
const LONGEST: u32 = 366 * 86_400;

impl Domains {
    /// Reads files, each by the name that errors call it; `origin` is what all of them are called.
    ///
    /// # Errors
    /// Where one of them is no YAML, or says what cannot be, alone or with the others.
    pub fn parse<'f>(
        origin: &str,
        files: impl Iterator<Item = (&'f str, &'f str)>,
    ) -> Result<Self, Invalid> {
        let mut findings = Findings::default();
        let windows = TimeUnit::ALL.into_iter();
        let windows = windows.filter_map(|unit| Some((unit, unit.windows(NonZeroU32::MIN)?)));
        let mut domains = Self {
            by_name: HashMap::new(),
            warnings: Vec::new(),
            override_label: "override".into(),
            windows: windows.collect(),
        };
        for (file, text) in files {
            match WrittenDomain::from_yaml(text) {
                Ok(written) => domains.add(written, file, &mut findings),
                Err(fault) => findings.fault(file, fault),
            }
        }
        if domains.by_name.is_empty() && findings.faults.is_empty() {
            findings.fault("no domain", "there is no file that ends in .yaml or .yml");
        }
        if !findings.faults.is_empty() {
            return Err(Invalid { origin: origin.into(), faults: findings.faults });
        }
        domains.warnings = findings.warnings;
        Ok(domains)
    }

    fn add(&mut self, written: WrittenDomain, file: &str, findings: &mut Findings) {
        let name = written.domain;
        if name.is_empty() {
            findings.fault(&format!("{file}: domain"), "must not be empty");
        }
        let mut reader = Reader { domain: &name, file, findings };
        let root = reader.level(written.descriptors, "descriptors", "", false);
        let label = format!("envoy:{name}").into();
        let domain = Domain { name: name.as_str().into(), label, root };
        if self.by_name.insert(name.as_str().into(), domain).is_some() {
            let fault = format_args!("the domain `{name}` is there twice; put it into one file");
            findings.fault(&format!("{file}: domain"), fault);
        }
    }
}

/// Reads one file.
struct Reader<'f> {
    domain: &'f str,
    file: &'f str,
    findings: &'f mut Findings,
}

impl Reader<'_> {
    fn fault(&mut self, at: &str, what: impl std::fmt::Display) {
        self.findings.fault(&format!("{}: {at}", self.file), what);
    }

    /// The descriptors written at `at`, below `above`. `told` is whether metrics tell values there.
    fn level(
        &mut self,
        written: Vec<WrittenDescriptor>,
        at: &str,
        above: &str,
        told: bool,
    ) -> Level {
        let mut level = Level::default();
        for (index, descriptor) in written.into_iter().enumerate() {
            let at = format!("{at}[{index}]");
            let (key, value) = (descriptor.key.clone(), descriptor.value.clone());
            if key.is_empty() {
                self.fault(&format!("{at}.key"), "must not be empty");
            }
            let pattern = Pattern::new(&joined(&key, &value));
            if descriptor.share_threshold && pattern.is_none() {
                let why = "is for a value with a `*`: the values that match it are counted as one";
                self.fault(&format!("{at}.share_threshold"), why);
            }
            let node = self.node(descriptor, &at, above, told);
            let twice = match pattern {
                Some(pattern) => {
                    let twice = level.patterns.iter().any(|(other, _)| *other == pattern);
                    level.patterns.push((pattern, node));
                    twice
                }
                None if value.is_empty() => level.bare.insert(key.into(), node).is_some(),
                None => {
                    let values = level.exact.entry(key.into()).or_default();
                    values.insert(value.into(), node).is_some()
                }
            };
            if twice {
                self.fault(&at, "another descriptor here has the same key and value; keep one");
            }
        }
        level
    }

    fn node(&mut self, written: WrittenDescriptor, at: &str, above: &str, told: bool) -> Node {
        let path = format!("{above}{}", joined(&written.key, &written.value));
        let told = told || written.value_to_metric;
        let below = format!("{at}.descriptors");
        let rule = written.rate_limit.as_ref();
        let rule = rule.and_then(|limit| self.rule(&written, limit, at, &path, told));
        Node {
            rule,
            value: written.value.into(),
            value_to_metric: written.value_to_metric,
            share_threshold: written.share_threshold,
            below: self.level(written.descriptors, &below, &format!("{path}."), told),
        }
    }

    fn rule(
        &mut self,
        descriptor: &WrittenDescriptor,
        written: &WrittenRateLimit,
        at: &str,
        path: &str,
        told: bool,
    ) -> Option<Rule> {
        let at = format!("{at}.rate_limit");
        if written.replaces.iter().any(|replaced| replaced.name.is_empty()) {
            self.fault(&format!("{at}.replaces"), "each entry needs the `name` of a limit");
        }
        if written.replaces.iter().any(|replaced| replaced.name == written.name) {
            self.fault(&format!("{at}.replaces"), "a limit cannot replace itself");
        }
        let unit = self.unit(written, &at)?;
        let limit = if written.unlimited {
            if written.refines() {
                let why =
                    "algorithm, burst, time_zone and unit_multiplier are for a limit; this is none";
                self.fault(&at, why);
            }
            None
        } else {
            let rule = self.limit_rule(written, unit, &at)?;
            let name = format!("envoy:{}/{path}", self.domain);
            let limit = Limit::new(&name, Unit::requests(), rule, descriptor.shadow_mode);
            let limit = if descriptor.quota_mode { limit.one_of_many() } else { limit };
            Some(Arc::new(limit.given_back()))
        };
        Some(Rule {
            limit,
            requests_per_unit: written.requests_per_unit.unwrap_or(0),
            unit,
            name: written.name.as_str().into(),
            replaces: written
                .replaces
                .iter()
                .map(|replaced| replaced.name.as_str().into())
                .collect(),
            metadata: descriptor.metadata.clone(),
            detailed_metric: descriptor.detailed_metric,
            labels: Labels::new(path, told || descriptor.detailed_metric),
        })
    }

    fn unit(&mut self, written: &WrittenRateLimit, at: &str) -> Option<TimeUnit> {
        let unit = match &*written.unit.to_ascii_lowercase() {
            "second" => TimeUnit::Second,
            "minute" => TimeUnit::Minute,
            "hour" => TimeUnit::Hour,
            "day" => TimeUnit::Day,
            "week" => TimeUnit::Week,
            "month" => TimeUnit::Month,
            "year" => TimeUnit::Year,
            // What it is then does not matter.
            _ if written.unlimited => return Some(TimeUnit::Second),
            _ => {
                let why = "write second, minute, hour, day, week, month or year";
                self.fault(&format!("{at}.unit"), why);
                return None;
            }
        };
        if written.unlimited {
            self.fault(at, "what is unlimited has no unit; leave one of the two out");
        } else if written.requests_per_unit.is_none() {
            let at = format!("{}: {at}", self.file);
            self.findings.warning(&at, "requests_per_unit is not there, so nothing passes");
        }
        Some(unit)
    }

    fn limit_rule(
        &mut self,
        written: &WrittenRateLimit,
        unit: TimeUnit,
        at: &str,
    ) -> Option<LimitRule> {
        let limit = u64::from(written.requests_per_unit.unwrap_or(0));
        let times = written.unit_multiplier.unwrap_or(1);
        let times = NonZeroU32::new(times).filter(|times| {
            unit.seconds().checked_mul(times.get()).is_some_and(|all| all <= LONGEST)
        });
        let Some(times) = times else {
            self.fault(&format!("{at}.unit_multiplier"), "makes a window of 1 second to 366 days");
            return None;
        };
        if written.algorithm == Algorithm::FixedWindow {
            if written.burst.is_some() {
                let why = "is for `algorithm: token_bucket`; a window has no burst of its own";
                self.fault(&format!("{at}.burst"), why);
            }
            let calendar = match &written.time_zone {
                None => unit.windows(times),
                Some(zone) => self.calendar(unit, times, zone, &format!("{at}.time_zone")),
            };
            return calendar.map(|calendar| LimitRule::Quota(Quota { limit, calendar }));
        }
        if written.time_zone.is_some() {
            let why = "is for windows; a token bucket refills all the time";
            self.fault(&format!("{at}.time_zone"), why);
        }
        let period = Micros::from_secs(u64::from(unit.seconds()) * u64::from(times.get()));
        // What lets nothing pass needs no bucket.
        let Some(rate) = Rate::new(limit, period) else {
            let calendar = unit.windows(times);
            return calendar.map(|calendar| LimitRule::Quota(Quota { limit: 0, calendar }));
        };
        let bucket = Throttle::new(rate, written.burst.unwrap_or(limit));
        bucket.map(LimitRule::Throttle).map_err(|why| self.fault(at, why)).ok()
    }

    /// The windows of a calendar that people use.
    fn calendar(
        &mut self,
        unit: TimeUnit,
        times: NonZeroU32,
        zone: &str,
        at: &str,
    ) -> Option<Arc<Calendar>> {
        let period = match unit {
            TimeUnit::Day if times.get() == 1 => Period::Day,
            TimeUnit::Week if times.get() == 1 => Period::Week(jiff::civil::Weekday::Monday),
            TimeUnit::Month if times.get() == 1 => Period::Month(1),
            _ => {
                self.fault(at, "is for a unit of one day, week or month");
                return None;
            }
        };
        let calendar = Calendar::new(period, zone).map(Arc::new);
        if calendar.is_none() {
            self.fault(at, "is no IANA name of a time zone, such as Europe/Berlin or UTC");
        }
        calendar
    }
}

/// A descriptor as envoyproxy/ratelimit writes it in one: `KEY`, or `KEY_VALUE`.
fn joined(key: &str, value: &str) -> String {
    if value.is_empty() { key.to_owned() } else { format!("{key}_{value}") }
}
