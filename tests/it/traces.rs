//! Traces over OTLP: the spans of checks and of the calls that carried them, as a collector receives
//! them.
//! Needs programs besides Rust, so `make fast` skips it.

use std::collections::BTreeMap;

use prost::Message as _;
use serde_json::json;

use crate::support::eventually;
use crate::support::grpc::{GrpcClient, descriptor, request};
use crate::support::node::Node;
use crate::support::receiver::WebhookReceiver;
use crate::support::redis::RedisServer;

/// The messages of OTLP, as far as they are compared.
/// <https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto>
mod otlp {
    #[derive(prost::Message)]
    pub struct ExportTraceServiceRequest {
        #[prost(message, repeated, tag = "1")]
        pub resource_spans: Vec<ResourceSpans>,
    }

    #[derive(prost::Message)]
    pub struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub scope_spans: Vec<ScopeSpans>,
    }

    #[derive(prost::Message)]
    pub struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub attributes: Vec<KeyValue>,
    }

    #[derive(prost::Message)]
    pub struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub spans: Vec<Span>,
    }

    #[expect(clippy::struct_field_names, reason = "OTLP's names")]
    #[derive(Clone, prost::Message)]
    pub struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub span_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub name: String,
        #[prost(fixed64, tag = "7")]
        pub start: u64,
        #[prost(fixed64, tag = "8")]
        pub end: u64,
        #[prost(message, repeated, tag = "9")]
        pub attributes: Vec<KeyValue>,
        #[prost(message, repeated, tag = "13")]
        pub links: Vec<Link>,
    }

    #[derive(Clone, prost::Message)]
    pub struct Link {
        #[prost(bytes = "vec", tag = "2")]
        pub span_id: Vec<u8>,
    }

    #[derive(Clone, prost::Message)]
    pub struct KeyValue {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<AnyValue>,
    }

    #[derive(Clone, prost::Message)]
    pub struct AnyValue {
        #[prost(string, optional, tag = "1")]
        pub text: Option<String>,
        #[prost(int64, optional, tag = "3")]
        pub number: Option<i64>,
    }
}

