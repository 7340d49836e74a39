//! The text on standard output once the service listens.

use std::io::Write as _;
use std::net::SocketAddr;

use crate::settings::{Settings, TlsFiles};

/// The addresses of all listeners.
pub(super) struct ListenAddresses {
    pub(super) http: SocketAddr,
    pub(super) grpc: Option<SocketAddr>,
    pub(super) ops: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
}

/// Prints the addresses, the store, the catalog and a first command to try.
pub(super) fn print_banner(addresses: &ListenAddresses, settings: &Settings) {
    let scheme = |tls: &Option<TlsFiles>| if tls.is_some() { "https://" } else { "http://" };
    let url = format!("{}{}", scheme(&settings.tls), addresses.http);
    let store = if settings.store.is_memory() { "this process's memory" } else { "Redis" };
    let (catalog, key) = match &settings.catalog {
        None => (
            "what the admin API declares; until there is anything, the built-in example with the key demo-key"
                .to_owned(),
            "demo-key",
        ),
        Some(file) => (file.display().to_string(), "YOUR-API-KEY"),
    };
    let request = match &settings.catalog {
        None => format!(
            r#"{{"api_key":"{key}","api":"inference","stage":"prod","method":"POST","path":"/v1/chat/completions"}}"#
        ),
        Some(_) => format!(r#"{{"api_key":"{key}"}}"#),
    };
    let listeners = [
        ("Envoy's gRPC on", addresses.grpc, ""),
        ("health and metrics on", addresses.ops, "http://"),
        ("admin API on", addresses.admin, scheme(&settings.admin_tls)),
    ];
    let listeners: String = listeners
        .iter()
        .filter_map(|(what, address, scheme)| Some(format!("  {what} {scheme}{}\n", (*address)?)))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let _reader_closed = writeln!(
        std::io::stdout(),
        "tollgate {version} listening on {url}\n  limits are counted in {store}\n  catalog: {catalog}\n{listeners}  try: curl -i {url}/check -d '{request}'",
    );
}
