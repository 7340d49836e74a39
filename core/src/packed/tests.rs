//! Calls as a node packs them, judged on strings and by the reference.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::algorithm::{
    Algorithm, Calendar, Counting as _, Period, Quota, Throttle, encode_double,
};
use crate::judge::{RowTable, judge, offered_windows};
use crate::limit::{Charge, ChargeMode, Limit, Subject, Unit};

const NOW: Micros = Micros::from_secs(1_774_656_000);

fn limits() -> [Arc<Limit>; 2] {
    let throttle = Throttle::new("3/min".parse().unwrap(), 10).unwrap();
    let calendar = Arc::new(Calendar::new(Period::Day, "UTC").unwrap());
    let all: [Algorithm; 2] = [throttle.into(), Quota { limit: 20, calendar }.into()];
    all.map(|algorithm| Arc::new(Limit::new("l", Unit::requests(), algorithm, false)))
}

fn pack_limits(now: Micros) -> Vec<u8> {
    let mut packed = Vec::new();
    for limit in limits() {
        packed.push(limit.row().kind().get() << 4);
        packed.extend(limit.row().to_bytes());
        limit.algorithm().pack(&mut packed, now);
    }
    packed
}

/// A check of some units of both limits.
fn pack_check(costs: [u64; 2], is_forced: bool) -> Vec<u8> {
    let mut packed = vec![2];
    for (index, (limit, cost)) in (1_u16..).zip(limits().iter().zip(costs)) {
        packed.extend([1_u16.to_le_bytes(), index.to_le_bytes()].concat());
        let mut amount = encode_double(limit.amount(cost));
        amount[7] |= u8::from(is_forced) << 7;
        packed.extend(amount);
    }
    packed
}

fn value_of(stored: Option<&[u8]>) -> SubjectString {
    stored.map_or(StoredValue::Missing, StoredValue::String).into()
}

/// An operation on the reservation of this index, open for a second.
fn operation(code: u8, reservation: u16, rest: &[u8]) -> Vec<u8> {
    let (ttl, terms_len) = (encode_double(1_000_000), 8_u16.to_le_bytes());
    let body = [&reservation.to_le_bytes()[..], &ttl, &terms_len, rest].concat();
    let len = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&[code][..], &len, &body].concat()
}

/// The bytes of a reserve and an adjustment of both limits.
fn operations() -> [Vec<u8>; 2] {
    let check = pack_check([1, 1], false);
    let reserve = [&b"digest..terms..."[..], &check].concat();
    let adjust = [&b"terms..."[..], &check].concat();
    [operation(251, 1, &reserve), operation(252, 1, &adjust)]
}

#[test]
fn a_reservation_is_open_until_it_is_settled_and_once_only() {
    let [reserve, extend] = operations();
    let settle = {
        let mut settle = extend.clone();
        // No ttl.
        settle[7..15].fill(0);
        settle
    };
    let (mut subjects, mut reservations) = ([value_of(None)], [StoredValue::Missing.into()]);
    let mut judge = |checks: &[u8]| {
        let call: [&[u8]; 4] = [&pack_limits(NOW), checks, &[], b"1"];
        judge_call(&call, NOW, &mut subjects, &mut reservations).unwrap()
    };
    assert_eq!(numbers(&judge(&reserve))[1], 1);
    let Reply::Mixed(values) = judge(&reserve) else { panic!("it is open") };
    assert_eq!(values[1], ReplyValue::Number(4));
    assert_eq!(values.last(), Some(&ReplyValue::Text(b"terms...".into())));
    assert_eq!(numbers(&judge(&[&extend[..], &settle, &settle].concat())).last(), Some(&0));
    assert_eq!(reservations[0].to_write(), Some(KeyWrite::Delete));
}

