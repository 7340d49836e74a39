//! The script: its text, and how it is called.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};

use super::call::Call;

/// The one script of this version, joined from `lua/`.
pub const SCRIPT: &str = concat!(
    include_str!("../../../lua/subject.lua"),
    include_str!("../../../lua/token_bucket.lua"),
    include_str!("../../../lua/calendar_quota.lua"),
    include_str!("../../../lua/check.lua"),
);

static SHA1: LazyLock<String> = LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// Calls the script; a server that has forgotten it is sent the whole text, once.
///
/// That is no retry of something that may have run: NOSCRIPT says that it has not.
pub(super) async fn run(
    call: &Call,
    connection: &mut MultiplexedConnection,
) -> Result<Value, RedisError> {
    match send(&command("EVALSHA", &SHA1, call), connection).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            send(&command("EVAL", SCRIPT, call), connection).await
        }
        result => result,
    }
}

async fn send(command: &Cmd, connection: &mut MultiplexedConnection) -> Result<Value, RedisError> {
    match connection.send_packed_command(command).await {
        Ok(Value::ServerError(error)) => Err(error.into()),
        result => result,
    }
}

fn command(name: &str, script: &str, call: &Call) -> Cmd {
    let mut command = Cmd::with_capacity(
        6 + call.keys.len(),
        call.limits.len() + call.checks.len() + call.refunds.len() + 32 * call.keys.len() + 256,
    );
    command.arg(name).arg(script).arg(call.keys.len());
    let mut name = String::with_capacity(64);
    for key in &call.keys {
        name.clear();
        key.write_redis_key(&mut name);
        command.arg(&*name);
    }
    command.arg(call.limits.as_slice()).arg(call.checks.as_slice()).arg(call.refunds.as_slice());
    command
}
