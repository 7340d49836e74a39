//! The type of the keys that a policy counts requests by: any text, or clients' addresses.
//!
//! One address can be written in many ways, and one client of IPv6 has at least 2^64 of them. So
//! an address is parsed, and its network in its shortest form is counted. The source of the
//! text is the caller's business.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::raw::RawPolicy;
use super::validation::Report;

/// The type of a policy's keys as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", remote = "Self")]
pub enum RawKeyType {
    /// Any text, counted as it is.
    #[default]
    Text,
    /// An IP address, counted by its network.
    Ip,
}

crate::syntax::read_from_text_only!(RawKeyType);

/// The type of a policy's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    Text,
    /// The lengths of the networks in bits: 1 to 32, and 1 to 128.
    Ip {
        v4_prefix: u8,
        v6_prefix: u8,
    },
}

impl KeyType {
    pub(super) fn from_raw(raw: &RawPolicy, at: &str, report: &mut Report) -> Self {
        let is_ip = raw.key_type == RawKeyType::Ip;
        let mut prefix = |member: &str, given: Option<u64>, default: u8, bits: u8| {
            if given.is_some() && !is_ip {
                report.error(&format!("{at}.{member}"), "goes with `key_type: ip`");
            }
            let Some(given) = given else { return default };
            let prefix = u8::try_from(given).ok().filter(|prefix| (1..=bits).contains(prefix));
            prefix.unwrap_or_else(|| {
                let why = format_args!("write a number of bits from 1 to {bits}");
                report.error(&format!("{at}.{member}"), why);
                default
            })
        };
        let v4_prefix = prefix("v4_prefix", raw.v4_prefix, 32, 32);
        let v6_prefix = prefix("v6_prefix", raw.v6_prefix, 64, 128);
        if is_ip { Self::Ip { v4_prefix, v6_prefix } } else { Self::Text }
    }

    /// The one spelling under which a key is counted.
    ///
    /// # Errors
    /// If the key is not of this type.
    pub(super) fn normalize(self, key: &str) -> Result<Cow<'_, str>, &'static str> {
        let Self::Ip { v4_prefix, v6_prefix } = self else { return Ok(key.into()) };
        let why = "this policy counts IP addresses, and this is none; write one such as 203.0.113.7 or 2001:db8::1";
        let address = parse_address(key).ok_or(why)?;
        let prefix = if address.is_ipv4() { v4_prefix } else { v6_prefix };
        let network = IpNet::new(address, prefix).map_err(|_| why)?.trunc();
        let is_one_address = network.prefix_len() == network.max_prefix_len();
        let text = if is_one_address { network.addr().to_string() } else { network.to_string() };
        Ok(text.into())
    }

    /// True if two keys are counted as one.
    pub(super) fn is_same(self, one: &str, other: &str) -> bool {
        one == other || self.normalize(one).is_ok_and(|one| self.normalize(other) == Ok(one))
    }
}

