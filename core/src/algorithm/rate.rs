//! Rates as exact fractions, parsed from and formatted as text such as `10/s`.
//!
//! A float cannot hold 10 per second in microseconds exactly, so a rate is a reduced fraction of
//! units per microsecond. Token buckets are `throttle`'s and `token_bucket`'s.

use std::fmt;
use std::str::FromStr;

use crate::time::Micros;

/// The units that become available per **microsecond**: a reduced fraction above zero.
///
/// ```
/// use tollgate_core::algorithm::Rate;
///
/// let rate: Rate = "0.5/s".parse()?;
/// assert_eq!(rate, "30/min".parse()?);
/// assert!("10 per second".parse::<Rate>().is_err());
/// # Ok::<(), tollgate_core::algorithm::InvalidRate>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    numerator: u128,
    denominator: u128,
}

impl Rate {
    /// `units` in every `period`; `None` if either is zero.
    #[must_use]
    pub fn new(units: u64, period: Micros) -> Option<Self> {
        Self::reduced(u128::from(units), u128::from(period.get()))
    }

    fn reduced(numerator: u128, denominator: u128) -> Option<Self> {
        if numerator == 0 || denominator == 0 {
            return None;
        }
        let common = gcd(numerator, denominator);
        Some(Self { numerator: numerator / common, denominator: denominator / common })
    }

    /// The fraction, in units per microsecond.
    pub(super) fn fraction(self) -> (u128, u128) {
        (self.numerator, self.denominator)
    }

