//! Requests whose head two servers in a row could understand differently, as far as the parser
//! leaves that visible: such a request is refused before a handler sees it.

use axum::http::{Request, Version, header};

use super::Problem;

/// Checks that a request names at most one host, and in HTTP/1.1 exactly one (RFC 9112, 3.2), and
/// has at most one transfer coding.
///
/// # Errors
/// If it does not.
pub(super) fn check_framing<B>(request: &Request<B>) -> Result<(), Problem> {
    let count = |name| request.headers().get_all(name).iter().count();
    match count(header::HOST) {
        0 if request.version() == Version::HTTP_11 => {
            Err(Problem::bad_request("host", "is missing; HTTP/1.1 needs it"))
        }
        0 | 1 if count(header::TRANSFER_ENCODING) > 1 => {
            Err(Problem::bad_request("transfer-encoding", "is there more than once"))
        }
        0 | 1 => Ok(()),
        _ => Err(Problem::bad_request("host", "is there more than once")),
    }
}
