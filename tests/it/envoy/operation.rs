//! Envoy's service in operation: reloads, health, metrics, the stop.

use std::fs;

use serde_json::json;
use tollgate::grpc::proto::rate_limit_response::Code;
use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::{CONFIG, codes, serve};
use crate::support::eventually;
use crate::support::grpc::{GrpcClient, descriptor, request};
use crate::support::node::Node;

#[test]
fn changed_files_are_reloaded_and_invalid_ones_change_nothing() {
    let served = serve(CONFIG, &[]);
    let fresh = |n: u32| [("user", format!("{n}"))];
    let passing = |n| {
        let [(key, value)] = &fresh(n);
        served.passing(10, &[(key, value)])
    };
    fs::write(served.file(), CONFIG.replace("domain: d", "domain: d\nnonsense: 1")).unwrap();
    eventually("the invalid file was seen", || {
        served.node.metric("tollgate_catalog_reloads_total", "failed") > 0.0
    });
    assert!(served.node.log().contains("nonsense"), "{}", served.node.log());
    assert_eq!(passing(0), 2);
    let more = CONFIG.replace(
        "- key: user\n    rate_limit: { unit: year, requests_per_unit: 2 }",
        "- key: user\n    rate_limit: { unit: year, requests_per_unit: 7 }",
    );
    fs::write(served.file(), more).unwrap();
    let mut n = 0;
    eventually("the new limit is in use", || {
        n += 1;
        passing(n) == 7
    });
    assert_eq!(passing(0), 5, "a changed size keeps its counter");
    fs::write(
        served.folder.path().join("e.yml"),
        "domain: e\ndescriptors: [ { key: a, rate_limit: { unit: year, requests_per_unit: 0 } } ]",
    )
    .unwrap();
    eventually("another file is in use", || {
        let answer = served.client.ask(request("e", vec![descriptor(&[("a", "b")])])).unwrap();
        answer.overall_code() == Code::OverLimit
    });
}

#[test]
fn unreadable_files_and_ignored_files_are_logged_by_name() {
    let served = serve(CONFIG, &[]);
    let failed = || served.node.metric("tollgate_catalog_reloads_total", "failed");
    let gone = served.folder.path().join("gone.yaml");
    std::os::unix::fs::symlink("/nonexistent", &gone).unwrap();
    eventually("the link was seen", || failed() > 0.0);
    assert!(served.node.log().contains("gone.yaml"), "{}", served.node.log());
    fs::remove_file(gone).unwrap();
    fs::write(served.folder.path().join("e.json"), "{}").unwrap();
    fs::write(served.file(), CONFIG.replace("domain: d", "domain: e")).unwrap();
    eventually("the file is in use", || served.node.log().contains("1 domain: e"));
    assert!(served.node.log().contains("e.json: is not read"), "{}", served.node.log());
}

#[test]
fn the_http_endpoints_of_envoyproxy_ratelimit_exist() {
    let served = serve(CONFIG, &[]);
    let body =
        json!({"domain": "d", "descriptors": [{"entries": [{"key": "number", "value": "404"}]}]});
    let send = |body: &str| served.node.send("POST", "/json", &[], body);
    let allowed = send(&body.to_string());
    assert_eq!(allowed.status, 200, "{allowed:?}");
    let message = allowed.json();
    assert_eq!(message["overallCode"], "OK");
    let status = &message["statuses"][0];
    assert_eq!(status["currentLimit"], json!({"requestsPerUnit": 1, "unit": "YEAR"}));
    assert!(status["durationUntilReset"].as_str().unwrap().ends_with('s'), "{status}");
    let refused = send(&body.to_string());
    assert_eq!((refused.status, &refused.json()["overallCode"]), (429, &json!("OVER_LIMIT")));
    for nonsense in ["", "{", "[]", r#"{"domain":1}"#, r#"{"domain":"d"}"#, r#"{"dommain":"d"}"#] {
        assert_eq!(send(nonsense).status, 400, "{nonsense}");
    }
    let health = served.node.get("/healthcheck");
    assert_eq!((health.status, &*health.body), (200, "OK"));
}

#[test]
fn health_and_reflection_work_as_grpc_defines_them() {
    let served = serve(CONFIG, &[]);
    for service in ["", "ratelimit", "envoy.service.ratelimit.v3.RateLimitService"] {
        let asked = HealthCheckRequest { service: service.into() };
        let health: HealthCheckResponse =
            served.client.call("/grpc.health.v1.Health/Check", Request::new(asked)).unwrap();
        assert_eq!(health.status, 1, "{service}");
    }
    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(
            "envoy.service.ratelimit.v3.RateLimitService".into(),
        )),
    };
    let reflected = served.client.reflect(asked);
    let Some(MessageResponse::FileDescriptorResponse(files)) = reflected.message_response else {
        panic!("{reflected:?}")
    };
    let named = |name: &str| {
        let tells = |file: &Vec<u8>| file.windows(name.len()).any(|part| part == name.as_bytes());
        files.file_descriptor_proto.iter().any(tells)
    };
    assert!(named("ShouldRateLimit") && named("hits_addend"));
}

