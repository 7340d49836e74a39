//! Random histories of clients with leases that open and settle reservations.
//!
//! They are data only: the simulation runs them.

use proptest::collection::vec;
use proptest::prelude::*;

pub(super) const CLIENTS: usize = 2;

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A client judges `count` checks of this cost, one after the other.
    Checks { client: usize, count: u64, cost: u64 },
    /// This many microseconds pass.
    Pass(u64),
    /// The reply to a client's oldest renewal arrives, or is lost.
    RenewalReply { client: usize, arrives: bool },
    /// A client refunds unspent units, and with `all` every unit.
    Refund { client: usize, all: bool },
    /// A client crashes and loses its leases.
    Crash(usize),
    /// A client opens a reservation of this cost.
    Reserve { client: usize, cost: u64, end: ReserveEnd },
    /// One of the reservations is settled with so many tenths of its estimate, or extended.
    Adjust { which: usize, tenths: u64, change: Change },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ReserveEnd {
    Answered,
    RefusedByAnotherLimit,
    /// The request is lost before Redis, or its response behind it.
    Lost {
        runs: bool,
    },
    GivenUpBeforeTheCall,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    Settle,
    SettleAtLeast,
    Extend,
}

pub(super) fn events() -> impl Strategy<Value = Vec<Event>> {
    let end = prop_oneof![
        8 => Just(ReserveEnd::Answered),
        2 => Just(ReserveEnd::RefusedByAnotherLimit),
        1 => any::<bool>().prop_map(|runs| ReserveEnd::Lost { runs }),
        1 => Just(ReserveEnd::GivenUpBeforeTheCall),
    ];
    let change = prop_oneof![
        4 => Just(Change::Settle),
        1 => Just(Change::SettleAtLeast),
        1 => Just(Change::Extend),
    ];
    let event = prop_oneof![
        5 => (0..CLIENTS, 1_u64..80, 1_u64..4).prop_map(|(client, count, cost)| Event::Checks { client, count, cost }),
        4 => (0_u64..40_000).prop_map(Event::Pass),
        1 => (100_000_u64..300_000).prop_map(Event::Pass),
        6 => (0..CLIENTS, prop::bool::weighted(0.9)).prop_map(|(client, arrives)| Event::RenewalReply { client, arrives }),
        2 => (0..CLIENTS, prop::bool::weighted(0.3)).prop_map(|(client, all)| Event::Refund { client, all }),
        1 => (0..CLIENTS).prop_map(Event::Crash),
        6 => (0..CLIENTS, 1_u64..60, end).prop_map(|(client, cost, end)| Event::Reserve { client, cost, end }),
        5 => (0_usize..8, 0_u64..20, change).prop_map(|(which, tenths, change)| Event::Adjust { which, tenths, change }),
    ];
    vec(event, 1..150)
}
