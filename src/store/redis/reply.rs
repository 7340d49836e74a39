//! Decoding of the check script's reply; `lua/check.lua` defines the order of its values.

use redis::Value;
use smallvec::SmallVec;

use super::StoreError;
use crate::algorithm::{CounterState, WindowStart};
use crate::judge::Verdict;
use crate::limit::Charge;
use crate::time::Micros;

/// The outcome of one check in a script call.
pub(super) enum CheckReply {
    /// The check was judged.
    Verdict(Verdict),
    /// Redis' clock lies outside the offered windows; nothing was charged.
    WindowMiss,
    /// Days of usage have to be kept first; nothing was charged.
    DayRollover,
    /// One of its rows cannot be read; nothing was charged.
    BadRow(String),
}

/// A decoder that reads the reply from its beginning to its end.
pub(super) struct ReplyDecoder {
    values: std::vec::IntoIter<Value>,
    /// Redis' clock when it judged.
    pub(super) now: Micros,
}

impl ReplyDecoder {
    pub(super) fn new(value: Value) -> Result<Self, StoreError> {
        let Value::Array(values) = value else {
            return Err(StoreError::BadReply(format!("it is no array but {value:?}")));
        };
        let mut reply = Self { values: values.into_iter(), now: Micros::ZERO };
        reply.now = Micros::new(reply.next_number()?);
        Ok(reply)
    }

    /// The outcome of the next check, which had these charges.
    pub(super) fn next_check(&mut self, charges: &[Charge]) -> Result<CheckReply, StoreError> {
        let allowed = match self.values.next() {
            Some(Value::Int(1)) => true,
            Some(Value::Int(0)) => false,
            Some(Value::Int(2)) => return Ok(CheckReply::WindowMiss),
            Some(Value::Int(3)) => return Ok(CheckReply::DayRollover),
            Some(Value::BulkString(text)) => {
                return Ok(CheckReply::BadRow(String::from_utf8_lossy(&text).into_owned()));
            }
            other => return Err(StoreError::BadReply(format!("a verdict is {other:?}"))),
        };
        let mut states = SmallVec::new();
        for charge in charges {
            let level = self.next_signed()?;
            let has_window = charge.limit.calendar().is_some();
            let window = if has_window { self.next_number()? } else { 0 };
            states.push(CounterState { level, window: WindowStart::new(window) });
        }
        Ok(CheckReply::Verdict(Verdict { now: self.now, allowed, states }))
    }

    pub(super) fn next_number(&mut self) -> Result<u64, StoreError> {
        let number = self.next_signed()?;
        u64::try_from(number).map_err(|_| StoreError::BadReply(format!("a number is {number}")))
    }

    fn next_signed(&mut self) -> Result<i64, StoreError> {
        match self.values.next() {
            Some(Value::Int(number)) => Ok(number),
            other => Err(StoreError::BadReply(format!("a number is {other:?}"))),
        }
    }
}
