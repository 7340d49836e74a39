//! Decoding of the check script's reply; `lua/check.lua` defines the order of its values.

use redis::Value;
use smallvec::SmallVec;

use super::StoreError;
use crate::algorithm::{CounterState, Counting as _, WindowStart};
use crate::judge::Verdict;
use crate::judge::reservation::{Adjusted, AdjustedCharge, Reserved};
use crate::limit::{Adjustment, Charge, ChargeAdjustment, Limit, ReservationTerms};
use crate::time::{MAX_EXACT, Micros};

/// The bytes of a number in a packed reply.
const PACKED_LEN: usize = 7;

/// The outcome of one check in a script call.
pub(super) enum CheckReply<T> {
    /// The check was judged.
    Done(T),
    /// Redis' clock lies outside the offered windows; nothing was charged.
    WindowMiss,
    /// Days of usage have to be kept first; nothing was charged.
    DayRollover,
    /// The subject of the charge with this index is new and is not charged; nor is any other.
    NewSubject(usize),
    /// One of its rows cannot be read; nothing was charged.
    BadRow(String),
}

impl<T> CheckReply<T> {
    /// The same outcome with the result of `map`.
    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> CheckReply<U> {
        match self {
            Self::Done(done) => CheckReply::Done(map(done)),
            Self::WindowMiss => CheckReply::WindowMiss,
            Self::DayRollover => CheckReply::DayRollover,
            Self::NewSubject(index) => CheckReply::NewSubject(index),
            Self::BadRow(why) => CheckReply::BadRow(why),
        }
    }
}

/// A decoder that reads the reply from its beginning to its end.
pub(super) struct ReplyDecoder {
    values: std::vec::IntoIter<Value>,
    /// Redis' clock when it judged.
    pub(super) now: Micros,
}

impl ReplyDecoder {
    pub(super) fn new(value: Value) -> Result<Self, StoreError> {
        let values = match value {
            Value::Array(values) => values,
            Value::BulkString(packed) if packed.len() % PACKED_LEN == 0 => {
                packed.chunks_exact(PACKED_LEN).map(unpack_number).collect()
            }
            other => return Err(StoreError::BadReply(format!("it is no array but {other:?}"))),
        };
        let mut reply = Self { values: values.into_iter(), now: Micros::ZERO };
        reply.now = Micros::new(reply.next_number()?);
        Ok(reply)
    }

    /// The outcome of the next check, which had these charges.
    pub(super) fn next_check(
        &mut self,
        charges: &[Charge],
    ) -> Result<CheckReply<Verdict>, StoreError> {
        self.next_outcome(|reply, code| match code {
            0 | 1 => reply.next_verdict(code == 1, charges),
            code => Err(StoreError::BadReply(format!("a verdict is {code}"))),
        })
    }

    /// The outcome of the next check, which had these charges and opens a reservation.
    pub(super) fn next_reserve(
        &mut self,
        charges: &[Charge],
    ) -> Result<CheckReply<Reserved>, StoreError> {
        self.next_outcome(|reply, code| match code {
            0 | 1 => reply.next_verdict(code == 1, charges).map(Reserved::Judged),
            4 => {
                let verdict = reply.next_verdict(true, charges)?;
                Ok(Reserved::Replayed(verdict, reply.next_terms()?))
            }
            5 => Ok(Reserved::Conflict),
            code => Err(StoreError::BadReply(format!("the reply to a reservation is {code}"))),
        })
    }

    /// The outcome of the next adjustment.
    pub(super) fn next_adjustment(
        &mut self,
        adjustment: &Adjustment,
    ) -> Result<CheckReply<Adjusted>, StoreError> {
        self.next_outcome(|reply, code| match code {
            0 => Ok(Adjusted::Unknown),
            1 | 6 => {
                let charges = adjustment.charges.iter();
                let charges = charges.map(|charge| reply.next_adjusted_charge(charge));
                let charges = charges.collect::<Result<_, _>>()?;
                Ok(Adjusted::Done { is_late: code == 6, charges })
            }
            code => Err(StoreError::BadReply(format!("the reply to an adjustment is {code}"))),
        })
    }

    /// The outcome of a check by its code, decoded by `decode` if the check was judged.
    fn next_outcome<T>(
        &mut self,
        decode: impl FnOnce(&mut Self, i64) -> Result<T, StoreError>,
    ) -> Result<CheckReply<T>, StoreError> {
        match self.values.next() {
            Some(Value::Int(2)) => Ok(CheckReply::WindowMiss),
            Some(Value::Int(3)) => Ok(CheckReply::DayRollover),
            Some(Value::Int(7)) => {
                let number = self.next_number()?;
                // Lua counts from 1.
                let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
                index.map(CheckReply::NewSubject).ok_or_else(|| {
                    StoreError::BadReply(format!("the number of a charge is {number}"))
                })
            }
            Some(Value::Int(code)) => decode(self, code).map(CheckReply::Done),
            Some(Value::BulkString(text)) => {
                Ok(CheckReply::BadRow(String::from_utf8_lossy(&text).into_owned()))
            }
            other => Err(StoreError::BadReply(format!("a verdict is {other:?}"))),
        }
    }

