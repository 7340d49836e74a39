//! From a request of Envoy's to charges: the limit of each descriptor, and its cost.
//!
//! Nothing is decided here. A request that is invalid in one part is charged nothing.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;
use tonic::Status;

use super::proto::rate_limit_response::rate_limit::Unit;
use super::proto::rate_limit_response::{self, RateLimit};
use super::proto::{RateLimitDescriptor, RateLimitRequest};
use crate::catalog::envoy::{
    DescriptorEntry, DescriptorRule, Domains, EnvoyDomain, MatchedRule, TimeUnit,
};
use crate::limit::{Charge, Charges, Limit, MAX_CHARGES, MAX_COST, Subject};

/// A request whose descriptors are matched with their limits.
pub(super) struct ResolvedRequest<'d> {
    /// The domain; `None` if no file declares it.
    pub(super) domain: Option<&'d EnvoyDomain>,
    /// One entry for each descriptor of the request, in order.
    pub(super) descriptors: Vec<DescriptorLimit<'d>>,
    /// The charges: one for each counter of the descriptors.
    pub(super) charges: Charges,
    /// The number of hits to refund to each of these counters if the request is allowed.
    pub(super) refunded_hits: Vec<u64>,
}

/// The limit of a descriptor.
pub(super) enum DescriptorLimit<'d> {
    /// No limit matches.
    NoLimit,
    /// A limit that is declared as unlimited.
    Unlimited,
    /// A limit.
    Limited(LimitedDescriptor<'d>),
}

/// A descriptor with a limit.
pub(super) struct LimitedDescriptor<'d> {
    /// The index of its charge.
    pub(super) charge_index: usize,
    /// The limit as it is reported to Envoy.
    pub(super) current_limit: RateLimit,
    /// The rule; `None` if the request itself contains the limit.
    pub(super) rule: Option<&'d DescriptorRule>,
    /// The limit's metrics label.
    pub(super) label: Arc<str>,
}

/// Matches the descriptors of a request with their limits.
///
/// # Errors
/// If the request is invalid; the status names the member.
pub(super) fn resolve_request<'d>(
    domains: &'d Domains,
    request: &RateLimitRequest,
) -> Result<ResolvedRequest<'d>, Status> {
    if request.domain.is_empty() {
        return Err(Status::invalid_argument("domain must not be empty"));
    }
    if request.descriptors.is_empty() {
        return Err(Status::invalid_argument("descriptors must not be empty"));
    }
    let domain = domains.get(&request.domain);
    let mut resolved = ResolvedRequest {
        domain,
        descriptors: Vec::with_capacity(request.descriptors.len()),
        charges: Charges::new(),
        refunded_hits: Vec::new(),
    };
    let Some(domain) = domain else {
        resolved.descriptors.resize_with(request.descriptors.len(), || DescriptorLimit::NoLimit);
        return Ok(resolved);
    };
    let matched = request.descriptors.iter().enumerate().map(|(index, descriptor)| {
        MatchedDescriptor::resolve(domains, domain, descriptor)
            .map_err(|why| Status::invalid_argument(format!("descriptors[{index}].{why}")))
    });
    let matched = matched.collect::<Result<Vec<_>, _>>()?;
    let replaced: HashSet<&str> =
        matched.iter().flatten().flat_map(MatchedDescriptor::replaces).collect();
    for (index, (descriptor, matched)) in request.descriptors.iter().zip(matched).enumerate() {
        let matched = matched.filter(|matched| !matched.is_replaced(&replaced));
        let hits = descriptor_hits(request, descriptor)
            .map_err(|why| Status::invalid_argument(format!("descriptors[{index}].{why}")))?;
        let limit = resolved.add_descriptor(matched, hits, descriptor.is_negative_hits)?;
        resolved.descriptors.push(limit);
    }
    Ok(resolved)
}

/// The hits of a descriptor. Its own `hits_addend` takes precedence over the request's, and may be
/// 0 to only read.
fn descriptor_hits(
    request: &RateLimitRequest,
    descriptor: &RateLimitDescriptor,
) -> Result<u64, String> {
    match &descriptor.hits_addend {
        None => Ok(u64::from(request.hits_addend.max(1))),
        Some(own) if own.value <= MAX_COST => Ok(own.value),
        Some(_) => Err("hits_addend must be at most 9007199254740992 (2^53)".into()),
    }
}

/// The limit of a descriptor, before limits replace others.
enum MatchedDescriptor<'d> {
    /// A rule of the configuration.
    Configured(MatchedRule<'d>),
    /// The limit that the request itself contains.
    InRequest { limit: Arc<Limit>, subject: Subject, current_limit: RateLimit, label: Arc<str> },
}

