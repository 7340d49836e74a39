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
use crate::limit::{Charge, ChargeMode, Charges, Limit, MAX_CHARGES, MAX_COST, Subject};

/// The most descriptors of a request. Few of them can match a limit, but each one has a status in
/// the response.
const MAX_DESCRIPTORS: usize = 10_000;

/// A request whose descriptors are matched with their limits.
pub(super) struct ResolvedRequest<'d> {
    /// The domain; `None` if no file declares it.
    pub(super) domain: Option<&'d EnvoyDomain>,
    /// One entry for each descriptor of the request, in order.
    pub(super) descriptors: Vec<DescriptorLimit<'d>>,
    /// Reports to make before the charges, of a request that gives a counter both hits with and
    /// hits without a number. Otherwise empty: then the reports are among the charges.
    pub(super) reports: Charges,
    /// The charges: one for each counter of the descriptors.
    pub(super) charges: Charges,
    /// The number of hits to report to each of these counters.
    reported_hits: Vec<u64>,
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
    if request.descriptors.len() > MAX_DESCRIPTORS {
        return Err(Status::invalid_argument(format!(
            "descriptors are {}, and at most {MAX_DESCRIPTORS} are allowed; divide them among several requests",
            request.descriptors.len()
        )));
    }
    let domain = domains.get(&request.domain);
    let mut resolved = ResolvedRequest {
        domain,
        descriptors: Vec::with_capacity(request.descriptors.len()),
        reports: Charges::new(),
        charges: Charges::new(),
        reported_hits: Vec::new(),
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
        let limit = resolved.add_descriptor(matched, hits)?;
        resolved.descriptors.push(limit);
    }
    resolved.place_reports();
    Ok(resolved)
}

/// The hits of a descriptor.
#[derive(Clone, Copy)]
enum Hits {
    /// The usual one: the request has no number.
    Usual,
    /// A number that the request gives; 0 only reads.
    Numbered(u64),
    /// Negative hits, to be given back.
    Refunded(u64),
}

/// The hits of a descriptor. Its own `hits_addend` takes precedence over the request's.
fn descriptor_hits(
    request: &RateLimitRequest,
    descriptor: &RateLimitDescriptor,
) -> Result<Hits, String> {
    let number = match &descriptor.hits_addend {
        None if request.hits_addend == 0 => None,
        None => Some(u64::from(request.hits_addend)),
        Some(own) if own.value <= MAX_COST => Some(own.value),
        Some(_) => return Err("hits_addend must be at most 9007199254740992 (2^53)".into()),
    };
    Ok(match number {
        number if descriptor.is_negative_hits => Hits::Refunded(number.unwrap_or(1)),
        None => Hits::Usual,
        Some(number) => Hits::Numbered(number),
    })
}

/// The limit of a descriptor, before limits replace others.
enum MatchedDescriptor<'d> {
    /// A rule of the configuration.
    Configured(MatchedRule<'d>),
    /// The limit that the request itself contains.
    InRequest {
        limit: Arc<Limit>,
        subject: Subject,
        current_limit: RateLimit,
        label: Arc<str>,
        /// True if hits with a number are reports, as in the rule that it replaces.
        after_the_fact: bool,
    },
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
        let rule = domain.match_descriptor(&entries).map(|matched| matched.rule);
        let limit = time_unit(own.unit)
            .and_then(|unit| domains.override_limit(own.requests_per_unit, unit, rule))
            .ok_or("limit.unit must be SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR")?;
        let (requests_per_unit, unit) = (own.requests_per_unit, own.unit);
        let current_limit = RateLimit { requests_per_unit, unit, name: String::new() };
        let label = Arc::clone(domains.override_label());
        let after_the_fact = rule.is_none_or(|rule| rule.after_the_fact);
        let subject = domain.subject(&entries);
        Ok(Some(Self::InRequest { limit, subject, current_limit, label, after_the_fact }))
    }

    /// True if hits with a number have been used already.
    fn after_the_fact(&self) -> bool {
        match self {
            Self::Configured(matched) => matched.rule.after_the_fact,
            Self::InRequest { after_the_fact, .. } => *after_the_fact,
        }
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

    /// True if the request reports hits to this counter.
    pub(super) fn reports_to(&self, charge_index: usize) -> bool {
        self.reported_hits[charge_index] > 0
    }

    fn add_descriptor(
        &mut self,
        matched: Option<MatchedDescriptor<'d>>,
        hits: Hits,
    ) -> Result<DescriptorLimit<'d>, Status> {
        let after_the_fact = matched.as_ref().is_some_and(MatchedDescriptor::after_the_fact);
        let (limit, subject, current_limit, rule, label) = match matched {
            None => return Ok(DescriptorLimit::NoLimit),
            Some(MatchedDescriptor::InRequest { limit, subject, current_limit, label, .. }) => {
                (limit, subject, current_limit, None, label)
            }
            Some(MatchedDescriptor::Configured(MatchedRule { rule, subject, label })) => {
                let Some(limit) = &rule.limit else { return Ok(DescriptorLimit::Unlimited) };
                (Arc::clone(limit), subject, current_limit(rule), Some(rule), label)
            }
        };
        let charge_index = self.counter_index(subject, limit)?;
        let (sum, number) = match hits {
            Hits::Usual => (&mut self.charges[charge_index].cost, 1),
            Hits::Numbered(number) if after_the_fact => {
                (&mut self.reported_hits[charge_index], number)
            }
            Hits::Numbered(number) => (&mut self.charges[charge_index].cost, number),
            Hits::Refunded(number) => (&mut self.refunded_hits[charge_index], number),
        };
        *sum = (*sum + number).min(MAX_COST);
        Ok(DescriptorLimit::Limited(LimitedDescriptor { charge_index, current_limit, rule, label }))
    }

    /// The index of the charge of a counter, which is added if it is not there. A counter may be
    /// charged only once in a check, so descriptors with the same counter are charged their sum.
    fn counter_index(&mut self, subject: Subject, limit: Arc<Limit>) -> Result<usize, Status> {
        let same = |charge: &Charge| charge.subject == subject && charge.limit.row() == limit.row();
        if let Some(index) = self.charges.iter().position(same) {
            let charge = &mut self.charges[index];
            // The smaller of two limits on one counter refuses first.
            if limit.size() < charge.limit.size() {
                charge.limit = limit;
            }
            return Ok(index);
        }
        if self.charges.len() == MAX_CHARGES {
            return Err(Status::invalid_argument(format!(
                "descriptors match more than {MAX_CHARGES} limits; send fewer in one request"
            )));
        }
        self.charges.push(Charge::new(subject, limit, 0));
        self.reported_hits.push(0);
        self.refunded_hits.push(0);
        Ok(self.charges.len() - 1)
    }

    /// Makes forced charges of the reported hits. If a counter has other hits as well, all reports
    /// come before the charges, since a check charges a counter once.
    fn place_reports(&mut self) {
        let hits = &self.reported_hits;
        let reported = |(charge, &hits): (&Charge, &u64)| {
            let report = Charge { cost: hits, mode: ChargeMode::Always, ..charge.clone() };
            (hits > 0).then_some(report)
        };
        if self.charges.iter().zip(hits).any(|(charge, hits)| charge.cost > 0 && *hits > 0) {
            self.reports = self.charges.iter().zip(hits).filter_map(reported).collect();
            return;
        }
        for (charge, &hits) in self.charges.iter_mut().zip(hits).filter(|(_, hits)| **hits > 0) {
            (charge.cost, charge.mode) = (hits, ChargeMode::Always);
        }
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
