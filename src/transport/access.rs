//! Access of requests to the check endpoints: the token of `--check-token`, and trusted addresses.
//!
//! The credentials of the admin API are checked by `admin`.

use std::net::IpAddr;

use axum::http::{Extensions, HeaderMap, HeaderValue, header};

use super::Problem;
use crate::settings::{BearerTokens, TrustedPeers};

/// The address of the other end of a request's connection.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Decides which callers may send checks, and which of them are trusted.
pub struct CallerAccess {
    /// The tokens of which every caller must send one; `None` admits all callers.
    pub check_token: Option<BearerTokens>,
    /// The networks whose callers are trusted where no token is configured.
    pub trusted_peers: TrustedPeers,
}

impl CallerAccess {
    /// Authenticates a request by `Authorization: Bearer` or `X-Tollgate-Token`. Returns true if
    /// the caller is trusted: it may name a key by its id.
    ///
    /// # Errors
    /// If a token is configured and the request has none or a wrong one.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<bool, Problem> {
        self.is_trusted(extensions, || bearer_token(headers).or_else(|| tollgate_token(headers)))
    }

    /// Authenticates a gateway's request by `X-Tollgate-Token` alone: `Authorization` holds its
    /// client's credentials. Returns true if the gateway's forwarded headers are trusted.
    ///
    /// # Errors
    /// If a token is configured and the request has none or a wrong one.
    pub fn authenticate_gateway(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<bool, Problem> {
        self.is_trusted(extensions, || tollgate_token(headers))
    }

    /// Returns true if no token is configured, or if `Authorization: Bearer` holds a valid one.
    #[must_use]
    pub fn accepts_bearer(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.check_token else { return true };
        bearer_token(headers).is_some_and(|sent| token.accepts(sent))
    }

    fn is_trusted<'h>(
        &self,
        extensions: &Extensions,
        sent: impl FnOnce() -> Option<&'h [u8]>,
    ) -> Result<bool, Problem> {
        let Some(token) = &self.check_token else {
            let peer = extensions.get::<Peer>();
            return Ok(peer.is_some_and(|&Peer(peer)| self.trusted_peers.contains(peer)));
        };
        if sent().is_some_and(|sent| token.accepts(sent)) {
            Ok(true)
        } else {
            Err(Problem::unauthorized())
        }
    }
}

/// The token of `Authorization: Bearer`.
#[must_use]
pub fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn tollgate_token(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get("x-tollgate-token").map(HeaderValue::as_bytes)
}
