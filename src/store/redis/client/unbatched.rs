//! One EVALSHA for each check over a shared connection: the baseline that benchmarks compare group
//! commit with. It has no circuit breaker and no retry.

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::limit::Charges;
use crate::store::StoreVerdict;
use crate::store::redis::call::CheckCall;
use crate::store::redis::connection::LiveConnection;
use crate::store::redis::reply::{CheckReply, ReplyDecoder};
use crate::store::redis::{Redis, StoreError, errors, script};

/// A connection that is used if the environment has `BENCH_SINGLE`.
pub(super) struct Unbatched(OnceCell<LiveConnection>);

impl Unbatched {
    pub(super) fn from_environment() -> Option<Self> {
        std::env::var_os("BENCH_SINGLE").map(|_| Self(OnceCell::new()))
    }

    pub(super) async fn judge(
        &self,
        redis: &Redis,
        charges: &Charges,
    ) -> Result<StoreVerdict, StoreError> {
        if redis.topology.is_sharded() {
            return Err(StoreError::Unreachable("this is for one primary only".into()));
        }
        let connect = async || redis.connect(&*redis.topology.primary_of(0)?, redis.deadline).await;
        let shared = self.0.get_or_try_init(connect).await?;
        let mut call = CheckCall::default();
        call.add_check(charges, redis.clock.now());
        let value = script::CHECK_SCRIPT
            .run(&call, Instant::now() + redis.deadline, &mut shared.connection.clone())
            .await
            .and_then(|reply| reply)
            .map_err(|error| errors::classify(&error))?;
        match ReplyDecoder::new(value)?.next_check(charges)? {
            CheckReply::Done(verdict) => Ok(StoreVerdict { verdict, index: 0, leased: false }),
            CheckReply::WindowMiss
            | CheckReply::DayRollover
            | CheckReply::NewSubject(_)
            | CheckReply::BadRow(_) => Err(StoreError::BadReply("no verdict".into())),
        }
    }
}
