//! The scripts: their texts, and how they are called.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};

use crate::limit::Subject;

/// What judges checks, joined from `lua/`.
pub const SCRIPT: &str = concat!(
    include_str!("../../../lua/subject.lua"),
    include_str!("../../../lua/token_bucket.lua"),
    include_str!("../../../lua/calendar_quota.lua"),
    include_str!("../../../lua/limits.lua"),
    include_str!("../../../lua/check.lua"),
);

const USAGE_SCRIPT: &str = concat!(
    include_str!("../../../lua/subject.lua"),
    include_str!("../../../lua/token_bucket.lua"),
    include_str!("../../../lua/calendar_quota.lua"),
    include_str!("../../../lua/limits.lua"),
    include_str!("../../../lua/usage.lua"),
);

/// What a script is called with.
pub(super) trait Arguments {
    /// The subjects that it touches.
    fn subjects(&self) -> &[Subject];
    /// Whether it also touches the days that they keep.
    const DAYS: bool;
    /// What follows the keys.
    fn packed(&self) -> [&[u8]; 3];
}

/// A script and its name.
pub(super) struct Script {
    text: &'static str,
    sha1: String,
}

/// Judges checks.
pub(super) static CHECK: LazyLock<Script> = LazyLock::new(|| Script::new(SCRIPT));
/// Keeps days and corrects counters.
pub(super) static USAGE: LazyLock<Script> = LazyLock::new(|| Script::new(USAGE_SCRIPT));

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, sha1: redis::Script::new(text).get_hash().to_owned() }
    }

    /// Calls the script; a server that has forgotten it is sent the whole text, once.
    ///
    /// That is no retry of something that may have run: NOSCRIPT says that it has not.
    pub(super) async fn run(
        &self,
        call: &impl Arguments,
        connection: &mut MultiplexedConnection,
    ) -> Result<Value, RedisError> {
        match send(&command("EVALSHA", &self.sha1, call), connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                send(&command("EVAL", self.text, call), connection).await
            }
            result => result,
        }
    }
}

async fn send(command: &Cmd, connection: &mut MultiplexedConnection) -> Result<Value, RedisError> {
    match connection.send_packed_command(command).await {
        Ok(Value::ServerError(error)) => Err(error.into()),
        result => result,
    }
}

fn command<A: Arguments>(name: &str, script: &str, call: &A) -> Cmd {
    let (subjects, packed) = (call.subjects(), call.packed());
    let bytes: usize = packed.iter().map(|argument| argument.len()).sum();
    let keys = if A::DAYS { 2 * subjects.len() } else { subjects.len() };
    let mut command = Cmd::with_capacity(6 + keys, bytes + 32 * keys + 256);
    command.arg(name).arg(script).arg(keys);
    let mut name = String::with_capacity(64);
    for subject in subjects {
        name.clear();
        subject.write_redis_key(&mut name);
        command.arg(&*name);
    }
    for subject in &subjects[..keys - subjects.len()] {
        name.clear();
        subject.write_usage_key(&mut name);
        command.arg(&*name);
    }
    for argument in packed {
        command.arg(argument);
    }
    command
}
