//! The values of a check's JSON body: texts and costs. Each is validated as it is parsed, so that
//! an error has the position of the value.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, Visitor};
use smallvec::SmallVec;

use crate::catalog::Cost;
use crate::limit::MAX_COST;
use crate::syntax::WholeNumber;

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

/// An amount of a cost.
type Amount = WholeNumber<MAX_COST>;

/// A number of requests as a cost.
fn requests<'a, 'de, E: de::Error>(number: impl IntoDeserializer<'de, E>) -> Result<Cost<'a>, E> {
    Amount::deserialize(number.into_deserializer())
        .map(|WholeNumber(number)| Cost::Requests(number))
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
                requests(number)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                requests(number)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
                requests(number)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut units = SmallVec::<[(Cow<'a, str>, u64); 2]>::new();
                while let Some(Text(unit)) = map.next_key::<Text<'a, 64>>()? {
                    let WholeNumber(number) = map.next_value::<Amount>()?;
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
