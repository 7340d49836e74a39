//! Trusted peers, and the headers in which they forward the original request.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks whose key ids and forwarded headers are trusted.
#[derive(Clone, Debug)]
pub struct TrustedPeers(Vec<IpNet>);

impl TrustedPeers {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let net = |part: &str| {
            let net = part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
            net.map_err(|_| {
                format!("`{part}` is not an address or a network; write 10.0.0.0/8 or ::1")
            })
        };
        parts.map(net).collect::<Result<_, _>>().map(Self)
    }

    /// Returns true if `peer` is in one of the networks. An IPv4-mapped IPv6 address counts as
    /// IPv4.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|net| net.contains(&peer))
    }
}

/// The headers that carry the method and the path of the original request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeaders {
    /// `X-Forwarded-Method` and `X-Forwarded-Uri`.
    XForwarded,
    /// `X-Original-Method` and `X-Original-URI`.
    XOriginal,
}

impl ForwardedHeaders {
    /// The names of the headers with the method and with the path.
    #[must_use]
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::XForwarded => ("x-forwarded-method", "x-forwarded-uri"),
            Self::XOriginal => ("x-original-method", "x-original-uri"),
        }
    }
}
