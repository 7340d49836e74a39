//! TLS for a listener, from PEM files that are read again while serving; and for the client that asks
//! a listener.
//!
//! The same piece for every listener: it makes an encrypted connection of an accepted one. Whoever
//! shows a certificate of the clients' authority may connect; that it means anything more is not
//! known here, and neither is what the connection carries.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::settings::TlsFiles;
use crate::telemetry::Metrics;
use crate::watch::{Stamp, stamp, watch};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The TLS of one listener.
pub struct Tls {
    files: TlsFiles,
    /// The files as they were when they were first read.
    used: Option<Stamps>,
    protocol: &'static str,
    current: ArcSwap<ServerConfig>,
    metrics: Arc<Metrics>,
}

/// What tells changed files from unchanged ones.
type Stamps = Vec<Stamp>;

fn look(files: &TlsFiles) -> Option<Stamps> {
    let all = [&files.cert, &files.key].into_iter().chain(&files.client_ca);
    all.map(|file| stamp(file)).collect()
}

/// Why certificates or keys cannot be used; it names the file, and nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file could not be read at all.
    #[error("cannot read {file}: {why}", file = .0.display(), why = .1)]
    Unreadable(PathBuf, #[source] io::Error),
    /// It is no PEM.
    #[error("{file} is no PEM file: {why}", file = .0.display(), why = .1)]
    NoPem(PathBuf, #[source] pem::Error),
    /// There is no certificate in it.
    #[error("{file} holds no certificate (BEGIN CERTIFICATE)", file = .0.display())]
    NoCertificate(PathBuf),
    /// The machine trusts nobody.
    #[error(
        "this machine has no certificates of public authorities; install ca-certificates, or name a file"
    )]
    NoAuthority,
    /// There is no key in it that can be read without a password.
    #[error("{file} holds no private key without a password (BEGIN PRIVATE KEY)", file = .0.display())]
    NoKey(PathBuf),
    /// Each is whole, but they are not a pair.
    #[error("the key in {key} does not belong to the certificate in {cert}", key = .key.display(), cert = .cert.display())]
    NoPair {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// The certificate or the key is of a kind that cannot be served with.
    #[error("{file} cannot be used: {why}", file = .0.display(), why = .1)]
    Unfit(PathBuf, String),
}

impl Tls {
    /// Reads `files`; `protocol` is the one that the listener serves, by its ALPN name.
    ///
    /// # Errors
    /// Where they cannot be used: a service does not start on half its certificates.
    pub fn load(
        files: TlsFiles,
        protocol: &'static str,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Unusable> {
        let used = look(&files);
        let current = ArcSwap::from_pointee(configuration(&files, protocol)?);
        Ok(Self { files, used, protocol, current, metrics })
    }

    /// Reads the files again; what cannot be used leaves everything as it was. Connections that are
    /// open stay open; sessions of before are not resumed.
    pub fn reload(&self) {
        let cert = self.files.cert.display();
        match configuration(&self.files, self.protocol) {
            Ok(configuration) => {
                self.current.store(Arc::new(configuration));
                self.metrics.certificate_reloads.with_label_values(&["ok"]).inc();
                tracing::info!(%cert, "certificates are in use from now on");
            }
            Err(error) => {
                self.metrics.certificate_reloads.with_label_values(&["failed"]).inc();
                tracing::error!(%cert, %error, "certificates were not reloaded; those in use stay");
            }
        }
    }

    /// Reloads whenever a file has changed. Never returns.
    pub async fn watch(self: Arc<Self>) {
        let files = self.files.clone();
        watch(self.used.clone(), move || look(&files), move || self.reload()).await;
    }

    /// The encrypted connection over `stream`, which has to come about in time.
    ///
    /// # Errors
    /// Where the other side speaks no TLS, has no certificate where one is wanted, or is too slow.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        let accepting = TlsAcceptor::from(self.current.load_full()).accept(stream);
        let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await;
        accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).inspect_err(|error| {
            self.metrics.handshakes_failed.inc();
            tracing::debug!(%error, "a TLS handshake failed");
        })
    }
}

/// A client of servers that speak TLS.
pub struct Client(TlsConnector);

impl Client {
    /// Trusts whom an authority in `ca` has signed, or without it one of the machine's; `identity` is a
    /// certificate to show, and its key.
    ///
    /// # Errors
    /// Where the files cannot be used.
    pub fn new(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<Self, Unusable> {
        let roots = ca.map_or_else(machines_authorities, authorities)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unfit(ca.unwrap_or(Path::new("")), &error))?
            .with_root_certificates(roots);
        let configuration = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let made = builder.with_client_auth_cert(certificates(cert)?, private_key(key)?);
                made.map_err(|error| refused(cert, key, &error))?
            }
        };
        Ok(Self(TlsConnector::from(Arc::new(configuration))))
    }

    /// The encrypted connection over `stream` to the server called `name`.
    ///
    /// # Errors
    /// Where none comes about.
    pub async fn connect(
        &self,
        stream: TcpStream,
        name: String,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(name).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.0.connect(name, stream).await
    }
}

fn configuration(files: &TlsFiles, protocol: &str) -> Result<ServerConfig, Unusable> {
    let TlsFiles { cert, key, client_ca } = files;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit(cert, &error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let roots = authorities(file)?.into();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unfit(file, &error))?)
        }
    };
    let mut made = builder
        .with_single_cert(certificates(cert)?, private_key(key)?)
        .map_err(|error| refused(cert, key, &error))?;
    made.alpn_protocols = vec![protocol.into()];
    Ok(made)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn authorities(file: &Path) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(file)? {
        roots.add(authority).map_err(|error| unfit(file, &error))?;
    }
    Ok(roots)
}

fn machines_authorities() -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(Unusable::NoAuthority) } else { Ok(roots) }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| unreadable(file, error))?;
    if read.is_empty() { Err(Unusable::NoCertificate(file.into())) } else { Ok(read) }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| match error {
        pem::Error::NoItemsFound => Unusable::NoKey(file.into()),
        error => unreadable(file, error),
    })
}

fn unfit(file: &Path, why: &dyn ToString) -> Unusable {
    Unusable::Unfit(file.into(), why.to_string())
}

/// Why a certificate and its key are not taken; what is looked at are the certificate's form, and the
/// key.
fn refused(cert: &Path, key: &Path, error: &rustls::Error) -> Unusable {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            Unusable::NoPair { key: key.into(), cert: cert.into() }
        }
        rustls::Error::InvalidCertificate(_) => unfit(cert, error),
        error => unfit(key, error),
    }
}

fn unreadable(file: &Path, error: pem::Error) -> Unusable {
    match error {
        pem::Error::Io(why) => Unusable::Unreadable(file.into(), why),
        why => Unusable::NoPem(file.into(), why),
    }
}
