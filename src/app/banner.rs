//! The text on standard output once the service listens, and a warning if strangers may use it.

use std::io::Write as _;
use std::net::SocketAddr;

use crate::settings::{LogFormat, Settings, TlsFiles};

/// The addresses of all listeners.
#[derive(Debug)]
pub(super) struct ListenAddresses {
    pub(super) http: SocketAddr,
    pub(super) grpc: Option<SocketAddr>,
    pub(super) ops: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
}

/// Prints the addresses, the store, the catalog and a first command to try; with JSON logs it is a
/// log line. `serves_example` is true while the built-in example is the catalog.
pub(super) fn print_banner(addresses: &ListenAddresses, settings: &Settings, serves_example: bool) {
    if admits_strangers(addresses, settings) {
        tracing::warn!(
            "every machine that reaches this node may send checks and so use up any client's limits; set --check-token, or let only gateways reach it"
        );
    }
    let scheme = |tls: &Option<TlsFiles>| if tls.is_some() { "https://" } else { "http://" };
    let url = format!("{}{}", scheme(&settings.tls), addresses.http);
    let store = if settings.store.is_memory() { "this process's memory" } else { "Redis" };
    let catalog = match &settings.catalog {
        Some(file) => file.display().to_string(),
        None if serves_example => {
            "the built-in example with the key demo-key, until the admin API declares anything"
                .into()
        }
        None => "what the admin API declares".into(),
    };
    if settings.log_format == LogFormat::Json {
        let [grpc, ops, admin] = [addresses.grpc, addresses.ops, addresses.admin]
            .map(|address| address.map(tracing::field::display));
        tracing::info!(url, grpc, ops, admin, store, catalog, "listening");
        return;
    }
    let request = if serves_example {
        r#"{"api_key":"demo-key","api":"inference","stage":"prod","method":"POST","path":"/v1/chat/completions"}"#
    } else {
        r#"{"api_key":"YOUR-API-KEY"}"#
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

/// True if other machines reach a listener of checks and need neither a token nor a certificate.
fn admits_strangers(addresses: &ListenAddresses, settings: &Settings) -> bool {
    let listeners = [Some(addresses.http), addresses.grpc].into_iter().flatten();
    let needs_certificate = settings.tls.as_ref().is_some_and(|files| files.client_ca.is_some());
    let is_open = settings.check_token.is_none() && !needs_certificate;
    is_open && listeners.into_iter().any(|address| !address.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SettingsSources;

    #[test]
    fn only_a_listener_for_other_machines_without_a_token_admits_strangers() {
        let [loopback, any] = ["127.0.0.1:1", "[::]:1"].map(|address| address.parse().unwrap());
        for (http, grpc, token, expected) in [
            (loopback, None, None, false),
            (any, None, None, true),
            (loopback, Some(any), None, true),
            (any, Some(any), Some("a-token-for-tests"), false),
        ] {
            let token = token.map(|token| ("TOLLGATE_CHECK_TOKEN".into(), token.into()));
            let environment = token.into_iter().collect();
            let settings =
                Settings::load(&SettingsSources { environment, ..SettingsSources::default() });
            let addresses = ListenAddresses { http, grpc, ops: None, admin: None };
            assert_eq!(admits_strangers(&addresses, &settings.unwrap()), expected, "{addresses:?}");
        }
    }
}
