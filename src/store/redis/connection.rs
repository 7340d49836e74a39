//! One connection to Redis: connecting, probing, commands and their replies, and its end.
//!
//! Whoever owns a connection writes and reads it, on its own task: there is no other task between
//! a call and the socket. When to connect is decided in `client::connection_task`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, Value};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, copy_bidirectional, duplex};
use tokio::time::{Instant, timeout};

use super::call::CheckCall;
use super::errors::{classify, wrong_scheme_error};
use super::instance::RedisInstance;
use super::redirect::Redirect;
use super::reply::ReplyDecoder;
use super::resp::read_reply;
use super::{Redis, StoreError, script};
use crate::algorithm::{Rate, Throttle};
use crate::limit::{Charge, Limit, Subject, Unit};
use crate::time::Micros;

/// The space for replies that one read has at least: several calls' worth.
const READ_BYTES: usize = 16 * 1024;

/// A TCP stream, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection of one owner, outside the pool.
pub(super) struct LiveConnection {
    stream: Box<dyn Stream>,
    /// Commands of which the first `written` bytes are on their way.
    writing: Vec<u8>,
    written: usize,
    received: BytesMut,
    /// The replies so far to the commands that wait longest.
    replies: Vec<Value>,
    exchange: Arc<Exchange>,
}

/// The commands that wait to be written, and those that wait for replies.
struct Exchange {
    state: Mutex<ExchangeState>,
    /// False once the server has shown that it has no module that judges checks.
    has_module: AtomicBool,
}

#[derive(Default)]
struct ExchangeState {
    unsent: Vec<u8>,
    awaiting: VecDeque<Awaiting>,
    /// The replies to a call that has not taken them yet.
    replied: Option<(CallId, Vec<Value>)>,
    /// The reason why the connection has ended.
    ended: Option<RedisError>,
}

/// Commands of one call, and the number of their replies.
struct Awaiting {
    call: CallId,
    replies: usize,
}

/// The number of a call among those of a connection.
pub(super) type CallId = u64;

/// The handle by which one call sends commands. Its future has to be polled after each
/// [`LiveConnection::poll_replied`] with its number: it wakes nobody.
#[derive(Clone)]
pub(super) struct Commands {
    exchange: Arc<Exchange>,
    call: CallId,
}

impl Commands {
    /// True if calls go to the module of the server. The probe of a new connection finds out.
    pub(super) fn has_module(&self) -> bool {
        self.exchange.has_module.load(Ordering::Relaxed)
    }

    /// Sends no further calls of this connection to the module.
    pub(super) fn forget_module(&self) {
        self.exchange.has_module.store(false, Ordering::Relaxed);
    }

    /// Sends a command and returns its reply, which may be an error of the server.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        let replies = self.send_all(std::slice::from_ref(command)).await?;
        replies.into_iter().next().ok_or_else(connection_ended)
    }

    /// Sends commands together and returns their replies, as many and in order.
    pub(super) async fn send_all(&self, commands: &[Cmd]) -> Result<Vec<Value>, RedisError> {
        {
            let mut exchange = self.exchange.lock();
            for command in commands {
                command.write_packed_command(&mut exchange.unsent);
            }
            exchange.awaiting.push_back(Awaiting { call: self.call, replies: commands.len() });
        }
        poll_fn(|_| {
            let mut exchange = self.exchange.lock();
            if let Some((_, replies)) = exchange.replied.take_if(|(call, _)| *call == self.call) {
                return Poll::Ready(Ok(replies));
            }
            exchange.ended.clone().map_or(Poll::Pending, |ended| Poll::Ready(Err(ended)))
        })
        .await
    }
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, ExchangeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveConnection {
    /// A connection over a stream on which the server waits for commands.
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            writing: Vec::new(),
            written: 0,
            received: BytesMut::new(),
            replies: Vec::new(),
            exchange: Arc::new(Exchange {
                state: Mutex::default(),
                has_module: AtomicBool::new(true),
            }),
        }
    }

    /// The handle for the call with this number.
    pub(super) fn commands(&self, call: CallId) -> Commands {
        Commands { exchange: Arc::clone(&self.exchange), call }
    }

    /// Writes commands, reads replies, and returns the number of the next call that has all of
    /// its replies. An error ends the connection; without commands it means that either side has
    /// closed it.
    ///
    /// An idle connection that was closed is replaced before a check uses it. The error of a check
    /// would come too late: it does not say whether the command was sent.
    pub(super) fn poll_replied(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<CallId, RedisError>> {
        let replied = ready!(self.poll_exchange(cx));
        if let Err(error) = &replied {
            self.exchange.lock().ended = Some(error.clone());
        }
        Poll::Ready(replied)
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<CallId, RedisError>> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Err(error.into()));
        }
        loop {
            if let Some(call) = self.take_replies()? {
                return Poll::Ready(Ok(call));
            }
            self.received.reserve(READ_BYTES);
            let stream = &mut self.stream;
            if ready!(pin!(stream.read_buf(&mut self.received)).poll(cx))? == 0 {
                return Poll::Ready(Err(connection_ended()));
            }
        }
    }

    /// Writes what waits to be written, as far as there is room for it.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                std::mem::swap(&mut self.writing, &mut self.exchange.lock().unsent);
                if self.writing.is_empty() {
                    return Pin::new(&mut self.stream).poll_flush(cx);
                }
            }
            let unwritten = &self.writing[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, unwritten))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
    }

    /// Reads the replies that have arrived, up to the last one of a call.
    fn take_replies(&mut self) -> Result<Option<CallId>, RedisError> {
        while let Some((reply, length)) = read_reply(&self.received)? {
            self.received.advance(length);
            self.replies.push(reply);
            let mut exchange = self.exchange.lock();
            let Some(first) = exchange.awaiting.front() else {
                return Err((ErrorKind::Parse, "a reply belongs to no command").into());
            };
            if self.replies.len() == first.replies {
                let call = first.call;
                exchange.awaiting.pop_front();
                exchange.replied = Some((call, std::mem::take(&mut self.replies)));
                return Ok(Some(call));
            }
        }
        Ok(None)
    }

    /// Runs `call`, which sends commands by [`LiveConnection::commands`], to its end while no
    /// other call is in flight.
    async fn drive<F: Future>(&mut self, call: F) -> F::Output {
        let mut call = pin!(call);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(output) = call.as_mut().poll(cx) {
                    return Poll::Ready(output);
                }
                let _call_or_its_error_is_seen_by_the_call = ready!(self.poll_replied(cx));
            }
        })
        .await
    }
}

