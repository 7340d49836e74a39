//! The Lua scripts, the module's command in place of one of them, and the commands that call them.
//! Deadlines and batching are the client's, and so are retries of calls that may have run.

use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::Instant;

use super::connection::Commands;
use crate::limit::Subject;
use tollgate_core::packed::CALL_VERSION;

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
    include_str!("../../../lua/usual_checks.lua"),
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

/// The command of the Redis module that takes the arguments of the check script.
const MODULE_COMMAND: &str = "TG.JUDGE";

/// The most times that a call is sent again: as the script's SHA-1 after the module's command, and as
/// its source after that.
const MAX_RESENDS: usize = 2;

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
    /// The command of the Redis module that takes the script's arguments, if there is one.
    module_command: Option<&'static str>,
}

/// The script that judges checks.
pub(super) static CHECK_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(CHECK_SCRIPT_SOURCE, Some(MODULE_COMMAND)));
/// The script that keeps days and corrects counters.
pub(super) static USAGE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(USAGE_SCRIPT_SOURCE, None));

impl Script {
    fn new(source: &'static str, module_command: Option<&'static str>) -> Self {
        Self { source, sha1: redis::Script::new(source).get_hash().to_owned(), module_command }
    }

    /// Calls the module, if the server has one; else the script by its SHA-1, and after NOSCRIPT with
    /// its source, unless that is after `until`. The outer error is the connection's.
    ///
    /// No call can charge twice: a later one follows only on a reply that the one before has not run.
    pub(super) async fn run(
        &self,
        call: &impl ScriptArgs,
        until: Instant,
        commands: &Commands,
    ) -> Result<ScriptReply, RedisError> {
        let had_module = commands.has_module();
        let mut reply = into_reply(commands.send(&self.first_command(call, had_module)).await?);
        for _ in 0..MAX_RESENDS {
            let again = self.command_after(&reply, call, had_module, commands);
            let Some(again) = again.filter(|_| Instant::now() < until) else { break };
            reply = into_reply(commands.send(&again).await?);
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
        let had_module = commands.has_module();
        let first = calls.iter().map(|(call, _)| self.first_command(call, had_module));
        let mut replies =
            send_pipeline(first.enumerate().collect(), calls, commands).await?.collect::<Vec<_>>();
        for _ in 0..MAX_RESENDS {
            let after = |(index, reply): (usize, &ScriptReply)| {
                let again = self.command_after(reply, &calls[index].0, had_module, commands);
                again.map(|again| (index, again))
            };
            let again: Vec<(usize, Cmd)> = replies.iter().enumerate().filter_map(after).collect();
            if again.is_empty() || Instant::now() >= until {
                break;
            }
            let indices: Vec<usize> = again.iter().map(|(index, _)| *index).collect();
            for (index, reply) in
                indices.into_iter().zip(send_pipeline(again, calls, commands).await?)
            {
                replies[index] = reply;
            }
        }
        Ok(replies)
    }

    /// The command that a call is sent as first.
    fn first_command(&self, call: &impl ScriptArgs, has_module: bool) -> Cmd {
        match self.module_command.filter(|_| has_module) {
            Some(command) => script_command(command, CALL_VERSION, call),
            None => self.evalsha_command(call),
        }
    }

    /// The command that a call is sent as after a reply which says that it has not run; `None` after
    /// any other. A server that does not run the module's command is not asked again.
    fn command_after(
        &self,
        reply: &ScriptReply,
        call: &impl ScriptArgs,
        had_module: bool,
        commands: &Commands,
    ) -> Option<Cmd> {
        let error = reply.as_ref().err()?;
        if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) {
            return Some(self.eval_command(call));
        }
        let sent_to_module = had_module && self.module_command.is_some();
        let is_without_module = sent_to_module && lacks_module(error);
        is_without_module.then(|| {
            commands.forget_module();
            self.evalsha_command(call)
        })
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

/// Sends the commands of the calls at these indices in one pipeline, and returns their replies.
async fn send_pipeline<A: ScriptArgs>(
    indexed: Vec<(usize, Cmd)>,
    calls: &[(A, bool)],
    commands: &Commands,
) -> Result<impl Iterator<Item = ScriptReply>, RedisError> {
    let mut pipeline = Vec::with_capacity(indexed.len());
    let mut are_asking = Vec::with_capacity(indexed.len());
    for (index, command) in indexed {
        let is_asking = calls[index].1;
        if is_asking {
            pipeline.push(redis::cmd("ASKING"));
        }
        pipeline.push(command);
        are_asking.push(is_asking);
    }
    let mut replies = commands.send_all(&pipeline).await?.into_iter();
    Ok(are_asking.into_iter().map_while(move |is_asking| {
        if is_asking {
            replies.next();
        }
        replies.next().map(into_reply)
    }))
}

fn into_reply(reply: Value) -> ScriptReply {
    match reply {
        Value::ServerError(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

/// True if the server has no module that judges the call, or does not let this user call it.
fn lacks_module(error: &RedisError) -> bool {
    error.code() == Some("TGREFUSED")
        || error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        || error.to_string().contains("unknown command")
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
