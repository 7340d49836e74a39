//! Limits per HTTP method and path, of a stage or of a plan's stage.
//!
//! The syntax and the matching of a method and a path are in `route`.

use std::sync::Arc;

use foldhash::HashSet;

use super::bounds::{MAX_METHODS, check_count};
use super::limits::LimitsBuilder;
use super::options::LimitOptions;
use super::raw::RawMethods;
use super::route::{HttpRoute, RoutePattern};
use super::validation::Report;
use crate::limit::{Limit, Subject};

/// Limits per method: those listed, the most specific first, and one for all other methods.
#[derive(Default)]
pub(super) struct MethodLimits {
    listed: Vec<(RoutePattern, Arc<Limit>)>,
    wildcard: Option<WildcardLimit>,
}

/// The limit of every method that is not listed. They share the counters of
/// [`Subject::METHOD_PARTS`] parts of their owner.
struct WildcardLimit {
    limit: Arc<Limit>,
    /// The part of the limit's name before the method.
    prefix: String,
}

impl MethodLimits {
    /// Reads the limits per method at `at`, whose names begin with `prefix`.
    pub(super) fn build(
        prefix: &str,
        defaults: LimitOptions,
        raw: &RawMethods,
        at: &str,
        report: &mut Report,
    ) -> Self {
        let mut methods = Self::default();
        if !check_count(&format!("{at}.methods"), raw.len(), MAX_METHODS, report) {
            return methods;
        }
        let mut patterns = HashSet::default();
        for (method, limits) in raw {
            let at = format!("{at}.methods[{method}]");
            let words: Vec<_> = method.split_ascii_whitespace().collect();
            let name = format!("{prefix}{}/", words.join(" "));
            let mut builder = LimitsBuilder::new(&name, defaults, &at, report);
            let Some(limit) = builder.build_throttle(&limits.throttle) else { continue };
            if *method == "*" {
                methods.wildcard = Some(WildcardLimit { limit, prefix: prefix.to_owned() });
                continue;
            }
            match RoutePattern::parse(method) {
                Err(why) => report.error(&at, why),
                Ok(pattern) if !patterns.insert(pattern.clone()) => {
                    report.error(&at, "another entry matches exactly the same; keep one");
                }
                Ok(pattern) => methods.listed.push((pattern, limit)),
            }
        }
        methods.listed.sort_by(|(one, _), (other, _)| one.cmp_specificity(other));
        methods
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.wildcard.is_none()
    }

    /// The limits that are listed.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.listed.iter().map(|(_, limit)| limit)
    }

    /// All limits, the wildcard's last.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.listed().chain(self.wildcard.iter().map(|wildcard| &wildcard.limit))
    }

    /// The limit of a requested method, and the subject that it counts: `owner`, or for a method
    /// that is not listed the part of the owner that counts it. HEAD, which the services behind
    /// a gateway answer as GET, counts as GET unless it is listed itself.
    pub(super) fn limit_for(
        &self,
        route: &HttpRoute<'_>,
        owner: Subject,
    ) -> Option<(Arc<Limit>, Subject)> {
        if let Some((_, limit)) = self.listed.iter().find(|(pattern, _)| pattern.matches(route)) {
            return Some((Arc::clone(limit), owner));
        }
        if route.method == "HEAD" {
            let route = HttpRoute { method: "GET".into(), path: route.path.clone() };
            return self.limit_for(&route, owner);
        }
        let wildcard = self.wildcard.as_ref()?;
        let method = route.name();
        let name = format!("{}{method}/throttle", wildcard.prefix);
        Some((Arc::new(wildcard.limit.renamed(&name)), owner.method(&method)))
    }
}
