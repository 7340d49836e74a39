//! Requests whose head two servers in a row could understand differently, as far as the parser
//! leaves that visible: such a request is refused before a handler sees it.

use axum::http::{Request, Version, header};

use super::Problem;

/// Checks that a request names at most one host, and in HTTP/1.1 exactly one (RFC 9112, 3.2), and
/// has no transfer coding but `chunked`, once.
///
/// # Errors
/// If it does not.
pub(super) fn check_framing<B>(request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    // The parser takes any list that ends in `chunked`, which other servers read otherwise.
    let is_chunked =
        codings.next().is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
    match headers.get_all(header::HOST).iter().count() {
        0 if request.version() == Version::HTTP_11 => {
            Err(Problem::bad_request("host", "is missing; HTTP/1.1 needs it"))
        }
        0 | 1 if codings.next().is_some() => {
            Err(Problem::bad_request("transfer-encoding", "is there more than once"))
        }
        0 | 1 if !is_chunked => {
            Err(Problem::bad_request("transfer-encoding", "is not `chunked` alone"))
        }
        0 | 1 => Ok(()),
        _ => Err(Problem::bad_request("host", "is there more than once")),
    }
}
