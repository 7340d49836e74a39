//! One connection to Redis: how it is made and tried.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::call::Call;
use super::cluster::Redirect;
use super::errors::{meaning, wrong_scheme};
use super::server::{Server, config};
use super::{Error, Redis, Reply, Servers, script};
use crate::limit::{Charge, Limit, Rate, Rule, Subject, Throttle, Unit};
use crate::time::Micros;

/// A connection that belongs to whoever made it.
pub(super) struct Established {
    pub(super) connection: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
}

impl Established {
    /// Waits until the connection has ended, at whichever side. Cancel safe.
    ///
    /// Only who is told can know: an error of a command that finds it ended does not say whether the
    /// command was sent.
    pub(super) async fn ended(&mut self) {
        while let Some(push) = self.pushes.recv().await {
            if push.kind == PushKind::Disconnection {
                return;
            }
        }
    }
}

impl Redis {
    /// A new connection that has just done a check's work.
    pub(super) async fn establish(
        &self,
        server: &Server,
        patience: Duration,
    ) -> Result<Established, Error> {
        let (told, pushes) = mpsc::unbounded_channel();
        let config = config(patience).set_push_sender(told);
        let connect = server.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = timeout(patience, connect)
            .await
            .map_err(|_| Error::Timeout)?
            .map_err(|error| meaning(&error))?;
        self.probe(server, &mut connection, patience).await?;
        Ok(Established { connection, pushes })
    }

    /// A check's work on a connection: finds the script, reads and writes.
    ///
    /// A PING would not do: a full, loading or demoted server answers it. Only where a Cluster's
    /// server holds next to nothing is it all that can be asked.
    pub(super) async fn probe(
        &self,
        server: &Server,
        connection: &mut MultiplexedConnection,
        patience: Duration,
    ) -> Result<(), Error> {
        let subject = match &self.servers {
            Servers::One(_) => Some(Subject::policy("", "probe")),
            Servers::Cluster(topology) => topology.subject_at(server),
        };
        let Some(subject) = subject else {
            let ping = redis::cmd("PING");
            let answer = timeout(patience, connection.send_packed_command(&ping)).await;
            let answer = answer.map_err(|_| Error::Timeout)?;
            return answer.map(drop).map_err(|error| meaning(&error));
        };
        let mut probe = Call::default();
        probe.add(&[probe_charge(subject)], Micros::ZERO);
        let reply = timeout(patience, script::CHECK.run(&probe, connection)).await;
        match reply.map_err(|_| Error::Timeout)?.map_err(|error| meaning(&error))? {
            Ok(reply) => self.clock.observe(Reply::new(reply)?.now),
            Err(error) => match (Redirect::of(&error, server.host()), &self.servers) {
                (Some(_), Servers::One(_)) => return Err(wrong_scheme()),
                (Some(Redirect::Nobody) | None, _) => return Err(meaning(&error)),
                // Who knows that the slot has just gone elsewhere is alive.
                (Some(_), Servers::Cluster(_)) => {}
            },
        }
        Ok(())
    }
}

/// A charge that always fits, so that it is always written.
fn probe_charge(subject: Subject) -> Charge {
    let rate = Rate::new(1_000_000, Micros::new(1));
    let throttle = rate.and_then(|rate| Throttle::new(rate, 1_000_000_000).ok());
    let rule = Rule::Throttle(throttle.unwrap_or_else(|| unreachable!("a constant")));
    let limit = Limit::new("probe", Unit::requests(), rule, false);
    Charge { subject, limit: limit.into(), cost: 1 }
}
