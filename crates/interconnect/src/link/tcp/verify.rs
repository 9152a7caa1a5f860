//! Who may speak to whom, in terms of TLS.
//!
//! | side | shows | asks of the other |
//! |---|---|---|
//! | head | its certificate and its authority's | none, or a certificate of its authority: whose it is, the ledger says |
//! | member, joining | nothing | the authority whose fingerprint is in the token, and the head's name |
//! | member | its certificate | the same |
//!
//! TLS 1.3 only, without resumption and without tickets: every connection proves everything anew.

use super::token::{Fingerprint, fingerprint};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use std::sync::Arc;

/// The name in the head's certificate, whatever its addresses are.
pub const HEAD: &str = "head.lichen.internal";

/// A key and the certificate for it.
pub struct Credentials<'a> {
    pub key: &'a [u8],
    pub certificate: &'a [u8],
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What the head accepts connections with.
pub fn server(authority: &[u8], head: &Credentials<'_>) -> Result<ServerConfig, Error> {
    let authority = CertificateDer::from(authority.to_vec());
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let members = WebPkiClientVerifier::builder_with_provider(roots.into(), provider()).allow_unauthenticated().build();
    let members = members.map_err(|error| Error::General(error.to_string()))?;
    let chain = vec![CertificateDer::from(head.certificate.to_vec()), authority];
    let key = PrivatePkcs8KeyDer::from(head.key.to_vec());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(members)
        .with_single_cert(chain, key.into())?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What a member connects with: with its credentials once it has some.
pub fn client(authority: Fingerprint, member: Option<&Credentials<'_>>) -> Result<ClientConfig, Error> {
    let pinned = Arc::new(Pinned { authority, provider: provider() });
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(pinned);
    let mut config = match member {
        Some(member) => {
            let chain = vec![CertificateDer::from(member.certificate.to_vec())];
            config.with_client_auth_cert(chain, PrivatePkcs8KeyDer::from(member.key.to_vec()).into())?
        }
        None => config.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Checks the head's certificate by an authority of which only the fingerprint is known: the head shows the rest.
#[derive(Debug)]
struct Pinned {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = intermediates.iter().find(|certificate| fingerprint(certificate) == self.authority);
        let authority = shown.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider.clone()).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken between shims".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
