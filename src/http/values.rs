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
use crate::transport::Problem;

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

impl CostBody<'_> {
    /// An error if one of its numbers is larger than `max`, as a reservation's must not be.
    pub(super) fn refuse_over(&self, max: u64) -> Result<(), Problem> {
        let field = match &self.0 {
            Cost::Requests(number) => (*number > max).then(|| "cost".to_owned()),
            Cost::Units(units) => {
                let over = units.iter().find(|(_, number)| *number > max);
                over.map(|(unit, _)| format!("cost.{unit}"))
            }
        };
        let detail = || format!("must be at most {max} with a reservation");
        field.map_or(Ok(()), |field| Err(Problem::bad_request(field, detail())))
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

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                read_amounts::<MAX_COST, A>(map).map(Cost::Units)
            }
        }
        deserializer.deserialize_any(CostVisitor(PhantomData)).map(Self)
    }
}

/// Amounts by unit, each a whole number of at most `MAX`.
pub(super) struct Amounts<'a, const MAX: u64>(pub(super) UnitAmounts<'a>);

type UnitAmounts<'a> = SmallVec<[(Cow<'a, str>, u64); 2]>;

impl<'de: 'a, 'a, const MAX: u64> Deserialize<'de> for Amounts<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AmountsVisitor<'a, const MAX: u64>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a, const MAX: u64> Visitor<'de> for AmountsVisitor<'a, MAX> {
            type Value = UnitAmounts<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of whole numbers by unit")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                read_amounts::<MAX, A>(map)
            }
        }
        deserializer.deserialize_map(AmountsVisitor::<MAX>(PhantomData)).map(Self)
    }
}

fn read_amounts<'de: 'a, 'a, const MAX: u64, A: MapAccess<'de>>(
    mut map: A,
) -> Result<UnitAmounts<'a>, A::Error> {
    let mut units = UnitAmounts::new();
    while let Some(Text(unit)) = map.next_key::<Text<'a, 64>>()? {
        let WholeNumber(number) = map.next_value::<WholeNumber<MAX>>()?;
        if units.iter().any(|(other, _)| *other == unit) {
            return Err(de::Error::custom(format!("the unit `{unit}` appears twice")));
        }
        units.push((unit, number));
    }
    Ok(units)
}
