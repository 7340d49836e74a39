//! One EVALSHA for each check over a shared connection, for benchmarks only: what group commit is
//! compared with. It neither gives up nor asks twice.

use tokio::sync::OnceCell;

use crate::limit::Charges;
use crate::store::Answer;
use crate::store::redis::call::Call;
use crate::store::redis::connection::Established;
use crate::store::redis::reply::{Judged, Reply};
use crate::store::redis::{Error, Redis, Servers, errors, script};

/// A lane's connection, where `BENCH_SINGLE` asks for it.
pub(super) struct Single(OnceCell<Established>);

impl Single {
    pub(super) fn from_environment() -> Option<Self> {
        std::env::var_os("BENCH_SINGLE").map(|_| Self(OnceCell::new()))
    }

    pub(super) async fn judge(&self, redis: &Redis, charges: &Charges) -> Result<Answer, Error> {
        let Servers::One(server) = &redis.servers else {
            return Err(Error::Unreachable("this is for one primary only".into()));
        };
        let connect = async || redis.establish(server, redis.deadline).await;
        let shared = self.0.get_or_try_init(connect).await?;
        let mut call = Call::default();
        call.add(charges, redis.clock.now());
        let value = script::CHECK
            .run(&call, &mut shared.connection.clone())
            .await
            .and_then(|said| said)
            .map_err(|error| errors::meaning(&error))?;
        match Reply::new(value)?.next(charges)? {
            Judged::Verdict(verdict) => Ok(Answer { verdict, index: 0, leased: false }),
            Judged::Elsewhere | Judged::Over | Judged::BadRow(_) => {
                Err(Error::BadReply("no verdict".into()))
            }
        }
    }
}
