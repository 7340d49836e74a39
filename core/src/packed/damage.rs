//! Damage of a subject's or a reservation's string, for which a check fails that reads it.

use std::fmt;

/// The reason why a string cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// The key holds no string.
    OtherType,
    /// The string begins with another format, or is empty.
    Format(Option<u8>),
    /// A row has this length, which its kind does not have, or ends behind the string.
    Length(u8),
    /// The string does not end with a row's end.
    CutShort,
    /// A bucket drains by nothing.
    NoRate,
    /// A level or a count is beyond what a double holds exactly.
    Huge,
    /// A reservation's string begins with another format, or without numbers.
    ReservationFormat(u8),
    /// A reservation's string ends within one of its parts.
    ReservationCutShort,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherType => f.write_str("the key has another type"),
            Self::Format(Some(format)) => {
                write!(f, "this string has format {format}, and this version knows 2")
            }
            Self::Format(None) => f.write_str("this string is empty"),
            Self::Length(len) => write!(f, "a row has the length {len}, or is cut short"),
            Self::CutShort => f.write_str("the last row is cut short"),
            Self::NoRate => f.write_str("a bucket has no rate"),
            Self::Huge => f.write_str("a level or a count is above 2^53"),
            Self::ReservationFormat(format) => {
                write!(f, "this reservation has format {format}, and this version knows 2")
            }
            Self::ReservationCutShort => f.write_str("this reservation is cut short"),
        }
    }
}
