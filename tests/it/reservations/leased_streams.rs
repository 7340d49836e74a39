//! Streams of reservations through several nodes that hold leases of one limit: what was used is
//! charged, and within the published bound.
//! Needs programs besides Rust, so `make fast` skips it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::Instant;
use tollgate::algorithm::{Counting as _, Throttle};
use tollgate::limit::{
    AdjustedUnits, Adjustment, AdjustmentKind, Charge, ChargeAdjustment, Charges, LeasedUnits,
    Limit, NewReservation, ReservationName, ReservationTerms, Subject, Unit,
};
use tollgate::store::{AdjustReply, CheckContext, Redis, RedisClient, RedisOptions, ReserveReply};
use tollgate::telemetry::Metrics;
use tollgate::time::Micros;

use super::streams::Random;
use crate::support::redis::RedisServer;
use crate::twins::{DEADLINE, options};

const NODES: usize = 3;
const STREAMS: u64 = 12;
/// The reservations that leases have to open before the test ends.
const FROM_LEASES: u64 = 30;
const RATE: u64 = 5_000;
const BURST: u64 = 5_000;
const LEASE_LIFETIME: Micros = Micros::new(200_000);

const NONE: &CheckContext = &CheckContext::NONE;

/// Units that were used, with the time from which they were charged.
struct Use {
    charged_at: Micros,
    units: u64,
    /// The part beyond the estimate.
    is_overrun: bool,
}

#[derive(Default)]
struct Totals {
    uses: Vec<Use>,
    opened: u64,
    from_leases: u64,
}

/// The clients of all nodes, and the limit that they share.
struct Fleet {
    clients: Vec<RedisClient>,
    limit: Arc<Limit>,
    totals: RefCell<Totals>,
    began: Instant,
}

impl Fleet {
    fn charges(&self, cost: u64) -> Charges {
        let subject = Subject::policy("p", "a");
        [Charge::new(subject, Arc::clone(&self.limit), cost)].into_iter().collect()
    }

    fn client(&self, random: &mut Random) -> &RedisClient {
        &self.clients[random.below(NODES as u64) as usize]
    }

    fn note(&self, charged_at: Micros, units: u64, is_overrun: bool) {
        self.totals.borrow_mut().uses.push(Use { charged_at, units, is_overrun });
    }

    fn soon() -> Instant {
        Instant::now() + DEADLINE
    }

    /// True once the bucket has been full for a while, and leases have opened enough reservations.
    fn is_over(&self) -> bool {
        let (least, most) = (Duration::from_secs(2), Duration::from_secs(18));
        let passed = self.began.elapsed();
        passed >= least && self.totals.borrow().from_leases >= FROM_LEASES || passed >= most
    }

    /// Checks and reservations, one after the other, until the end.
    async fn stream(self: Rc<Self>, mut random: Random) {
        while !self.is_over() {
            for _ in 0..random.below(12) {
                let charges = self.charges(1 + random.below(20));
                let client = self.client(&mut random);
                let judged = client.judge(&charges, NONE, Self::soon()).await.unwrap();
                if judged.verdict.allowed {
                    // A lease was charged at some time before. The earliest one gives the lowest
                    // level; the node only estimates Redis' clock.
                    let ago = if judged.leased { 2 * LEASE_LIFETIME.get() } else { 0 };
                    let charged_at = Micros::new(judged.verdict.now.get() - ago);
                    self.note(charged_at, charges[0].cost, false);
                }
                tokio::task::yield_now().await;
            }
            self.reserve(&mut random).await;
        }
    }

