//! A worker's way to Redis: group commit over a connection of its own.
//!
//! While a call is in flight, checks gather; the next call carries them all. There is no timer: a
//! lone check goes at once. A check is sent once or not at all. What a failure means for a request
//! is for the engine to say.

mod again;
mod driver;
mod leases;
mod metered;
#[cfg(feature = "bench")]
mod single;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Error, Redis};
use crate::algorithm::{Reading, Verdict};
use crate::limit::{Charges, Refund, Start};
use crate::store::Answer;
use crate::time::{Micros, boot_clock};
use driver::Driver;
use leases::{Cover, Leases, Renewal};
use metered::Metered;

/// Checks that one call carries at most, and one job has at most.
const MOST: usize = 128;
/// Jobs that may wait.
const QUEUE: usize = 4096;
/// How often unspent leases are given back.
const GIVE_BACK: Duration = Duration::from_millis(50);

/// Checks that were asked together, or refunds, and where the answers go.
struct Job {
    checks: SmallVec<[Charges; 1]>,
    refunds: Vec<Refund>,
    deadline: Instant,
    answers: oneshot::Sender<Answers>,
}

impl Job {
    /// Answers all checks with the same error.
    fn fail(self, error: &Error) {
        let answers = smallvec![Err(error.clone()); self.checks.len().max(1)];
        let _nobody_waits = self.answers.send(answers);
    }
}

type Answers = SmallVec<[Result<Answer, Error>; 1]>;

/// A worker's way to Redis; cheap to clone, and all clones are one.
#[derive(Clone)]
pub struct Lane {
    jobs: mpsc::Sender<Job>,
    redis: Arc<Redis>,
    lost: Arc<AtomicBool>,
    leases: Arc<Leases>,
    metered: Arc<Metered>,
    #[cfg(feature = "bench")]
    single: Option<Arc<single::Single>>,
}

impl Redis {
    /// A lane on the current runtime, connected if Redis can be reached now.
    pub async fn lane(self: &Arc<Self>) -> Lane {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicBool::new(true));
        let mut driver = Driver::new(Arc::clone(self), queue, Arc::clone(&lost));
        driver.connect_once().await;
        tokio::spawn(driver.run());
        self.lanes.fetch_add(1, Ordering::Relaxed);
        let lane = Lane {
            jobs,
            redis: Arc::clone(self),
            lost,
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
        if self.redis.leases && charges.iter().any(Leases::concern) {
            return self.judge_leased(charges, deadline).await;
        }
        self.judge_exactly(charges, deadline).await
    }

    async fn judge_exactly(&self, charges: &Charges, deadline: Instant) -> Result<Answer, Error> {
        #[cfg(feature = "bench")]
        if let Some(single) = &self.single {
            return single.judge(&self.redis, charges).await;
        }
        let answers = self.send(smallvec![charges.clone()], deadline)?;
        receive(answers, 1).await.pop().unwrap_or(Err(Error::Timeout))
    }

    /// What leases cover is taken from them first; Redis judges the rest. Where it refuses, what
    /// was taken goes back: so the check is still charged as one, or not at all.
    async fn judge_leased(&self, charges: &Charges, deadline: Instant) -> Result<Answer, Error> {
        let (now, clock, holders) = (self.now(), boot_clock(), self.redis.holders());
        let mut covers = SmallVec::<[Cover; 4]>::new();
        for charge in charges {
            let concerned = Leases::concern(charge);
            let (cover, renewal) = if concerned {
                self.leases.take(charge, now, clock, holders)
            } else {
                (Cover::Ask, None)
            };
            covers.push(cover);
            if let Some(renewal) = renewal {
                tokio::spawn(self.clone().renew(renewal));
            }
        }
        let asked = charges.iter().zip(&covers).filter(|(_, cover)| matches!(cover, Cover::Ask));
        let rest: Charges = asked.map(|(charge, _)| charge.clone()).collect();
        let only_counts =
            rest.len() < charges.len() && rest.iter().all(|charge| charge.limit.is_meter());
        let judged = if only_counts {
            let verdict = Verdict { now, allowed: true, readings: SmallVec::new() };
            Ok(Answer { verdict, index: 0, leased: true })
        } else {
            self.judge_exactly(&rest, deadline).await
        };
        if !judged.as_ref().is_ok_and(|answer| answer.verdict.allowed) {
            for (charge, cover) in charges.iter().zip(&covers) {
                if let Cover::Taken(_, origin) = cover {
                    self.leases.put_back(charge, *origin);
                }
            }
        }
        let mut answer = judged?;
        if only_counts {
            rest.iter().for_each(|charge| self.metered.add(charge));
            let unread = Reading { held: 0, window: Start::new(0) };
            answer.verdict.readings = rest.iter().map(|_| unread).collect();
        }
        self.learn(&rest, &answer.verdict);
        let mut judged = std::mem::take(&mut answer.verdict.readings).into_iter();
        let reading = |cover: &Cover| match cover {
            Cover::Taken(reading, _) => Some(*reading),
            Cover::Ask => judged.next(),
        };
        answer.verdict.readings = covers.iter().filter_map(reading).collect();
        Ok(answer)
    }

