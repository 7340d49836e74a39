//! One connection to Redis: connecting, probing, and noticing its end.
//!
//! When to do so is decided in `client::connection_task`.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::call::CheckCall;
use super::errors::{classify, wrong_scheme_error};
use super::instance::{RedisInstance, connection_config};
use super::redirect::Redirect;
use super::reply::ReplyDecoder;
use super::{Redis, StoreError, script};
use crate::algorithm::{Rate, Throttle};
use crate::limit::{Charge, Limit, Subject, Unit};
use crate::time::Micros;

/// A connection of one owner, outside the pool.
pub(super) struct LiveConnection {
    pub(super) connection: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
}

impl LiveConnection {
    /// Waits until either side has closed the connection. Cancel safe.
    ///
    /// An idle connection that was closed is replaced before a check uses it. The error of a check
    /// would come too late: it does not say whether the command was sent.
    pub(super) async fn closed(&mut self) {
        while let Some(push) = self.pushes.recv().await {
            if push.kind == PushKind::Disconnection {
                return;
            }
        }
    }
}

impl Redis {
    /// Opens a connection and probes it.
    pub(super) async fn connect(
        &self,
        server: &RedisInstance,
        time_limit: Duration,
    ) -> Result<LiveConnection, StoreError> {
        let (push_sender, pushes) = mpsc::unbounded_channel();
        let config = connection_config(time_limit).set_push_sender(push_sender);
        let connect = server.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = timeout(time_limit, connect)
            .await
            .map_err(|_| StoreError::Timeout)?
            .map_err(|error| classify(&error))?;
        self.probe(server, &mut connection, time_limit).await?;
        Ok(LiveConnection { connection, pushes })
    }

    /// Probes a connection with a check: the server runs the script, reads and writes.
    ///
    /// A PING proves less: a server that is full, loading or demoted replies to it. It is sent only
    /// to a Cluster's server that holds too few slots for a check.
    pub(super) async fn probe(
        &self,
        server: &RedisInstance,
        connection: &mut MultiplexedConnection,
        time_limit: Duration,
    ) -> Result<(), StoreError> {
        let Some(subject) = self.topology.probe_subject(server) else {
            let ping = redis::cmd("PING");
            let reply = timeout(time_limit, connection.send_packed_command(&ping)).await;
            let reply = reply.map_err(|_| StoreError::Timeout)?;
            return reply.map(drop).map_err(|error| classify(&error));
        };
        let (mut probe, until) = (CheckCall::default(), Instant::now() + time_limit);
        probe.add_check(&[probe_charge(subject)], Micros::ZERO);
        let reply = timeout(time_limit, script::CHECK_SCRIPT.run(&probe, until, connection)).await;
        match reply.map_err(|_| StoreError::Timeout)?.map_err(|error| classify(&error))? {
            Ok(reply) => self.clock.observe(ReplyDecoder::new(reply)?.now),
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
