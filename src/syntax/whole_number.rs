//! Whole numbers of JSON requests, with errors in words: nothing is rounded, and no text is a
//! number.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// A whole number from 0 to `MAX`, written without point and exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeNumber<const MAX: u64>(pub u64);

impl<'de, const MAX: u64> Deserialize<'de> for WholeNumber<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor<const MAX: u64>;
        impl<const MAX: u64> Visitor<'_> for NumberVisitor<MAX> {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from 0 to {MAX}")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
                if number > MAX {
                    return Err(E::custom(format_args!("must be at most {MAX}")));
                }
                Ok(number)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
                let number =
                    u64::try_from(number).map_err(|_| E::custom("must not be negative"))?;
                self.visit_u64(number)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
                if number < 0.0 {
                    return Err(E::custom("must not be negative"));
                }
                Err(E::custom(format_args!(
                    "must be a whole number of at most {MAX}, written without point or exponent"
                )))
            }
        }
        deserializer.deserialize_any(NumberVisitor::<MAX>).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn only_a_whole_number_in_range_is_a_number() {
        let cases = [
            ("0",    Ok(0)),
            ("10",   Ok(10)),
            ("11",   Err("must be at most 10")),
            ("-1",   Err("must not be negative")),
            ("-0.5", Err("must not be negative")),
            ("1.0",  Err("must be a whole number of at most 10, written without point or exponent")),
            ("1e0",  Err("must be a whole number of at most 10, written without point or exponent")),
            ("99999999999999999999", Err("must be a whole number of at most 10, written without point or exponent")),
            ("\"1\"", Err("invalid type: string \"1\", expected a whole number from 0 to 10")),
            ("true", Err("invalid type: boolean `true`, expected a whole number from 0 to 10")),
            ("null", Err("invalid type: null, expected a whole number from 0 to 10")),
            ("[1]",  Err("invalid type: sequence, expected a whole number from 0 to 10")),
        ];
        for (text, expected) in cases {
            let read = serde_json::from_str::<WholeNumber<10>>(text).map(|number| number.0);
            let read = read.map_err(|error| error.to_string());
            match (&read, expected) {
                (Ok(number), Ok(expected)) => assert_eq!(*number, expected, "{text}"),
                (Err(error), Err(why)) => assert!(error.starts_with(why), "{text}: {error}"),
                _ => panic!("{text}: {read:?}"),
            }
        }
    }
}
