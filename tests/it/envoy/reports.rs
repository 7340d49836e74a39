//! Hits whose number a request gives: reports of what has been used, as envoyproxy/ratelimit counts
//! them, unless the rule says otherwise.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;
use tollgate::grpc::proto::RateLimitDescriptor;
use tollgate::grpc::proto::rate_limit_descriptor::RateLimitOverride;
use tollgate::grpc::proto::rate_limit_response::Code;
use tollgate::grpc::proto::rate_limit_response::rate_limit::Unit;

use super::{Entries, Served, codes, costs, serve};
use crate::support::eventually;
use crate::support::grpc::{descriptor, request};
use crate::support::redis::RedisServer;

const CONFIG: &str = r#"
domain: d
descriptors:
  - { key: tokens, rate_limit: { unit: year, requests_per_unit: 1000 } }
  - { key: known, rate_limit: { unit: year, requests_per_unit: 1000, after_the_fact: false } }
  - { key: bucket, rate_limit: { unit: day, requests_per_unit: 24, algorithm: token_bucket, burst: 1000 } }
  - { key: paid, rate_limit: { unit: day, requests_per_unit: 24, algorithm: token_bucket, burst: 1000, after_the_fact: true } }
  - { key: tried, shadow_mode: true, rate_limit: { unit: year, requests_per_unit: 10 } }
  - { key: few, rate_limit: { unit: year, requests_per_unit: 3 } }
"#;
const OK: Code = Code::Ok;
const OVER: Code = Code::OverLimit;

/// Runs a test on a node with the memory store and on one with Redis.
fn on_both(test: impl Fn(&Served)) {
    test(&serve(CONFIG, &[]));
    let redis = RedisServer::start();
    let flags = ["--store", &redis.url(), "--check-deadline", "5s", "--denial-memo", "false"];
    test(&serve(CONFIG, &flags));
}

/// The entries of a limit of three.
fn few(value: &str) -> [(&str, &str); 1] {
    [("few", value)]
}

impl Served {
    /// The code of one descriptor with a number of hits, and the remaining units.
    fn hit(&self, hits: u64, entries: Entries<'_>) -> (Code, u32) {
        let answer = self.ask(vec![costs(hits, entries)]);
        assert_eq!(answer.overall_code, answer.statuses[0].code);
        (answer.overall_code(), answer.statuses[0].limit_remaining)
    }

    /// The number of requests that pass of 20 which look with 0 hits, and report `hits` at the end.
    fn passing_with_reports(&self, hits: u64, entries: Entries<'_>) -> usize {
        let passes = |_: &usize| {
            let passed = self.hit(0, entries).0 == OK;
            if passed {
                self.hit(hits, entries);
            }
            passed
        };
        (0..20).filter(passes).count()
    }
}

/// A fault of other limiters: each request looks, and is charged at its end only what still fits.
#[test]
fn after_the_fact_is_free() {
    on_both(|served| {
        assert_eq!(served.passing_with_reports(400, &[("tokens", "a")]), 3);
        assert_eq!(served.passing_with_reports(400, &[("paid", "a")]), 3);
        let post = |hits: u64| {
            let body = json!({"domain": "d", "descriptors": [{
                "entries": [{"key": "tokens", "value": "json"}], "hitsAddend": hits.to_string(),
            }]});
            served.node.send("POST", "/json", &[], &body.to_string()).status == 200
        };
        let passes = |_: &usize| {
            let passed = post(0);
            if passed {
                post(400);
            }
            passed
        };
        assert_eq!((0..20).filter(passes).count(), 3, "over HTTP");
    });
}

/// A fault of other limiters: an answer larger than the limit is not charged at all.
#[test]
fn overshoot_dropped() {
    on_both(|served| {
        for key in ["tokens", "paid"] {
            assert_eq!(served.passing_with_reports(1200, &[(key, "b")]), 1, "{key}");
        }
    });
}

#[test]
fn a_look_is_refused_above_the_limit_and_not_at_it() {
    on_both(|served| {
        let few = &[("few", "a")];
        assert_eq!(served.hit(3, few), (OK, 0));
        assert_eq!((served.hit(0, few), served.passes(few)), ((OK, 0), false));
        assert_eq!(served.hit(1, few), (OVER, 0), "it does not fit, and is counted");
        let look = served.ask(vec![costs(0, few)]);
        assert_eq!(look.overall_code(), OVER);
        let wait: i64 = look.response_headers_to_add[0].value.parse().unwrap();
        let until = look.statuses[0].duration_until_reset.as_ref().unwrap().seconds;
        assert!((until - wait).abs() <= 1, "until the window ends: {look:?}");
    });
}

#[test]
fn costs_that_are_known_before_are_judged_all_or_nothing_where_the_rule_says_so() {
    on_both(|served| {
        for key in ["known", "bucket"] {
            assert_eq!(served.hit(700, &[(key, "a")]), (OK, 300), "{key}");
            assert_eq!(served.hit(400, &[(key, "a")]), (OVER, 300), "{key}");
            assert_eq!(served.hit(1200, &[(key, "a")]), (OVER, 300), "{key}");
            assert_eq!(served.hit(300, &[(key, "a")]), (OK, 0), "{key}");
        }
    });
}

#[test]
fn the_requests_own_number_is_a_report_and_the_usual_hit_is_not() {
    on_both(|served| {
        let few = &[("few", "own")];
        let mut numbered = request("d", vec![descriptor(few)]);
        numbered.hits_addend = 4;
        assert_eq!(served.client.ask(numbered).unwrap().overall_code(), OVER);
        assert_eq!(served.hit(0, few), (OVER, 0), "it was counted");
        assert_eq!(served.passing(5, &[("few", "usual")]), 3);
        assert_eq!(served.hit(0, &[("few", "usual")]), (OK, 0), "refused hits cost nothing");
    });
}

