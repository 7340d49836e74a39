//! Where the service listens: checks over HTTP, Envoy's gRPC, the admin API. They open and close
//! together.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::greeting::Addresses;
use super::{Failure, Parts};
use crate::admin::{self, Admin};
use crate::grpc::Health;
use crate::http::{Listener, Protocol, Server, Shared, Worker};
use crate::settings::TlsFiles;
use crate::store::Memory;
use crate::time::SystemClock;
use crate::tls::Tls;

/// Connections of the admin API open at the same time.
const MAX_ADMIN_CONNECTIONS: usize = 256;

/// A listener and who serves its connections.
type Served = (Listener, Server);

/// All listeners of the service.
pub(super) struct Listeners {
    http: Served,
    grpc: Option<Served>,
    admin: Option<Served>,
    health: Health,
}

impl Listeners {
    /// Opens those that have something to serve.
    pub(super) fn open(parts: &Parts, shared: &Arc<Shared>) -> Result<Self, Failure> {
        let most = parts.settings.max_connections;
        let open = |address, flag, protocol, tls| {
            let tls = load(tls, protocol, parts)?;
            Ok::<_, Failure>((
                bind(address, flag)?,
                Server::new(protocol, most, Arc::clone(shared), tls),
            ))
        };
        let settings = &parts.settings;
        let http = open(settings.listen, "--listen", Protocol::Http1, settings.tls.as_ref())?;
        let grpc = parts.domains.is_some().then(|| {
            open(settings.listen_grpc, "--listen-grpc", Protocol::Http2, settings.tls.as_ref())
        });
        let (grpc, admin) = (grpc.transpose()?, admin(parts, shared)?);
        Ok(Self { http, grpc, admin, health: Health::default() })
    }

    /// What encrypts the listeners, each for itself.
    pub(super) fn tls(&self) -> Vec<Arc<Tls>> {
        let all = [Some(&self.http), self.grpc.as_ref(), self.admin.as_ref()];
        all.into_iter().flatten().filter_map(|(_, server)| server.tls().cloned()).collect()
    }

    /// One more worker: for checks, and for Envoy where that is served.
    pub(super) fn worker(&mut self) -> (Worker, Option<(Worker, Health)>) {
        let grpc = self.grpc.as_mut().map(|(_, server)| (server.worker(), self.health.clone()));
        (self.http.1.worker(), grpc)
    }

    pub(super) fn addresses(&self) -> Addresses {
        let address = |served: &Option<Served>| served.as_ref().map(|(at, _)| at.address());
        Addresses {
            http: self.http.0.address(),
            grpc: address(&self.grpc),
            admin: address(&self.admin),
        }
    }

    /// What gRPC's health service tells of the node.
    pub(super) fn health(&self) -> Health {
        self.health.clone()
    }

    /// Serves until `stop` resolves, and then what is in flight.
    pub(super) async fn serve(self, stop: impl Future<Output = ()>) {
        let (stopped, stopping) = watch::channel(());
        let beside: Vec<_> = [self.grpc, self.admin]
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
        for server in beside {
            let _panicked = server.await;
        }
    }
}

fn bind(address: SocketAddr, flag: &'static str) -> Result<Listener, Failure> {
    Listener::bind(address).map_err(|why| Failure::Listen(address, why, flag))
}

fn load(
    files: Option<&TlsFiles>,
    protocol: Protocol,
    parts: &Parts,
) -> Result<Option<Arc<Tls>>, Failure> {
    let Some(files) = files.cloned() else { return Ok(None) };
    let tls = Tls::load(files, protocol.name(), Arc::clone(&parts.metrics))?;
    Ok(Some(Arc::new(tls)))
}

/// The admin API's listener, where there is a credential for it. It has no worker of its own: few
/// ask, and none of them waits for a check.
fn admin(parts: &Parts, shared: &Arc<Shared>) -> Result<Option<Served>, Failure> {
    // Also where nobody may ask yet: files that cannot be used are said at once.
    let tls = load(parts.settings.admin_tls.as_ref(), Protocol::Http1, parts)?;
    if !parts.settings.admin.are_set() {
        return Ok(None);
    }
    let listener = bind(parts.settings.listen_admin, "--listen-admin")?;
    let mut server = Server::new(Protocol::Http1, MAX_ADMIN_CONNECTIONS, Arc::clone(shared), tls);
    let failures = Memory::new(Arc::new(SystemClock));
    tokio::spawn(failures.clone().sweep_forever(|_| ()));
    let (editors, counts) = (parts.editors.clone(), parts.counts.clone());
    let admin = Admin::new(editors, counts, parts.settings.admin.clone(), failures);
    tokio::spawn(server.worker().run(admin::router(admin)));
    Ok(Some((listener, server)))
}