impl<'d> MatchedDescriptor<'d> {
    fn resolve(
        domains: &Domains,
        domain: &'d EnvoyDomain,
        descriptor: &RateLimitDescriptor,
    ) -> Result<Option<Self>, String> {
        let entries: SmallVec<[DescriptorEntry<'_>; 4]> =
            descriptor.entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
        let Some(own) = &descriptor.limit else {
            return Ok(domain.match_descriptor(&entries).map(Self::Configured));
        };
        let limit = time_unit(own.unit)
            .and_then(|unit| {
                let rule = domain.match_descriptor(&entries).map(|matched| matched.rule);
                domains.override_limit(own.requests_per_unit, unit, rule)
            })
            .ok_or("limit.unit must be SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR")?;
        let (requests_per_unit, unit) = (own.requests_per_unit, own.unit);
        let current_limit = RateLimit { requests_per_unit, unit, name: String::new() };
        let label = Arc::clone(domains.override_label());
        Ok(Some(Self::InRequest { limit, subject: domain.subject(&entries), current_limit, label }))
    }

    fn replaces(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        let rule = if let Self::Configured(matched) = self { Some(matched.rule) } else { None };
        rule.into_iter().flat_map(|rule| rule.replaces.iter().map(|name| &**name))
    }

    fn is_replaced(&self, replaced: &HashSet<&str>) -> bool {
        let Self::Configured(MatchedRule { rule, .. }) = self else { return false };
        rule.limit.is_some() && !rule.name.is_empty() && replaced.contains(&*rule.name)
    }
}

impl<'d> ResolvedRequest<'d> {
    /// The refunds of the request, as charges.
    pub(super) fn refund_charges(&self) -> Charges {
        let refunded = self.charges.iter().zip(&self.refunded_hits).filter(|(_, hits)| **hits > 0);
        refunded.map(|(charge, &hits)| Charge { cost: hits, ..charge.clone() }).collect()
    }

    fn add_descriptor(
        &mut self,
        matched: Option<MatchedDescriptor<'d>>,
        hits: u64,
        is_refund: bool,
    ) -> Result<DescriptorLimit<'d>, Status> {
        let (limit, subject, current_limit, rule, label) = match matched {
            None => return Ok(DescriptorLimit::NoLimit),
            Some(MatchedDescriptor::InRequest { limit, subject, current_limit, label }) => {
                (limit, subject, current_limit, None, label)
            }
            Some(MatchedDescriptor::Configured(MatchedRule { rule, subject, label })) => {
                let Some(limit) = &rule.limit else { return Ok(DescriptorLimit::Unlimited) };
                (Arc::clone(limit), subject, current_limit(rule), Some(rule), label)
            }
        };
        let cost = if is_refund { 0 } else { hits };
        let same = |charge: &Charge| charge.subject == subject && charge.limit.row() == limit.row();
        let charge_index = match self.charges.iter().position(same) {
            Some(charge_index) => {
                // A counter may be charged only once in a check, so descriptors with the same
                // counter are charged their sum.
                let charge = &mut self.charges[charge_index];
                charge.cost = (charge.cost + cost).min(MAX_COST);
                // The smaller of two limits on one counter refuses first.
                if limit.size() < charge.limit.size() {
                    charge.limit = limit;
                }
                charge_index
            }
            None if self.charges.len() == MAX_CHARGES => {
                let why = format!(
                    "descriptors match more than {MAX_CHARGES} limits; send fewer in one request"
                );
                return Err(Status::invalid_argument(why));
            }
            None => {
                self.charges.push(Charge::new(subject, limit, cost));
                self.refunded_hits.push(0);
                self.charges.len() - 1
            }
        };
        if is_refund {
            self.refunded_hits[charge_index] =
                (self.refunded_hits[charge_index] + hits).min(MAX_COST);
        }
        Ok(DescriptorLimit::Limited(LimitedDescriptor { charge_index, current_limit, rule, label }))
    }
}

/// A rule's limit as it is reported to Envoy.
fn current_limit(rule: &DescriptorRule) -> RateLimit {
    let unit = match rule.unit {
        TimeUnit::Second => Unit::Second,
        TimeUnit::Minute => Unit::Minute,
        TimeUnit::Hour => Unit::Hour,
        TimeUnit::Day => Unit::Day,
        TimeUnit::Week => Unit::Week,
        TimeUnit::Month => Unit::Month,
        TimeUnit::Year => Unit::Year,
    };
    let name = String::from(&*rule.name);
    RateLimit { requests_per_unit: rule.requests_per_unit, unit: unit.into(), name }
}

fn time_unit(number: i32) -> Option<TimeUnit> {
    match rate_limit_response::rate_limit::Unit::try_from(number).ok()? {
        Unit::Unknown => None,
        Unit::Second => Some(TimeUnit::Second),
        Unit::Minute => Some(TimeUnit::Minute),
        Unit::Hour => Some(TimeUnit::Hour),
        Unit::Day => Some(TimeUnit::Day),
        Unit::Week => Some(TimeUnit::Week),
        Unit::Month => Some(TimeUnit::Month),
        Unit::Year => Some(TimeUnit::Year),
    }
}