/// The error of commands whose connection has been closed.
fn connection_ended() -> RedisError {
    io::Error::from(io::ErrorKind::BrokenPipe).into()
}

/// Opens a connection to `server`. The client library authenticates and selects the database, and
/// the commands that follow are this module's.
async fn open(server: &RedisInstance) -> Result<LiveConnection, RedisError> {
    let mut stream = server.open_stream().await?;
    let (near, mut far) = duplex(READ_BYTES);
    let settings = server.client.get_connection_info().redis_settings();
    let passing = async {
        let _ended = copy_bidirectional(&mut far, &mut stream).await;
        // The library reads what came before the end, which may say more than the end.
        drop(far);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        set_up = MultiplexedConnection::new(settings, near) => drop(set_up?),
        () = passing => {}
    }
    Ok(LiveConnection::new(stream))
}

impl Redis {
    /// Opens a connection and probes it.
    pub(super) async fn connect(
        &self,
        server: &RedisInstance,
        time_limit: Duration,
    ) -> Result<LiveConnection, StoreError> {
        let opened = timeout(time_limit, open(server)).await.map_err(|_| StoreError::Timeout)?;
        let mut live = opened.map_err(|error| classify(&error))?;
        self.probe(server, &mut live, time_limit).await?;
        Ok(live)
    }

    /// Probes a connection with a check: the server runs the module or the script, reads and writes.
    ///
    /// A PING proves less: a server that is full, loading or demoted replies to it. It is sent only
    /// to a Cluster's server that holds too few slots for a check.
    pub(super) async fn probe(
        &self,
        server: &RedisInstance,
        live: &mut LiveConnection,
        time_limit: Duration,
    ) -> Result<(), StoreError> {
        let commands = live.commands(CallId::MAX);
        let Some(subject) = self.topology.probe_subject(server) else {
            let ping = redis::cmd("PING");
            let reply = timeout(time_limit, live.drive(commands.send(&ping))).await;
            let reply = reply.map_err(|_| StoreError::Timeout)?;
            return reply.map(drop).map_err(|error| classify(&error));
        };
        let (mut probe, until) = (CheckCall::default(), Instant::now() + time_limit);
        probe.add_check(&[probe_charge(subject)], Micros::ZERO);
        let called = live.drive(script::CHECK_SCRIPT.run(&probe, until, &commands));
        let reply = timeout(time_limit, called).await;
        match reply.map_err(|_| StoreError::Timeout)?.map_err(|error| classify(&error))? {
            Ok(reply) => {
                self.clock.observe(ReplyDecoder::new(reply)?.now);
                server.note_module(commands.has_module());
            }
            Err(error) => match Redirect::from_error(&error, server.host()) {
                Some(_) if !self.topology.is_sharded() => return Err(wrong_scheme_error()),
                Some(Redirect::ClusterDown) | None => return Err(classify(&error)),
                // A server that redirects is alive: the slot has just moved.
                Some(_) => {}
            },
        }
        Ok(())
    }
}

/// A charge that always fits, so that the probe always writes.
fn probe_charge(subject: Subject) -> Charge {
    let rate = Rate::new(1_000_000, Micros::new(1));
    let throttle = rate.and_then(|rate| Throttle::new(rate, 1_000_000_000).ok());
    let throttle = throttle.unwrap_or_else(|| unreachable!("a constant"));
    let limit = Limit::new("probe", Unit::requests(), throttle, false);
    Charge::new(subject, limit.into(), 1)
}
