//! The reservation that a check requests: its name, its terms, and the amounts that it reserves.
//!
//! Opening it is `reserve`; `dry_run` makes one to ask what would come of it.

use super::PlanContext;
use super::reserve::{random_bytes, random_id};
use crate::catalog::{CheckError, CheckRequest, Cost};
use crate::inference::TokenUsage;
use crate::limit::{
    Charge, Charges, NewReservation, ReservationName, ReservationTerms, Subject, Unit,
};
use crate::reservation::{ReservedAmount, ReservedCharge, ReservedCheck, digest_check};
use crate::store::HeldLeases;
use crate::time::Micros;

/// A reservation of these charges, and the check in it. Its terms name the leases in `held`.
pub(super) fn new_reservation(
    plan: &PlanContext<'_, '_>,
    charges: &Charges,
    request: &CheckRequest<'_>,
    id: Option<&str>,
    cost: &Cost<'_>,
    ttl: Micros,
    held: &HeldLeases,
) -> Result<(ReservedCheck, NewReservation), CheckError> {
    let check = reserved_check(plan, charges, request, cost, ttl, held);
    let name = reservation_name(plan, charges, request, id)?;
    let key_id = plan.key.as_ref().map(|key| &*key.id);
    let digest = digest_check(key_id, plan.name.as_deref(), request);
    let new = NewReservation { name, check: digest, ttl, terms: encode_terms(&check)? };
    Ok((check, new))
}

/// The terms of a check, with fresh random bytes.
pub(super) fn encode_terms(check: &ReservedCheck) -> Result<ReservationTerms, CheckError> {
    check
        .encode(random_bytes())
        .map_err(|why| CheckError::Invalid { field: "reservation".into(), detail: why.to_string() })
}

/// The name of a reservation: under the API key, or else under the first subject that is charged
/// and is not the stage, which all clients share.
fn reservation_name(
    plan: &PlanContext<'_, '_>,
    charges: &Charges,
    request: &CheckRequest<'_>,
    id: Option<&str>,
) -> Result<ReservationName, CheckError> {
    let key = plan.key.as_ref().map(|key| key.subject);
    let stage = request.api.zip(request.stage).map(|(api, stage)| Subject::stage(api, stage));
    let is_own = |subject: &Subject| stage.is_none_or(|stage| !stage.has_same_hash_tag(subject));
    let mut subjects = charges.iter().map(|charge| charge.subject);
    let first = subjects.clone().find(is_own).or_else(|| subjects.next());
    let Some(subject) = key.or(first) else {
        let detail = "no limit applies to this check, so there is nothing to reserve".into();
        return Err(CheckError::Invalid { field: "reservation".into(), detail });
    };
    Ok(match id {
        Some(id) => ReservationName::new(&subject, id),
        None => ReservationName::new(&subject, &random_id()),
    })
}

/// The part of a check that a settlement needs.
fn reserved_check(
    plan: &PlanContext<'_, '_>,
    charges: &Charges,
    request: &CheckRequest<'_>,
    cost: &Cost<'_>,
    ttl: Micros,
    held: &HeldLeases,
) -> ReservedCheck {
    let amounts = reserved_amounts(charges, cost);
    let charge = |(position, charge): (usize, &Charge)| {
        let is_same = |reserved: &ReservedAmount| reserved.unit == *charge.limit.unit();
        let unit = amounts.iter().position(is_same).unwrap_or_default();
        let leased_at = held.charged_at(position);
        ReservedCharge { subject: charge.subject, row: charge.limit.row(), unit, leased_at }
    };
    let charges = charges.iter().enumerate().map(charge).collect();
    let usage = request.usage.copied().unwrap_or_default();
    let estimate = TokenUsage {
        input: cost.named(Unit::INPUT_TOKENS).or(usage.input),
        output: cost.named(Unit::OUTPUT_TOKENS).or(usage.output),
        total: None,
        ..usage
    };
    ReservedCheck {
        node: None,
        ttl,
        label: plan.label.as_deref().map(Box::from),
        key_id: plan.key.as_ref().map(|key| Box::from(&*key.id)),
        model: request.model.map(Box::from),
        estimate,
        amounts,
        charges,
    }
}

/// The amount of each unit that the cost names or that a limit counts, in the order in which
/// responses list them.
fn reserved_amounts(charges: &Charges, cost: &Cost<'_>) -> Vec<ReservedAmount> {
    let requests = ReservedAmount { unit: Unit::requests(), amount: cost.requests() };
    let mut amounts = vec![requests];
    let mut add = |unit: &str, amount| {
        if !amounts.iter().any(|other| other.unit.as_str() == unit) {
            amounts.push(ReservedAmount { unit: Unit::new(unit), amount });
        }
    };
    if let Cost::Units(named) = cost {
        named.iter().for_each(|(unit, amount)| add(unit, *amount));
    }
    charges.iter().for_each(|charge| add(charge.limit.unit().as_str(), charge.cost));
    let place = |unit: &str| Unit::BUILT_IN.iter().position(|built_in| *built_in == unit);
    amounts.sort_by(|one, other| {
        let key = |reserved: &ReservedAmount| {
            place(reserved.unit.as_str()).unwrap_or(Unit::BUILT_IN.len())
        };
        key(one).cmp(&key(other)).then_with(|| one.unit.cmp(&other.unit))
    });
    amounts
}
