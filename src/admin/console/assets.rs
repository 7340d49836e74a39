//! The console's page and its files, built from `console/` and compiled in.
//!
//! They hold no data and are the same for everybody. A path is looked up among the names below,
//! never in a file system.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use crate::admin::error::AdminError;
use crate::digest::encode_hex;

/// The page may load its own files and send requests to its own origin, and nothing else: no inline
/// scripts and styles, no frames in it or around it, no HTML made from texts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A file with its name below `/console/`.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

static ASSETS: [Asset; 5] = [
    Asset {
        name: "",
        content_type: "text/html; charset=utf-8",
        bytes: include_bytes!("dist/index.html"),
    },
    Asset {
        name: "assets/console.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("dist/assets/console.js"),
    },
    Asset {
        name: "assets/console.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("dist/assets/console.css"),
    },
    Asset {
        name: "icon.svg",
        content_type: "image/svg+xml",
        bytes: include_bytes!("dist/icon.svg"),
    },
    Asset {
        name: "licenses.txt",
        content_type: "text/plain; charset=utf-8",
        bytes: include_bytes!("dist/licenses.txt"),
    },
];

/// The version of each file, by which a browser asks if its copy is current.
static ETAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let etag = |asset: &Asset| {
        let digest = encode_hex(&Sha256::digest(asset.bytes).into());
        format!("\"{}\"", digest.get(..32).unwrap_or_default())
    };
    ASSETS.iter().map(etag).collect()
});

/// `GET /console`.
pub(super) async fn redirect() -> Response {
    // Relative, since a proxy may serve it below another path.
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "console/")]).into_response()
}

/// `GET /console/`.
pub(super) async fn page(headers: HeaderMap) -> Response {
    respond("", &headers)
}

/// `GET /console/…`.
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    respond(&name, &headers)
}

fn respond(name: &str, headers: &HeaderMap) -> Response {
    let found = ASSETS.iter().zip(ETAGS.iter()).find(|(asset, _)| asset.name == name);
    let Some((asset, etag)) = found else {
        return AdminError::not_found("the console has no such file").into_response();
    };
    let is_current = headers.get(IF_NONE_MATCH).is_some_and(|known| known == etag.as_str());
    let mut response = if is_current {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, asset.content_type)], asset.bytes).into_response()
    };
    let headers = response.headers_mut();
    // Names stay the same over releases, so a browser asks each time.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(ETAG, etag);
    }
    response
}
