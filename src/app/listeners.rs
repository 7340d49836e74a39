//! The listeners: checks over HTTP, Envoy's gRPC, the admin API, and operation. They open and close
//! together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::banner::ListenAddresses;
use super::{ServiceParts, StartError};
use crate::admin::{self, Admin, AdminParts, TailFeed};
use crate::engine::node_name;
use crate::grpc::{self, Health};
use crate::settings::TlsFiles;
use crate::store::MemoryStore;
use crate::time::SystemClock;
use crate::tls::ServerTls;
use crate::transport::{
    BodyLimits, ConnectionWorker, DrainFlag, HttpServer, Listener, Protocol, ServerOptions,
};

/// The most open connections of the admin API.
const MAX_ADMIN_CONNECTIONS: usize = 256;
/// The most open connections of the listener for operation.
const MAX_OPS_CONNECTIONS: usize = 64;

/// The limits of the bodies of checks, which have at most 1 MiB.
const CHECK_BODIES: BodyLimits = BodyLimits {
    timeout: Duration::from_secs(5),
    connection_bytes: 4 << 20,
    listener_bytes: 32 << 20,
    convert_error: |error| error.into(),
};
/// The limits of Envoy's messages. A connection may have 256 of them at a time.
const GRPC_BODIES: BodyLimits =
    BodyLimits { connection_bytes: 8 << 20, convert_error: grpc::body_status, ..CHECK_BODIES };
/// The limits of the admin API's bodies, which have up to 10 MiB.
const ADMIN_BODIES: BodyLimits = BodyLimits {
    timeout: Duration::from_secs(30),
    connection_bytes: 24 << 20,
    listener_bytes: 64 << 20,
    ..CHECK_BODIES
};

/// A bound address and the server of its connections.
type BoundServer = (Listener, HttpServer);

/// All listeners of the service.
pub(super) struct Listeners {
    http: BoundServer,
    grpc: Option<BoundServer>,
    ops: Option<BoundServer>,
    admin: Option<BoundServer>,
    health: Health,
}

/// The connections that one worker serves, by listener.
pub(super) struct WorkerConnections {
    pub(super) http: ConnectionWorker,
    /// Envoy's, if its limits are configured.
    pub(super) grpc: Option<(ConnectionWorker, Health)>,
    /// Those of the listener for operation, if there is one.
    pub(super) ops: Option<ConnectionWorker>,
}

impl Listeners {
    /// Opens the listeners that are configured.
    pub(super) fn open(parts: &ServiceParts, draining: &DrainFlag) -> Result<Self, StartError> {
        let settings = &parts.settings;
        let options = |flag, max_connections, bodies| ServerOptions {
            flag,
            protocol: Protocol::Http1,
            max_connections,
            bodies,
            tls: None,
            metrics: Arc::clone(&parts.metrics),
            draining: draining.clone(),
        };
        let http = ServerOptions {
            tls: load_tls(settings.tls.as_ref(), Protocol::Http1, parts)?,
            ..options("--listen", settings.max_connections, CHECK_BODIES)
        };
        let http = bind(settings.listen, http)?;
        let grpc = parts.domains.is_some().then(|| {
            let grpc = ServerOptions {
                protocol: Protocol::Http2,
                tls: load_tls(settings.tls.as_ref(), Protocol::Http2, parts)?,
                ..options("--listen-grpc", settings.max_connections, GRPC_BODIES)
            };
            bind(settings.listen_grpc, grpc)
        });
        let ops = settings.listen_ops.map(|address| {
            bind(address, options("--listen-ops", MAX_OPS_CONNECTIONS, CHECK_BODIES))
        });
        // Loaded even without a credential, so that invalid files are reported at once.
        let admin = ServerOptions {
            tls: load_tls(settings.admin_tls.as_ref(), Protocol::Http1, parts)?,
            ..options("--listen-admin", MAX_ADMIN_CONNECTIONS, ADMIN_BODIES)
        };
        let admin =
            settings.admin.is_configured().then(|| open_admin(parts, admin, http.0.address()));
        Ok(Self {
            http,
            grpc: grpc.transpose()?,
            ops: ops.transpose()?,
            admin: admin.transpose()?,
            health: Health::default(),
        })
    }

    /// The TLS configuration of each encrypted listener.
    pub(super) fn tls(&self) -> Vec<Arc<ServerTls>> {
        let all = [Some(&self.http), self.grpc.as_ref(), self.admin.as_ref()];
        all.into_iter().flatten().filter_map(|(_, server)| server.tls().cloned()).collect()
    }

    /// Adds a worker.
    pub(super) fn worker(&mut self) -> WorkerConnections {
        let add_worker = |(_, server): &mut BoundServer| server.add_worker();
        let grpc = self.grpc.as_mut().map(add_worker);
        WorkerConnections {
            http: add_worker(&mut self.http),
            grpc: grpc.map(|worker| (worker, self.health.clone())),
            ops: self.ops.as_mut().map(add_worker),
        }
    }

    pub(super) fn addresses(&self) -> ListenAddresses {
        let address = |bound: &Option<BoundServer>| bound.as_ref().map(|(at, _)| at.address());
        ListenAddresses {
            http: self.http.0.address(),
            grpc: address(&self.grpc),
            ops: address(&self.ops),
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
        let others: Vec<_> = [self.grpc, self.ops, self.admin]
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

fn bind(address: SocketAddr, options: ServerOptions) -> Result<BoundServer, StartError> {
    let flag = options.flag;
    let listener = Listener::bind(address).map_err(|why| StartError::Listen(address, why, flag))?;
    Ok((listener, HttpServer::new(options)))
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

/// The listener of the admin API, whose connections the control thread serves.
fn open_admin(
    parts: &ServiceParts,
    options: ServerOptions,
    http: SocketAddr,
) -> Result<BoundServer, StartError> {
    let draining = options.draining.clone();
    let (listener, mut server) = bind(parts.settings.listen_admin, options)?;
    let failures = MemoryStore::new(Arc::new(SystemClock));
    parts.control.spawn(failures.clone().sweep_forever(|_| ()));
    let admin = Admin::new(AdminParts {
        editors: parts.editors.clone(),
        counter_store: parts.counter_store.clone(),
        top: parts.top.clone(),
        activity: Arc::clone(&parts.activity),
        credentials: parts.settings.admin.clone(),
        failures,
        explainer: Arc::clone(&parts.explainer),
        feed: TailFeed { tail: Arc::clone(&parts.tail), node: node_name(http.port()), draining },
        recorder: parts.recorder.clone(),
    });
    parts.control.spawn(server.add_worker().run(admin::router(admin)));
    Ok((listener, server))
}
