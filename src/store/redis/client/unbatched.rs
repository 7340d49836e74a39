//! One EVALSHA for each check over a shared connection: the baseline that benchmarks compare group
//! commit with. It has no circuit breaker and no retry.

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

use crate::limit::Charges;
use crate::store::StoreVerdict;
use crate::store::redis::call::CheckCall;
use crate::store::redis::reply::{CheckReply, ReplyDecoder};
use crate::store::redis::{Redis, StoreError, errors, script};

/// A connection that is used if the environment has `BENCH_SINGLE`.
pub(super) struct Unbatched(OnceCell<MultiplexedConnection>);

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
        let connect = async || {
            let server = redis.topology.primary_of(0)?;
            let connected = server.client.get_multiplexed_async_connection().await;
            connected.map_err(|error| errors::classify(&error))
        };
        let shared = self.0.get_or_try_init(connect).await?;
        let mut call = CheckCall::default();
        call.add_check(charges, redis.clock.now());
        let command = script::CHECK_SCRIPT.evalsha_command(&call);
        let value = shared.clone().send_packed_command(&command).await;
        let value =
            value.and_then(Value::extract_error).map_err(|error| errors::classify(&error))?;
        match ReplyDecoder::new(value)?.next_check(charges)? {
            CheckReply::Done(verdict) => Ok(StoreVerdict { verdict, index: 0, leased: false }),
            CheckReply::WindowMiss
            | CheckReply::DayRollover
            | CheckReply::NewSubject(_)
            | CheckReply::BadRow(_) => Err(StoreError::BadReply("no verdict".into())),
        }
    }
}
