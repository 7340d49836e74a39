//! Sessions: who may begin one, what it may do, and who cannot make or use one.

use serde_json::json;

use super::{from_page, sign_in};
use crate::control::{TOKEN, as_bearer, call, node};
use crate::support::http;
use crate::support::node::Node;

const READ_TOKEN: &str = "the-token-for-reading";

type Headers<'h> = &'h [(&'h str, &'h str)];

fn begin(node: &Node, body: &serde_json::Value) -> http::Response {
    from_page(node, None, ("POST", "/console/session"), &body.to_string())
}

#[test]
fn a_session_has_the_rights_of_its_token_and_its_changes_are_in_the_audit_log() {
    let node = node(None, &[]);
    let cookie = sign_in(&node, TOKEN);
    let created = from_page(&node, Some(&cookie), ("POST", "/apikeys"), r#"{"name":"k"}"#);
    assert_eq!(created.status, 201, "{created:?}");
    let audit = call(&node, "GET", "/audit", json!(null));
    assert_eq!(audit["item"][0]["who"], "console:admin_token");
    let path = format!("/apikeys/{}", created.json()["id"].as_str().unwrap());
    let reader = sign_in(&node, READ_TOKEN);
    let shown = from_page(&node, Some(&reader), ("GET", &path), "");
    assert_eq!((shown.status, shown.header("cache-control")), (200, Some("no-store")));
    for (method, path) in
        [("DELETE", &*path), ("POST", "/apikeys"), ("GET", "/apikeys?includeValues=true")]
    {
        let refused = from_page(&node, Some(&reader), (method, path), "");
        assert_eq!(refused.status, 403, "{method} {path}: {refused:?}");
    }
    let explained = from_page(&node, Some(&reader), ("POST", "/explain"), r#"{"key_id":"x"}"#);
    assert_eq!(explained.status, 200, "{explained:?}");
    let session = from_page(&node, Some(&reader), ("GET", "/console/session"), "").json();
    assert_eq!(session["session"]["canWrite"], false);
    assert_eq!(session["session"]["who"], "admin_read_token");
}

#[test]
fn a_cookie_is_for_scripts_of_the_own_origin_only() {
    let node = node(None, &[]);
    let cookie = sign_in(&node, TOKEN);
    let own = format!("http://{}", node.admin());
    let cases: [(&str, Headers<'_>, u16); 7] = [
        ("the page itself", &[("x-tollgate-console", "1"), ("sec-fetch-site", "same-origin")], 201),
        ("over plain HTTP", &[("x-tollgate-console", "1"), ("origin", &own)], 201),
        ("a form of another site", &[("sec-fetch-site", "cross-site")], 403),
        ("another port", &[("x-tollgate-console", "1"), ("sec-fetch-site", "same-site")], 403),
        ("another origin", &[("x-tollgate-console", "1"), ("origin", "http://evil.test")], 403),
        ("a form of the own site", &[("sec-fetch-site", "same-origin")], 403),
        ("a link", &[("sec-fetch-site", "none")], 403),
    ];
    for (why, headers, status) in cases {
        let headers: Vec<_> = headers.iter().copied().chain([("cookie", &*cookie)]).collect();
        let answer = http::send(node.admin(), "POST", "/apikeys", &headers, r#"{"name":"k"}"#);
        assert_eq!(answer.status, status, "{why}: {answer:?}");
    }
    // A sign-in from elsewhere would let another client's changes look like this one's.
    let body = json!({ "token": TOKEN }).to_string();
    let foreign = [("x-tollgate-console", "1"), ("sec-fetch-site", "cross-site")];
    assert_eq!(http::send(node.admin(), "POST", "/console/session", &foreign, &body).status, 403);
    assert_eq!(http::send(node.admin(), "POST", "/console/session", &[], &body).status, 403);
    let preflight = [("origin", "http://evil.test"), ("access-control-request-method", "POST")];
    let answer = http::send(node.admin(), "OPTIONS", "/apikeys", &preflight, "");
    assert!(answer.header("access-control-allow-origin").is_none(), "{answer:?}");
}

#[test]
fn every_node_with_the_same_token_opens_a_session_and_no_other_node_does() {
    let nodes = [(); 2].map(|()| node(None, &[]));
    let cookie = sign_in(&nodes[0], TOKEN);
    assert_eq!(from_page(&nodes[1], Some(&cookie), ("GET", "/apikeys"), "").status, 200);
    let other = [
        ("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"),
        ("TOLLGATE_ADMIN_TOKEN", "another-token-for-tests"),
        ("TOLLGATE_ADMIN_READ_TOKEN", READ_TOKEN),
    ];
    let other = Node::launch(None, &[], &other);
    let answer = from_page(&other, Some(&cookie), ("GET", "/apikeys"), "");
    assert_eq!(
        (answer.status, answer.header("x-amzn-errortype")),
        (401, Some("UnauthorizedException"))
    );
    let forged = format!("{}AA", &cookie[..cookie.len() - 2]);
    let answer = from_page(&nodes[0], Some(&forged), ("GET", "/apikeys"), "");
    assert_eq!(answer.status, 401, "{answer:?}");
    let token = as_bearer(&other, "another-token-for-tests", "GET", "/apikeys", "");
    assert_eq!(token.status, 200);
}

#[test]
fn failed_sign_ins_count_as_failed_authentications_and_a_right_credential_always_passes() {
    let node = node(None, &[]);
    let wrong = json!({ "token": "a-wrong-token-of-none" });
    let statuses: Vec<u16> = (0..14).map(|_| begin(&node, &wrong).status).collect();
    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses[13], 429);
    let bearer = as_bearer(&node, "a-wrong-token-of-none", "GET", "/apikeys", "");
    assert_eq!(bearer.status, 429, "the limit is the admin API's own");
    sign_in(&node, TOKEN);
}

#[test]
fn a_cookie_is_out_of_reach_of_scripts_and_other_sites_and_is_removed_by_signing_out() {
    let node = node(None, &[]);
    let body = json!({ "token": TOKEN }).to_string();
    let https = [
        ("x-tollgate-console", "1"),
        ("sec-fetch-site", "same-origin"),
        ("origin", "https://a.test"),
    ];
    let answer = http::send(node.admin(), "POST", "/console/session", &https, &body);
    let cookie = answer.header("set-cookie").unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800", "Secure"] {
        assert!(cookie.split("; ").any(|part| part == attribute), "{cookie}");
    }
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(!answer.body.contains(TOKEN) && !cookie.contains(TOKEN));
    let plain = begin(&node, &json!({ "token": TOKEN }));
    assert!(!plain.header("set-cookie").unwrap().contains("Secure"), "{plain:?}");
    let out = from_page(&node, Some("tollgate_session=x"), ("DELETE", "/console/session"), "");
    assert!(out.status == 204 && out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(!node.log().contains(TOKEN) && !node.log().contains(cookie), "{}", node.log());
}

#[test]
fn without_tokens_the_access_key_signs_in_and_bad_bodies_are_refused() {
    let access_key = [
        ("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"),
        ("TOLLGATE_ADMIN_ACCESS_KEY_ID", "AKIATEST"),
        ("TOLLGATE_ADMIN_SECRET_ACCESS_KEY", "a-secret-for-tests"),
    ];
    let node = Node::launch(None, &[], &access_key);
    let kinds = from_page(&node, None, ("GET", "/console/session"), "").json();
    assert_eq!(kinds, json!({ "session": null, "accepts": "accessKey" }));
    let pair = json!({ "accessKeyId": "AKIATEST", "secretAccessKey": "a-secret-for-tests" });
    let answer = begin(&node, &pair);
    assert_eq!((answer.status, answer.json()["who"].as_str()), (200, Some("AKIATEST")));
    assert_eq!(begin(&node, &json!({ "token": "a-secret-for-tests" })).status, 401);
    for bad in [json!({}), json!({ "token": "x", "accessKeyId": "y" }), json!({ "user": "x" })] {
        assert_eq!(begin(&node, &bad).status, 400, "{bad}");
    }
    let large = json!({ "token": "x".repeat(20_000) });
    assert_eq!(begin(&node, &large).status, 413);
}

#[test]
fn an_authorization_header_precedes_a_cookie() {
    let node = node(None, &[]);
    let cookie = sign_in(&node, TOKEN);
    let headers = [
        ("x-tollgate-console", "1"),
        ("cookie", &*cookie),
        ("authorization", "Bearer the-token-for-reading"),
    ];
    let answer = http::send(node.admin(), "POST", "/apikeys", &headers, r#"{"name":"k"}"#);
    assert_eq!(answer.status, 403, "{answer:?}");
}
