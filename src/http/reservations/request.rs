//! The JSON bodies about reservations: names, types and ranges of their members.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny};
use serde_json::value::RawValue;

use super::{Endpoint, MAX_RESERVATIONS};
use crate::catalog::Cost;
use crate::engine::{AdjustRequest, ReservationChange, ReservationRequest};
use crate::http::request::parse_problem;
use crate::http::values::{Amounts, Text};
use crate::inference::{MAX_ACTUAL, ProviderUsage};
use crate::limit::ModelPattern;
use crate::object::Object;
use crate::reservation::{Actual, Handle, MAX_HANDLE_LEN};
use crate::syntax::WholeNumber;
use crate::time::Micros;
use crate::transport::Problem;

/// The longest id of a reservation in characters.
const MAX_ID_LEN: usize = 128;
/// The shortest and the longest time for which a reservation is open, in milliseconds.
const MIN_TTL_MS: u64 = 1_000;
const MAX_TTL_MS: u64 = 3_600_000;

/// The member `reservation` of a check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ReservationBody<'a> {
    #[serde(borrow, default)]
    id: Option<ReservationId<'a>>,
    #[serde(default)]
    ttl_ms: Option<Ttl>,
}

impl ReservationBody<'_> {
    pub(in crate::http) fn to_request(&self) -> ReservationRequest<'_> {
        ReservationRequest {
            id: self.id.as_ref().map(|id| &*id.0),
            ttl: self.ttl_ms.as_ref().map(|ttl| ttl.0),
        }
    }
}

/// The gateway's id of a reservation: printable ASCII, spaces included.
struct ReservationId<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for ReservationId<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(id) = Text::<'a, MAX_ID_LEN>::deserialize(deserializer)?;
        if id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            Ok(Self(id))
        } else {
            Err(D::Error::custom("must be printable ASCII"))
        }
    }
}

/// A time to live.
struct Ttl(Micros);

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WholeNumber(millis) = WholeNumber::<MAX_TTL_MS>::deserialize(deserializer)?;
        if millis < MIN_TTL_MS {
            return Err(D::Error::custom(format_args!("must be at least {MIN_TTL_MS}")));
        }
        Ok(Self(Micros::new(millis * 1_000)))
    }
}

/// The body of one change. `null` is an absent member.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeBody<'a> {
    #[serde(borrow)]
    handle: Text<'a, MAX_HANDLE_LEN>,
    #[serde(default)]
    usage: Option<ProviderUsage<MAX_ACTUAL>>,
    #[serde(borrow, default)]
    actual: Option<Amounts<'a, MAX_ACTUAL>>,
    #[serde(borrow, default)]
    model: Option<Text<'a, { ModelPattern::MAX_BYTES }>>,
    #[serde(default)]
    at_least: Option<bool>,
    #[serde(default)]
    ttl_ms: Option<Ttl>,
}

impl<'a> ChangeBody<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        let parsed = serde_json::from_slice::<Object<Self>>(body);
        parsed.map(|Object(change)| change).map_err(|_| parse_problem::<Object<Self>>(body))
    }

    /// The change that is requested.
    pub(super) fn to_request(&self, endpoint: Endpoint) -> Result<AdjustRequest<'_>, Problem> {
        let handle = Handle::parse(self.handle.as_str()).ok_or_else(|| {
            let detail = "is not a handle: send the one of the check's response as it was";
            Problem::bad_request("handle", detail)
        })?;
        self.refuse_members_of_others(endpoint)?;
        let change = match endpoint {
            Endpoint::Settle => ReservationChange::Settle(self.to_actual()),
            Endpoint::Cancel => ReservationChange::Cancel,
            Endpoint::Extend => {
                let ttl = self.ttl_ms.as_ref().map(|ttl| ttl.0);
                ReservationChange::Extend { actual: self.to_actual(), ttl }
            }
        };
        Ok(AdjustRequest { handle, change })
    }

    /// An error if there is a member that only other endpoints take.
    fn refuse_members_of_others(&self, endpoint: Endpoint) -> Result<(), Problem> {
        let (settles, extends) = (endpoint == Endpoint::Settle, endpoint == Endpoint::Extend);
        let members = [
            ("usage", self.usage.is_some(), settles || extends),
            ("actual", self.actual.is_some(), settles || extends),
            ("model", self.model.is_some(), settles || extends),
            ("at_least", self.at_least.is_some(), settles),
            ("ttl_ms", self.ttl_ms.is_some(), extends),
        ];
        match members.into_iter().find(|(_, is_given, is_taken)| *is_given && !is_taken) {
            None => Ok(()),
            Some((member, ..)) => {
                let detail = format!("/reservations/{} has no such member", endpoint.as_str());
                Err(Problem::bad_request(member, detail))
            }
        }
    }

    fn to_actual(&self) -> Actual<'_> {
        let amounts = self.actual.as_ref().map(|Amounts(amounts)| &amounts[..]);
        let amounts = amounts.unwrap_or_default().iter();
        Actual {
            usage: self.usage.as_ref().map(|ProviderUsage(usage)| *usage),
            amounts: Cost::Units(
                amounts.map(|(unit, amount)| (Cow::Borrowed(&**unit), *amount)).collect(),
            ),
            model: self.model.as_ref().map(Text::as_str),
            at_least: self.at_least.unwrap_or(false),
        }
    }
}

/// The request body: one change, or many, each with its own error.
pub(super) enum Changes<'a> {
    One(Box<ChangeBody<'a>>),
    Many(Vec<Result<ChangeBody<'a>, Problem>>),
}

impl<'a> Changes<'a> {
    /// Parses the body of a request.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Batch {
            reservations: Option<IgnoredAny>,
        }
        let problem = match ChangeBody::parse(body) {
            Ok(change) => return Ok(Self::One(Box::new(change))),
            Err(problem) => problem,
        };
        let batch = serde_json::from_slice::<Object<Batch>>(body);
        if batch.is_ok_and(|Object(batch)| batch.reservations.is_some()) {
            Self::parse_many(body)
        } else {
            Err(problem)
        }
    }

    fn parse_many(body: &'a [u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Batch<'a> {
            #[serde(borrow)]
            reservations: Vec<&'a RawValue>,
        }
        let Object(batch) = serde_json::from_slice::<Object<Batch<'_>>>(body)
            .map_err(|_| parse_problem::<Object<Batch<'_>>>(body))?;
        let count = batch.reservations.len();
        if count > MAX_RESERVATIONS {
            let detail = format!(
                "at most {MAX_RESERVATIONS} reservations are allowed in one request, and this one has {count}"
            );
            return Err(Problem::bad_request("reservations", detail));
        }
        let bodies = batch.reservations.iter().map(|raw| ChangeBody::parse(raw.get().as_bytes()));
        Ok(Self::Many(bodies.collect()))
    }
}
