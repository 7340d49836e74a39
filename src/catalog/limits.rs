//! The limits of one owner (a plan, a policy or a stage): names, units and options.
//!
//! Algorithms and their syntax are in `algorithms`.

use std::sync::Arc;

use foldhash::HashSet;

use super::algorithms::{
    RawLimit, RawQuota, RawThrottle, build_algorithm, build_quota, build_throttle,
};
use super::models::build_model_patterns;
use super::options::{Consistency, LimitOptions, Mode};
use super::validation::Report;
use crate::algorithm::{Algorithm, Counting as _};
use crate::limit::{Limit, MAX_CHARGES, Unit};

/// Builds the limits of one owner.
pub(super) struct LimitsBuilder<'f> {
    prefix: &'f str,
    defaults: LimitOptions,
    at: &'f str,
    report: &'f mut Report,
}

impl<'f> LimitsBuilder<'f> {
    /// A builder for limits whose names begin with `prefix`, written at `at`.
    pub(super) fn new(
        prefix: &'f str,
        defaults: LimitOptions,
        at: &'f str,
        report: &'f mut Report,
    ) -> Self {
        Self { prefix, defaults, at, report }
    }

    /// All limits of the owner, in the order in which a check charges them.
    pub(super) fn build_all(
        &mut self,
        throttle: Option<&RawThrottle>,
        quota: Option<&RawQuota>,
        more: &[RawLimit],
    ) -> Vec<Arc<Limit>> {
        let count = usize::from(throttle.is_some()) + usize::from(quota.is_some()) + more.len();
        if count > MAX_CHARGES {
            self.report.error(
                &format!("{}.limits", self.at),
                format_args!("a check is judged by at most {MAX_CHARGES} limits, and these are {count}; write fewer"),
            );
            return Vec::new();
        }
        let mut limits: Vec<Arc<Limit>> = Vec::with_capacity(count);
        limits.extend(throttle.and_then(|throttle| self.build_throttle(throttle)));
        let at = format!("{}.quota", self.at);
        let quota = quota.and_then(|quota| build_quota(quota, &at, self.report));
        limits.extend(quota.map(|quota| self.own_limit("quota", quota)));
        // The throttle and the quota have names that no further limit may have.
        let mut names = HashSet::<&str>::default();
        for (index, raw) in more.iter().enumerate() {
            let at = format!("{}.limits[{index}]", self.at);
            let Some(limit) = self.build_named(raw, &at) else { continue };
            if !names.insert(&raw.name) {
                self.report.error(
                    &format!("{at}.name"),
                    format_args!("the limit `{}` is there twice; rename one", raw.name),
                );
            }
            limits.push(Arc::new(limit));
        }
        limits
    }

    /// The owner's throttle, which counts requests.
    pub(super) fn build_throttle(&mut self, raw: &RawThrottle) -> Option<Arc<Limit>> {
        let algorithm = build_throttle(raw, &format!("{}.throttle", self.at), self.report)?;
        Some(self.own_limit("throttle", algorithm))
    }

    fn build_named(&mut self, raw: &RawLimit, at: &str) -> Option<Limit> {
        self.report.check_name(&format!("{at}.name"), &raw.name);
        self.report.check_name(&format!("{at}.unit"), &raw.unit);
        if matches!(&*raw.name, "throttle" | "quota") {
            self.report.error(
                &format!("{at}.name"),
                format_args!("`{}` is a reserved name; choose another", raw.name),
            );
        }
        let algorithm = build_algorithm(raw, at, self.report)?;
        if algorithm.slot_ttl().is_some() {
            self.check_slots(raw, at);
        }
        let options = self.defaults.or_own(raw.consistency, raw.mode);
        let models = raw.models.as_deref();
        let models =
            models.map(|raw| build_model_patterns(raw, &format!("{at}.models"), self.report));
        let limit = self.make_limit(&raw.name, Unit::new(&raw.unit), algorithm, options);
        Some(match models {
            Some(models) => limit.with_models(models.into()),
            None => limit,
        })
    }

    /// Checks what only a limit that counts slots must be.
    fn check_slots(&mut self, raw: &RawLimit, at: &str) {
        if raw.unit != Unit::REQUESTS {
            self.report.error(
                &format!("{at}.unit"),
                "a concurrency limit counts open reservations: leave its unit out, or write `requests`",
            );
        }
        if raw.consistency == Some(Consistency::Leased) {
            let why = "a concurrency limit cannot be leased: write `exact`";
            self.report.error(&format!("{at}.consistency"), why);
        }
    }

    fn own_limit(&self, name: &str, algorithm: Algorithm) -> Arc<Limit> {
        Arc::new(self.make_limit(name, Unit::requests(), algorithm, self.defaults))
    }

    fn make_limit(
        &self,
        name: &str,
        unit: Unit,
        algorithm: Algorithm,
        options: LimitOptions,
    ) -> Limit {
        let leased = options.consistency == Consistency::Leased && algorithm.is_leasable();
        let shadow = options.mode == Mode::Shadow;
        let limit = Limit::new(&format!("{}{name}", self.prefix), unit, algorithm, shadow);
        let limit = if options.open_ended { limit.as_open_ended() } else { limit };
        if leased {
            limit.as_leased()
        } else if options.refundable || limit.algorithm().slot_ttl().is_some() {
            // A settlement makes room at any moment.
            limit.as_refundable()
        } else {
            limit
        }
    }
}
