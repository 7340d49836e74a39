//! The responses to Envoy, and the costs of its requests.

use tollgate::grpc::proto::rate_limit_descriptor::RateLimitOverride;
use tollgate::grpc::proto::rate_limit_response::rate_limit::Unit;
use tollgate::grpc::proto::rate_limit_response::{Code, DescriptorStatus};
use tollgate::grpc::proto::{RateLimitDescriptor, RateLimitResponse};

use super::{CONFIG, codes, costs, serve};
use crate::support::grpc::{descriptor, request};

#[test]
fn statuses_report_limit_remaining_and_reset_in_the_order_of_the_descriptors() {
    let served = serve(CONFIG, &[]);
    let asked = || {
        vec![
            descriptor(&[("nothing", "x")]),
            descriptor(&[("path", "/exact")]),
            descriptor(&[("free", "x")]),
            descriptor(&[("user", "a")]),
            descriptor(&[("month", "x")]),
        ]
    };
    let answer = served.ask(asked());
    assert_eq!(answer.overall_code(), Code::Ok);
    let [nothing, exact, free, user, month] = &answer.statuses[..] else { panic!("{answer:?}") };
    assert_eq!((&nothing.current_limit, nothing.limit_remaining), (&None, 0));
    let limit = exact.current_limit.as_ref().unwrap();
    assert_eq!((limit.requests_per_unit, limit.unit(), &*limit.name), (3, Unit::Year, "exact"));
    assert_eq!((exact.limit_remaining, user.limit_remaining), (2, 1));
    assert_eq!((&free.current_limit, free.limit_remaining), (&None, u32::MAX));
    let seconds = |status: &DescriptorStatus| status.duration_until_reset.as_ref().unwrap().seconds;
    assert!((1..=365 * 86_400).contains(&seconds(exact)), "{exact:?}");
    assert!((1..=31 * 86_400 + 3_600).contains(&seconds(month)), "{month:?}");
    assert!(nothing.duration_until_reset.is_none());

    let refused = served.ask(asked());
    assert_eq!(codes(&refused), [Code::Ok, Code::Ok, Code::Ok, Code::Ok, Code::OverLimit]);
    assert_eq!(refused.overall_code(), Code::OverLimit);
    let wait: i64 = refused.response_headers_to_add[0].value.parse().unwrap();
    assert_eq!(&*refused.response_headers_to_add[0].key, "retry-after");
    assert!((seconds(&refused.statuses[4]) - wait).abs() <= 1, "{refused:?}");
}

#[test]
fn a_refused_request_is_charged_to_no_limit() {
    let served = serve(CONFIG, &[]);
    assert!(served.passes(&[("small", "x")]));
    for _ in 0..5 {
        let answer =
            served.ask(vec![descriptor(&[("path", "/exact")]), descriptor(&[("small", "x")])]);
        assert_eq!(codes(&answer), [Code::Ok, Code::OverLimit]);
        assert_eq!(answer.statuses[0].limit_remaining, 3, "the other limit is not drained");
    }
    let too_much = served.ask(vec![costs(4, &[("careful", "x")])]);
    assert_eq!(too_much.overall_code(), Code::OverLimit);
    // No wait helps, so there is no header, although the window ends.
    assert!(too_much.response_headers_to_add.is_empty(), "{too_much:?}");
    let until = too_much.statuses[0].duration_until_reset.as_ref().unwrap().seconds;
    assert!((0..=365 * 86_400).contains(&until), "{too_much:?}");
    assert_eq!(served.passing(10, &[("path", "/exact")]), 3);
    assert_eq!(served.passing(10, &[("careful", "x")]), 3);
}

#[test]
fn a_descriptors_own_hits_count_before_the_requests_and_0_only_looks() {
    let served = serve(CONFIG, &[]);
    let user = &[("user", "hits")];
    let mut both = request("d", vec![costs(0, user), descriptor(&[("path", "/exact")])]);
    both.hits_addend = 3;
    let answer = served.client.ask(both).unwrap();
    let left = answer.statuses.iter().map(|status| status.limit_remaining);
    assert_eq!(left.collect::<Vec<_>>(), [2, 0]);
    assert_eq!(
        served.ask(vec![costs(0, &[("path", "/exact")])]).overall_code(),
        Code::Ok,
        "a look"
    );
    assert_eq!(served.ask(vec![costs(2, user)]).statuses[0].limit_remaining, 0);
    assert!(!served.passes(user));
    // Two descriptors with the same counter are charged their sum, which is over the limit.
    let twice = served.ask(vec![costs(1, &[("user", "b")]), costs(2, &[("user", "b")])]);
    assert_eq!(codes(&twice), [Code::OverLimit, Code::OverLimit]);
}

#[test]
fn a_limit_in_the_request_replaces_the_configured_one() {
    let served = serve(CONFIG, &[]);
    let own = |requests_per_unit, unit: Unit| RateLimitDescriptor {
        limit: Some(RateLimitOverride { requests_per_unit, unit: unit.into() }),
        ..descriptor(&[("tried", "x")])
    };
    let answers: Vec<_> = (0..3).map(|_| served.ask(vec![own(2, Unit::Year)])).collect();
    let codes: Vec<_> = answers.iter().map(RateLimitResponse::overall_code).collect();
    assert_eq!(codes, [Code::Ok, Code::Ok, Code::OverLimit], "and it is not in shadow");
    let limit = answers[0].statuses[0].current_limit.clone().unwrap();
    assert_eq!((limit.requests_per_unit, limit.unit()), (2, Unit::Year));
    assert_eq!(served.ask(vec![own(3, Unit::Year)]).overall_code(), Code::Ok, "the counter stays");
    assert_eq!(served.ask(vec![own(1, Unit::Week)]).overall_code(), Code::Ok, "another window");
    let unknown = served.client.ask(request("d", vec![own(1, Unit::Unknown)])).unwrap_err();
    assert!(unknown.message().contains("descriptors[0].limit.unit"), "{unknown:?}");
    assert_eq!(unknown.code(), tonic::Code::InvalidArgument);
}