    fn next_verdict(&mut self, allowed: bool, charges: &[Charge]) -> Result<Verdict, StoreError> {
        let mut states = SmallVec::new();
        for charge in charges {
            states.push(self.next_state(&charge.limit)?);
        }
        Ok(Verdict { now: self.now, allowed, states })
    }

    fn next_state(&mut self, limit: &Limit) -> Result<CounterState, StoreError> {
        let level = self.next_signed()?;
        let mut state = CounterState::of_level(level);
        if limit.calendar().is_some() {
            state.window = WindowStart::new(self.next_number()?);
        } else if limit.algorithm().slot_ttl().is_some() {
            state.expired_slots = self.next_number()?;
        }
        Ok(state)
    }

    fn next_adjusted_charge(
        &mut self,
        adjusted: &ChargeAdjustment,
    ) -> Result<AdjustedCharge, StoreError> {
        let charged = u64::try_from(self.next_signed()?).ok();
        let state = adjusted.limit.as_ref().map(|limit| self.next_state(limit)).transpose()?;
        Ok(AdjustedCharge { charged, state })
    }

    fn next_terms(&mut self) -> Result<ReservationTerms, StoreError> {
        let terms = match self.values.next() {
            Some(Value::BulkString(terms)) => ReservationTerms::new(&terms),
            _ => None,
        };
        terms.ok_or_else(|| StoreError::BadReply("a reservation has no terms".into()))
    }

    pub(super) fn next_number(&mut self) -> Result<u64, StoreError> {
        let number = self.next_signed()?;
        u64::try_from(number).map_err(|_| StoreError::BadReply(format!("a number is {number}")))
    }

    /// The next number. A response with one that no script computes is not the script's, and so
    /// admits nothing.
    fn next_signed(&mut self) -> Result<i64, StoreError> {
        match self.values.next() {
            Some(Value::Int(number)) if number.unsigned_abs() <= MAX_EXACT => Ok(number),
            other => Err(StoreError::BadReply(format!("a number is {other:?}"))),
        }
    }
}

/// A number of a packed reply: little endian, signed.
fn unpack_number(bytes: &[u8]) -> Value {
    let sign = bytes.last().map_or(0, |&last| if last < 1 << 7 { 0 } else { u8::MAX });
    let mut all = [sign; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Throttle;
    use crate::limit::{Subject, Unit};

    #[test]
    fn a_packed_reply_has_signed_numbers_of_seven_bytes() {
        let numbers = [1_795_000_000_000_000, 1, -3, -(1 << 52), 1 << 53];
        let packed = numbers.iter().flat_map(|number: &i64| number.to_le_bytes()[..7].to_vec());
        let mut reply = ReplyDecoder::new(Value::BulkString(packed.collect())).unwrap();
        assert_eq!(reply.now, Micros::new(1_795_000_000_000_000));
        for number in &numbers[1..4] {
            assert_eq!(reply.next_signed().unwrap(), *number);
        }
        assert!(matches!(reply.next_signed(), Err(StoreError::BadReply(_))), "above 2^53 - 1");
        assert!(ReplyDecoder::new(Value::BulkString(vec![0; 8])).is_err());
    }

    #[test]
    fn a_reply_with_numbers_that_no_script_computes_is_malformed() {
        let throttle = Throttle::new("1/s".parse().unwrap(), 5).unwrap();
        let limit = Limit::new("l", Unit::requests(), throttle, false);
        let charges = [Charge::new(Subject::policy("p", "k"), limit.into(), 1)];
        let decode = |now: i64, level: i64| {
            let values = [now, 1, level].map(Value::Int);
            ReplyDecoder::new(Value::Array(values.into()))?.next_check(&charges)
        };
        assert!(decode(1_795_000_000_000_000, 1).is_ok());
        assert!(matches!(decode(i64::MAX, 1), Err(StoreError::BadReply(_))));
        assert!(matches!(decode(1, i64::MIN), Err(StoreError::BadReply(_))));
        let refused = |charge: i64| {
            let values = [1, 7, charge].map(Value::Int);
            ReplyDecoder::new(Value::Array(values.into()))?.next_check(&charges)
        };
        assert!(matches!(refused(1), Ok(CheckReply::NewSubject(0))));
        assert!(matches!(refused(0), Err(StoreError::BadReply(_))), "charges count from 1");
    }
}
