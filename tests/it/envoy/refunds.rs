//! Negative hits, which refund.
//! Needs programs besides Rust, so `make fast` skips it.

use tollgate::grpc::proto::RateLimitDescriptor;
use tollgate::grpc::proto::rate_limit_response::Code;

use super::{CONFIG, codes, costs, serve};
use crate::support::eventually;
use crate::support::grpc::descriptor;
use crate::support::redis::RedisServer;

#[test]
fn negative_hits_refund_at_most_what_was_charged() {
    for flags in [vec![], vec!["--check-deadline", "5s"]] {
        let redis = RedisServer::start();
        let url = redis.url();
        let flags = if flags.is_empty() { flags } else { [flags, vec!["--store", &url]].concat() };
        let served = serve(CONFIG, &flags);
        for entries in [&[("user", "x")], &[("bucket", "x")]] {
            let back =
                |hits| RateLimitDescriptor { is_negative_hits: true, ..costs(hits, entries) };
            assert!(served.passes(entries));
            let _answer = served.ask(vec![back(1)]);
            let most = served.passing(10, entries);
            assert_eq!(most, if entries[0].0 == "user" { 2 } else { 3 }, "all of it was there");
            let answer = served.ask(vec![back(1)]);
            assert_eq!((answer.overall_code(), answer.statuses[0].limit_remaining), (Code::Ok, 1));
            eventually("the cached refusal has expired", || served.passes(entries));
            let _answer = served.ask(vec![back(100)]);
            eventually("the cached refusal has expired", || served.passes(entries));
            assert_eq!(served.passing(10, entries), most - 1, "{entries:?}");
        }
    }
}

#[test]
fn a_refused_request_refunds_nothing_and_refunds_of_one_counter_are_added_up() {
    let redis = RedisServer::start();
    let url = redis.url();
    let served = serve(CONFIG, &["--store", &url, "--check-deadline", "5s"]);
    let user = &[("user", "x")];
    let back = RateLimitDescriptor { is_negative_hits: true, ..costs(1, user) };
    assert!(served.passes(&[("small", "x")]) && served.passes(user));
    for _ in 0..3 {
        let answer = served.ask(vec![back.clone(), descriptor(&[("small", "x")])]);
        assert_eq!(codes(&answer), [Code::Ok, Code::OverLimit]);
        assert_eq!(answer.statuses[0].limit_remaining, 1, "as it stands");
    }
    assert_eq!(served.ask(vec![costs(0, user)]).statuses[0].limit_remaining, 1);
    let many = back.clone();
    let given = served.ask(vec![back; 300]);
    assert_eq!((given.overall_code(), given.statuses[299].limit_remaining), (Code::Ok, 2));
    assert_eq!(served.passing(10, user), 2, "no more than the limit");
    assert_eq!(served.ask(vec![many.clone(); 2]).statuses[1].limit_remaining, 2, "both of two");
    assert_eq!(served.ask(vec![costs(0, user)]).statuses[0].limit_remaining, 2);
    assert_eq!(served.node.metric("tollgate_store_errors_total", ""), 0.0);
}
