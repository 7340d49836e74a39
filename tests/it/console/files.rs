//! The page and its files: served without a credential, unchanged until they change, and nothing
//! beside them.

use crate::control::node;
use crate::support::http;
use crate::support::node::Node;
use crate::support::repository;

#[test]
fn the_page_is_served_without_a_credential_and_allows_no_other_source() {
    let node = node(None, &[]);
    let get = |path: &str| http::send(node.admin(), "GET", path, &[], "");
    let moved = get("/console");
    assert_eq!((moved.status, moved.header("location")), (308, Some("console/")));
    for (path, kind) in [
        ("/console/", "text/html; charset=utf-8"),
        ("/console/assets/console.js", "text/javascript; charset=utf-8"),
        ("/console/assets/console.css", "text/css; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
        ("/console/licenses.txt", "text/plain; charset=utf-8"),
    ] {
        let answer = get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe-") && !policy.contains("http"), "{policy}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let etag = answer.header("etag").unwrap();
        let again = http::send(node.admin(), "GET", path, &[("if-none-match", etag)], "");
        assert_eq!((again.status, &*again.body), (304, ""));
    }
    assert_eq!(get("/apikeys").status, 403, "data needs a credential");
}

#[test]
fn a_path_leads_to_the_files_of_the_console_and_to_nothing_else() {
    let node = node(None, &[]);
    for path in [
        "/console/../Cargo.toml",
        "/console/..%2f..%2fCargo.toml",
        "/console/assets/../../../../etc/passwd",
        "/console/%2e%2e/%2e%2e/etc/passwd",
        "/console/assets/",
        "/console//etc/passwd",
        "/console/index.html%00.js",
        "/console/assets/console.js/..",
    ] {
        let answer = http::send(node.admin(), "GET", path, &[], "");
        let is_refused = [400, 403, 404].contains(&answer.status);
        assert!(is_refused && !answer.body.contains("root:"), "{path}: {answer:?}");
    }
    let post = http::send(node.admin(), "POST", "/console/", &[], "");
    assert_eq!(post.status, 405, "{post:?}");
}

#[test]
fn without_a_credential_there_is_no_console() {
    let node = Node::start(&["--listen-admin", "127.0.0.1:0"]);
    assert_eq!(node.admin_address(), None);
    assert_eq!(node.get("/console/").status, 404, "nor on the listener of checks");
}

#[test]
fn the_files_name_no_other_host_and_are_small() {
    let folder = repository("src/admin/console/dist");
    let mut bytes = 0;
    for name in ["index.html", "icon.svg", "assets/console.js", "assets/console.css"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        bytes += text.len();
        let names = text.split("http").skip(1).filter(|rest| rest.contains("://"));
        let hosts: Vec<&str> = names
            .filter_map(|rest| rest.split_once("://").filter(|(s, _)| s.len() <= 1))
            .map(|(_, rest)| rest.split(['"', '\'', '`', '/', ' ', ')']).next().unwrap())
            // The names of the languages of elements, which nothing loads.
            .filter(|host| *host != "www.w3.org")
            .collect();
        assert_eq!(hosts, Vec::<&str>::new(), "{name}");
    }
    assert!(bytes < 400_000, "{bytes} bytes, of which compression leaves less than half");
}