/// The IP address in a text. A leading `ip:`, brackets, a zone, a port and white space around it
/// are cut, and an IPv4-mapped IPv6 address is the IPv4 address.
#[must_use]
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim_ascii();
    let (scheme, rest) = text.split_at_checked(3).unwrap_or_default();
    let text = if scheme.eq_ignore_ascii_case("ip:") { rest } else { text };
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return parse_v6(address).filter(|_| is_port);
    }
    match text.split_once(':') {
        Some((address, port)) if address.contains('.') => {
            let address = address.parse::<Ipv4Addr>().ok()?;
            is_port(port).then_some(address.into())
        }
        Some(_) => parse_v6(text),
        None => text.parse::<Ipv4Addr>().ok().map(Into::into),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// An IPv6 address, whose zone only has a meaning on the machine that saw it.
fn parse_v6(text: &str) -> Option<IpAddr> {
    let address = text.split_once('%').map_or(text, |(address, _zone)| address);
    address.parse().ok().filter(IpAddr::is_ipv6).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: KeyType = KeyType::Ip { v4_prefix: 32, v6_prefix: 64 };
    const WHOLE: KeyType = KeyType::Ip { v4_prefix: 32, v6_prefix: 128 };

    #[test]
    fn each_spelling_of_an_address_is_one_key() {
        let v4 = ["203.0.113.7", "ip:203.0.113.7", "IP:203.0.113.7:4711", " 203.0.113.7 "];
        let mapped = ["::ffff:203.0.113.7", "::FFFF:cb00:7107", "[::ffff:203.0.113.7]:80"];
        for text in v4.into_iter().chain(mapped) {
            assert_eq!(DEFAULT.normalize(text).as_deref(), Ok("203.0.113.7"), "{text}");
        }
        let v6 = [
            "2001:db8::1",
            "2001:DB8::1",
            "2001:0db8:0:0:0:0:0:1",
            "2001:db8::0.0.0.1",
            "[2001:db8::1]",
            "[2001:db8::1]:443",
            "ip:[2001:db8::1]:443",
            "ip:2001:db8::1",
            "2001:db8::1%eth0",
            "[2001:db8::1%25eth0]",
        ];
        for text in v6 {
            assert_eq!(WHOLE.normalize(text).as_deref(), Ok("2001:db8::1"), "{text}");
            assert_eq!(DEFAULT.normalize(text).as_deref(), Ok("2001:db8::/64"), "{text}");
        }
        let wide = KeyType::Ip { v4_prefix: 24, v6_prefix: 48 };
        assert_eq!(wide.normalize("203.0.113.7:1").as_deref(), Ok("203.0.113.0/24"));
        assert_eq!(wide.normalize("2001:db8:1:2::3").as_deref(), Ok("2001:db8:1::/48"));
        assert_eq!(KeyType::Text.normalize("ip:1").as_deref(), Ok("ip:1"), "text stays as it is");
    }

    #[test]
    fn anything_else_is_no_address() {
        for text in [
            "",
            "ip:",
            "ip",
            "unknown",
            "localhost",
            "203.0.113",
            "203.0.113.07",
            "203.0.113.7:",
            "203.0.113.7:99999",
            "203.0.113.7:+1",
            "203.0.113.7/32",
            "203.0.113.7, 10.0.0.1",
            "[203.0.113.7]",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]443",
            "2001:db8::/64",
            "2001:db8::1::2",
            "%eth0",
            "::1\u{e9}",
            "\u{e9}\u{e9}",
        ] {
            assert_eq!(parse_address(text), None, "{text}");
            assert!(DEFAULT.normalize(text).is_err() && WHOLE.normalize(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// However a proxy writes an address, its network is counted, and nothing but that.
        #[test]
        fn an_address_is_counted_by_its_network(
            bits: u128, host: u64, v4: u32, port: u16, v6_prefix in 1..=128_u8, v4_prefix in 1..=32_u8,
        ) {
            let key_type = KeyType::Ip { v4_prefix, v6_prefix };
            let address = std::net::Ipv6Addr::from_bits(bits);
            prop_assume!(address.to_ipv4_mapped().is_none());
            let network = key_type.normalize(&address.to_string()).unwrap().into_owned();
            let mask = u128::MAX << (128 - u32::from(v6_prefix));
            let other = std::net::Ipv6Addr::from_bits(bits & mask | u128::from(host) & !mask);
            prop_assume!(other.to_ipv4_mapped().is_none());
            for text in [other.to_string(), format!("[{other}]:{port}"), format!("ip:{other}")] {
                prop_assert_eq!(&key_type.normalize(&text).unwrap(), &network);
            }
            let outside = std::net::Ipv6Addr::from_bits(bits ^ (!mask).wrapping_add(1));
            prop_assume!(outside.to_ipv4_mapped().is_none());
            let outside = outside.to_string();
            prop_assert_ne!(key_type.normalize(&outside).unwrap(), network);
            let address = Ipv4Addr::from_bits(v4);
            let network = key_type.normalize(&address.to_string()).unwrap().into_owned();
            for text in [format!("{address}:{port}"), address.to_ipv6_mapped().to_string()] {
                prop_assert_eq!(&key_type.normalize(&text).unwrap(), &network);
            }
        }
    }
}
