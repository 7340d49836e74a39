//! A worker's way to Redis: group commit over a connection of its own.
//!
//! While a call is in flight, checks gather; the next call carries them all. There is no timer: a
//! lone check goes at once. A check is sent once or not at all. What a failure means for a request
//! is for the engine to say.

mod apart;
mod commit;
mod covered;
mod driver;
mod leases;
mod metered;
mod parts;
mod routes;
#[cfg(feature = "bench")]
mod single;
mod wire;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use smallvec::smallvec;
use tokio::time::Instant;

use super::{Error, Redis, Servers};
use crate::limit::{Charges, Refund};
use crate::store::Answer;
use crate::time::{Micros, boot_clock};
use driver::Driver;
use leases::Leases;
use metered::Metered;
use routes::Routes;
use wire::{Unjudged, Wire, Work, receive};

/// Checks that one call carries at most, and one job has at most.
const MOST: usize = 128;
/// How often unspent leases are given back.
const GIVE_BACK: Duration = Duration::from_millis(50);

/// A worker's way to Redis; cheap to clone, and all clones are one.
#[derive(Clone)]
pub struct Lane {
    way: Way,
    redis: Arc<Redis>,
    leases: Arc<Leases>,
    metered: Arc<Metered>,
    #[cfg(feature = "bench")]
    single: Option<Arc<single::Single>>,
}

/// Where checks go.
#[derive(Clone)]
enum Way {
    /// To the one primary.
    Straight(Wire),
    /// To whichever primary has the slot.
    Routed(Arc<Routes>),
}

impl Redis {
    /// A lane on the current runtime, connected if Redis can be reached now.
    pub async fn lane(self: &Arc<Self>) -> Lane {
        let way = match &self.servers {
            Servers::One(server) => {
                let (wire, mut driver) = Driver::with_wire(self, server);
                driver.connect_once().await;
                tokio::spawn(driver.run());
                Way::Straight(wire)
            }
            Servers::Cluster(topology) => Way::Routed(Routes::open(self, topology).await),
        };
        self.lanes.fetch_add(1, Ordering::Relaxed);
        let lane = Lane {
            way,
            redis: Arc::clone(self),
            leases: Arc::default(),
            metered: Arc::default(),
            #[cfg(feature = "bench")]
            single: single::Single::from_environment().map(Arc::new),
        };
        if self.leases {
            tokio::spawn(lane.clone().give_back_unspent());
        }
        lane
    }
}

impl Lane {
    /// Judges one check by `deadline`.
    ///
    /// # Errors
    /// Where Redis did not judge it in time, or at all.
    pub async fn judge(&self, charges: &Charges, deadline: Instant) -> Result<Answer, Error> {
        if !self.redis.leases || !charges.iter().any(Leases::concern) {
            return self.judge_exactly(charges, deadline).await;
        }
        let covered = self.cover(charges);
        if covered.is_whole() {
            return Ok(self.spend(&covered));
        }
        // Apart: so the futures of checks that need no such call stay small.
        Box::pin(self.judge_rest(charges, covered, deadline)).await
    }

    async fn judge_exactly(&self, charges: &Charges, deadline: Instant) -> Result<Answer, Error> {
        #[cfg(feature = "bench")]
        if let Some(single) = &self.single {
            return Box::pin(single.judge(&self.redis, charges)).await;
        }
        match &self.way {
            Way::Straight(wire) => {
                let work = Work { checks: smallvec![charges.clone()], ..Work::default() };
                let answers = receive(wire.send(work, deadline)?, 1).await;
                answers.into_iter().next().map_or(Err(Error::Timeout), plain)
            }
            Way::Routed(routes) => Box::pin(self.judge_routed(routes, charges, deadline)).await,
        }
    }

    /// Gives unspent leases back for as long as anybody else has this lane.
    async fn give_back_unspent(self) {
        while Arc::strong_count(&self.leases) > 1 {
            tokio::time::sleep(GIVE_BACK).await;
            self.give_back(self.leases.unspent(boot_clock(), false)).await;
            self.count().await;
        }
    }

    /// Counts what checks that leases covered have used.
    async fn count(&self) {
        let deadline = Instant::now() + self.redis.deadline;
        for counted in self.judge_all(&self.metered.take(), deadline).await {
            if let Err(error) = counted {
                tracing::debug!(%error, "usage that leases covered is lost");
            }
        }
    }

    /// Gives all leases back, before the node stops.
    pub async fn retire(&self) {
        self.give_back(self.leases.unspent(boot_clock(), true)).await;
        self.count().await;
    }

    /// What is lost here was charged for nothing: that admits less, never more.
    async fn give_back(&self, refunds: Vec<Refund>) {
        let deadline = Instant::now() + self.redis.deadline;
        if let Err(error) = self.refund(refunds, deadline).await {
            tracing::debug!(%error, "unspent leases are lost");
        }
    }

    /// Judges many checks by `deadline`, each on its own, in order.
    pub async fn judge_all(
        &self,
        checks: &[Charges],
        deadline: Instant,
    ) -> Vec<Result<Answer, Error>> {
        let Way::Straight(wire) = &self.way else {
            // Each to its slot. Those of one subject stay in order; they go together all the same.
            return join_all(checks.iter().map(|check| self.judge(check, deadline))).await;
        };
        let work = |part: &[Charges]| Work { checks: part.into(), ..Work::default() };
        let sent: Vec<_> =
            checks.chunks(MOST).map(|part| (part.len(), wire.send(work(part), deadline))).collect();
        let mut answers = Vec::with_capacity(checks.len());
        for (count, sent) in sent {
            match sent {
                Ok(part) => answers.extend(receive(part, count).await.into_iter().map(plain)),
                Err(error) => answers.extend(std::iter::repeat_n(Err(error), count)),
            }
        }
        answers
    }

    /// Gives back what was charged and not used, together with whatever checks are on their way.
    ///
    /// # Errors
    /// Where Redis perhaps did not do so.
    pub async fn refund(&self, refunds: Vec<Refund>, deadline: Instant) -> Result<(), Error> {
        let wire = match &self.way {
            Way::Straight(wire) => wire,
            Way::Routed(routes) => return routes.refund(refunds, deadline).await,
        };
        let work = |part: &[Refund]| Work { refunds: part.into(), ..Work::default() };
        let sent: Vec<_> =
            refunds.chunks(MOST).map(|part| wire.send(work(part), deadline)).collect();
        let mut done = Ok(());
        for sent in sent {
            // An answer comes only where it failed.
            let part = match sent {
                Ok(part) => receive(part, 0).await.pop().map_or(Ok(()), |why| plain(why).map(drop)),
                Err(error) => Err(error),
            };
            done = done.and(part);
        }
        done
    }

    /// What Redis' clock shows, as far as known.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.redis.clock.now()
    }

    /// Whether any of the node's connections is given up for now.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.redis.lost.load(Ordering::Relaxed) > 0
    }
}

/// An answer of a server that is the only one.
fn plain(answer: Result<Answer, Unjudged>) -> Result<Answer, Error> {
    answer.map_err(|unjudged| match unjudged {
        Unjudged::Failed(error) => error,
        Unjudged::Elsewhere(_) => super::errors::wrong_scheme(),
    })
}
