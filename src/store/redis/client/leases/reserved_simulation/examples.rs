//! Single reservations from a lease, and the number of those in random histories.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::strategy::ValueTree as _;

use super::*;

/// A client with a lease.
fn with_lease() -> Simulation {
    let mut simulation = Simulation::new();
    for _ in 0..20 {
        simulation.apply(&Event::Checks { client: 0, count: 1, cost: 10 });
        simulation.apply(&Event::RenewalReply { client: 0, arrives: true });
    }
    simulation
}

/// The units that leases cover.
fn held_units(simulation: &Simulation) -> u64 {
    let mut held = Vec::new();
    let leases = &simulation.clients[0].leases;
    let one: Charges = [simulation.charge(1)].into_iter().collect();
    loop {
        let more = HeldLeases::take(&one, leases, simulation.clock());
        if more.is_empty() {
            return held.len() as u64;
        }
        held.push(more);
    }
}

#[test]
fn units_are_spent_once_the_reservation_may_be_open_and_else_put_back() {
    let cases = [
        (ReserveEnd::Answered, 20),
        (ReserveEnd::RefusedByAnotherLimit, 0),
        (ReserveEnd::Lost { runs: true }, 20),
        (ReserveEnd::Lost { runs: false }, 20),
        (ReserveEnd::GivenUpBeforeTheCall, 0),
    ];
    for (end, spent) in cases {
        let mut simulation = with_lease();
        let before = held_units(&simulation);
        assert!(before >= 20, "only {before} are leased");
        let level = simulation.level();
        simulation.apply(&Event::Reserve { client: 0, cost: 20, end });
        assert_eq!(before - held_units(&simulation), spent, "{end:?}");
        assert_eq!(simulation.level(), level, "Redis charges nothing: {end:?}");
    }
}

#[test]
#[rustfmt::skip]
fn a_settlement_gives_back_once_what_neither_use_nor_time_has_taken_and_charges_what_is_beyond() {
    let cases = [
        // tenths  change                ms   unused beyond
        (5,        Change::Settle,        0,      10, 0),
        (0,        Change::Settle,        0,      20, 0),
        (15,       Change::Settle,        0,       0, 10),
        (5,        Change::SettleAtLeast, 0,       0, 0),
        (15,       Change::SettleAtLeast, 0,       0, 10),
        (15,       Change::Settle,        2,       0, 10),
        // Four units drain in a millisecond.
        (5,        Change::Settle,        2,       10, 0),
        (0,        Change::Settle,        3,       20, 0),
        (0,        Change::Settle,        6,       20, 0),
    ];
    for (tenths, change, age, unused, beyond) in cases {
        let mut simulation = with_lease();
        simulation.apply(&Event::Reserve { client: 0, cost: 20, end: ReserveEnd::Answered });
        simulation.apply(&Event::Pass(age * 1_000));
        let age = simulation.now.since(simulation.opened[0].leased.unwrap().charged_at);
        let limit = &simulation.limit;
        let given = limit.amount(unused).saturating_sub(limit.algorithm().drained(age));
        let expected = simulation.level() - given + limit.amount(beyond);
        for _ in 0..3 {
            simulation.apply(&Event::Adjust { which: 0, tenths, change });
            assert_eq!(simulation.level(), expected, "{tenths} tenths, {change:?}, {age:?}");
        }
    }
}

#[test]
fn the_histories_open_reservations_from_leases() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut leased = 0;
    for _ in 0..50 {
        let mut simulation = Simulation::new();
        let history = events().new_tree(&mut runner).unwrap().current();
        for event in &history {
            simulation.apply(event);
        }
        leased += simulation.leased;
    }
    assert!(leased >= 50, "only {leased} in fifty histories");
}
