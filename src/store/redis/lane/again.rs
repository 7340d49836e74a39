//! What a lane does about checks that a call has not judged: it asks once more.

use redis::aio::MultiplexedConnection;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use super::driver::{Driver, Undecided};
use crate::limit::Charges;
use crate::store::Answer;
use crate::store::redis::usage::UsageCall;
use crate::store::redis::{Error, connection, script};

impl Driver {
    /// Asks once more for checks whose windows Redis' clock did not hold, which has been read now,
    /// and for those that met days to be kept first, which is done now.
    pub(super) async fn ask_again(
        &self,
        checks: &[&Charges],
        results: &mut [Result<Answer, Undecided>],
        deadline: Instant,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), Error> {
        let open =
            |place: &usize| matches!(results[*place], Err(Undecided::Elsewhere | Undecided::Over));
        let places: SmallVec<[usize; 4]> = (0..results.len()).filter(open).collect();
        if places.is_empty() {
            return Ok(());
        }
        let again: Vec<&Charges> = places.iter().map(|&place| checks[place]).collect();
        let answers = self.second_call(&again, deadline, connection).await;
        // What the first call has decided stays decided, whatever became of this one.
        let (answers, failed) = match answers {
            Ok(answers) => (answers, Ok(())),
            Err(error) => {
                let failed = || Err(Undecided::Failed(error.clone()));
                ((0..places.len()).map(|_| failed()).collect(), Err(error.clone()))
            }
        };
        for (place, answer) in places.into_iter().zip(answers) {
            results[place] = answer;
        }
        failed
    }

    async fn second_call(
        &self,
        checks: &[&Charges],
        deadline: Instant,
        connection: &mut MultiplexedConnection,
    ) -> Result<Vec<Result<Answer, Undecided>>, Error> {
        let days = UsageCall::days_of(checks, self.redis.clock.now());
        if !days.is_empty() {
            timeout_at(deadline, script::USAGE.run(&days, connection))
                .await
                .map_err(|_| Error::Timeout)?
                .map_err(|error| connection::meaning(&error))?;
        }
        self.call(checks, &[], deadline, connection).await
    }
}
