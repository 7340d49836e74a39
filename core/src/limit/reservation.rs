//! Reservations as a store takes them: a name, and charges that are adjusted later.
//!
//! The gateway's handle, usage and prices are not known here: a reservation keeps its *terms* as
//! bytes that only the caller reads.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::{Charge, Charges, Limit, Subject};
use crate::time::Micros;

/// The most subjects that one reservation charges.
pub const MAX_RESERVED_SUBJECTS: usize = 8;

/// The time beyond its ttl during which a reservation can still be settled.
pub const LATE_SETTLEMENT: Micros = Micros::from_secs(600);

/// The name of a reservation: a digest of the gateway's id under the first subject of the check,
/// so that ids of different clients never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationName([u8; 16]);

impl ReservationName {
    /// The name of the reservation `id` of a check whose first charge is against `first`.
    #[must_use]
    pub fn new(first: &Subject, id: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"reservation");
        hasher.update(first.digest());
        hasher.update(id.as_bytes());
        let mut name = [0; 16];
        name.copy_from_slice(&hasher.finalize()[..16]);
        Self(name)
    }

    /// The name in these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Appends the name of its Redis key: `tg:{TAG}:r:NAME`. The tag is that of `beside`, which in
    /// a Cluster is a subject in the slot; without one it is the name itself, which changes of the
    /// catalog leave alone.
    pub fn write_redis_key(&self, beside: Option<&Subject>, out: &mut String) {
        out.push_str("tg:{");
        URL_SAFE_NO_PAD.encode_string(beside.map_or(self.0, Subject::tag), out);
        out.push_str("}:r:");
        URL_SAFE_NO_PAD.encode_string(self.0, out);
    }
}

impl fmt::Debug for ReservationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The terms of a reservation: 8 random bytes, which no caller can guess, and what the caller wants
/// back when the reservation is settled. The store keeps them and compares them.
#[derive(Clone, PartialEq, Eq)]
pub struct ReservationTerms(Box<[u8]>);

impl ReservationTerms {
    /// The number of random bytes at the beginning.
    pub const SECRET_LEN: usize = 8;

    /// Terms that begin with random bytes; `None` if there are fewer than those.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= Self::SECRET_LEN).then(|| Self(bytes.into()))
    }

    /// All bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The random bytes: also the birth tag of subjects that it is the first to number.
    #[must_use]
    pub fn secret(&self) -> [u8; Self::SECRET_LEN] {
        let mut secret = [0; Self::SECRET_LEN];
        secret.copy_from_slice(&self.0[..Self::SECRET_LEN]);
        secret
    }
}

impl fmt::Debug for ReservationTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReservationTerms({} bytes)", self.0.len())
    }
}

/// A reservation to be opened if its check is allowed.
#[derive(Clone, Debug)]
pub struct NewReservation<N = ReservationName> {
    /// The name.
    pub name: N,
    /// A digest of the check as it was requested: the same name with another digest is a conflict.
    pub check: [u8; 8],
    /// The time for which it is open.
    pub ttl: Micros,
    /// The terms, kept with it.
    pub terms: ReservationTerms,
}

/// The change that an adjustment makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjustmentKind {
    /// Settles or cancels: the reservation is gone afterwards, and so are its slots.
    Close,
    /// Extends: the reservation stays open until `ttl` from now, and holds its slots again.
    Extend {
        /// The time from now for which it stays open.
        ttl: Micros,
    },
}

/// The units that a charge of a reservation comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjustedUnits {
    /// Exactly these.
    Exactly(u64),
    /// As many as are charged already, or these if they are more.
    AtLeast(u64),
}

impl AdjustedUnits {
    /// Nothing is known: what is charged stays.
    pub const UNKNOWN: Self = Self::AtLeast(0);

    /// The units to charge where `charged` are charged.
    #[must_use]
    pub fn over(self, charged: u64) -> u64 {
        match self {
            Self::Exactly(units) => units,
            Self::AtLeast(units) => units.max(charged),
        }
    }

    /// The units beyond the first `held` ones, which are charged elsewhere.
    #[must_use]
    pub fn beyond(self, held: u64) -> Self {
        match self {
            Self::Exactly(units) => Self::Exactly(units.saturating_sub(held)),
            Self::AtLeast(units) => Self::AtLeast(units.saturating_sub(held)),
        }
    }
}

/// Units of a reservation that a node took from a lease: they were charged before it was opened, so
/// the store holds none of them in it, and they are returned by a refund of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasedUnits {
    /// The number of units: the charge's whole cost, at most 2^53.
    pub units: u64,
    /// The time at which the lease was charged, by the store's clock.
    pub charged_at: Micros,
}

impl LeasedUnits {
    /// The units that are left over if the charge comes to `units` in the end.
    #[must_use]
    pub fn unused(self, units: AdjustedUnits) -> u64 {
        self.units.saturating_sub(units.over(self.units))
    }
}

/// A change of a reservation's charges.
#[derive(Clone, Debug)]
pub struct Adjustment {
    /// The reservation.
    pub name: ReservationName,
    /// Its terms, as they were kept.
    pub terms: ReservationTerms,
    /// The change.
    pub kind: AdjustmentKind,
    /// Its charges, all and in their order.
    pub charges: Vec<ChargeAdjustment>,
}

/// The change of one charge of a reservation.
#[derive(Clone, Debug)]
pub struct ChargeAdjustment {
    /// The subject that was charged.
    pub subject: Subject,
    /// The limit that was charged; `None` if it no longer exists: then the charge stays.
    pub limit: Option<Arc<Limit>>,
    /// The units that the charge comes to.
    pub units: AdjustedUnits,
}

impl ChargeAdjustment {
    /// A look at the counter, if the limit still exists.
    #[must_use]
    pub fn look(&self) -> Option<Charge> {
        Some(Charge::new(self.subject, Arc::clone(self.limit.as_ref()?), 0))
    }
}

impl Adjustment {
    /// Looks at the counters of the charges whose limits still exist.
    #[must_use]
    pub fn looks(&self) -> Charges {
        self.charges.iter().filter_map(ChargeAdjustment::look).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Leased units are charged elsewhere, and the charge comes to the same as without a lease.
        #[test]
        fn leased_units_leave_the_rest_of_a_charge_and_what_is_unused(
            estimate in 0_u64..50,
            beyond in 0_u64..50,
            units in prop_oneof![
                (0_u64..120).prop_map(AdjustedUnits::Exactly),
                (0_u64..120).prop_map(AdjustedUnits::AtLeast),
            ],
        ) {
            let leased = LeasedUnits { units: estimate, charged_at: Micros::ZERO };
            let charged = estimate + units.beyond(estimate).over(beyond) - leased.unused(units);
            prop_assert_eq!(charged, units.over(estimate + beyond));
        }
    }
}
