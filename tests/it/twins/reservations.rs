//! Reservations of random histories: opened again, adjusted in any order and more than once, with
//! terms that are not theirs, after changes of limits and steps of the clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use redis::Commands as _;
use tokio::time::Instant;
use tollgate::judge::reservation::{Adjusted, ReservationNumbers, Reserved};
use tollgate::limit::{
    AdjustedUnits, Adjustment, AdjustmentKind, Charge, ChargeAdjustment, ChargeMode, Charges,
    NewReservation, ReservationName, ReservationTerms, RowId,
};
use tollgate::store::{AdjustReply, CheckContext, HeldLeases, RedisClient};
use tollgate::time::Micros;

use super::dry_runs::{as_shown, dry_run, outcome};
use super::foreign_rows::split;
use super::history::{ChargeSpec, World, charge_spec};
use super::model::Model;
use super::store_failure;

/// Reservations that are remembered, also after they were settled.
const RECENT: usize = 16;

/// One operation on a reservation.
#[derive(Clone, Debug)]
pub enum ReservationStep {
    /// Opens the reservation of this id, by one of two checks.
    Reserve { charges: Vec<ChargeSpec>, id: u8, check: bool, ttl_secs: u64 },
    /// Adjusts one of the last reservations.
    Adjust {
        which: usize,
        /// For each charge at least or exactly these 16ths of what it was charged.
        units: Vec<(bool, u64)>,
        /// The limits that no longer exist.
        gone: Option<usize>,
        /// Extends it by so many seconds; else closes it.
        extend_secs: Option<u64>,
        forged: bool,
    },
}

/// An operation that a step comes to.
pub enum Operation {
    Reserve(NewReservation, Charges),
    Adjust(Adjustment),
}

pub fn reservation_steps() -> impl Strategy<Value = Vec<ReservationStep>> {
    vec(reservation_step(charge_spec(), 40, 4_000), 0..4)
}

/// A step with one of so many ids and of at most so many seconds.
pub fn reservation_step(
    charge: impl Strategy<Value = ChargeSpec>,
    ids: u8,
    ttl_secs: u64,
) -> impl Strategy<Value = ReservationStep> {
    let reserve = (vec(charge, 1..4), 0..ids, prop::bool::weighted(0.9), 1..ttl_secs).prop_map(
        |(charges, id, check, ttl_secs)| ReservationStep::Reserve { charges, id, check, ttl_secs },
    );
    let units = vec((prop::bool::weighted(0.2), 0_u64..32), 1..6);
    let gone = prop::option::weighted(0.05, 0_usize..3);
    let extend = prop::option::weighted(0.25, 1..ttl_secs);
    let adjust = (0..RECENT, units, gone, extend, prop::bool::weighted(0.03)).prop_map(
        |(which, units, gone, extend_secs, forged)| ReservationStep::Adjust {
            which,
            units,
            gone,
            extend_secs,
            forged,
        },
    );
    prop_oneof![3 => reserve, 2 => adjust]
}

/// The reservations of a history.
#[derive(Default)]
pub struct Reservations {
    recent: Vec<(NewReservation, Charges)>,
    count: u64,
}

