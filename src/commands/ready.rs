//! `tollgate ready`: asks a running service if it is ready, for health checks of containers.
//!
//! Without a URL it reads the settings that the service reads (`--config` and the environment, not
//! the flags of `serve`), and connects to that service on this machine. One request, no retry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};

use super::CommandError;
use super::client::{TlsOptions, send, unreachable_error};
use crate::settings::{Flags, Settings, SettingsSources};
use crate::tls::ClientTls;
use crate::transport::send_request;

/// Arguments of `tollgate ready`.
#[derive(Clone, clap::Args)]
pub struct ReadyArgs {
    /// URL of the service [default: the listener in the service's settings: --config and the
    /// environment]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// TOML file with the settings of the service
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    tls_options: TlsOptions,
}

/// Returns true if the service is ready. `environment` has the settings of the service, beside
/// those of `--config`; both are only read if there is no URL.
///
/// # Errors
/// If there is no response, or the settings are not valid.
pub async fn ready(
    args: &ReadyArgs,
    environment: Vec<(String, String)>,
) -> Result<bool, CommandError> {
    let status = if let Some(url) = &args.url {
        let request = Request::get("/readyz").body(Body::empty());
        let request = request.map_err(|error| unreachable_error(url, &error))?;
        send(url, &args.tls_options, request).await?.0
    } else {
        let flags = Flags::default();
        let sources = SettingsSources { file: args.config.clone(), environment, flags };
        probe_own(&Settings::load(&sources)?, &args.tls_options).await?
    };
    Ok(status == StatusCode::OK)
}

/// Requests `/readyz` from the service of these settings, over the listener for operation if there
/// is one: that has no TLS.
async fn probe_own(settings: &Settings, tls: &TlsOptions) -> Result<StatusCode, CommandError> {
    let (listener, tls) = match (settings.listen_ops, &settings.tls) {
        (Some(listener), _) => (listener, None),
        (None, None) => (settings.listen, None),
        (None, Some(files)) if files.client_ca.is_some() && tls.identity().is_none() => {
            return Err(CommandError::MissingClientCertificate);
        }
        (None, Some(_)) => (settings.listen, Some(ClientTls::unverified(tls.identity())?)),
    };
    let address = reachable(listener);
    let failed = |error: &dyn std::fmt::Display| unreachable_error(&address.to_string(), error);
    let request = Request::get("/readyz").header(header::HOST, address.to_string());
    let request = request.body(Body::empty()).map_err(|error| failed(&error))?;
    let tls = tls.as_ref().map(|tls| (tls, "localhost"));
    let (head, _body) =
        send_request(address, tls, request).await.map_err(|error| failed(&error))?;
    Ok(head.status)
}

/// The address at which this machine reaches a listener: loopback if it listens on every address.
fn reachable(mut listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        listener.set_ip(match listener {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    listener
}
