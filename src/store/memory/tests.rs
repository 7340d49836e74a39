//! Tests of the memory store: atomicity, memory, and persistence.

use super::*;
use crate::algorithm::{Concurrency, Throttle};
use crate::limit::{
    AdjustedUnits, AdjustmentKind, ChargeAdjustment, Charges, Limit, ReservationName,
    ReservationTerms, Subject, Unit,
};
use crate::telemetry::Metrics;
use crate::time::ManualClock;

fn charges(keys: &[u64], cost: u64) -> Charges {
    let throttle = Throttle::new("1/s".parse().unwrap(), 10).unwrap();
    let limit = Arc::new(Limit::new("t", Unit::requests(), throttle, false));
    let charge =
        |key: &u64| Charge::new(Subject::policy("p", &key.to_string()), Arc::clone(&limit), cost);
    keys.iter().map(charge).collect()
}

fn memory() -> (Arc<ManualClock>, MemoryStore) {
    let clock = Arc::new(ManualClock::default());
    clock.set(Micros::from_secs(1_000_000));
    (Arc::clone(&clock), MemoryStore::new(clock))
}

fn data_dir(folder: &tempfile::TempDir) -> DataDir {
    DataDir::open(folder.path(), Arc::new(Metrics::new())).unwrap()
}

#[test]
fn subjects_of_one_check_are_charged_together_or_not_at_all() {
    let (_, memory) = memory();
    assert!(memory.judge(&charges(&[1], 8)).unwrap().verdict.allowed);
    assert!(!memory.judge(&charges(&[1, 2], 5)).unwrap().verdict.allowed);
    assert_eq!(memory.judge(&charges(&[2], 0)).unwrap().verdict.states[0].level, 0);
    assert!(memory.judge(&charges(&[1, 2], 2)).unwrap().verdict.allowed);
}

#[test]
fn a_decision_has_a_larger_number_than_those_before_it_on_the_same_rows() {
    let (_, memory) = memory();
    let index = |keys: &[u64]| memory.judge(&charges(keys, 1)).unwrap().index;
    let one = (0..3).map(|_| index(&[1])).max().unwrap();
    let both = index(&[1, 2]);
    assert!(both > one);
    assert!(index(&[1]) > both && index(&[2]) > both);
}

#[test]
fn keys_that_come_and_go_leave_no_memory_behind() {
    let (clock, memory) = memory();
    let keys = 100_000;
    for key in 0..keys {
        assert!(memory.judge(&charges(&[key], 1)).unwrap().verdict.allowed);
    }
    let full = memory.table_bytes();
    assert!(full <= 96 * 100_000, "{full} bytes");
    memory.sweep();
    assert_eq!(memory.row_count(), 100_000);
    clock.set(Micros::from_secs(1_000_010));
    memory.sweep();
    assert_eq!(memory.row_count(), 0);
    assert!(memory.table_bytes() * 20 < full, "{} of {full} bytes are left", memory.table_bytes());
}

#[test]
fn what_was_saved_is_there_again_and_what_drained_is_not() {
    let (clock, folder) = (Arc::new(ManualClock::default()), tempfile::tempdir().unwrap());
    clock.set(Micros::from_secs(1_000_000));
    let open =
        || MemoryStore::open(&data_dir(&folder), Arc::clone(&clock) as _, usize::MAX).unwrap();
    let level = |memory: &MemoryStore, key| {
        memory.judge(&charges(&[key], 0)).unwrap().verdict.states[0].level
    };
    let memory = open();
    let one = memory.judge(&charges(&[1, 2], 3)).unwrap().verdict;
    assert!(one.allowed);
    memory.save().unwrap();
    // The process crashes here: only these charges are lost.
    assert!(memory.judge(&charges(&[1], 4)).unwrap().verdict.allowed);
    drop(memory);
    let memory = open();
    let full = charges(&[1], 3)[0].amount().cast_signed();
    assert_eq!((level(&memory, 1), level(&memory, 2)), (full, full));
    clock.set(Micros::from_secs(1_000_100));
    drop(memory);
    let memory = open();
    assert_eq!(memory.row_count(), 0);
    memory.save().unwrap();
    drop(memory);
    clock.set(Micros::from_secs(1_000_000));
    assert_eq!(open().row_count(), 0, "what has drained is gone from the disk too");
}

#[test]
fn no_two_threads_admit_more_than_the_burst() {
    let (_, memory) = memory();
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..100)
                        .filter(|_| memory.judge(&charges(&[7, 8, 9], 1)).unwrap().verdict.allowed)
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 10);
}

