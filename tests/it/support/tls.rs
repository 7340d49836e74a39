//! Certificate authorities, certificates, and TLS clients.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::TEST_TIMEOUT;
use super::http::{self, Response};

/// An authority that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, as PEM.
pub struct IssuedCert {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn issue(&self) -> IssuedCert {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        IssuedCert { cert: cert.pem(), key: key.serialize_pem() }
    }
}

impl IssuedCert {
    pub fn write(&self, cert: &Path, key: &Path) {
        std::fs::write(key, &self.key).unwrap();
        std::fs::write(cert, &self.cert).unwrap();
    }

    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }
}

/// A client that trusts an authority and may have a certificate. It resumes TLS sessions.
#[derive(Clone)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    pub fn trusting(authority: &Authority, identity: Option<&IssuedCert>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![issued.der()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    pub fn open(&self, address: &str) -> Connection {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::clone(&self.0), name).unwrap();
        Connection(StreamOwned::new(client, stream))
    }

    /// Sends one request on a connection of its own.
    pub fn send(&self, address: &str, head: &str) -> Option<Response> {
        self.open(address).send(head)
    }
}

/// A keep-alive TLS connection.
pub struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    /// Sends a request without a body; `None` if the connection fails.
    pub fn send(&mut self, head: &str) -> Option<Response> {
        self.0.write_all(format!("{head} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).ok()?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 16384]);
        loop {
            let count = self.0.read(&mut buffer).ok()?;
            if count == 0 {
                return None;
            }
            answer.extend_from_slice(&buffer[..count]);
            if let Some(parsed) = http::parse_complete(&answer) {
                return Some(parsed);
            }
        }
    }

    /// Sends bytes, and returns the first nine bytes of the response.
    pub fn answer(&mut self, sent: &[u8]) -> Vec<u8> {
        self.0.write_all(sent).unwrap();
        let mut answer = vec![0; 9];
        self.0.read_exact(&mut answer).unwrap();
        answer
    }

    pub fn protocol(&self) -> Option<&[u8]> {
        self.0.conn.alpn_protocol()
    }

    /// The certificate of the server.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}
