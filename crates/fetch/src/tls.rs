//! TLS: whom it trusts, and which protocols it offers. 1.2 and 1.3; no certificates of our own.

use crate::request::Version;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why nobody can be trusted.
#[derive(Debug, Error)]
pub enum TrustError {
    #[error("the certificates that `ca_file` in [fetch] names cannot be read from {path:?}: {source}")]
    Unreadable { path: PathBuf, source: pem::Error },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What TLS is agreed on with.
pub struct Tls {
    any: TlsConnector,
    one: TlsConnector,
    two: TlsConnector,
}

impl Tls {
    /// Trusts what a file has, or where none is named, what the system trusts.
    pub fn open(ca_file: &Path) -> Result<Self, TrustError> {
        let roots = Arc::new(if ca_file.as_os_str().is_empty() { of_system() } else { of_file(ca_file)? });
        Ok(Self {
            any: connector(&roots, &[b"h2", b"http/1.1"])?,
            one: connector(&roots, &[b"http/1.1"])?,
            two: connector(&roots, &[b"h2"])?,
        })
    }

    pub async fn agree(&self, stream: TcpStream, host: &str, version: Version) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = match version {
            Version::Any => &self.any,
            Version::One => &self.one,
            Version::Two => &self.two,
        };
        connector.connect(name, stream).await
    }
}

fn connector(roots: &Arc<RootCertStore>, protocols: &[&[u8]]) -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A machine without certificates is one on which TLS is refused, and everything else works.
fn of_system() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of this system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

fn of_file(path: &Path) -> Result<RootCertStore, TrustError> {
    let unreadable = |source| TrustError::Unreadable { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        roots.add(certificate.map_err(unreadable)?)?;
    }
    Ok(roots)
}