#[test]
fn rows_of_another_release_stay_on_the_disk_untouched() {
    let (clock, folder) = (Arc::new(ManualClock::default()), tempfile::tempdir().unwrap());
    clock.set(Micros::from_secs(1_000_000));
    let mut bytes = [7; row::PACKED_ROW];
    (bytes[0], bytes[1]) = (25, 20);
    let (key, foreign) = (RowKey::from_bytes(&[9; 16]), row::PackedRow::from_bytes(bytes));
    let dirty = DirtyRow { key, row: Some(foreign), days: None };
    Disk::open(&data_dir(&folder)).unwrap().write(&[dirty]).unwrap();
    let memory =
        MemoryStore::open(&data_dir(&folder), Arc::clone(&clock) as _, usize::MAX).unwrap();
    assert_eq!(memory.row_count(), 0);
    assert!(memory.judge(&charges(&[1], 3)).unwrap().verdict.allowed);
    memory.sweep();
    memory.save().unwrap();
    drop(memory);
    let mut found = Vec::new();
    let row = |key: RowKey, row: row::PackedRow| found.push((key.to_bytes(), row.to_bytes()));
    Disk::open(&data_dir(&folder)).unwrap().load(row, |_, _| ()).unwrap();
    assert!(found.contains(&([9; 16], bytes)) && found.len() == 2, "{found:?}");
}

#[test]
fn the_row_of_every_algorithm_is_known_and_keeps_its_expiry_when_packed() {
    use crate::algorithm::{Algorithm, Calendar, CounterState, Counting as _, Period, Quota};
    let now = Micros::from_secs(1_774_656_000);
    let throttle = Throttle::new("1/s".parse().unwrap(), 10).unwrap();
    let calendar = Arc::new(Calendar::new(Period::Day, "UTC").unwrap());
    let windows = calendar.windows(now);
    let slots = Concurrency::new(9, Micros::from_secs(60)).unwrap();
    let algorithms = [Algorithm::from(throttle), Quota { limit: 9, calendar }.into(), slots.into()];
    for algorithm in algorithms {
        assert!(algorithm.row_kind().is_known_counter());
        let empty = algorithm.read((None, &[]), Some(&windows), now).unwrap().state;
        let state = CounterState { level: algorithm.amount(3).cast_signed(), ..empty };
        let (row, until) = algorithm.write(None, state, Some(&windows), now);
        let packed = row::PackedRow::new(&row, until);
        assert_eq!(packed.unpack(), Some(row));
        assert!(!packed.is_expired(Micros::new(until.get() - 1)) && packed.is_expired(until));
    }
}

/// A check of one of `limit` slots of 60 s.
fn slot(limit: u64) -> Charges {
    let slots = Concurrency::new(limit, Micros::from_secs(60)).unwrap();
    let limit = Arc::new(Limit::new("streams", Unit::requests(), slots, false));
    [Charge::new(Subject::api_key("a"), limit, 1)].into_iter().collect()
}

fn reserve_slot(memory: &MemoryStore, charges: &Charges, id: u64) -> bool {
    let new = NewReservation {
        name: ReservationName::new(&charges[0].subject, &id.to_string()),
        check: [0; 8],
        ttl: Micros::from_secs(60),
        terms: ReservationTerms::new(&id.to_le_bytes()).unwrap(),
    };
    matches!(memory.reserve(charges, &new).unwrap(), ReserveReply::Judged(it) if it.verdict.allowed)
}

/// Adjusts the reservation `id` of a slot; returns the slots in use, and those that had run out.
fn adjust_slot(
    memory: &MemoryStore,
    charges: &Charges,
    id: u64,
    kind: AdjustmentKind,
) -> (i64, u64) {
    let charge = &charges[0];
    let adjustment = Adjustment {
        name: ReservationName::new(&charge.subject, &id.to_string()),
        terms: ReservationTerms::new(&id.to_le_bytes()).unwrap(),
        kind,
        charges: vec![ChargeAdjustment {
            subject: charge.subject,
            limit: Some(Arc::clone(&charge.limit)),
            units: AdjustedUnits::UNKNOWN,
        }],
    };
    let AdjustReply::Adjusted(adjusted) = memory.adjust(&adjustment) else { return (-1, 0) };
    let state = adjusted.charges[0].state.unwrap();
    (state.level, state.expired_slots)
}

const EXTEND: AdjustmentKind = AdjustmentKind::Extend { ttl: Micros::from_secs(60) };

#[test]
fn leaked_slots_are_free_after_their_ttl_and_settled_ones_at_once() {
    let (clock, memory) = memory();
    let two = slot(2);
    assert!([1, 2].iter().all(|&id| reserve_slot(&memory, &two, id)));
    assert!(!reserve_slot(&memory, &two, 3), "both slots are in use");
    assert_eq!(adjust_slot(&memory, &two, 2, AdjustmentKind::Close), (1, 0));
    assert_eq!(adjust_slot(&memory, &two, 2, AdjustmentKind::Close).0, -1, "once only");
    assert!(reserve_slot(&memory, &two, 3));
    clock.set(Micros::new(1_000_059_999_999));
    assert!(!reserve_slot(&memory, &two, 4), "a microsecond early");
    clock.set(Micros::from_secs(1_000_060));
    assert!(reserve_slot(&memory, &two, 4) && reserve_slot(&memory, &two, 5));
    assert!(!reserve_slot(&memory, &two, 6));
}