const CATALOG: &str = "
version: 1
plans: [{ id: free, throttle: { rate: 1/h, burst: 2 } }]
keys: [{ id: alice, value: the-value-of-alice, plans: [free] }]
";
const ENVOY: &str =
    "{domain: d, descriptors: [{key: path, rate_limit: {unit: year, requests_per_unit: 9}}]}";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn attributes(of: &[otlp::KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &otlp::AnyValue| {
        value.text.clone().or_else(|| value.number.map(|number| number.to_string()))
    };
    let value = |pair: &otlp::KeyValue| pair.value.as_ref().and_then(text).unwrap_or_default();
    of.iter().map(|pair| (&*pair.key, value(pair))).collect()
}

fn spans(collector: &WebhookReceiver) -> Vec<otlp::Span> {
    let mut spans = Vec::new();
    for delivery in collector.deliveries() {
        assert_eq!(delivery.path, "/v1/traces");
        assert_eq!(delivery.headers["content-type"], "application/x-protobuf");
        let request = otlp::ExportTraceServiceRequest::decode(&*delivery.body).unwrap();
        for exported in request.resource_spans {
            let resource = exported.resource.unwrap();
            let resource = attributes(&resource.attributes);
            assert_eq!((&*resource["service.name"], &*resource["zone"]), ("gate", "a"));
            spans.extend(exported.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans
}

/// A node on Redis that exports to the collector, and the environment of its exporter.
fn node(redis: &RedisServer, collector: &WebhookReceiver, sampler: &str) -> (Node, impl Sized) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("envoy.yaml"), ENVOY).unwrap();
    let (store, path) = (redis.url(), folder.path().display().to_string());
    let flags = ["--store", &store, "--envoy-config", &path, "--listen-grpc", "127.0.0.1:0"];
    let flags = [&flags[..], &["--check-deadline", "5s", "--denial-memo", "false"]].concat();
    let endpoint = collector.origin();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_SERVICE_NAME", "gate"),
        ("OTEL_RESOURCE_ATTRIBUTES", "zone=a"),
        ("OTEL_TRACES_SAMPLER", sampler),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    (Node::launch(Some(CATALOG), &flags, &environment), folder)
}

#[test]
fn a_collector_sees_checks_of_http_and_grpc_below_their_callers_and_the_calls_that_carried_them() {
    let (redis, collector) = (RedisServer::start(), WebhookReceiver::start());
    let (node, _folder) = node(&redis, &collector, "parentbased_always_off");
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let body = json!({"api_key": "the-value-of-alice", "cost": 2}).to_string();
    for (status, traceparent) in
        [(200, &*traceparent), (429, &traceparent), (429, &traceparent.replace("-01", "-00"))]
    {
        let response = node.send("POST", "/check", &[("traceparent", traceparent)], &body);
        assert_eq!(response.status, status, "{response:?}");
    }
    // Without a sampled caller there is no span here.
    assert_eq!(node.send("POST", "/check", &[], &body).status, 429);
    let checks = json!({ "checks": [{"api_key": "the-value-of-alice"}, {"api_key": "wrong"}] });
    let headers = [("traceparent", &*traceparent)];
    assert_eq!(node.send("POST", "/check/batch", &headers, &checks.to_string()).status, 200);
    let mut request = tonic::Request::new(request("d", vec![descriptor(&[("path", "/a-path")])]));
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    GrpcClient::connect(node.grpc()).send(request).unwrap();
    eventually("all spans have arrived", || spans(&collector).len() >= 8);
    let spans = spans(&collector);
    assert_eq!(spans.len(), 8, "{spans:?}");
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let (checks, calls) = (named("check"), named("store call"));
    assert_eq!((checks.len(), calls.len()), (2, 4));
    let trace = u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes().to_vec();
    let caller = u64::from_str_radix(CALLER, 16).unwrap().to_be_bytes().to_vec();
    let requests = [&checks[..], &named("check batch"), &named("ShouldRateLimit")].concat();
    for span in &requests {
        assert_eq!((&span.trace_id, &span.parent_span_id), (&trace, &caller));
        let linked = |call: &&&otlp::Span| call.links.iter().any(|it| it.span_id == span.span_id);
        let call = calls.iter().find(linked).unwrap_or_else(|| panic!("{span:?} has no call"));
        assert_eq!((&call.trace_id, &call.parent_span_id), (&span.trace_id, &span.span_id));
        assert!(span.start <= span.end && call.start < call.end, "{span:?} {call:?}");
        assert_eq!(attributes(&call.attributes)["db.system.name"], "redis");
    }
    let refused = attributes(&checks[1].attributes);
    let expected = [
        ("tollgate.decided_by", "redis"),
        ("tollgate.limit", "free/throttle"),
        ("tollgate.outcome", "refused"),
        ("tollgate.plan", "free"),
    ];
    assert_eq!(refused, expected.map(|(key, value)| (key, value.to_owned())).into());
    let allowed = attributes(&checks[0].attributes);
    assert!(allowed["tollgate.outcome"] == "allowed" && !allowed.contains_key("tollgate.limit"));
    let batch = attributes(&requests[2].attributes);
    assert_eq!(batch["tollgate.outcome"], "refused");
    assert_eq!(attributes(&requests[3].attributes)["tollgate.outcome"], "allowed");
    for delivery in collector.deliveries() {
        let text = String::from_utf8_lossy(&delivery.body);
        assert!(!["alice", "a-path"].iter().any(|client| text.contains(client)), "{text}");
    }
    eventually("all spans are counted", || {
        node.metric("tollgate_trace_spans_total", "exported") == 8.0
    });
}

#[test]
fn checks_do_not_wait_for_a_collector_that_is_gone_and_what_is_left_goes_out_at_the_stop() {
    let (redis, collector) = (RedisServer::start(), WebhookReceiver::start());
    let (node, _folder) = node(&redis, &collector, "always_on");
    collector.respond_with(400);
    node.check(json!({"api_key": "the-value-of-alice"}));
    eventually("the refused spans are counted", || {
        node.metric("tollgate_trace_spans_total", "failed") >= 2.0
    });
    assert!(node.log().contains("spans of traces are lost"), "{}", node.log());
    collector.respond_with(200);
    let before = spans(&collector).len();
    let checks = vec![json!({"api_key": "the-value-of-alice"}); 20];
    for check in checks {
        node.check(check);
    }
    assert_eq!(node.stop(), Some(0));
    let roots = spans(&collector).split_off(before);
    let roots: Vec<_> = roots.iter().filter(|span| span.name == "check").collect();
    assert_eq!(roots.len(), 20);
    assert!(roots.iter().all(|span| span.parent_span_id.is_empty()));
}

#[test]
fn traces_are_off_without_an_endpoint_and_a_wrong_variable_ends_the_start() {
    for (name, value, named) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "some", "parentbased_traceidratio"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "not a url", "endpoint"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "OTEL_BSP_MAX_QUEUE_SIZE"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
            .env(name, value)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && error.contains(named), "{name}: {error}");
    }
    for off in [
        &[("OTEL_TRACES_SAMPLER", "some")][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_SDK_DISABLED", "true")],
    ] {
        let node = Node::launch(Some(CATALOG), &[], off);
        assert_eq!(node.check(json!({"api_key": "the-value-of-alice"})).status, 200);
        assert_eq!(node.metric("tollgate_trace_spans_total", ""), 0.0);
    }
}
