//! The Lua scripts and the commands that call them. Retries, deadlines and batching are the
//! client's.

use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::Instant;

use super::connection::Commands;
use crate::limit::Subject;

/// The source of the check script, joined from `lua/`.
pub const CHECK_SCRIPT_SOURCE: &str = concat!(
    include_str!("../../../lua/clock.lua"),
    include_str!("../../../lua/lone_check.lua"),
    include_str!("../../../lua/subject.lua"),
    include_str!("../../../lua/token_bucket.lua"),
    include_str!("../../../lua/calendar_quota.lua"),
    include_str!("../../../lua/concurrency.lua"),
    include_str!("../../../lua/annexes.lua"),
    include_str!("../../../lua/limits.lua"),
    include_str!("../../../lua/check.lua"),
    include_str!("../../../lua/reservations.lua"),
    include_str!("../../../lua/commit.lua"),
    include_str!("../../../lua/store.lua"),
);

const USAGE_SCRIPT_SOURCE: &str = concat!(
    include_str!("../../../lua/clock.lua"),
    include_str!("../../../lua/subject.lua"),
    include_str!("../../../lua/token_bucket.lua"),
    include_str!("../../../lua/calendar_quota.lua"),
    include_str!("../../../lua/concurrency.lua"),
    include_str!("../../../lua/annexes.lua"),
    include_str!("../../../lua/limits.lua"),
    include_str!("../../../lua/usage.lua"),
    include_str!("../../../lua/store.lua"),
);

/// The arguments of a script call.
pub(super) trait ScriptArgs {
    /// The subjects whose keys it accesses.
    fn subjects(&self) -> &[Subject];
    /// True if it also accesses the keys of their days.
    const WITH_USAGE_KEYS: bool;
    /// The keys of reservations that it accesses; if there are any, an argument behind the others
    /// says how many keys precede them.
    fn reservation_keys(&self) -> &[String] {
        &[]
    }
    /// The arguments after the keys.
    fn packed_args(&self) -> [&[u8]; 3];
}

/// The server's reply to one call, or its error: the script has not run or has failed.
pub(super) type ScriptReply = Result<Value, RedisError>;

/// A script and its SHA-1, by which it is called.
pub(super) struct Script {
    source: &'static str,
    sha1: String,
}

/// The script that judges checks.
pub(super) static CHECK_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(CHECK_SCRIPT_SOURCE));
/// The script that keeps days and corrects counters.
pub(super) static USAGE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(USAGE_SCRIPT_SOURCE));

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, sha1: redis::Script::new(source).get_hash().to_owned() }
    }

    /// Calls the script by its SHA-1; after NOSCRIPT, once more with its source, unless that is
    /// after `until`. The outer error is the connection's.
    ///
    /// The second call cannot charge twice: NOSCRIPT means that the first has not run.
    pub(super) async fn run(
        &self,
        call: &impl ScriptArgs,
        until: Instant,
        commands: &Commands,
    ) -> Result<ScriptReply, RedisError> {
        let reply = into_reply(commands.send(&self.evalsha_command(call)).await?);
        if is_noscript(&reply) && Instant::now() < until {
            return Ok(into_reply(commands.send(&self.eval_command(call)).await?));
        }
        Ok(reply)
    }

    /// Calls the script several times in one pipeline; each call succeeds or fails on its own. A
    /// call with `true` is preceded by ASKING, since its slot is being migrated to this server.
    pub(super) async fn run_pipelined<A: ScriptArgs>(
        &self,
        calls: &[(A, bool)],
        until: Instant,
        commands: &Commands,
    ) -> Result<Vec<ScriptReply>, RedisError> {
        if let [(call, false)] = calls {
            return Ok(vec![self.run(call, until, commands).await?]);
        }
        let all_indices: Vec<usize> = (0..calls.len()).collect();
        let evalsha = |call: &A| self.evalsha_command(call);
        let mut replies = send_pipeline(evalsha, calls, &all_indices, commands).await?;
        let missing: Vec<usize> = all_indices
            .into_iter()
            .filter(|&index| replies.get(index).is_some_and(is_noscript))
            .collect();
        if !missing.is_empty() && Instant::now() < until {
            let again =
                send_pipeline(|call| self.eval_command(call), calls, &missing, commands).await?;
            for (index, reply) in missing.into_iter().zip(again) {
                replies[index] = reply;
            }
        }
        Ok(replies)
    }

    /// The EVALSHA command, which the server knows once it has run the script.
    pub(super) fn evalsha_command(&self, call: &impl ScriptArgs) -> Cmd {
        script_command("EVALSHA", &self.sha1, call)
    }

    /// The EVAL command, which works whether or not the server has cached the script.
    pub(super) fn eval_command(&self, call: &impl ScriptArgs) -> Cmd {
        script_command("EVAL", self.source, call)
    }
}

/// The calls at these indices, in one pipeline.
async fn send_pipeline<A: ScriptArgs>(
    command: impl Fn(&A) -> Cmd,
    calls: &[(A, bool)],
    indices: &[usize],
    commands: &Commands,
) -> Result<Vec<ScriptReply>, RedisError> {
    let mut pipeline = Vec::with_capacity(indices.len());
    for (call, is_asking) in indices.iter().map(|&index| &calls[index]) {
        if *is_asking {
            pipeline.push(redis::cmd("ASKING"));
        }
        pipeline.push(command(call));
    }
    let mut replies = commands.send_all(&pipeline).await?.into_iter();
    let reply = |&index: &usize| {
        let replies = replies.by_ref();
        if calls[index].1 {
            replies.next();
        }
        replies.next().map(into_reply)
    };
    Ok(indices.iter().map_while(reply).collect())
}

fn into_reply(reply: Value) -> ScriptReply {
    match reply {
        Value::ServerError(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

fn is_noscript(reply: &ScriptReply) -> bool {
    reply.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

fn script_command<A: ScriptArgs>(name: &str, script: &str, call: &A) -> Cmd {
    let (subjects, packed) = (call.subjects(), call.packed_args());
    let bytes: usize = packed.iter().map(|argument| argument.len()).sum();
    let keys = if A::WITH_USAGE_KEYS { 2 * subjects.len() } else { subjects.len() };
    let reservations = call.reservation_keys();
    let all_keys = keys + reservations.len();
    let mut command = Cmd::with_capacity(7 + all_keys, bytes + 32 * all_keys + 256);
    command.arg(name).arg(script).arg(all_keys);
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
    command.arg(reservations);
    // An argument costs the script time, also an empty one.
    let [limits, checks, refunds] = packed;
    command.arg(limits).arg(checks);
    if A::WITH_USAGE_KEYS || !refunds.is_empty() || !reservations.is_empty() {
        command.arg(refunds);
    }
    if !reservations.is_empty() {
        command.arg(keys);
    }
    command
}
