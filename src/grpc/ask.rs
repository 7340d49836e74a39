//! From what Envoy asks to charges: each descriptor's limit, and what it costs.
//!
//! Nothing here decides, and nothing is charged where the request cannot be read.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;
use tonic::Status;

use super::proto::rate_limit_response::rate_limit::Unit;
use super::proto::rate_limit_response::{self, RateLimit};
use super::proto::{RateLimitDescriptor, RateLimitRequest};
use crate::catalog::envoy::{Domain, Domains, Entry, Matched, Rule, TimeUnit};
use crate::limit::{Charge, Charges, Limit, MAX_COST, Subject};
use crate::store::MAX_CHARGES;

/// A request, read.
pub(super) struct Asked<'d> {
    /// Where it is counted; absent where the domain is unknown.
    pub(super) domain: Option<&'d Domain>,
    /// One for each of the request's descriptors, in their order.
    pub(super) descriptors: Vec<Found<'d>>,
    /// Every counter that the descriptors meet, once.
    pub(super) charges: Charges,
    /// How many hits are given back to each of those, where the request passes.
    pub(super) given_back: Vec<u64>,
}

/// What a descriptor meets.
pub(super) enum Found<'d> {
    /// No limit.
    Nothing,
    /// A limit without a number.
    Unlimited,
    /// A limit.
    Limited(Limited<'d>),
}

/// A descriptor's limit.
pub(super) struct Limited<'d> {
    /// Which of the charges.
    pub(super) place: usize,
    /// What Envoy is told of it.
    pub(super) current: RateLimit,
    /// Its rule; absent where the request brought the limit along.
    pub(super) rule: Option<&'d Rule>,
    /// What metrics call it.
    pub(super) label: Arc<str>,
}

/// Reads a request.
///
/// # Errors
/// Where it says what cannot be; the status names the member.
pub(super) fn read<'d>(
    domains: &'d Domains,
    request: &RateLimitRequest,
) -> Result<Asked<'d>, Status> {
    if request.domain.is_empty() {
        return Err(Status::invalid_argument("domain must not be empty"));
    }
    if request.descriptors.is_empty() {
        return Err(Status::invalid_argument("descriptors must not be empty"));
    }
    let domain = domains.get(&request.domain);
    let mut asked = Asked {
        domain,
        descriptors: Vec::with_capacity(request.descriptors.len()),
        charges: Charges::new(),
        given_back: Vec::new(),
    };
    let Some(domain) = domain else {
        asked.descriptors.resize_with(request.descriptors.len(), || Found::Nothing);
        return Ok(asked);
    };
    let met = request.descriptors.iter().enumerate().map(|(index, descriptor)| {
        Met::of(domains, domain, descriptor)
            .map_err(|why| Status::invalid_argument(format!("descriptors[{index}].{why}")))
    });
    let met = met.collect::<Result<Vec<_>, _>>()?;
    let replaced: HashSet<&str> = met.iter().flatten().flat_map(Met::replaces).collect();
    for (index, (descriptor, met)) in request.descriptors.iter().zip(met).enumerate() {
        let met = met.filter(|met| !met.is_one_of(&replaced));
        let hits = hits(request, descriptor)
            .map_err(|why| Status::invalid_argument(format!("descriptors[{index}].{why}")))?;
        let found = asked.add(met, hits, descriptor.is_negative_hits)?;
        asked.descriptors.push(found);
    }
    Ok(asked)
}

/// What a descriptor costs: its own word counts before the request's, and there 0 only looks.
fn hits(request: &RateLimitRequest, descriptor: &RateLimitDescriptor) -> Result<u64, String> {
    match &descriptor.hits_addend {
        None => Ok(u64::from(request.hits_addend.max(1))),
        Some(own) if own.value <= MAX_COST => Ok(own.value),
        Some(_) => Err("hits_addend must be at most 9007199254740992 (2^53)".into()),
    }
}

