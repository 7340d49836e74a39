//! The listeners: checks over HTTP, Envoy's gRPC, and the admin API. They open and close together.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::banner::ListenAddresses;
use super::{ServiceParts, StartError};
use crate::admin::{self, Admin};
use crate::grpc::Health;
use crate::settings::TlsFiles;
use crate::store::MemoryStore;
use crate::time::SystemClock;
use crate::tls::ServerTls;
use crate::transport::{ConnectionWorker, DrainFlag, HttpServer, Listener, Protocol};

/// The most open connections of the admin API.
const MAX_ADMIN_CONNECTIONS: usize = 256;

/// A bound address and the server of its connections.
type BoundServer = (Listener, HttpServer);

/// All listeners of the service.
pub(super) struct Listeners {
    http: BoundServer,
    grpc: Option<BoundServer>,
    admin: Option<BoundServer>,
    health: Health,
}

impl Listeners {
    /// Opens the listeners that are configured.
    pub(super) fn open(parts: &ServiceParts, draining: &DrainFlag) -> Result<Self, StartError> {
        let max_connections = parts.settings.max_connections;
        let open = |address, flag, protocol, tls| {
            let tls = load_tls(tls, protocol, parts)?;
            Ok::<_, StartError>((
                bind(address, flag)?,
                http_server(protocol, max_connections, tls, parts, draining),
            ))
        };
        let settings = &parts.settings;
        let http = open(settings.listen, "--listen", Protocol::Http1, settings.tls.as_ref())?;
        let grpc = parts.domains.is_some().then(|| {
            open(settings.listen_grpc, "--listen-grpc", Protocol::Http2, settings.tls.as_ref())
        });
        let (grpc, admin) = (grpc.transpose()?, open_admin(parts, draining)?);
        Ok(Self { http, grpc, admin, health: Health::default() })
    }

    /// The TLS configuration of each encrypted listener.
    pub(super) fn tls(&self) -> Vec<Arc<ServerTls>> {
        let all = [Some(&self.http), self.grpc.as_ref(), self.admin.as_ref()];
        all.into_iter().flatten().filter_map(|(_, server)| server.tls().cloned()).collect()
    }

    /// Adds a worker: for checks, and for Envoy if its limits are configured.
    pub(super) fn worker(&mut self) -> (ConnectionWorker, Option<(ConnectionWorker, Health)>) {
        let grpc = self.grpc.as_mut().map(|(_, server)| (server.add_worker(), self.health.clone()));
        (self.http.1.add_worker(), grpc)
    }

    pub(super) fn addresses(&self) -> ListenAddresses {
        let address = |bound: &Option<BoundServer>| bound.as_ref().map(|(at, _)| at.address());
        ListenAddresses {
            http: self.http.0.address(),
            grpc: address(&self.grpc),
            admin: address(&self.admin),
        }
    }

    /// The serving status of the node, for gRPC's health service.
    pub(super) fn health(&self) -> Health {
        self.health.clone()
    }

    /// Serves until `stop` resolves, then waits for the requests in flight.
    pub(super) async fn serve(self, stop: impl Future<Output = ()>) {
        let (stopped, stopping) = watch::channel(());
        let others: Vec<_> = [self.grpc, self.admin]
            .into_iter()
            .flatten()
            .map(|(listener, server)| {
                let mut stopping = stopping.clone();
                tokio::spawn(server.run(listener, async move { drop(stopping.changed().await) }))
            })
            .collect();
        let (listener, server) = self.http;
        let stop = async {
            stop.await;
            drop(stopped);
        };
        server.run(listener, stop).await;
        for server in others {
            let _panicked = server.await;
        }
    }
}

fn bind(address: SocketAddr, flag: &'static str) -> Result<Listener, StartError> {
    Listener::bind(address).map_err(|why| StartError::Listen(address, why, flag))
}

fn http_server(
    protocol: Protocol,
    max_connections: usize,
    tls: Option<Arc<ServerTls>>,
    parts: &ServiceParts,
    draining: &DrainFlag,
) -> HttpServer {
    let metrics = Arc::clone(&parts.metrics);
    HttpServer::new(protocol, max_connections, tls, metrics, draining.clone())
}

fn load_tls(
    files: Option<&TlsFiles>,
    protocol: Protocol,
    parts: &ServiceParts,
) -> Result<Option<Arc<ServerTls>>, StartError> {
    let Some(files) = files.cloned() else { return Ok(None) };
    let tls = ServerTls::load(files, protocol.alpn_name(), Arc::clone(&parts.metrics))?;
    Ok(Some(Arc::new(tls)))
}

/// The listener of the admin API, if a credential for it is configured. It has no worker thread of
/// its own: it has few requests, and no check waits for them.
fn open_admin(
    parts: &ServiceParts,
    draining: &DrainFlag,
) -> Result<Option<BoundServer>, StartError> {
    // Loaded even without a credential, so that invalid files are reported at once.
    let tls = load_tls(parts.settings.admin_tls.as_ref(), Protocol::Http1, parts)?;
    if !parts.settings.admin.is_configured() {
        return Ok(None);
    }
    let listener = bind(parts.settings.listen_admin, "--listen-admin")?;
    let mut server = http_server(Protocol::Http1, MAX_ADMIN_CONNECTIONS, tls, parts, draining);
    let failures = MemoryStore::new(Arc::new(SystemClock));
    tokio::spawn(failures.clone().sweep_forever(|_| ()));
    let (editors, counter_store) = (parts.editors.clone(), parts.counter_store.clone());
    let admin = Admin::new(editors, counter_store, parts.settings.admin.clone(), failures);
    tokio::spawn(server.add_worker().run(admin::router(admin)));
    Ok(Some((listener, server)))
}
