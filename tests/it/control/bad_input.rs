//! Invalid requests to the admin API.

use serde_json::json;

use super::{TOKEN, as_bearer, call, node, plan_and_key};
use crate::support::http;

#[test]
fn an_invalid_request_to_the_admin_api_is_a_clear_4xx_and_changes_nothing() {
    let node = node(None, &[]);
    let (id, value, plan) = plan_and_key(&node, 100);
    let api = call(&node, "POST", "/restapis", json!({"name": "a"}))["id"].clone();
    let api = format!("/restapis/{}", api.as_str().unwrap());
    let deployed = call(&node, "POST", &format!("{api}/deployments"), json!({"stageName": "prod"}));
    assert!(deployed["id"].is_string());
    let stage = format!("{api}/stages/prod");
    let everything = || ["/usageplans", &stage].map(|path| call(&node, "GET", path, json!(null)));
    let before = everything();
    let plans = format!("/usageplans/{plan}");
    let key = format!("/apikeys/{id}");
    let keys = format!("{plans}/keys");
    let csv = format!("{plans}/usage?format=csv&limit=0");
    let deep = "[".repeat(500);
    let patch = |path: &str, value: &str| {
        json!({"patchOperations": [{"op": "replace", "path": path, "value": value}]}).to_string()
    };
    let cases: Vec<(&str, &str, String)> = vec![
        ("POST", "/usageplans", "not JSON".into()),
        ("POST", "/usageplans", deep),
        ("POST", "/usageplans", "{}".into()),
        ("POST", "/usageplans", r#"["a"]"#.into()),
        ("POST", "/usageplans", r#"{"name":"a\u0000b"}"#.into()),
        ("POST", "/usageplans", format!(r#"{{"name":"{}"}}"#, "a".repeat(1_025))),
        ("POST", "/usageplans", r#"{"name":"a","tags":{"a\u0001":"b"}}"#.into()),
        ("POST", "/apikeys", r#"{"name":"a\nb"}"#.into()),
        ("POST", "/restapis", r#"{"name":"a\u0000"}"#.into()),
        ("PATCH", &plans, patch("/name", "a\u{0}")),
        ("PATCH", &plans, patch("/name", "a\nb")),
        ("POST", "/apikeys", "[]".into()),
        ("PATCH", &plans, "[]".into()),
        ("PATCH", &key, "[]".into()),
        ("PATCH", &key, "\u{c}".into()),
        ("POST", "/usageplans", r#"{"name":"a","colour":"red"}"#.into()),
        (
            "POST",
            "/usageplans",
            r#"{"name":"a","throttle":{"rateLimit":-1,"burstLimit":1}}"#.into(),
        ),
        (
            "POST",
            "/usageplans",
            r#"{"name":"a","throttle":{"rateLimit":1e300,"burstLimit":1}}"#.into(),
        ),
        (
            "POST",
            "/usageplans",
            r#"{"name":"a","throttle":{"rateLimit":1,"burstLimit":-5}}"#.into(),
        ),
        ("POST", "/usageplans", r#"{"name":"a","quota":{"limit":-1,"period":"DAY"}}"#.into()),
        ("POST", "/usageplans", r#"{"name":"a","quota":{"limit":1,"period":"YEAR"}}"#.into()),
        ("POST", "/usageplans", r#"{"name":"a","limits":[{"name":"throttle"}]}"#.into()),
        ("POST", "/usageplans", r#"{"name":"a","tags":{"_custom_id_":"a/b"}}"#.into()),
        ("POST", "/apikeys", r#"{"name":"a","tags":{"_custom_id_":"a/b"}}"#.into()),
        ("POST", "/apikeys", r#"{"name":"a","value":"twenty characters\nand a control"}"#.into()),
        ("POST", "/apikeys", r#"{"name":"a","expiresAt":"tomorrow"}"#.into()),
        ("POST", "/apikeys?mode=import&format=csv", "Name\nonly".into()),
        ("POST", "/apikeys?mode=import&format=xml", "Name,Key".into()),
        ("POST", "/restapis", r#"{"name":"a","colour":"red"}"#.into()),
        ("POST", &keys, r#"{"keyId":"nobody","keyType":"API_KEY"}"#.into()),
        ("POST", &keys, format!(r#"{{"keyId":"{id}","keyType":"OTHER"}}"#)),
        ("PATCH", &plans, patch("/quota/limit", "many")),
        ("PATCH", &plans, patch("/throttle/rateLimit", "0")),
        ("PATCH", &plans, patch("throttle", "1")),
        ("PATCH", &plans, patch("/apiStages", "nowhere")),
        ("PATCH", &plans, r#"{"patchOperations":[{"op":"test","path":"/name"}]}"#.into()),
        ("PATCH", &key, patch("/enabled", "perhaps")),
        ("PATCH", &stage, patch("/*/*/throttling/rateLimit", "abc")),
        ("PATCH", &stage, patch("/*/*/throttling/rateLimit", "NaN")),
        ("PATCH", &stage, patch("/*/*/throttling/rateLimit", "inf")),
        ("PATCH", &stage, patch("/*/*/throttling/rateLimit", "-2")),
        ("PATCH", &stage, patch("/*/*/throttling/rateLimit", "0")),
        ("PATCH", &stage, patch("/*/*/throttling/rateLimit", "")),
        ("PATCH", &stage, patch("/*/*/throttling/burstLimit", "1.5")),
        ("PATCH", &stage, patch("/*/*/throttling/burstLimit", "true")),
        ("PATCH", &stage, patch("/*/*/metrics/enabled", "perhaps")),
        ("PATCH", &stage, patch("/*/*/caching/ttlInSeconds", "soon")),
        ("PATCH", &key, patch("/value", "another")),
        ("GET", "/apikeys?limit=0", String::new()),
        ("GET", "/usageplans?limit=-3", String::new()),
        ("GET", &csv, String::new()),
        ("PUT", "/usageplans", "{}".into()),
        ("GET", "/nowhere", String::new()),
        ("GET", "/tags/%FF", String::new()),
    ];
    for (method, path, body) in cases {
        let answer = as_bearer(&node, TOKEN, method, path, &body);
        let case = format!("{method} {path} {body:.200}: {answer:?}");
        assert!((400..500).contains(&answer.status), "{case}");
        assert!(answer.header("x-amzn-errortype").is_some(), "{case}");
        assert!(answer.json()["message"].as_str().is_some_and(|why| why.len() > 5), "{case}");
        assert!(!answer.body.contains("struct "), "{case}");
    }
    // A body up to the size limit is parsed; a larger one is rejected.
    for (mebibytes, status, says) in [(9, 400, "name: the text"), (11, 413, "10240 KiB")] {
        let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(mebibytes << 20));
        let answer = as_bearer(&node, TOKEN, "POST", "/usageplans", &long);
        assert_eq!(answer.status, status, "{mebibytes} MiB");
        assert!(answer.body.contains(says), "{answer:?}");
    }
    assert_eq!(everything(), before);
    // AWS' clients send documents of many lines, which are valid.
    let statements = vec!["\t{\"Effect\": \"Allow\"}"; 100].join(",\n");
    let policy = format!("{{\n\"Statement\": [\n{statements}\n]\n}}\n");
    call(&node, "POST", "/restapis", json!({"name": "b", "policy": policy, "description": "a\nb"}));
    assert_eq!(call(&node, "GET", "/apikeys", json!(null))["item"].as_array().unwrap().len(), 1);
    assert_eq!(node.check(json!({"api_key": value})).status, 200);
}

#[test]
#[rustfmt::skip]
fn an_error_names_the_parameter_the_member_or_the_plan() {
    let node = node(None, &[]);
    call(&node, "POST", "/usageplans", json!({"name": "first", "tags": {"_custom_id_": "a"}}));
    let plan = |members: &str| format!(r#"{{"name":"p","tags":{{"_custom_id_":"b"}},{members}}}"#);
    let cases: [(&str, &str, String, &str); 14] = [
        // method  path                              body                              why
        ("GET",    "/usageplans?keyid=a",             String::new(),                    "`keyid` is not known here; this request has position, limit, keyId"),
        ("GET",    "/usageplans/a?embed=b",           String::new(),                    "`embed` is not known here; this request has none"),
        ("GET",    "/restapis?limit=2&limit=3",       String::new(),                    "the query has limit twice"),
        ("GET",    "/restapis?li%6Dit=x",             String::new(),                    "Invalid limit: expected a whole number"),
        ("GET",    "/apikeys?includeValues=yes",      String::new(),                    "Invalid includeValues: expected true or false"),
        ("GET",    "/restapis/a/resources?embed=all", String::new(),                    "Invalid embed: expected methods"),
        ("GET",    "/usageplans/a/usage?format=csv&limit=5", String::new(),             "Invalid limit: a CSV file has all keys"),
        ("POST",   "/apikeys?format=csv",             "{}".into(),                      "format and failonwarnings are for mode=import"),
        ("POST",   "/apikeys",                        r#"{"enabled":"yes"}"#.into(),    "enabled: expected true or false"),
        ("POST",   "/usageplans",                     plan(r#""onStoreFailure":{"open":null}"#), "onStoreFailure: expected text"),
        ("POST",   "/usageplans",                     plan(r#""limits":[{"name":"l","mode":{"shadow":null},"throttle":{"rate":1,"burst":1}}]"#), "limits[0]: mode: expected text"),
        ("POST",   "/usageplans",                     plan(r#""throttle":{"rateLimit":1,"burstLimit":0}"#), "the usage plan b: throttle"),
        ("POST",   "/usageplans/a/keys",              r#"{"keyId":"a","keyType":"API_KEY","colour":1}"#.into(), "`colour` is not known here"),
        ("PUT",    "/tags/arn:aws:apigateway:local::%2Fusageplans%2Fa", r#"{"tags":{},"colour":1}"#.into(), "`colour` is not known here"),
    ];
    for (method, path, body, why) in cases {
        let answer = as_bearer(&node, TOKEN, method, path, &body);
        assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(why), "{method} {path}: {message}");
    }
}

/// serde would accept one as a struct's members in their order.
#[test]
fn an_array_is_not_accepted_as_an_object_at_any_depth() {
    let node = node(None, &[]);
    let (id, _, plan) = plan_and_key(&node, 100);
    let everything =
        || ["/usageplans", "/apikeys"].map(|path| call(&node, "GET", path, json!(null)));
    let before = everything();
    let (plans, key) = (format!("/usageplans/{plan}"), format!("/apikeys/{id}"));
    let limits = |limit: &str| format!(r#"{{"name":"a","limits":[{limit}]}}"#);
    let overriding = |sizes: &str| format!(r#"{{"name":"a","overrides":{{"{plan}":{sizes}}}}}"#);
    let patch = |path: &str, value: &str| {
        json!({"patchOperations": [{"op": "replace", "path": path, "value": value}]}).to_string()
    };
    let cases: Vec<(&str, &str, String)> = vec![
        ("POST", "/usageplans", r#"{"name":"a","throttle":[1,2]}"#.into()),
        ("POST", "/usageplans", r#"{"name":"a","throttle":[]}"#.into()),
        ("POST", "/usageplans", r#"{"name":"a","quota":[5,0,"DAY"]}"#.into()),
        (
            "POST",
            "/restapis/a/stages",
            r#"{"stageName":"a","deploymentId":"d","throttle":[1,2]}"#.into(),
        ),
        ("POST", "/usageplans", r#"{"name":"a","apiStages":[["api","prod"]]}"#.into()),
        ("POST", "/usageplans", limits(r#"["t","requests",null,null,null,null,null]"#)),
        ("POST", "/usageplans", limits(r#"{"name":"t","throttle":["1/s",2]}"#)),
        ("POST", "/usageplans", limits(r#"{"name":"t","quota":[2,"day",null,null]}"#)),
        ("PATCH", &plans, r#"{"patchOperations":[["replace","/name","b",null]]}"#.into()),
        ("POST", "/apikeys", overriding("[]")),
        ("POST", "/apikeys", overriding(r#"{"throttle":[1,2]}"#)),
        ("POST", "/apikeys", overriding(r#"{"limits":{"t":{"throttle":["1/s",2]}}}"#)),
        ("PATCH", &key, patch("/overrides", &format!(r#"{{"{plan}":{{"throttle":[1,2]}}}}"#))),
    ];
    for (method, path, body) in cases {
        let answer = as_bearer(&node, TOKEN, method, path, &body);
        let case = format!("{method} {path} {body}: {answer:?}");
        assert_eq!(answer.status, 400, "{case}");
        assert_eq!(answer.header("x-amzn-errortype"), Some("BadRequestException"), "{case}");
        assert!(
            answer.json()["message"].as_str().unwrap().contains("expected an object"),
            "{case}"
        );
    }
    assert_eq!(everything(), before);
}

#[test]
fn an_unauthenticated_request_is_rejected_before_its_body_arrives() {
    let node = node(None, &[]);
    let begun = "POST /usageplans HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\ncontent-length: 50\r\nconnection: close\r\n\r\n{";
    assert_eq!(http::send_raw(node.admin(), begun.as_bytes()).unwrap().status, 401);
}