fn numbers(reply: &Reply) -> Vec<i64> {
    let Reply::Packed(packed) = reply else { panic!("{reply:?}") };
    let number = |bytes: &[u8]| {
        let mut number = [0; 8];
        number[1..].copy_from_slice(bytes);
        i64::from_le_bytes(number) >> 8
    };
    packed.chunks_exact(7).map(number).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_call_decides_on_a_string_as_the_reference_does_on_rows(
        steps in vec((0_u64..40_000_000, [0_u64..12, 0_u64..8], prop::bool::weighted(0.1)), 1..40),
    ) {
        let (mut now, mut table, mut stored) = (NOW, RowTable::default(), None::<Vec<u8>>);
        for (passed, costs, is_forced) in steps {
            now = now + Micros::new(passed);
            let mut subjects = [value_of(stored.as_deref())];
            let check = pack_check(costs, is_forced);
            let reply = judge_call(&[&pack_limits(now), &check], now, &mut subjects, &mut []).unwrap();
            if let Some(KeyWrite::Set { value, .. }) = subjects[0].to_write(now) {
                stored = Some(value.to_vec());
            }
            let mode = if is_forced { ChargeMode::Always } else { ChargeMode::IfFits };
            let charges = limits().into_iter().zip(costs).map(|(limit, cost)| {
                Charge { mode, ..Charge::new(Subject::api_key("a"), limit, cost) }
            });
            let charges: Vec<Charge> = charges.collect();
            let verdict = judge(&charges, &offered_windows(&charges, now), now, &mut table).unwrap();
            let [bucket, quota] = [verdict.states[0], verdict.states[1]];
            let window = quota.window.get().cast_signed();
            let allowed = i64::from(verdict.allowed);
            let expected = [now.get().cast_signed(), allowed, bucket.level, quota.level, window];
            prop_assert_eq!(numbers(&reply), expected);
        }
    }

    #[test]
    fn no_arguments_and_no_string_make_it_panic(
        arguments in vec(vec(any::<u8>(), 0..50), 0..4),
        limit in vec(any::<u8>(), 0..40),
        string in vec(any::<u8>(), 0..60),
        reservation in vec(any::<u8>(), 0..60),
    ) {
        let stored = [&[2][..], &string].concat();
        let mut valid = pack_limits(NOW);
        valid.extend(&limit);
        for limits in [&valid[..], &pack_limits(NOW), &limit] {
            let mut all = vec![limits];
            all.extend(arguments.iter().map(Vec::as_slice));
            let mut subjects = [value_of(Some(&stored)), value_of(None)];
            if judge_call(&all, NOW, &mut subjects, &mut []).is_err() {
                prop_assert!(subjects.iter_mut().all(|it| it.to_write(NOW).is_none()));
            }
            let checks = [&pack_check([1, 1], false)[..], &operations().concat()].concat();
            let mut subjects = [value_of(Some(&stored))];
            let mut reservations = [StoredValue::String(&reservation).into()];
            let call: [&[u8]; 4] = [&pack_limits(NOW), &checks, &[], b"1"];
            judge_call(&call, NOW, &mut subjects, &mut reservations).unwrap();
        }
    }
}

#[test]
fn a_damaged_string_fails_the_checks_that_read_it_and_no_others() {
    let mut subjects = [value_of(Some(b"\x01zzzz")), value_of(None)];
    let other = [&[1, 2, 0, 1, 0][..], &encode_double(limits()[0].amount(4))].concat();
    let checks = [&pack_check([1, 1], false)[..], &other].concat();
    let Reply::Mixed(values) =
        judge_call(&[&pack_limits(NOW), &checks], NOW, &mut subjects, &mut []).unwrap()
    else {
        panic!("there is a text")
    };
    let why = "this string has format 1, and this version knows 2".to_owned();
    let [now, one, zero] = [NOW.get().cast_signed(), 1, 0].map(ReplyValue::Number);
    assert_eq!(values, [now, ReplyValue::Text(why.into()), one, zero]);
    assert!(subjects[0].to_write(NOW).is_none() && subjects[1].to_write(NOW).is_some());
}

#[test]
fn a_malformed_call_is_an_error_that_says_what_is_wrong() {
    let limits = pack_limits(NOW);
    let check = pack_check([1, 1], false);
    let half = [&[1, 1, 0, 1, 0][..], &0.5_f64.to_le_bytes()].concat();
    let cases: [(&[&[u8]], MalformedCall); 6] = [
        (&[&limits], MalformedCall::Arguments),
        (&[&limits[..20], &check], MalformedCall::CutShort),
        (&[&limits, &check[..9]], MalformedCall::CutShort),
        (&[&limits, &[1, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]], MalformedCall::Charge),
        (&[&limits, &half], MalformedCall::Charge),
        (&[&limits, &operation(252, 0, &[])], MalformedCall::Operation),
    ];
    for (arguments, why) in cases {
        let mut subjects = [value_of(None)];
        assert_eq!(judge_call(arguments, NOW, &mut subjects, &mut []), Err(why));
    }
}
