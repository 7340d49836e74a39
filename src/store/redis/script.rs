//! The scripts: their texts, and how they are called.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};

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

/// What the server says to one call: the script's reply, or that it has not run or has failed.
pub(super) type Said = Result<Value, RedisError>;

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

    /// Calls the script; a server that has forgotten it is sent the whole text, once. The outer
    /// error is the connection's.
    ///
    /// That is no retry of something that may have run: NOSCRIPT says that it has not.
    pub(super) async fn run(
        &self,
        call: &impl Arguments,
        connection: &mut MultiplexedConnection,
    ) -> Result<Said, RedisError> {
        let named = command("EVALSHA", &self.sha1, call);
        let said = heard(connection.send_packed_command(&named).await?);
        if is_forgotten(&said) {
            return Ok(heard(connection.send_packed_command(&self.whole(call)).await?));
        }
        Ok(said)
    }

    /// Calls the script several times in one pipeline: each call is run, or not, on its own. Before
    /// a call with `true` the server is told that its slot is on its way there.
    pub(super) async fn run_all<A: Arguments>(
        &self,
        calls: &[(A, bool)],
        connection: &mut MultiplexedConnection,
    ) -> Result<Vec<Said>, RedisError> {
        if let [(call, false)] = calls {
            return Ok(vec![self.run(call, connection).await?]);
        }
        let every: Vec<usize> = (0..calls.len()).collect();
        let named = |call: &A| command("EVALSHA", &self.sha1, call);
        let mut said = send_all(named, calls, &every, connection).await?;
        let forgotten: Vec<usize> =
            every.into_iter().filter(|&place| said.get(place).is_some_and(is_forgotten)).collect();
        if !forgotten.is_empty() {
            let again = send_all(|call| self.whole(call), calls, &forgotten, connection).await?;
            for (place, answer) in forgotten.into_iter().zip(again) {
                said[place] = answer;
            }
        }
        Ok(said)
    }

    /// The command that runs it whether the server knows it or not.
    pub(super) fn whole(&self, call: &impl Arguments) -> Cmd {
        command("EVAL", self.text, call)
    }
}

/// The calls at these places, in one pipeline.
async fn send_all<A: Arguments>(
    command: impl Fn(&A) -> Cmd,
    calls: &[(A, bool)],
    places: &[usize],
    connection: &mut MultiplexedConnection,
) -> Result<Vec<Said>, RedisError> {
    let mut pipeline = Pipeline::with_capacity(places.len());
    for (call, is_asking) in places.iter().map(|&place| &calls[place]) {
        if *is_asking {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(command(call));
    }
    let count = pipeline.len();
    let mut answers = connection.send_packed_commands(&pipeline, 0, count).await?.into_iter();
    let answer = |&place: &usize| {
        let answers = answers.by_ref();
        if calls[place].1 {
            answers.next();
        }
        answers.next().map(heard)
    };
    Ok(places.iter().map_while(answer).collect())
}

fn heard(answer: Value) -> Said {
    match answer {
        Value::ServerError(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

fn is_forgotten(said: &Said) -> bool {
    said.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
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