    /// Charges a lease in the background.
    async fn renew(self, renewal: Renewal) {
        let charges: Charges = smallvec![renewal.charge.clone()];
        let judged = self.judge_exactly(&charges, Instant::now() + leases::LIFE / 2).await;
        if let Ok(answer) = &judged {
            self.learn(&charges, &answer.verdict);
        }
        let granted = judged.ok().filter(|answer| answer.verdict.allowed);
        self.leases.settle(&renewal, granted.map(|answer| answer.verdict.now));
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

    fn learn(&self, charges: &Charges, verdict: &Verdict) {
        for (charge, reading) in charges.iter().zip(&verdict.readings) {
            if Leases::concern(charge) {
                let more = if verdict.allowed { charge.amount() } else { 0 };
                self.leases.learn(charge, reading.level() + more, verdict.now);
            }
        }
    }

    /// Judges many checks by `deadline`, each on its own, in order.
    pub async fn judge_all(
        &self,
        checks: &[Charges],
        deadline: Instant,
    ) -> Vec<Result<Answer, Error>> {
        let sent: Vec<_> = checks
            .chunks(MOST)
            .map(|part| (part.len(), self.send(part.iter().cloned().collect(), deadline)))
            .collect();
        let mut answers = Vec::with_capacity(checks.len());
        for (count, sent) in sent {
            match sent {
                Ok(part) => answers.extend(receive(part, count).await),
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
        let mut rest = refunds;
        while !rest.is_empty() {
            let part = rest.split_off(rest.len().saturating_sub(MOST));
            let sent = self.enqueue(SmallVec::new(), part, deadline)?;
            // An answer comes only where it failed.
            receive(sent, 0).await.pop().transpose()?;
        }
        Ok(())
    }

    /// What Redis' clock shows, as far as known.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.redis.clock.now()
    }

    /// Whether any of the node's lanes has given its connection up for now.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.redis.lost_lanes.load(Ordering::Relaxed) > 0
    }

    /// Whether this lane's connection is given up for now.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn send(
        &self,
        checks: SmallVec<[Charges; 1]>,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Answers>, Error> {
        self.enqueue(checks, Vec::new(), deadline)
    }

    fn enqueue(
        &self,
        checks: SmallVec<[Charges; 1]>,
        refunds: Vec<Refund>,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Answers>, Error> {
        if self.is_lost() {
            return Err(Error::Unreachable("the connection is given up for now".into()));
        }
        let (answers, receiver) = oneshot::channel();
        self.jobs.try_send(Job { checks, refunds, deadline, answers }).map_err(|_| {
            self.redis.metrics.store_failed(Error::Overloaded.kind());
            Error::Overloaded
        })?;
        Ok(receiver)
    }
}

/// The driver answers every job by its deadline; no timer is needed here.
async fn receive(answers: oneshot::Receiver<Answers>, count: usize) -> Answers {
    let ended = || smallvec![Err(Error::Unreachable("the lane has ended".into())); count.max(1)];
    answers.await.unwrap_or_else(|_| ended())
}
