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
use crate::watch::{FileStamp, file_stamp, watch};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The TLS of one listener.
pub struct ServerTls {
    files: TlsFiles,
    /// The files as they were when they were first read.
    loaded_stamps: Option<TlsFileStamps>,
    protocol: &'static str,
    current: ArcSwap<ServerConfig>,
    metrics: Arc<Metrics>,
}

/// What tells changed files from unchanged ones.
type TlsFileStamps = Vec<FileStamp>;

fn file_stamps(files: &TlsFiles) -> Option<TlsFileStamps> {
    let all = [&files.cert, &files.key].into_iter().chain(&files.client_ca);
    all.map(|file| file_stamp(file)).collect()
}

/// Why certificates or keys cannot be used; it names the file, and nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file could not be read at all.
    #[error("cannot read {file}: {why}", file = .0.display(), why = .1)]
    Unreadable(PathBuf, #[source] io::Error),
    /// It is no PEM.
    #[error("{file} is no PEM file: {why}", file = .0.display(), why = .1)]
    InvalidPem(PathBuf, #[source] pem::Error),
    /// There is no certificate in it.
    #[error("{file} holds no certificate (BEGIN CERTIFICATE)", file = .0.display())]
    NoCertificate(PathBuf),
    /// The machine trusts nobody.
    #[error(
        "this machine has no certificates of public authorities; install ca-certificates, or name a file"
    )]
    NoSystemRoots,
    /// There is no key in it that can be read without a password.
    #[error("{file} holds no private key without a password (BEGIN PRIVATE KEY)", file = .0.display())]
    NoKey(PathBuf),
    /// Each is whole, but they are not a pair.
    #[error("the key in {key} does not belong to the certificate in {cert}", key = .key.display(), cert = .cert.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// The certificate or the key is of a kind that cannot be served with.
    #[error("{file} cannot be used: {why}", file = .0.display(), why = .1)]
    Unsupported(PathBuf, String),
}

impl ServerTls {
    /// Reads `files`; `protocol` is the one that the listener serves, by its ALPN name.
    ///
    /// # Errors
    /// Where they cannot be used: a service does not start on half its certificates.
    pub fn load(
        files: TlsFiles,
        protocol: &'static str,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TlsError> {
        let loaded_stamps = file_stamps(&files);
        let current = ArcSwap::from_pointee(server_config(&files, protocol)?);
        Ok(Self { files, loaded_stamps, protocol, current, metrics })
    }

    /// Reads the files again; what cannot be used leaves everything as it was. Connections that are
    /// open stay open; sessions of before are not resumed.
    pub fn reload(&self) {
        let cert = self.files.cert.display();
        match server_config(&self.files, self.protocol) {
            Ok(config) => {
                self.current.store(Arc::new(config));
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
        watch(self.loaded_stamps.clone(), move || file_stamps(&files), move || self.reload()).await;
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
pub struct ClientTls(TlsConnector);

impl ClientTls {
    /// Trusts whom an authority in `ca` has signed, or without it one of the machine's; `identity` is a
    /// certificate to show, and its key.
    ///
    /// # Errors
    /// Where the files cannot be used.
    pub fn new(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let roots = ca.map_or_else(load_system_roots, load_ca_certificates)?;
        let builder = ClientConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unsupported(ca.unwrap_or(Path::new("")), &error))?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let made =
                    builder.with_client_auth_cert(load_certificates(cert)?, load_private_key(key)?);
                made.map_err(|error| key_pair_error(cert, key, &error))?
            }
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
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

fn server_config(files: &TlsFiles, protocol: &str) -> Result<ServerConfig, TlsError> {
    let TlsFiles { cert, key, client_ca } = files;
    let builder = ServerConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unsupported(cert, &error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let roots = load_ca_certificates(file)?.into();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, crypto_provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unsupported(file, &error))?)
        }
    };
    let mut config = builder
        .with_single_cert(load_certificates(cert)?, load_private_key(key)?)
        .map_err(|error| key_pair_error(cert, key, &error))?;
    config.alpn_protocols = vec![protocol.into()];
    Ok(config)
}

fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn load_ca_certificates(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in load_certificates(file)? {
        roots.add(authority).map_err(|error| unsupported(file, &error))?;
    }
    Ok(roots)
}

fn load_system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoSystemRoots) } else { Ok(roots) }
}

fn load_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| pem_error(file, error))?;
    if read.is_empty() { Err(TlsError::NoCertificate(file.into())) } else { Ok(read) }
}

fn load_private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey(file.into()),
        error => pem_error(file, error),
    })
}

fn unsupported(file: &Path, why: &dyn ToString) -> TlsError {
    TlsError::Unsupported(file.into(), why.to_string())
}

/// Why a certificate and its key are not taken; what is looked at are the certificate's form, and the
/// key.
fn key_pair_error(cert: &Path, key: &Path, error: &rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::KeyMismatch { key: key.into(), cert: cert.into() }
        }
        rustls::Error::InvalidCertificate(_) => unsupported(cert, error),
        error => unsupported(key, error),
    }
}

fn pem_error(file: &Path, error: pem::Error) -> TlsError {
    match error {
        pem::Error::Io(why) => TlsError::Unreadable(file.into(), why),
        why => TlsError::InvalidPem(file.into(), why),
    }
}
