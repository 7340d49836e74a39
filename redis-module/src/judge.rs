//! `TG.JUDGE version numkeys key [key ...] limits checks [refunds [subjects]]`: the check script as a
//! command.
//!
//! Keys, arguments and response are those of the script, which `lua/check.lua` defines; `version` is that
//! of the bytes. The decision is `tollgate-core`'s. The error `TGREFUSED` means that the module judges no
//! such call, so that the node sends it to the script; no error means that something was charged.

use std::panic::{AssertUnwindSafe, catch_unwind};

use foldhash::HashSet;
use redis_module::{
    Context, ContextFlags, NotifyEvent, RedisError, RedisResult, RedisString, RedisValue,
};
use tollgate_core::packed::{
    CALL_VERSION, KeyWrite, MalformedCall, Reply, ReplyValue, ReservationString, SubjectString,
    judge_call, subject_count,
};
use tollgate_core::time::{Clock as _, SystemClock};

use crate::key::{Key, notify};

/// The place of the first key among the command's words.
const FIRST_KEY: usize = 3;

/// The words of a command.
struct Call<'a> {
    keys: &'a [RedisString],
    arguments: &'a [RedisString],
}

/// Runs the command. A panic becomes an error: it must not unwind into Redis.
#[expect(clippy::needless_pass_by_value, reason = "Redis' bindings pass it so")]
pub(crate) fn command(context: &Context, words: Vec<RedisString>) -> RedisResult {
    let run = || {
        if context.is_keys_position_request() {
            tell_keys(context, &words);
            return Ok(RedisValue::NoReply);
        }
        judge(context, &Call::parse(&words)?)
    };
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or(Err(RedisError::Str("ERR the module failed while it judged")))
}

impl<'a> Call<'a> {
    fn parse(words: &'a [RedisString]) -> Result<Self, RedisError> {
        let [_, version, count, rest @ ..] = words else { return Err(RedisError::WrongArity) };
        if version.as_slice() != CALL_VERSION.as_bytes() {
            let why = format!("TGREFUSED this module judges calls of version {CALL_VERSION}");
            return Err(RedisError::String(why));
        }
        let split = number(count).and_then(|count| rest.split_at_checked(count));
        let (keys, arguments) = split
            .ok_or(RedisError::Str("ERR the number of keys is not that of the keys that follow"))?;
        Ok(Self { keys, arguments })
    }
}

/// A whole number in decimal digits.
fn number(word: &RedisString) -> Option<usize> {
    std::str::from_utf8(word.as_slice()).ok()?.parse().ok()
}

/// Tells Redis which words are keys, for Cluster and access control.
fn tell_keys(context: &Context, words: &[RedisString]) {
    let count = words.get(FIRST_KEY - 1).and_then(number).unwrap_or_default();
    for place in (FIRST_KEY..words.len()).take(count) {
        context.key_at_pos(i32::try_from(place).unwrap_or(i32::MAX));
    }
}

fn judge(context: &Context, call: &Call<'_>) -> RedisResult {
    let names: HashSet<&[u8]> = call.keys.iter().map(RedisString::as_slice).collect();
    if names.len() < call.keys.len() {
        return Err(RedisError::Str("ERR a key occurs twice"));
    }
    let refused = |why: MalformedCall| RedisError::String(format!("TGREFUSED {why}"));
    let arguments: Vec<&[u8]> = call.arguments.iter().map(RedisString::as_slice).collect();
    let subjects = subject_count(&arguments, call.keys.len()).map_err(refused)?;
    let now = SystemClock.now();
    let open: Vec<Key<'_>> = call.keys.iter().map(|name| Key::open(context, name)).collect();
    let (of_subjects, of_reservations) = open.split_at(subjects);
    let mut subjects: Vec<SubjectString> = of_subjects.iter().map(Key::read).collect();
    let mut reservations: Vec<ReservationString> = of_reservations.iter().map(Key::read).collect();
    let reply = judge_call(&arguments, now, &mut subjects, &mut reservations).map_err(refused)?;
    let of_reservations: Vec<_> = reservations.iter().map(ReservationString::to_write).collect();
    let frees = frees_memory(&of_reservations);
    let writes: Vec<Option<KeyWrite<'_>>> =
        subjects.iter_mut().map(|subject| subject.to_write(now)).chain(of_reservations).collect();
    if !frees
        && writes.iter().any(Option::is_some)
        && context.get_flags().contains(ContextFlags::OOM)
    {
        return Err(RedisError::Str("OOM command not allowed when used memory > 'maxmemory'."));
    }
    let keep_ttl = RedisString::create_from_slice(context.ctx, b"KEEPTTL");
    for (key, write) in open.iter().zip(&writes) {
        if let Some(write) = write {
            key.write(write, &keep_ttl)?;
        }
    }
    drop(open);
    // Other modules may act on an event, so no key is open any more.
    for (name, write) in call.keys.iter().zip(&writes) {
        let Some(write) = write else { continue };
        publish(context, name, write);
    }
    Ok(into_value(reply))
}

/// True if the call settles reservations, and opens and extends none: a full Redis runs it, as it
/// runs a script that deletes a key first.
fn frees_memory(of_reservations: &[Option<KeyWrite<'_>>]) -> bool {
    let mut writes = of_reservations.iter().flatten().peekable();
    writes.peek().is_some() && writes.all(|write| *write == KeyWrite::Delete)
}

/// Publishes the events of a key that was written, as its commands would.
fn publish(context: &Context, name: &RedisString, write: &KeyWrite<'_>) {
    match write {
        KeyWrite::Delete => notify(context, NotifyEvent::GENERIC, c"del", name),
        KeyWrite::Set { expires_at_ms, .. } => {
            notify(context, NotifyEvent::STRING, c"set", name);
            if expires_at_ms.is_some() {
                notify(context, NotifyEvent::GENERIC, c"expire", name);
            }
        }
    }
}

fn into_value(reply: Reply) -> RedisValue {
    match reply {
        Reply::Packed(bytes) => RedisValue::StringBuffer(bytes),
        Reply::Mixed(values) => {
            let value = |value| match value {
                ReplyValue::Number(number) => RedisValue::Integer(number),
                ReplyValue::Text(text) => RedisValue::StringBuffer(text),
            };
            RedisValue::Array(values.into_iter().map(value).collect())
        }
    }
}
