//! The values of a check's JSON body: texts and costs. Each is validated as it is parsed, so that
//! an error has the position of the value.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use smallvec::SmallVec;

use crate::catalog::Cost;
use crate::limit::MAX_COST;

/// A text of 1 to `MAX` bytes without control characters.
pub(super) struct Text<'a, const MAX: usize>(pub(super) Cow<'a, str>);

impl<const MAX: usize> Text<'_, MAX> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The fault of a text; `None` if it is valid.
pub(super) fn text_error(text: &str, max_bytes: usize) -> Option<String> {
    match () {
        () if text.is_empty() => Some("must not be empty".into()),
        () if text.len() > max_bytes => {
            Some(format!("must have at most {max_bytes} bytes, and has {}", text.len()))
        }
        () if text.chars().any(char::is_control) => {
            Some("must not contain control characters".into())
        }
        () => None,
    }
}

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Text<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<const MAX: usize>;
        impl<'de, const MAX: usize> Visitor<'de> for TextVisitor<MAX> {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a string of 1 to {MAX} bytes")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                text_error(text, MAX).map_or(Ok(Cow::Borrowed(text)), |why| Err(E::custom(why)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text_error(text, MAX)
                    .map_or(Ok(Cow::Owned(text.to_owned())), |why| Err(E::custom(why)))
            }
        }
        deserializer.deserialize_str(TextVisitor::<MAX>).map(Self)
    }
}

/// A cost: `3`, or `{"requests": 1, "total_tokens": 350}`.
pub(super) struct CostBody<'a>(Cost<'a>);

impl CostBody<'_> {
    pub(super) fn as_cost(&self) -> Cost<'_> {
        match &self.0 {
            Cost::Requests(number) => Cost::Requests(*number),
            Cost::Units(units) => Cost::Units(
                units.iter().map(|(unit, number)| (Cow::Borrowed(&**unit), *number)).collect(),
            ),
        }
    }
}

impl Default for CostBody<'_> {
    fn default() -> Self {
        Self(Cost::Requests(1))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for CostBody<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CostVisitor<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for CostVisitor<'a> {
            type Value = Cost<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of requests, or an object of whole numbers by unit")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Cost::Requests(1))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                CostAmount.visit_u64(number).map(Cost::Requests)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                CostAmount.visit_i64(number).map(Cost::Requests)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
                CostAmount.visit_f64(number).map(Cost::Requests)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut units = SmallVec::<[(Cow<'a, str>, u64); 2]>::new();
                while let Some(Text(unit)) = map.next_key::<Text<'a, 64>>()? {
                    let number = map.next_value_seed(CostAmount)?;
                    if units.iter().any(|(other, _)| *other == unit) {
                        return Err(de::Error::custom(format!("the unit `{unit}` appears twice")));
                    }
                    units.push((unit, number));
                }
                Ok(Cost::Units(units))
            }
        }
        deserializer.deserialize_any(CostVisitor(PhantomData)).map(Self)
    }
}

/// A whole number from 0 to 2^53.
struct CostAmount;

impl<'de> de::DeserializeSeed<'de> for CostAmount {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for CostAmount {
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