    /// The whole units in a second, rounded down.
    #[must_use]
    pub fn units_per_second(self) -> u64 {
        let units = self.numerator.saturating_mul(1_000_000) / self.denominator;
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// The part of this rate that one of `nodes` equal nodes gets.
    pub(super) fn per_node_share(self, nodes: u64) -> Self {
        let denominator = self.denominator.saturating_mul(u128::from(nodes.max(1)));
        Self::reduced(self.numerator, denominator).unwrap_or(self)
    }

    /// The largest fraction that does not exceed this rate and whose denominator is at most
    /// `max_denominator`; `None` if that is zero.
    ///
    /// The convergents of a continued fraction lie below and above its value by turns, and each
    /// is the best on its side; see Khinchin, "Continued Fractions", sections 2 and 6.
    pub(super) fn round_down(self, max_denominator: u64) -> Option<Self> {
        let max_denominator = u128::from(max_denominator.max(1));
        let (mut n, mut d) = (self.numerator, self.denominator);
        let (mut before, mut last) = ((0, 1), (1, 0));
        let mut below = true;
        while d != 0 {
            let term = n / d;
            let room = (max_denominator - before.1).checked_div(last.1).unwrap_or(term);
            let steps = term.min(room);
            let next = (before.0 + steps * last.0, before.1 + steps * last.1);
            if steps < term {
                let best = if below { next } else { last };
                return Self::reduced(best.0, best.1);
            }
            (before, last) = (last, next);
            (n, d) = (d, n % d);
            below = !below;
        }
        Some(self)
    }

    /// The part of this rate by which it exceeds `smaller`: 0.001 is a tenth of a percent.
    #[must_use]
    pub fn excess_over(self, smaller: Self) -> f64 {
        let [a, b, c, d] =
            [self.numerator, self.denominator, smaller.numerator, smaller.denominator];
        // As fractions: of floats that are nearly one nothing would be left.
        let both = a.checked_mul(d).zip(c.checked_mul(b));
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        both.map_or_else(
            || 1.0 - (c as f64 / d as f64) / (a as f64 / b as f64),
            |(more, less)| more.saturating_sub(less) as f64 / more as f64,
        )
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A text that is not a rate, with the form that is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{input}` is not a rate: {why}; write a number above 0, a slash and s, min, h or d, as in 10/s or 0.5/min"
)]
pub struct InvalidRate {
    input: String,
    why: &'static str,
}

impl FromStr for Rate {
    type Err = InvalidRate;

    /// Parses `NUMBER/UNIT`, the number decimal with at most 15 digits before and 9 after the
    /// point, the unit one of `s`, `min`, `h`, `d`.
    fn from_str(input: &str) -> Result<Self, InvalidRate> {
        let fail = |why| InvalidRate { input: input.chars().take(40).collect(), why };
        let (number, unit) = input.split_once('/').ok_or_else(|| fail("it has no slash"))?;
        let period = match unit.trim() {
            "s" => 1,
            "min" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(fail("its unit is none of s, min, h, d")),
        };
        let (whole, fraction) = number.trim().split_once('.').unwrap_or((number.trim(), "0"));
        let digits = |text: &str, max_len| {
            (1..=max_len).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, 15) || !digits(fraction, 9) {
            return Err(fail("its number has other than 1-15 digits, a point and 1-9 digits"));
        }
        let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(9));
        let number = [whole, fraction].concat().parse::<u128>().unwrap_or(0);
        Self::reduced(number, scale * period * 1_000_000).ok_or_else(|| fail("it is zero"))
    }
}

impl Rate {
    /// Units per second, rounded to a float: a figure for people.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rounded figure for people, as documented")]
    pub fn per_second(self) -> f64 {
        self.numerator as f64 * 1e6 / self.denominator as f64
    }
}

impl fmt::Display for Rate {
    /// The first of `s`, `min`, `h`, `d` that makes the number whole, or else the first that makes
    /// it at least a thousandth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, secs) in [("s", 1), ("min", 60), ("h", 3_600), ("d", 86_400)] {
            let units = self.numerator * secs * 1_000_000;
            if units.is_multiple_of(self.denominator) {
                return write!(f, "{}/{unit}", units / self.denominator);
            }
        }
        let units = [("s", 1.0), ("min", 60.0), ("h", 3_600.0), ("d", 86_400.0)];
        let shown = |secs: f64| (self.per_second() * secs * 1e9).round() / 1e9;
        let (unit, secs) =
            units.into_iter().find(|(_, secs)| shown(*secs) >= 0.001).unwrap_or(units[3]);
        write!(f, "{}/{unit}", shown(secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fraction(input: &str) -> (u128, u128) {
        input.parse::<Rate>().unwrap().fraction()
    }

    #[test]
    fn rates_are_read_as_exact_fractions() {
        assert_eq!(fraction("10/s"), (1, 100_000));
        assert_eq!(fraction("0.5/s"), (1, 2_000_000));
        assert_eq!(fraction("100000/min"), (1, 600));
        assert_eq!(fraction("1234567/d"), (1_234_567, 86_400_000_000));
        assert_eq!(fraction("5000000/s"), (5, 1));
    }

    #[test]
    fn what_is_no_rate_is_refused_with_the_reason() {
        let cases = [
            ("10", "no slash"),
            ("10/m", "none of s, min, h, d"),
            ("0/s", "zero"),
            ("0.0/s", "zero"),
            ("-1/s", "digits"),
            ("1e3/s", "digits"),
            (".5/s", "digits"),
            ("1./s", "digits"),
            ("1234567890123456/s", "digits"),
            ("NaN/s", "digits"),
            ("/s", "digits"),
        ];
        for (input, why) in cases {
            let error = input.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("10/s"), "{input}: {error}");
        }
    }

    #[test]
    fn a_rate_is_shown_as_people_write_it() {
        for input in ["10/s", "1/min", "7/h", "1234567/d", "0.123456789/s", "0.333333333/min"] {
            let rate: Rate = input.parse().unwrap();
            let again: Rate = rate.to_string().parse().unwrap();
            assert!((again.per_second() / rate.per_second() - 1.0).abs() < 1e-6, "{rate}");
        }
        for input in ["10/s", "1/min", "7/h", "1234567/d", "0.123456789/s"] {
            assert_eq!(input.parse::<Rate>().unwrap().to_string(), input);
        }
    }

    #[test]
    fn however_little_a_rate_is_more_it_is_not_nothing() {
        let rate: Rate = "0.123456789/s".parse().unwrap();
        let less = rate.round_down(1 << 53).unwrap();
        assert!(rate == less || rate.excess_over(less) > 0.0);
        let [more, less] = [(3_u128, 1_u128), (2_999_999_999_999_999, 1_000_000_000_000_000)]
            .map(|(n, d)| Rate::reduced(n, d).unwrap());
        assert!((more.excess_over(less) * 3e15 - 1.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn rounding_down_finds_the_best_fraction_below(n in 1_u128..500, d in 1_u128..500, max_denominator in 1_u64..60) {
            let rate = Rate::reduced(n, d).unwrap();
            let best = (1..=u128::from(max_denominator))
                .map(|q| (n * q / d, q))
                .max_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))
                .and_then(|(p, q)| Rate::reduced(p, q));
            prop_assert_eq!(rate.round_down(max_denominator), best);
        }
    }
}
