//! The address of a gateway's client, for policies that count addresses.
//!
//! A client may write anything into a header, and each proxy appends the address that it has seen.
//! So the addresses are read from the right, and the first one outside the trusted networks is the
//! client's; what stands left of it is never read. The header is the operator's choice: whichever
//! their proxies do not write, a client could.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue};

use crate::catalog::parse_address;
use crate::settings::TrustedPeers;

/// The header that is read unless the gateway names another one.
pub(super) const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of the client behind the trusted gateway at `peer`: the rightmost address of
/// `header` that is not trusted, or else the leftmost; without the header, that of the gateway.
///
/// # Errors
/// If a text that is no address stands right of the client's.
pub(crate) fn client_address(
    headers: &HeaderMap,
    header: &str,
    peer: IpAddr,
    trusted: &TrustedPeers,
) -> Result<IpAddr, String> {
    let is_forwarded = header.eq_ignore_ascii_case("forwarded");
    let values: Vec<&HeaderValue> = headers.get_all(header).iter().collect();
    let mut client = peer;
    for value in values.into_iter().rev() {
        let value = value.to_str().map_err(|_| "is not ASCII")?;
        let elements = value.rsplit(',').filter(|element| !element.trim_ascii().is_empty());
        for element in elements {
            let address = if is_forwarded { for_parameter(element) } else { Some(element) };
            client = address.and_then(parse_address).ok_or_else(|| {
                "a trusted proxy has written something that is no IP address".to_owned()
            })?;
            if !trusted.contains(client) {
                return Ok(client);
            }
        }
    }
    Ok(client)
}

/// The only `for` of an element of `Forwarded` (RFC 7239), without its quotes.
fn for_parameter(element: &str) -> Option<&str> {
    let mut values = element.split(';').filter_map(|pair| {
        let (name, value) = pair.trim_ascii().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let value = values.next().filter(|_| values.next().is_none())?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, SettingsSources};

    fn trusted() -> TrustedPeers {
        let trusted = ("TOLLGATE_TRUSTED_PEERS".into(), "127.0.0.0/8, 10.0.0.0/8".into());
        let sources = SettingsSources { environment: vec![trusted], ..SettingsSources::default() };
        Settings::load(&sources).unwrap().trusted_peers
    }

    fn client(header: &str, values: &[&str]) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            let name = axum::http::HeaderName::try_from(header).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let peer = "127.0.0.1".parse().unwrap();
        client_address(&headers, header, peer, &trusted()).map(|address| address.to_string())
    }

    #[test]
    fn the_rightmost_address_that_is_not_trusted_is_the_clients() {
        for (why, values, expected) in [
            ("without the header it is the peer's", &[][..], "127.0.0.1"),
            ("an empty one is none", &["", " , "], "127.0.0.1"),
            ("one address", &["203.0.113.7"], "203.0.113.7"),
            ("a client's own prefix is not read", &["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
            ("nor if it is no address", &["unknown, \", 203.0.113.7"], "203.0.113.7"),
            ("nor in a line of its own", &["1.1.1.1", "203.0.113.7"], "203.0.113.7"),
            ("trusted proxies are passed", &["1.1.1.1, 203.0.113.7, 10.1.1.1"], "203.0.113.7"),
            ("also in other lines", &["203.0.113.7", "10.1.1.1", "10.2.2.2"], "203.0.113.7"),
            ("mapped ones too", &["203.0.113.7, ::ffff:10.1.1.1"], "203.0.113.7"),
            ("a client inside is the leftmost", &["10.3.3.3, 10.1.1.1"], "10.3.3.3"),
            ("with a port", &["[2001:db8::1]:4711"], "2001:db8::1"),
        ] {
            assert_eq!(client(X_FORWARDED_FOR, values).as_deref(), Ok(expected), "{why}");
        }
        assert!(client(X_FORWARDED_FOR, &["203.0.113.7, unknown, 10.1.1.1"]).is_err());
        assert!(client(X_FORWARDED_FOR, &["203.0.113.7, \u{e9}"]).is_err());
    }

    #[test]
    fn forwarded_is_read_in_its_own_syntax() {
        for (values, expected) in [
            (&["for=203.0.113.7"][..], "203.0.113.7"),
            (&["for=1.1.1.1, For=\"203.0.113.7:4711\";proto=https"], "203.0.113.7"),
            (&["for=1.1.1.1;by=\"", "for=\"[2001:db8::1]:443\"; by=10.1.1.1"], "2001:db8::1"),
            (&["for=1.1.1.1;by=\", for=\"203.0.113.7\", for=10.1.1.1"], "203.0.113.7"),
        ] {
            assert_eq!(client("Forwarded", values).as_deref(), Ok(expected), "{values:?}");
        }
        for value in [
            "for=203.0.113.7, proto=https",
            "203.0.113.7",
            "for=_hidden",
            "for=unknown",
            "for=\"203.0.113.7",
            "for=1.1.1.1;for=2.2.2.2",
        ] {
            assert!(client("Forwarded", &[value]).is_err(), "{value}");
        }
    }
}
