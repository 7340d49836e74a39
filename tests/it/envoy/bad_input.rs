//! Invalid input: a clear status or response, no panic, and no charge.

use std::time::Duration;

use tollgate::grpc::proto::rate_limit_response::Code;
use tonic::Request;

use super::{CONFIG, costs, serve};
use crate::support::grpc::{descriptor, request};
use crate::support::http;

#[test]
fn an_invalid_request_gets_an_error_that_names_the_member_and_is_not_charged() {
    let served = serve(CONFIG, &[]);
    let user = &[("user", "x")];
    #[rustfmt::skip]
    let cases = [
        // what                        request                                                       says
        ("an empty domain",            request("", vec![descriptor(user)]),                          "domain"),
        ("no descriptors",             request("d", vec![]),                                         "descriptors"),
        ("hits beyond any counter",    request("d", vec![descriptor(user), costs(u64::MAX, user)]),  "descriptors[1].hits_addend"),
        ("one hit too many",           request("d", vec![costs((1 << 53) + 1, user)]),               "descriptors[0].hits_addend"),
        ("one limit too many",         request("d", (0..251).map(|n| descriptor(&[("user", &n.to_string())])).collect()),    "250"),
        ("more limits than one check", request("d", (0..10_000).map(|n| descriptor(&[("user", &n.to_string())])).collect()), "250"),
        ("one descriptor too many",    request("d", vec![descriptor(&[]); 10_001]),                  "10000"),
    ];
    for (what, asked, says) in cases {
        let status = served.client.ask(asked).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{what}: {status:?}");
        assert!(status.message().contains(says), "{what}: {status:?}");
    }
    let most = served.client.ask(request("d", vec![costs(1 << 53, &[("careful", "x")])])).unwrap();
    assert_eq!(most.overall_code(), Code::OverLimit);
    let most = (0..250).map(|n| costs(0, &[("user", &n.to_string())])).collect();
    assert_eq!(served.client.ask(request("d", most)).unwrap().overall_code(), Code::Ok);
    let many = (0..10_000).map(|_| descriptor(&[("nothing", "x")])).collect();
    assert_eq!(served.client.ask(request("d", many)).unwrap().statuses.len(), 10_000);
    let unknown =
        served.client.ask(request("e", vec![descriptor(user), descriptor(user)])).unwrap();
    assert_eq!((unknown.overall_code(), unknown.statuses.len()), (Code::Ok, 2));
    assert_eq!(served.node.metric("tollgate_envoy_unknown_domains_total", ""), 1.0);
    assert_eq!(served.passing(10, user), 2, "nothing was charged");
}

/// A malformed message with a valid beginning.
#[derive(Clone, PartialEq, prost::Message)]
struct Bytes {
    #[prost(bytes = "vec", tag = "1")]
    domain: Vec<u8>,
}

#[test]
fn malformed_and_too_large_messages_are_refused() {
    let served = serve(CONFIG, &[]);
    let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    let send =
        |domain| -> Result<Bytes, _> { served.client.call(path, Request::new(Bytes { domain })) };
    let not_utf8 = send(vec![0xff, 0xfe]).unwrap_err();
    assert!(not_utf8.message().contains("UTF-8"), "{not_utf8:?}");
    assert_ne!(not_utf8.code(), tonic::Code::Unknown);
    let large = send(vec![b'd'; 2 * 1024 * 1024]).unwrap_err();
    assert_eq!(large.code(), tonic::Code::OutOfRange, "{large:?}");
    let unknown = served.client.call::<Bytes, Bytes>("/a.B/C", Request::new(Bytes::default()));
    assert_eq!(unknown.unwrap_err().code(), tonic::Code::Unimplemented);
    assert!(served.passes(&[("user", "x")]), "it serves on");
}

#[test]
fn a_json_message_that_never_ends_is_cut_off() {
    let served = serve(CONFIG, &[]);
    let begun = b"POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{";
    assert!(http::is_cut_off_within(served.node.address(), begun, Duration::from_mins(1)));
    assert!(served.passes(&[("user", "x")]), "it serves on");
}

#[test]
fn an_error_about_an_invalid_file_names_the_place_and_a_remedy() {
    #[rustfmt::skip]
    let cases = [
        // file                                                                                              says
        ("descriptors: []",                                                                                  "domain"),
        ("domain: ''",                                                                                       "domain: must not be empty"),
        ("domain: d\ndescriptors:\n  - key: ''",                                                             "descriptors[0].key: must not be empty"),
        ("domain: d\ndescriptors:\n  - kay: a",                                                              "kay"),
        ("domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: fortnight, requests_per_unit: 1 }",   "second, minute, hour"),
        ("domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unlimited: true, unit: day }",              "unlimited"),
        ("domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unlimited: true, time_zone: Mars }",        "this rule is unlimited"),
        ("domain: d\ndescriptors:\n  - { key: a, value: b }\n  - { key: a, value: b }",                      "descriptors[1]: another descriptor"),
        ("domain: d\ndescriptors:\n  - { key: a, value: b, share_threshold: true }",                         "share_threshold"),
        ("domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: day, requests_per_unit: -1 }",        "requests_per_unit"),
        ("domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: day, requests_per_unit: 1, name: n, replaces: [ { name: n } ] }", "cannot replace itself"),
        ("domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: day, requests_per_unit: 1, replaces: [ { name: '' } ] }",        "replaces"),
        ("domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: day, requests_per_unit: 1, burst: 2 }",                          "token_bucket"),
        ("domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: day, requests_per_unit: 1, time_zone: Mars/Olympus }",           "Europe/Berlin"),
        ("domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: year, requests_per_unit: 1, unit_multiplier: 2 }",               "366 days"),
        ("domain: d\ndescriptors: [ 1",                                                                      "d.yaml"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (text, says) in cases {
        std::fs::write(folder.path().join("d.yaml"), text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let ran =
            command.arg("validate").arg("--envoy-config").arg(folder.path()).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains(says), "{text}: {said}");
    }
}

#[test]
fn a_file_may_say_after_the_fact_for_limits_only() {
    let config = "domain: d\ndescriptors:\n  - { key: a, rate_limit: { unlimited: true, after_the_fact: true } }\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("d.yaml"), config).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = command.args(["validate", "--envoy-config"]).arg(folder.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("after_the_fact need a limit"), "{told}");
}