/// The limit that a descriptor meets, before others replace it.
enum Met<'d> {
    /// One of the configuration.
    Matched(Matched<'d>),
    /// The one that the request brought along.
    BroughtAlong { limit: Arc<Limit>, subject: Subject, current: RateLimit, label: Arc<str> },
}

impl<'d> Met<'d> {
    fn of(
        domains: &Domains,
        domain: &'d Domain,
        descriptor: &RateLimitDescriptor,
    ) -> Result<Option<Self>, String> {
        let entries: SmallVec<[Entry<'_>; 4]> =
            descriptor.entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
        let Some(own) = &descriptor.limit else {
            return Ok(domain.find(&entries).map(Self::Matched));
        };
        let limit = time_unit(own.unit)
            .and_then(|unit| {
                let met = domain.find(&entries).map(|matched| matched.rule);
                domains.brought_along(own.requests_per_unit, unit, met)
            })
            .ok_or("limit.unit must be SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR")?;
        let (requests_per_unit, unit) = (own.requests_per_unit, own.unit);
        let current = RateLimit { requests_per_unit, unit, name: String::new() };
        let label = Arc::clone(domains.override_label());
        Ok(Some(Self::BroughtAlong { limit, subject: domain.subject(&entries), current, label }))
    }

    fn replaces(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        let rule = if let Self::Matched(matched) = self { Some(matched.rule) } else { None };
        rule.into_iter().flat_map(|rule| rule.replaces.iter().map(|name| &**name))
    }

    fn is_one_of(&self, replaced: &HashSet<&str>) -> bool {
        let Self::Matched(Matched { rule, .. }) = self else { return false };
        rule.limit.is_some() && !rule.name.is_empty() && replaced.contains(&*rule.name)
    }
}

impl<'d> Asked<'d> {
    /// What is given back, as charges of so much.
    pub(super) fn refunds(&self) -> Charges {
        let given = self.charges.iter().zip(&self.given_back).filter(|(_, hits)| **hits > 0);
        given.map(|(charge, &hits)| Charge { cost: hits, ..charge.clone() }).collect()
    }

    fn add(
        &mut self,
        met: Option<Met<'d>>,
        hits: u64,
        given_back: bool,
    ) -> Result<Found<'d>, Status> {
        let (limit, subject, current, rule, label) = match met {
            None => return Ok(Found::Nothing),
            Some(Met::BroughtAlong { limit, subject, current, label }) => {
                (limit, subject, current, None, label)
            }
            Some(Met::Matched(Matched { rule, subject, label })) => {
                let Some(limit) = &rule.limit else { return Ok(Found::Unlimited) };
                (Arc::clone(limit), subject, told(rule), Some(rule), label)
            }
        };
        let cost = if given_back { 0 } else { hits };
        let same = |charge: &Charge| charge.subject == subject && charge.limit.row() == limit.row();
        let place = match self.charges.iter().position(same) {
            Some(place) => {
                // No counter may be charged twice in one check: what asks twice costs the sum.
                let charge = &mut self.charges[place];
                charge.cost = (charge.cost + cost).min(MAX_COST);
                // Of two limits on one counter the smaller refuses first.
                if limit.size() < charge.limit.size() {
                    charge.limit = limit;
                }
                place
            }
            None if self.charges.len() == MAX_CHARGES => {
                let why =
                    format!("descriptors meet over {MAX_CHARGES} limits; ask for fewer at once");
                return Err(Status::invalid_argument(why));
            }
            None => {
                self.charges.push(Charge { subject, limit, cost });
                self.given_back.push(0);
                self.charges.len() - 1
            }
        };
        if given_back {
            self.given_back[place] = (self.given_back[place] + hits).min(MAX_COST);
        }
        Ok(Found::Limited(Limited { place, current, rule, label }))
    }
}

/// A rule as Envoy is told of it.
fn told(rule: &Rule) -> RateLimit {
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
