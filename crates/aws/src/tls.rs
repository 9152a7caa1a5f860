//! TLS: whom it trusts, and how it is agreed on. 1.2 and 1.3; no certificates of our own. I/O functions use it too.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why nobody can be trusted.
#[derive(Debug, Error)]
pub enum TrustError {
    #[error("the certificates that `ca_file` in [{section}] names cannot be read from {path:?}: {source}")]
    Unreadable { section: &'static str, path: PathBuf, source: pem::Error },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Who is trusted: whom the system trusts is read when it is first wanted, as most nodes never ask.
#[derive(Clone, Debug)]
pub struct Trust(Arc<OnceLock<Arc<RootCertStore>>>);

impl Trust {
    /// What a file has, or where none is named, what the system trusts. `section` is the configuration's.
    pub fn open(ca_file: &Path, section: &'static str) -> Result<Self, TrustError> {
        let unreadable = |source| TrustError::Unreadable { section, path: ca_file.to_owned(), source };
        let roots = OnceLock::new();
        if !ca_file.as_os_str().is_empty() {
            // The first to set it.
            let _ = roots.set(Arc::new(of_file(ca_file).map_err(unreadable)?));
        }
        Ok(Self(Arc::new(roots)))
    }

    /// What agrees on one of these protocols; on any where none is named.
    pub fn agreeing(&self, protocols: &[&[u8]]) -> Result<Tls, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Tls(Arc::new(Terms { builder, trust: self.clone(), protocols, config: OnceLock::new() })))
    }

    fn roots(&self) -> Arc<RootCertStore> {
        self.0.get_or_init(|| Arc::new(of_system())).clone()
    }
}

/// What TLS is agreed on with.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Terms>);

#[derive(Debug)]
struct Terms {
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    trust: Trust,
    protocols: Vec<Vec<u8>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Terms {
    fn config(&self) -> Arc<ClientConfig> {
        let made = || {
            let builder = self.builder.clone().with_root_certificates(self.trust.roots());
            let mut config = builder.with_no_client_auth();
            config.alpn_protocols.clone_from(&self.protocols);
            Arc::new(config)
        };
        self.config.get_or_init(made).clone()
    }
}

impl Tls {
    /// `host` is whom the certificate has to name.
    pub async fn agree(&self, stream: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let config = match self.0.config.get() {
            Some(config) => config.clone(),
            None => {
                // The system's certificates are in files, hundreds of them at times.
                let terms = self.0.clone();
                tokio::task::spawn_blocking(move || terms.config()).await.map_err(io::Error::other)?
            }
        };
        TlsConnector::from(config).connect(name, stream).await
    }
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

fn of_file(path: &Path) -> Result<RootCertStore, pem::Error> {
    let mut roots = RootCertStore::empty();
    let (mut added, mut refused) = (0, None);
    for certificate in CertificateDer::pem_file_iter(path)? {
        match roots.add(certificate?) {
            Ok(()) => added += 1,
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        // A file of many may have some that nobody can use; one of none is a mistake.
        Some(error) if added == 0 => Err(pem::Error::Io(io::Error::new(io::ErrorKind::InvalidData, error))),
        None if added == 0 => Err(pem::Error::NoItemsFound),
        _ => Ok(roots),
    }
}