    /// Opens a reservation, and settles it through some node and then through another one.
    async fn reserve(&self, random: &mut Random) {
        let estimate = 1 + random.below(40);
        let charges = self.charges(estimate);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&random.below(u64::MAX).to_le_bytes());
        let (name, ttl) = (ReservationName::from_bytes(bytes), Micros::from_secs(60));
        let terms = ReservationTerms::new(&bytes).unwrap();
        let new = NewReservation { name, check: [0; 8], ttl, terms: terms.clone() };
        let client = self.client(random);
        let held = client.hold_leases(&charges);
        let leased =
            held.charged_at(0).map(|charged_at| LeasedUnits { units: estimate, charged_at });
        let reply = client.reserve(&charges, &new, held, NONE, Self::soon()).await.unwrap();
        let ReserveReply::Judged(judged) = reply else { panic!("{reply:?}") };
        if !judged.verdict.allowed {
            return;
        }
        let used = random.below(2 * estimate);
        let charge = ChargeAdjustment {
            subject: charges[0].subject,
            limit: Some(Arc::clone(&self.limit)),
            units: AdjustedUnits::Exactly(used),
        };
        let kind = AdjustmentKind::Close;
        let adjustment = Adjustment { name, terms, kind, charges: vec![charge] };
        // The answer takes its time.
        tokio::time::sleep(Duration::from_millis(random.below(100))).await;
        let first = self.client(random).adjust(&adjustment, &[leased], Self::soon()).await.unwrap();
        let AdjustReply::Adjusted(adjusted) = first else { panic!("{first:?}") };
        assert_eq!(adjusted.charges[0].charged, Some(estimate));
        let charged_at = leased.map_or(judged.verdict.now, |leased| leased.charged_at);
        self.note(charged_at, used.min(estimate), false);
        self.note(adjusted.now, used.saturating_sub(estimate), true);
        let again = self.client(random).adjust(&adjustment, &[leased], Self::soon()).await.unwrap();
        assert_eq!(again, AdjustReply::Unknown);
        let mut totals = self.totals.borrow_mut();
        totals.opened += 1;
        totals.from_leases += u64::from(leased.is_some());
    }

    /// The level if nothing but what was used had been charged, each at its time.
    fn ideal_level(&self, now: Micros) -> u64 {
        let mut uses: Vec<(Micros, u64)> = Vec::new();
        uses.extend(self.totals.borrow().uses.iter().map(|used| (used.charged_at, used.units)));
        uses.push((now, 0));
        uses.sort_unstable();
        let (mut level, mut before) = (0_u64, Micros::ZERO);
        for (at, units) in uses {
            level = level.saturating_sub(self.limit.algorithm().drained(at.since(before)));
            (level, before) = (level + self.limit.amount(units), at);
        }
        level
    }
}

#[test]
fn what_streams_use_is_charged_and_within_the_bound_whether_or_not_leases_held_it() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        let mut clients = Vec::new();
        for _ in 0..NODES {
            let options = RedisOptions { min_nodes: NODES as u64, ..options(&server.url()) };
            let redis = Redis::new(&options, Arc::new(Metrics::new()), None).unwrap();
            clients.push(redis.open_client().await);
        }
        let throttle = Throttle::new(format!("{RATE}/s").parse().unwrap(), BURST).unwrap();
        let limit = Arc::new(Limit::new("t", Unit::requests(), throttle, false).as_leased());
        let began = Instant::now();
        let fleet = Rc::new(Fleet { clients, limit, totals: RefCell::default(), began });
        let streams = (0..STREAMS).map(|seed| {
            let stream = Rc::clone(&fleet).stream(Random((seed + 1) << 32));
            tokio::task::spawn_local(stream)
        });
        for stream in streams.collect::<Vec<_>>() {
            stream.await.unwrap();
        }
        let looked = fleet.clients[0].judge(&fleet.charges(0), NONE, Fleet::soon()).await.unwrap();
        let (level, now) = (looked.verdict.states[0].unsigned_level(), looked.verdict.now);
        let ideal = fleet.ideal_level(now);
        assert!(level >= ideal, "{level} is less than {ideal}");
        let Totals { uses, opened, from_leases } = &*fleet.totals.borrow();
        assert!(*from_leases >= FROM_LEASES, "only {from_leases} of {opened} from leases");
        let first = uses.iter().map(|used| used.charged_at).min().unwrap();
        let within =
            uses.iter().filter(|used| !used.is_overrun).map(|used| used.units).sum::<u64>();
        let time = now.since(first).get() + LEASE_LIFETIME.get();
        assert!(within <= BURST + RATE * time / 1_000_000, "{within} in {time} us");
        eprintln!("{opened} opened, {from_leases} from leases, {within} units in {time} us");
    }));
}
