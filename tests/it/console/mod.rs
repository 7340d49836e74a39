//! The console: its sessions and pages by bare HTTP requests, and in a real browser.

mod files;
mod journey;
mod nodes;
mod nodes_in_redis;
mod search;
mod sessions;

use serde_json::json;

use crate::support::http::{self, Response};
use crate::support::node::Node;

/// A request as the console's scripts send it, with a session or without.
fn from_page(
    node: &Node,
    cookie: Option<&str>,
    (method, path): (&str, &str),
    body: &str,
) -> Response {
    let headers = [("x-tollgate-console", "1"), ("sec-fetch-site", "same-origin")];
    let cookie = cookie.map(|cookie| ("cookie", cookie));
    let headers: Vec<_> = headers.into_iter().chain(cookie).collect();
    http::send(node.admin(), method, path, &headers, body)
}

/// Signs in with a token; returns the cookie that a browser would send.
#[track_caller]
fn sign_in(node: &Node, token: &str) -> String {
    let body = json!({ "token": token }).to_string();
    let answer = from_page(node, None, ("POST", "/console/session"), &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}
