//! A check as callers write it in JSON: names, types and lengths.
//!
//! Nothing here knows the catalog. What does not read as a check names the field that is at fault.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use smallvec::SmallVec;

use super::Problem;
use crate::catalog::{Ask, Cost, PolicyKey};
use crate::engine::Client;
use crate::limit::MAX_COST;

/// The longest key in bytes.
pub(super) const MAX_KEY: usize = 1024;
/// The longest path in bytes.
pub(super) const MAX_PATH: usize = 2048;

/// The body of `/check`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckRequest<'a> {
    #[serde(borrow, default)]
    api_key: Option<Text<'a, MAX_KEY>>,
    #[serde(borrow, default)]
    key_id: Option<Text<'a, MAX_KEY>>,
    #[serde(borrow, default)]
    api: Option<Text<'a, MAX_KEY>>,
    #[serde(borrow, default)]
    stage: Option<Text<'a, MAX_KEY>>,
    #[serde(borrow, default)]
    method: Option<Text<'a, MAX_KEY>>,
    #[serde(borrow, default)]
    path: Option<Text<'a, MAX_PATH>>,
    #[serde(borrow, default)]
    policy: Option<Text<'a, MAX_KEY>>,
    #[serde(borrow, default)]
    key: Option<Text<'a, MAX_KEY>>,
    #[serde(borrow, default)]
    policies: Vec<PolicyRequest<'a>>,
    #[serde(borrow, default)]
    cost: CostRequest<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyRequest<'a> {
    #[serde(borrow)]
    policy: Text<'a, MAX_KEY>,
    #[serde(borrow)]
    key: Text<'a, MAX_KEY>,
}

impl<'a> CheckRequest<'a> {
    /// Reads one check.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body).map_err(|_| explain::<CheckRequest<'a>>(body))
    }

    /// Who asks, and what; `key_id_allowed` is whether the caller may speak for a key.
    pub(super) fn ask(
        &self,
        key_id_allowed: bool,
    ) -> Result<(Option<Client<'_>>, Ask<'_>), Problem> {
        let client = match (&self.api_key, &self.key_id) {
            (Some(_), Some(_)) => {
                return Err(Problem::bad_request(
                    "key_id",
                    "give either api_key or key_id, not both",
                ));
            }
            (Some(secret), None) => Some(Client::Secret(&secret.0)),
            (None, Some(_)) if !key_id_allowed => {
                return Err(Problem::forbidden(
                    "key_id is taken from callers with the token of --check-token or from --trusted-peers only; send api_key",
                ));
            }
            (None, Some(id)) => Some(Client::Id(&id.0)),
            (None, None) => None,
        };
        let mut policies = SmallVec::new();
        match (&self.policy, &self.key) {
            (Some(policy), Some(key)) => {
                policies.push(PolicyKey { policy: &policy.0, key: &key.0, index: None });
            }
            (Some(_), None) => {
                return Err(Problem::bad_request("key", "a policy needs the key to count by"));
            }
            (None, Some(_)) => {
                return Err(Problem::bad_request(
                    "policy",
                    "a key needs the policy to judge it by; an API key goes into api_key",
                ));
            }
            (None, None) => {}
        }
        for (index, entry) in self.policies.iter().enumerate() {
            policies.push(PolicyKey {
                policy: &entry.policy.0,
                key: &entry.key.0,
                index: Some(index),
            });
        }
        let ask = Ask {
            api: self.api.as_ref().map(Text::as_str),
            stage: self.stage.as_ref().map(Text::as_str),
            method: self.method.as_ref().map(Text::as_str),
            path: self.path.as_ref().map(Text::as_str),
            policies,
            cost: self.cost.borrowed(),
        };
        Ok((client, ask))
    }
}

