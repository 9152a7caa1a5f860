//! TLS for requests: which protocols it offers to whom.

use crate::request::Version;
use aws::tls::{Trust, TrustError};
use std::io;
use std::path::Path;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What TLS is agreed on with.
pub struct Tls {
    any: aws::tls::Tls,
    one: aws::tls::Tls,
    two: aws::tls::Tls,
}

impl Tls {
    /// Trusts what a file has, or where none is named, what the system trusts.
    pub fn open(ca_file: &Path) -> Result<Self, TrustError> {
        let trust = Trust::open(ca_file, "fetch")?;
        Ok(Self {
            any: trust.agreeing(&[b"h2", b"http/1.1"])?,
            one: trust.agreeing(&[b"http/1.1"])?,
            two: trust.agreeing(&[b"h2"])?,
        })
    }

    pub async fn agree(&self, stream: TcpStream, host: &str, version: Version) -> io::Result<TlsStream<TcpStream>> {
        let tls = match version {
            Version::Any => &self.any,
            Version::One => &self.one,
            Version::Two => &self.two,
        };
        tls.agree(stream, host).await
    }
}