#[test]
fn clock_back_holds_slots_no_longer_than_their_ttl() {
    let (clock, memory) = memory();
    let one = slot(1);
    assert!(reserve_slot(&memory, &one, 1));
    clock.set(Micros::from_secs(1_000_010));
    assert_eq!(adjust_slot(&memory, &one, 1, EXTEND), (1, 0));
    // Back by 11 days; the next check notices.
    clock.set(Micros::from_secs(50_000));
    assert!(!reserve_slot(&memory, &one, 2));
    clock.set(Micros::from_secs(50_059));
    assert!(!reserve_slot(&memory, &one, 3));
    clock.set(Micros::from_secs(50_060));
    assert!(reserve_slot(&memory, &one, 4), "its client has died");
    memory.sweep();
    assert!(!reserve_slot(&memory, &one, 5), "a sweep keeps what is in use");
}

#[test]
fn an_extension_holds_a_slot_that_had_run_out_and_only_those_beyond_the_limit_see_a_debt() {
    let (clock, memory) = memory();
    let two = slot(2);
    assert!([1, 2].iter().all(|&id| reserve_slot(&memory, &two, id)));
    clock.set(Micros::from_secs(1_000_070));
    assert!([3, 4].iter().all(|&id| reserve_slot(&memory, &two, id)));
    assert_eq!(adjust_slot(&memory, &two, 1, EXTEND), (3, 0), "one too many");
    assert_eq!(adjust_slot(&memory, &two, 2, EXTEND), (4, 0), "two too many");
    assert_eq!(adjust_slot(&memory, &two, 3, EXTEND), (2, 0), "not its fault");
    assert_eq!(adjust_slot(&memory, &two, 1, EXTEND), (4, 0));
    assert_eq!(adjust_slot(&memory, &two, 1, AdjustmentKind::Close), (3, 0));
    clock.set(Micros::from_secs(1_000_131));
    assert_eq!(adjust_slot(&memory, &two, 3, EXTEND), (1, 3), "the slots of all were over");
}

/// A check of one unit of a bucket of ten whose subjects callers make up.
fn made_up(key: u64, cost: u64) -> Charges {
    let throttle = Throttle::new("1/s".parse().unwrap(), 10).unwrap();
    let limit = Limit::new("t", Unit::requests(), throttle, false).as_open_ended();
    let subject = Subject::policy("made-up", &key.to_string());
    [Charge::new(subject, Arc::new(limit), cost)].into_iter().collect()
}

fn is_refused_as_new(memory: &MemoryStore, key: u64, cost: u64) -> bool {
    match memory.judge(&made_up(key, cost)) {
        Err(StoreError::NewSubject(subject)) => *subject == made_up(key, cost)[0].subject,
        judged => !judged.unwrap().verdict.allowed,
    }
}

#[test]
fn at_the_ceiling_keys_in_use_are_charged_and_new_ones_wait_until_some_have_drained() {
    let clock = Arc::new(ManualClock::default());
    clock.set(Micros::from_secs(1_000_000));
    let memory = MemoryStore::with_ceiling(Arc::clone(&clock) as _, 100);
    for key in 0..100 {
        assert!(!is_refused_as_new(&memory, key, 5));
    }
    for key in 100..200 {
        assert!(is_refused_as_new(&memory, key, 1), "{key}");
    }
    assert!(!is_refused_as_new(&memory, 100, 0), "a look writes nothing");
    assert!(!is_refused_as_new(&memory, 7, 5), "a key in use has the rest of its bucket");
    assert!(memory.judge(&made_up(7, 1)).unwrap().verdict.states[0].level > 0);
    let mut both = made_up(8, 1);
    both.extend(made_up(100, 1));
    assert!(matches!(memory.judge(&both), Err(StoreError::NewSubject(_))));
    let level = memory.judge(&made_up(8, 0)).unwrap().verdict.states[0].level;
    assert_eq!(level, made_up(8, 5)[0].amount().cast_signed(), "nothing was charged");
    // Subjects that an operator has configured have room in any case.
    assert!(memory.judge(&charges(&[1], 1)).unwrap().verdict.allowed);
    assert_eq!(memory.row_count(), 101);
    // All but those of key 7 have drained.
    clock.set(Micros::from_secs(1_000_006));
    for key in 100..199 {
        assert!(!is_refused_as_new(&memory, key, 10), "{key}");
    }
    assert!(is_refused_as_new(&memory, 199, 1), "it is full again");
    let level = memory.judge(&made_up(7, 0)).unwrap().verdict.states[0].level;
    assert_eq!(level, made_up(7, 4)[0].amount().cast_signed(), "a counter in use stays");
}

#[test]
fn counters_on_the_disk_are_loaded_beyond_the_ceiling() {
    let (clock, folder) = (Arc::new(ManualClock::default()), tempfile::tempdir().unwrap());
    clock.set(Micros::from_secs(1_000_000));
    let open = |max_rows| {
        MemoryStore::open(&data_dir(&folder), Arc::clone(&clock) as _, max_rows).unwrap()
    };
    let memory = open(10);
    (0..10).for_each(|key| assert!(!is_refused_as_new(&memory, key, 5)));
    memory.save().unwrap();
    drop(memory);
    let memory = open(5);
    assert_eq!(memory.row_count(), 10);
    assert!(is_refused_as_new(&memory, 10, 1) && !is_refused_as_new(&memory, 9, 5));
}