impl Reservations {
    /// Runs the operations of a step in Redis and by the reference.
    pub async fn run(
        &mut self,
        steps: &[ReservationStep],
        world: &World,
        model: &mut Model,
        client: &RedisClient,
        deadline: Instant,
        connection: &mut redis::Connection,
    ) -> Result<(), TestCaseError> {
        let now = world.now();
        for step in steps {
            match self.operation(step, world) {
                Some(Operation::Reserve(new, charges)) => {
                    let dry =
                        dry_run(&charges, Some(&new), model, client, now, deadline, connection);
                    let dry = dry.await?;
                    let reply = client
                        .reserve(
                            &charges,
                            &new,
                            HeldLeases::default(),
                            &CheckContext::NONE,
                            deadline,
                        )
                        .await;
                    let lua = outcome(reply.map_err(store_failure)?);
                    let dry = dry.map(|dry| as_shown(&dry));
                    if !world.has_changed_limits {
                        prop_assert_eq!(dry, Ok(as_shown(&lua)), "left is dry: {:#?}", charges);
                    }
                    let rust = model.reserve(&charges, &new, now);
                    prop_assert_eq!(&rust, &lua, "left is Rust: {:#?} {:#?}", new, charges);
                    if matches!(rust, Reserved::Judged(verdict) if verdict.allowed) {
                        self.recent.insert(0, (new, charges));
                        self.recent.truncate(RECENT);
                    }
                }
                Some(Operation::Adjust(adjustment)) => {
                    let reply = client.adjust(&adjustment, &[], deadline).await;
                    let lua = match reply.map_err(store_failure)? {
                        AdjustReply::Unknown => Adjusted::Unknown,
                        AdjustReply::Adjusted(done) => {
                            Adjusted::Done { is_late: done.is_late, charges: done.charges }
                        }
                    };
                    let rust = model.adjust(&adjustment, now);
                    prop_assert_eq!(&rust, &lua, "left is Rust: {:#?}", adjustment);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The operation of a step; `None` if it adjusts a reservation that there is not.
    pub fn operation(&mut self, step: &ReservationStep, world: &World) -> Option<Operation> {
        match step {
            ReservationStep::Reserve { charges, id, check, ttl_secs } => {
                let charges = reservable(world.check(charges));
                let new = self.new_reservation(&charges, *id, *check, *ttl_secs);
                Some(Operation::Reserve(new, charges))
            }
            ReservationStep::Adjust { which, units, gone, extend_secs, forged } => {
                let (new, charges) = self.recent.get(*which)?;
                let mut adjustment = adjustment(new, charges, units, *extend_secs);
                if let Some(charge) = gone.and_then(|gone| adjustment.charges.get_mut(gone)) {
                    charge.limit = None;
                }
                if *forged {
                    adjustment.terms = ReservationTerms::new(b"forged!!").unwrap();
                }
                Some(Operation::Adjust(adjustment))
            }
        }
    }

    fn new_reservation(
        &mut self,
        charges: &Charges,
        id: u8,
        check: bool,
        ttl_secs: u64,
    ) -> NewReservation {
        self.count += 1;
        let mut terms = self.count.to_le_bytes().to_vec();
        terms.extend_from_slice(b"terms");
        NewReservation {
            name: ReservationName::new(&charges[0].subject, &id.to_string()),
            check: [u8::from(check); 8],
            ttl: Micros::from_secs(ttl_secs),
            terms: ReservationTerms::new(&terms).unwrap(),
        }
    }
}

/// Compares the annexes and numbers of all subjects, byte for byte.
pub fn compare_annexes(model: &Model, redis: &mut redis::Connection) -> Result<(), TestCaseError> {
    for subject in World::subjects() {
        let stored: Option<Vec<u8>> = redis.get(subject.redis_key()).unwrap();
        let (mut annexes, mut numbers) = (BTreeMap::<u64, Vec<u8>>::new(), None);
        for row in split(stored.as_ref().map_or(&[], |stored| &stored[5..])) {
            let (head, body) = row.split_first_chunk::<{ RowId::LEN }>().unwrap();
            let (id, _) = RowId::from_head(*head);
            match id.kind().get() {
                5 | 6 | 12 => annexes.entry(id.get()).or_default().extend_from_slice(body),
                7 => {
                    let number = |bytes: &[u8]| {
                        bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
                    };
                    numbers = Some(ReservationNumbers {
                        last: number(&body[..6]),
                        birth: body[6..14].try_into().unwrap(),
                        until: Micros::from_secs(number(&body[14..])),
                    });
                }
                _ => {}
            }
        }
        prop_assert_eq!(model.annexes(subject), (annexes, numbers), "left is Rust: {:?}", subject);
    }
    Ok(())
}

/// Reservations are charged if they fit; their numbers end at 2^40.
fn reservable(charges: Charges) -> Charges {
    let cost = |charge: &Charge| charge.cost.min(1 << 40);
    let mode = ChargeMode::IfFits;
    charges.into_iter().map(|charge| Charge { mode, cost: cost(&charge), ..charge }).collect()
}

fn adjustment(
    new: &NewReservation,
    charges: &Charges,
    units: &[(bool, u64)],
    extend_secs: Option<u64>,
) -> Adjustment {
    let charges = charges.iter().zip(units.iter().cycle()).map(|(charge, &(least, part))| {
        let units = (charge.cost / 16 * part + charge.cost % 16).min(1 << 40);
        let units =
            if least { AdjustedUnits::AtLeast(units) } else { AdjustedUnits::Exactly(units) };
        ChargeAdjustment { subject: charge.subject, limit: Some(Arc::clone(&charge.limit)), units }
    });
    Adjustment {
        name: new.name,
        terms: new.terms.clone(),
        kind: match extend_secs {
            Some(ttl) => AdjustmentKind::Extend { ttl: Micros::from_secs(ttl) },
            None => AdjustmentKind::Close,
        },
        charges: charges.collect(),
    }
}
