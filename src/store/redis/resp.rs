//! The replies of Redis' protocol, as far as script calls and probes have them: read from the
//! bytes of a connection that may have more of them, or not yet all.
//!
//! Not read are maps, sets and pushes, which no command of these connections asks for. Commands
//! are written by the client library.

use redis::{ErrorKind, RedisError, Value};

/// The largest text, and the most values of an array. A reply to the most charges of a call is
/// far smaller.
const MAX_LENGTH: usize = 1 << 24;
/// The most arrays within each other.
const MAX_DEPTH: usize = 8;

/// The first reply in `bytes` and its length; `None` if it has not arrived completely.
///
/// # Errors
/// If the bytes are no such reply.
pub(super) fn read_reply(bytes: &[u8]) -> Result<Option<(Value, usize)>, RedisError> {
    let mut reader = Reader { bytes, at: 0 };
    match reader.value(MAX_DEPTH) {
        Ok(value) => Ok(Some((value, reader.at))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Malformed(error)) => Err(error),
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// The reason why there is no value.
enum Stop {
    Incomplete,
    Malformed(RedisError),
}

impl Stop {
    fn malformed() -> Self {
        Self::Malformed((ErrorKind::Parse, "a reply is not of Redis' protocol").into())
    }
}

impl<'b> Reader<'b> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        let start = self.at;
        let line = self.line()?;
        let (&kind, rest) = line.split_first().ok_or_else(Stop::malformed)?;
        match kind {
            b':' => number(rest).map(Value::Int),
            b'$' => match length(rest)? {
                None => Ok(Value::Nil),
                Some(length) => Ok(Value::BulkString(self.text(length)?.to_vec())),
            },
            b'*' => match length(rest)? {
                None => Ok(Value::Nil),
                Some(_) if depth == 0 => Err(Stop::malformed()),
                Some(length) => {
                    // The least value has three bytes, so a false length allocates little.
                    let most = (self.bytes.len() - self.at) / 3;
                    let mut values = Vec::with_capacity(length.min(most));
                    for _ in 0..length {
                        values.push(self.value(depth - 1)?);
                    }
                    Ok(Value::Array(values))
                }
            },
            b'-' | b'+' | b'_' | b'#' | b',' | b'(' => {
                redis::parse_redis_value(&self.bytes[start..self.at]).map_err(Stop::Malformed)
            }
            _ => Err(Stop::malformed()),
        }
    }

    /// The bytes up to the next end of a line.
    fn line(&mut self) -> Result<&'b [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or(Stop::Incomplete)?;
        let line = rest[..end].strip_suffix(b"\r").ok_or_else(Stop::malformed)?;
        self.at += end + 1;
        Ok(line)
    }

    /// The next `length` bytes, which have an end of line behind them.
    fn text(&mut self, length: usize) -> Result<&'b [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let (text, end) = rest.split_at_checked(length).ok_or(Stop::Incomplete)?;
        if end.len() < 2 {
            return Err(Stop::Incomplete);
        }
        if !end.starts_with(b"\r\n") {
            return Err(Stop::malformed());
        }
        self.at += length + 2;
        Ok(text)
    }
}

fn number(digits: &[u8]) -> Result<i64, Stop> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.ok_or_else(Stop::malformed)
}

/// A length; `None` is that of no value.
fn length(digits: &[u8]) -> Result<Option<usize>, Stop> {
    match number(digits)? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).ok().filter(|length| *length <= MAX_LENGTH);
            length.map(Some).ok_or_else(Stop::malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    /// A reply in the bytes that a server sends.
    fn reply() -> impl Strategy<Value = String> {
        let single = prop_oneof![
            any::<i64>().prop_map(|number| format!(":{number}\r\n")),
            "[a-zé\r\n]{0,12}".prop_map(|text| format!("${}\r\n{text}\r\n", text.len())),
            "[A-Z]{1,8}( [a-z0-9:.]{1,9}){0,3}".prop_map(|text| format!("-{text}\r\n")),
            Just("$-1\r\n".to_owned()),
            Just("*-1\r\n".to_owned()),
            Just("_\r\n".to_owned()),
            Just("+OK\r\n".to_owned()),
            Just("+PONG\r\n".to_owned()),
            Just("#t\r\n".to_owned()),
            Just(",1.5\r\n".to_owned()),
        ];
        single.prop_recursive(4, 40, 8, |value| {
            prop::collection::vec(value, 0..8)
                .prop_map(|values| format!("*{}\r\n{}", values.len(), values.concat()))
        })
    }

    proptest! {
        #[test]
        fn a_reply_is_read_as_the_client_library_reads_it_once_all_of_it_is_there(
            reply in reply(),
            behind in "[:$*\r\na-z]{0,9}",
        ) {
            let bytes = format!("{reply}{behind}");
            for end in 0..reply.len() {
                prop_assert!(read_reply(&bytes.as_bytes()[..end]).unwrap().is_none());
            }
            let (value, length) = read_reply(bytes.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(length, reply.len());
            prop_assert_eq!(value, redis::parse_redis_value(reply.as_bytes()).unwrap());
        }

        #[test]
        fn no_bytes_are_too_strange_to_be_read(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((_, length))) = read_reply(&bytes) {
                prop_assert!((1..=bytes.len()).contains(&length));
            }
        }
    }

    #[test]
    fn bytes_that_no_script_sends_are_malformed() {
        for bytes in
            ["HTTP/1.1 400\r\n", ":1x\r\n", "$1\r\nab\r\n", "$-2\r\n", "*9999999999\r\n", ">1\r\n"]
        {
            assert!(read_reply(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        assert!(read_reply("*1\r\n".repeat(100).as_bytes()).is_err(), "too deep");
    }
}