#[test]
fn a_matching_limit_replaces_those_that_it_names() {
    let served = serve(CONFIG, &[]);
    let both = || vec![descriptor(&[("small", "r")]), descriptor(&[("instead", "r")])];
    for _ in 0..9 {
        let answer = served.ask(both());
        assert_eq!(codes(&answer), [Code::Ok, Code::Ok]);
        assert!(answer.statuses[0].current_limit.is_none(), "{answer:?}");
    }
    assert_eq!(codes(&served.ask(both())), [Code::Ok, Code::OverLimit]);
    assert!(served.passes(&[("small", "r")]), "it was not charged");
    let lax = served.ask(vec![descriptor(&[("lax", "r")]), descriptor(&[("instead", "r")])]);
    assert_eq!(lax.statuses[0].limit_remaining, u32::MAX, "what is unlimited is not replaced");
}

#[test]
fn one_alternative_with_room_is_enough_and_metadata_reports_it() {
    let served = serve(CONFIG, &[]);
    let both = || {
        vec![
            descriptor(&[("pool", "one")]),
            descriptor(&[("pool", "two")]),
            descriptor(&[("user", "q")]),
        ]
    };
    let first = served.ask(both());
    assert_eq!((first.overall_code(), codes(&first)), (Code::Ok, vec![Code::Ok; 3]));
    let metadata = serde_json::to_value(first.dynamic_metadata.unwrap()).unwrap();
    assert_eq!(metadata["domain"], "d");
    assert_eq!(metadata["descriptors"][1]["entries"][0], "pool=two");
    assert_eq!(
        metadata["metadata"],
        serde_json::json!({"pool": {"one": true, "two": ["a", null]}, "weight": 2.0})
    );
    assert!(
        metadata.get("hitsAddend").is_none()
            && metadata["descriptors"][0].get("hitsAddend").is_none()
    );
    let mut second = request("d", both());
    second.hits_addend = 1;
    second.descriptors[0].hits_addend = Some(1.into());
    let second = served.client.ask(second).unwrap();
    assert_eq!(second.overall_code(), Code::Ok);
    assert_eq!(codes(&second), [Code::OverLimit, Code::Ok, Code::Ok]);
    let metadata = serde_json::to_value(second.dynamic_metadata.unwrap()).unwrap();
    assert_eq!(metadata["metadata"]["pool"], serde_json::json!({"two": ["a", null]}));
    assert_eq!(
        (&metadata["hitsAddend"], &metadata["descriptors"][0]["hitsAddend"]),
        (&1.0.into(), &1.0.into())
    );
    let both_gone = served.ask(vec![
        descriptor(&[("pool", "one")]),
        descriptor(&[("pool", "two")]),
        descriptor(&[("user", "r")]),
    ]);
    assert_eq!(both_gone.overall_code(), Code::OverLimit);
    assert_eq!(codes(&both_gone), [Code::OverLimit, Code::OverLimit, Code::Ok]);
    assert_eq!(served.passing(10, &[("user", "r")]), 2, "nothing was charged");
}

#[test]
fn limits_in_requests_share_the_counter_of_the_rule_and_the_smaller_one_refuses() {
    let served = serve(CONFIG, &[]);
    let own = |requests_per_unit| RateLimitDescriptor {
        limit: Some(RateLimitOverride { requests_per_unit, unit: Unit::Year.into() }),
        ..descriptor(&[("user", "x")])
    };
    assert_eq!(served.passing(2, &[("user", "x")]), 2);
    assert_eq!(served.ask(vec![own(2)]).overall_code(), Code::OverLimit);
    assert_eq!(served.ask(vec![own(9), own(3)]).overall_code(), Code::OverLimit);
    assert_eq!(served.ask(vec![own(9)]).statuses[0].limit_remaining, 6);
}

#[test]
fn retry_after_is_that_of_the_first_alternative_with_room_again() {
    const TWO: &str = r#"
domain: d
descriptors:
  - { key: far, quota_mode: true, rate_limit: { unit: year, requests_per_unit: 1 } }
  - { key: near, quota_mode: true, rate_limit: { unit: day, requests_per_unit: 1, algorithm: token_bucket } }
  - { key: never, quota_mode: true, rate_limit: { unit: day, requests_per_unit: 0 } }
"#;
    let served = serve(TWO, &[]);
    let all = || ["far", "near", "never"].map(|key| descriptor(&[(key, "x")])).to_vec();
    assert_eq!(served.ask(all()).overall_code(), Code::Ok);
    let refused = served.ask(all());
    assert_eq!(codes(&refused), [Code::OverLimit; 3]);
    let wait: u64 = refused.response_headers_to_add[0].value.parse().unwrap();
    assert!((86_000..=86_400).contains(&wait), "{wait}");
}
