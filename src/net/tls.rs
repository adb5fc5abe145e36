//! The one TLS set-up: built once, shared by everything that dials.
//!
//! The cryptography is given explicitly, so nothing depends on a process-wide default, and the
//! roots are Mozilla's as compiled in. A practice market or a test brings a root of its own through
//! [`Tls::trusting`]; no setting does. 0-RTT stays off: early data can be replayed, and a replayed
//! buy is a second buy.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};

/// HTTP/1.1 is all that is spoken here, also underneath a WebSocket.
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// How to speak TLS to anybody. A clone is a pointer.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The compiled-in cryptography and protocol versions do not fit together.
    #[error("TLS could not be set up; this build is broken, please build it again")]
    SetUp(#[source] rustls::Error),
    /// The root that was handed in is not a certificate.
    #[error("the certificate to trust could not be read; it must be an X.509 root in DER")]
    Root(#[source] rustls::Error),
    /// A host name that no certificate can carry.
    #[error("no certificate can name the host {host:?}; check the address")]
    ServerName {
        /// The host.
        host: String,
    },
}

impl Tls {
    /// Trusts Mozilla's roots.
    ///
    /// # Errors
    ///
    /// [`TlsError::SetUp`] in a broken build.
    pub fn new() -> Result<Self, TlsError> {
        Self::build(None)
    }

    /// Trusts Mozilla's roots and this one.
    ///
    /// # Errors
    ///
    /// [`TlsError::Root`] if it is not a certificate, [`TlsError::SetUp`] in a broken build.
    pub fn trusting(root: &CertificateDer<'_>) -> Result<Self, TlsError> {
        Self::build(Some(root))
    }

    fn build(root: Option<&CertificateDer<'_>>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(root) = root {
            roots.add(root.clone().into_owned()).map_err(TlsError::Root)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::SetUp)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
        config.enable_early_data = false;
        Ok(Self(Arc::new(config)))
    }

    /// The set-up, for whoever drives a connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// The name that the certificate of `host` must carry.
///
/// # Errors
///
/// [`TlsError::ServerName`] if none can.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned())
        .map_err(|_invalid| TlsError::ServerName { host: host.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_needs_no_process_wide_default_and_never_sends_early_data() {
        let config = Tls::new().unwrap().config();
        assert!(!config.enable_early_data);
        assert_eq!(config.alpn_protocols, [ALPN_HTTP_1_1]);
    }

    #[test]
    fn a_root_that_is_no_certificate_is_refused() {
        let nonsense = CertificateDer::from(vec![1, 2, 3]);
        assert!(matches!(Tls::trusting(&nonsense), Err(TlsError::Root(_))));
    }

    #[test]
    fn addresses_and_names_can_be_certified_and_nothing_else() {
        assert!(server_name("router.csgoroll.com").is_ok());
        assert!(server_name("127.0.0.1").is_ok());
        assert!(server_name("::1").is_ok());
        assert!(matches!(server_name(""), Err(TlsError::ServerName { .. })));
    }
}
