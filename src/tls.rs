//! TLS of listeners, from PEM files that are reloaded while serving, and TLS of clients.
//!
//! Every listener uses it on accepted connections. A client certificate signed by the configured
//! authority allows the connection and nothing more: authorization is elsewhere.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, InconsistentKeys, RootCertStore,
    ServerConfig, SignatureScheme, WantsVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::settings::TlsFiles;
use crate::telemetry::Metrics;
use crate::watch::{FileStamp, file_stamp, watch};

/// Timeout of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The TLS of one listener.
pub struct ServerTls {
    files: TlsFiles,
    /// Stamps of the files when they were first read.
    loaded_stamps: Option<TlsFileStamps>,
    protocol: &'static str,
    current: ArcSwap<ServerConfig>,
    metrics: Arc<Metrics>,
}

/// The stamps of all files of a listener.
type TlsFileStamps = Vec<FileStamp>;

fn file_stamps(files: &TlsFiles) -> Option<TlsFileStamps> {
    let all = [&files.cert, &files.key].into_iter().chain(&files.client_ca);
    all.map(|file| file_stamp(file)).collect()
}

/// The reason why certificates or keys are not valid. It names the file and quotes nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {file}: {why}", file = .0.display(), why = .1)]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file is not PEM.
    #[error("{file} is not a PEM file: {why}", file = .0.display(), why = .1)]
    InvalidPem(PathBuf, #[source] pem::Error),
    /// The file has no certificate.
    #[error("{file} has no certificate (BEGIN CERTIFICATE)", file = .0.display())]
    NoCertificate(PathBuf),
    /// The system trusts no public authority.
    #[error(
        "this system has no certificates of public authorities; install ca-certificates, or set a file"
    )]
    NoSystemRoots,
    /// The file has no private key that can be read without a password.
    #[error("{file} has no private key without a password (BEGIN PRIVATE KEY)", file = .0.display())]
    NoKey(PathBuf),
    /// The key and the certificate are not a pair.
    #[error("the key in {key} does not belong to the certificate in {cert}", key = .key.display(), cert = .cert.display())]
    KeyMismatch {
        /// File of the key.
        key: PathBuf,
        /// File of the certificate.
        cert: PathBuf,
    },
    /// The certificate or the key is of a kind that is not supported.
    #[error("{file} cannot be used: {why}", file = .0.display(), why = .1)]
    Unsupported(PathBuf, String),
}

impl ServerTls {
    /// Reads `files`; `protocol` is the ALPN name of the listener's protocol.
    ///
    /// # Errors
    /// If a file cannot be read or is not valid.
    pub fn load(
        files: TlsFiles,
        protocol: &'static str,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TlsError> {
        let loaded_stamps = file_stamps(&files);
        let current = ArcSwap::from_pointee(server_config(&files, protocol)?);
        Ok(Self { files, loaded_stamps, protocol, current, metrics })
    }

    /// Reloads the files. If they are not valid, new connections use the old certificates. Open
    /// connections stay open; sessions from before the reload are not resumed.
    pub fn reload(&self) {
        let cert = self.files.cert.display();
        match server_config(&self.files, self.protocol) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                self.metrics.certificate_reloads.with_label_values(&["ok"]).inc();
                tracing::info!(%cert, "certificates were reloaded");
            }
            Err(error) => {
                self.metrics.certificate_reloads.with_label_values(&["failed"]).inc();
                tracing::error!(%cert, %error, "certificates were not reloaded; the old ones stay in use");
            }
        }
    }

    /// Reloads when a file has changed. Never returns.
    pub async fn watch(self: Arc<Self>) {
        let files = self.files.clone();
        watch(self.loaded_stamps.clone(), move || file_stamps(&files), move || self.reload()).await;
    }

    /// Accepts a TLS connection over `stream`.
    ///
    /// # Errors
    /// If the handshake fails or times out, or the client has no certificate although one is
    /// required.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        let accepting = TlsAcceptor::from(self.current.load_full()).accept(stream);
        let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await;
        accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).inspect_err(|error| {
            self.metrics.handshakes_failed.inc();
            tracing::debug!(%error, "a TLS handshake failed");
        })
    }
}

/// The TLS of a client's connections.
pub struct ClientTls(TlsConnector);

impl ClientTls {
    /// Reads the authorities to trust from `ca`, or without it from the system. `identity` is the
    /// client's own certificate and its key.
    ///
    /// # Errors
    /// If a file cannot be read or is not valid.
    pub fn new(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let roots = ca.map_or_else(load_system_roots, load_ca_certificates)?;
        Self::with_identity(client_config()?.with_root_certificates(roots), identity)
    }

    /// A client that accepts any certificate: for probes that send nothing secret.
    ///
    /// # Errors
    /// If a file of the client's own certificate cannot be read or is not valid.
    pub fn unverified(identity: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let verifier = AnyCertificate(crypto_provider().signature_verification_algorithms);
        let builder = client_config()?.dangerous();
        Self::with_identity(builder.with_custom_certificate_verifier(Arc::new(verifier)), identity)
    }

    fn with_identity(
        builder: ConfigBuilder<ClientConfig, WantsClientCert>,
        identity: Option<(&Path, &Path)>,
    ) -> Result<Self, TlsError> {
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

    /// Opens a TLS connection over `stream` to the server `name`.
    ///
    /// # Errors
    /// If the handshake fails, or the server's certificate is not valid for `name`.
    pub async fn connect(
        &self,
        stream: TcpStream,
        name: String,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(name).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.0.connect(name, stream).await
    }
}

/// Accepts every certificate, but only from a server that has its private key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

fn client_config() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unsupported(Path::new(""), &error))
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

/// The error of a certificate and its key that rustls does not take.
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