#[test]
fn metric_labels_have_clients_values_only_if_configured_and_are_bounded() {
    const LABELLED: &str = r#"
domain: d
descriptors:
  - key: plain
    rate_limit: { unit: year, requests_per_unit: 5000 }
  - key: detailed
    detailed_metric: true
    rate_limit: { unit: year, requests_per_unit: 5000 }
  - key: told
    value_to_metric: true
    descriptors: [ { key: path, value: "/a*", rate_limit: { unit: year, requests_per_unit: 5000 } } ]
  - key: shared
    value: "x*"
    share_threshold: true
    detailed_metric: true
    rate_limit: { unit: year, requests_per_unit: 5000 }
"#;
    let served = serve(LABELLED, &[]);
    #[rustfmt::skip]
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("plain", "secret")],              "plain"),
        (&[("detailed", "seen")],             "detailed_seen"),
        (&[("told", "seen"), ("path", "/ab")], "told_seen.path_/a*"),
        (&[("shared", "xyz")],                "shared_x*"),
    ];
    for (entries, label) in cases {
        assert!(served.passes(entries));
        let labels = format!(r#"limit="{label}""#);
        assert_eq!(served.node.metric("tollgate_decisions_total", &labels), 1.0, "{label}");
    }
    let many = (0..250).map(|n| descriptor(&[("detailed", &*format!("{n}"))]));
    for part in 0..10 {
        if part == 8 {
            served.node.signal(rustix::process::Signal::HUP);
            eventually("the file is reloaded", || {
                served.node.metric("tollgate_catalog_reloads_total", r#"result="ok""#) >= 1.0
            });
        }
        let asked = many.clone().map(|mut descriptor| {
            descriptor.entries[0].value += &format!("-{part}");
            descriptor
        });
        served.ask(asked.collect());
    }
    let metrics = served.node.get("/metrics").body;
    let labels = metrics.lines().filter(|line| line.contains("limit=\"detailed")).count();
    assert!((900..=1_001).contains(&labels), "{labels}");
    assert!(!metrics.contains("secret"));
}

#[test]
fn a_stopping_node_completes_requests_in_flight() {
    let served = serve(CONFIG, &["--drain-delay", "2s"]);
    assert!(served.passes(&[("user", "x")]));
    served.node.signal(rustix::process::Signal::TERM);
    eventually("the health service reports it", || {
        let asked = HealthCheckRequest { service: String::new() };
        let health: Result<HealthCheckResponse, _> =
            served.client.call("/grpc.health.v1.Health/Check", Request::new(asked));
        health.is_ok_and(|health| health.status == 2)
    });
    assert!(served.passes(&[("user", "x")]), "it serves until then");
    assert_eq!(served.node.get("/healthcheck").status, 500);
    // This client does not read while it sends no request. That must not delay the node's end.
    assert_eq!(served.node.stop(), Some(0));
}

#[test]
fn callers_need_the_check_token() {
    let served = serve(CONFIG, &["--check-token", "s3cret"]);
    let asked = || request("d", vec![descriptor(&[("user", "x")])]);
    let status = served.client.ask(asked()).unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
    let mut right = Request::new(asked());
    right.metadata_mut().insert("authorization", "Bearer s3cret".parse().unwrap());
    assert_eq!(served.client.send(right).unwrap().overall_code(), Code::Ok);
    assert_eq!(served.node.send("POST", "/json", &[], "{}").status, 401);
}

#[test]
fn without_limits_for_envoy_there_is_no_grpc_listener() {
    let node = Node::start(&[]);
    assert_eq!(node.send("POST", "/json", &[], "{}").status, 404);
    let served = serve(CONFIG, &[]);
    let _second = GrpcClient::connect(served.node.grpc());
    let rule = r#"limit="user",outcome="allowed""#;
    assert!(served.passes(&[("user", "x")]));
    assert_eq!(served.node.metric("tollgate_decisions_total", rule), 1.0);
}

#[test]
fn a_full_store_takes_no_new_values_and_lifts_no_limit_of_known_ones() {
    for (policy, new) in [("open", Ok(Code::Ok)), ("closed", Err(tonic::Code::Unavailable))] {
        let flags = ["--max-memory-rows", "2", "--envoy-on-store-failure", policy];
        let served = serve(CONFIG, &flags);
        let ask = |entries: &[(&str, &str)]| {
            let descriptors = entries.iter().map(|entry| descriptor(&[*entry])).collect();
            served.client.ask(request("d", descriptors)).map_err(|status| status.code())
        };
        let code = |key, value| ask(&[(key, value)]).map(|answer| answer.overall_code());
        for user in ["a", "b"] {
            assert_eq!(code("user", user), Ok(Code::Ok));
        }
        assert_eq!(code("user", "c"), new, "{policy}");
        assert_eq!(code("user", "a"), Ok(Code::Ok), "a counter in use");
        assert_eq!(code("user", "a"), Ok(Code::OverLimit));
        let passing = (0..5).filter(|_| code("path", "/exact") == Ok(Code::Ok)).count();
        assert_eq!(passing, 3, "a descriptor whose value the file gives has room");
        let both = ask(&[("path", "/exact"), ("user", "d")]);
        match policy {
            "open" => assert_eq!(codes(&both.unwrap()), [Code::OverLimit, Code::Ok]),
            _ => assert_eq!(both.unwrap_err(), tonic::Code::Unavailable),
        }
        assert!(served.node.metric("tollgate_store_errors_total", "kind=\"full\"") >= 2.0);
    }
}