/// Why `body` is no `T`. Finding the field costs time, so it is done only where there is a fault.
pub(super) fn explain<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Problem {
    let mut json = serde_json::Deserializer::from_slice(body);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut json) else {
        return Problem::bad_request("body", "there is more after the end of the JSON object");
    };
    let field = match error.path().to_string() {
        path if path == "." || path.is_empty() => {
            missing_field(error.inner()).unwrap_or("body".into())
        }
        path => path,
    };
    let inner = error.into_inner();
    let detail = if inner.is_data() { inner.to_string() } else { format!("not JSON: {inner}") };
    Problem::bad_request(field, detail)
}

/// serde reports a missing or unknown field at its parent; its message has the name.
fn missing_field(error: &serde_json::Error) -> Option<String> {
    let message = error.to_string();
    let named =
        message.strip_prefix("unknown field `").or(message.strip_prefix("missing field `"))?;
    named.split('`').next().map(str::to_owned)
}

/// Text of 1 to `MAX` bytes without control characters.
pub(super) struct Text<'a, const MAX: usize>(pub(super) Cow<'a, str>);

impl<const MAX: usize> Text<'_, MAX> {
    fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with a text, if anything.
pub(super) fn fault(text: &str, most: usize) -> Option<String> {
    match () {
        () if text.is_empty() => Some("must not be empty".into()),
        () if text.len() > most => {
            Some(format!("must have at most {most} bytes, and has {}", text.len()))
        }
        () if text.chars().any(char::is_control) => {
            Some("must not contain control characters".into())
        }
        () => None,
    }
}

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Text<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Checked<const MAX: usize>;
        impl<'de, const MAX: usize> Visitor<'de> for Checked<MAX> {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a string of 1 to {MAX} bytes")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                fault(text, MAX).map_or(Ok(Cow::Borrowed(text)), |why| Err(E::custom(why)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                fault(text, MAX).map_or(Ok(Cow::Owned(text.to_owned())), |why| Err(E::custom(why)))
            }
        }
        deserializer.deserialize_str(Checked::<MAX>).map(Self)
    }
}

/// `3`, or `{"requests": 1, "total_tokens": 350}`.
struct CostRequest<'a>(Cost<'a>);

impl CostRequest<'_> {
    fn borrowed(&self) -> Cost<'_> {
        match &self.0 {
            Cost::Requests(number) => Cost::Requests(*number),
            Cost::Units(units) => Cost::Units(
                units.iter().map(|(unit, number)| (Cow::Borrowed(&**unit), *number)).collect(),
            ),
        }
    }
}

impl Default for CostRequest<'_> {
    fn default() -> Self {
        Self(Cost::Requests(1))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for CostRequest<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Costs<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Costs<'a> {
            type Value = Cost<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of requests, or an object of whole numbers by unit")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Cost::Requests(1))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Amount.visit_u64(number).map(Cost::Requests)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Amount.visit_i64(number).map(Cost::Requests)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
                Amount.visit_f64(number).map(Cost::Requests)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut units = SmallVec::<[(Cow<'a, str>, u64); 2]>::new();
                while let Some(Text(unit)) = map.next_key::<Text<'a, 64>>()? {
                    let number = map.next_value_seed(Amount)?;
                    if units.iter().any(|(other, _)| *other == unit) {
                        return Err(de::Error::custom(format!("the unit `{unit}` appears twice")));
                    }
                    units.push((unit, number));
                }
                Ok(Cost::Units(units))
            }
        }
        deserializer.deserialize_any(Costs(PhantomData)).map(Self)
    }
}

/// A whole number from 0 to 2^53.
struct Amount;

impl<'de> de::DeserializeSeed<'de> for Amount {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Amount {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0 to 9007199254740992")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        if number <= MAX_COST {
            Ok(number)
        } else {
            Err(E::custom("must be at most 9007199254740992 (2^53)"))
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::custom("must not be negative"))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
        let why = if number < 0.0 {
            "must not be negative"
        } else {
            "must be a whole number of at most 2^53, written without point or exponent"
        };
        Err(E::custom(why))
    }
}