#[test]
fn reports_come_first_and_the_usual_hits_are_one_check_after_them() {
    on_both(|served| {
        let (tokens, few) = (&[("tokens", "m")], &[("few", "m")]);
        let ask = |hits| served.ask(vec![descriptor(few), costs(hits, tokens)]);
        assert_eq!(codes(&ask(900)), [OK, OK]);
        let over = ask(200);
        assert_eq!((over.overall_code(), codes(&over)), (OVER, vec![OK, OVER]));
        assert_eq!(served.hit(0, few), (OK, 2), "the usual hit was not made");
        assert_eq!(served.hit(0, tokens), (OVER, 0), "the report was");
        assert_eq!(served.passing(5, few), 2);
        let refused = served.ask(vec![descriptor(few), costs(400, &[("tokens", "n")])]);
        assert_eq!(codes(&refused), [OVER, OK]);
        assert_eq!(served.hit(0, &[("tokens", "n")]), (OK, 600), "made although refused");
    });
}

#[test]
fn on_one_counter_reports_are_summed_and_the_usual_hits_judged_after_them() {
    on_both(|served| {
        let all = |value: &str, numbers: &[u64]| {
            let usual = descriptor(&few(value));
            let numbers = numbers.iter().map(|&hits| costs(hits, &few(value)));
            served.ask([vec![usual], numbers.collect()].concat())
        };
        let fitting = all("a", &[1, 1]);
        assert_eq!((fitting.overall_code(), fitting.statuses[0].limit_remaining), (OK, 0));
        assert_eq!(codes(&all("b", &[2, 1])), [OVER; 3], "no room after 3");
        assert_eq!(served.hit(0, &few("b")), (OK, 0), "the reports alone were made");
        // Another counter's usual hit belongs to the same check, and sees a report that did not
        // fit.
        let more = vec![descriptor(&few("c")), costs(4, &few("c")), descriptor(&few("d"))];
        assert_eq!(codes(&served.ask(more)), [OVER, OVER, OK]);
        assert_eq!(served.hit(0, &few("d")), (OK, 3));
        let more = vec![descriptor(&few("e")), costs(1, &few("e")), costs(9, &few("f"))];
        assert_eq!(codes(&served.ask(more)), [OK, OK, OVER]);
        assert_eq!(served.hit(0, &few("e")), (OK, 2), "only the report");
    });
}

#[test]
fn a_debt_is_recorded_for_the_descriptor_that_reports() {
    on_both(|served| {
        let _fits = served.hit(3, &few("d"));
        let _over = served.hit(4, &few("d"));
        let _look = served.hit(0, &few("d"));
        let _after = served.ask(vec![descriptor(&few("d")), costs(2, &few("d"))]);
        let labels = r#"limit="few",plan="envoy:d""#;
        // The last request has two descriptors, which are counted one by one.
        assert_eq!(served.node.metric("tollgate_debt_units_count", labels), 3.0);
        assert_eq!(served.node.metric("tollgate_debt_units_sum", labels), 4.0 + 6.0 + 6.0);
    });
}

#[test]
fn reports_are_counted_in_shadow_and_under_the_limit_of_a_request() {
    on_both(|served| {
        let tried = &[("tried", "s")];
        assert_eq!(served.hit(12, tried), (OK, 0));
        let own = |key: &str, hits: u64| RateLimitDescriptor {
            limit: Some(RateLimitOverride { requests_per_unit: 20, unit: Unit::Year.into() }),
            ..costs(hits, &[(key, "s")])
        };
        let left = |answer: &tollgate::grpc::proto::RateLimitResponse| {
            (answer.overall_code(), answer.statuses[0].limit_remaining)
        };
        assert_eq!(left(&served.ask(vec![own("tried", 3)])), (OK, 5), "12 were counted");
        assert_eq!(left(&served.ask(vec![own("tokens", 25)])), (OVER, 0));
        assert_eq!(served.hit(0, &[("tokens", "s")]), (OK, 975));
        assert_eq!(left(&served.ask(vec![own("known", 25)])), (OVER, 20), "as its rule says");
        assert_eq!(left(&served.ask(vec![own("none", 25)])), (OVER, 0), "without a rule");
        assert_eq!(left(&served.ask(vec![own("none", 0)])), (OVER, 0));
    });
}

#[test]
fn while_the_store_is_lost_a_nodes_share_is_charged_above_its_size_as_well() {
    let mut redis = RedisServer::start();
    let url = redis.url();
    let flags = ["--store", &url, "--envoy-on-store-failure", "local", "--min-nodes", "3"];
    let served = serve(CONFIG, &flags);
    redis.kill();
    eventually("the node decides alone", || {
        served.passes(&[("tokens", "probe")]);
        served.node.metric("tollgate_decisions_total", "local_allowed") > 0.0
    });
    let ask = |asked| served.ask(asked).overall_code();
    assert_eq!(ask(vec![costs(2, &few("a"))]), OVER, "a third of 3 is 1");
    assert_eq!(ask(vec![costs(0, &few("a"))]), OVER, "it was charged");
    assert_eq!(ask(vec![descriptor(&few("b")), costs(1, &few("b"))]), OVER, "after the report");
    assert_eq!(ask(vec![costs(0, &few("b"))]), OK);
}
