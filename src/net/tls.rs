//! TLS client configuration, built once and shared by all connections.
//!
//! The crypto provider is explicit, so nothing depends on a process-wide default, and the roots are
//! Mozilla's as compiled in. A simulated market, a test or the shared database adds its own roots.
//! 0-RTT stays off: early data can be replayed, and a replayed order is a second order.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};

use crate::config::Config;

/// HTTP/1.1 is the only protocol, also for the WebSocket upgrade.
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// Shared TLS configuration. Cloning is cheap.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

/// Cause of a failed TLS set-up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The compiled-in cryptography and protocol versions are incompatible.
    #[error("TLS could not be set up; this build is broken, rebuild it")]
    SetUp(#[source] rustls::Error),
    /// The root is not a certificate.
    #[error("the trusted certificate could not be read; it must be an X.509 root in DER")]
    Root(#[source] rustls::Error),
    /// No certificate can be issued for the host name.
    #[error("{host:?} is not a valid TLS server name; check the address")]
    ServerName { host: String },
}

impl Tls {
    /// Trusts Mozilla's roots.
    ///
    /// # Errors
    ///
    /// Returns [`TlsError::SetUp`] in a broken build.
    pub fn new() -> Result<Self, TlsError> {
        Self::with_roots(&[])
    }

    /// Trusts Mozilla's roots and this one.
    ///
    /// # Errors
    ///
    /// Returns [`TlsError::Root`] if it is not a certificate, and [`TlsError::SetUp`] in a broken
    /// build.
    pub fn with_root(root: &CertificateDer<'_>) -> Result<Self, TlsError> {
        Self::with_roots(std::slice::from_ref(root))
    }

    /// Trusts Mozilla's roots and these.
    ///
    /// # Errors
    ///
    /// Same as [`with_root`](Self::with_root).
    pub fn with_roots(trusted: &[CertificateDer<'_>]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in trusted {
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

    /// Trusts Mozilla's roots and the one of the configuration.
    ///
    /// # Errors
    ///
    /// Same as [`with_root`](Self::with_root).
    pub fn from_config(config: &Config) -> Result<Self, TlsError> {
        let root = config.trusted_root.as_deref().map(CertificateDer::from);
        Self::with_roots(root.as_slice())
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Returns the name that the certificate of `host` must match.
///
/// # Errors
///
/// Returns [`TlsError::ServerName`] if no certificate can match it.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned())
        .map_err(|_invalid| TlsError::ServerName { host: host.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_needs_no_process_wide_default_and_never_sends_early_data() {
        let config = Tls::new().unwrap().config();
        assert!(!config.enable_early_data);
        assert_eq!(config.alpn_protocols, [ALPN_HTTP_1_1]);
    }

    #[test]
    fn an_invalid_root_certificate_is_rejected() {
        let nonsense = CertificateDer::from(vec![1, 2, 3]);
        assert!(matches!(Tls::with_root(&nonsense), Err(TlsError::Root(_))));
    }

    #[test]
    fn host_names_and_ip_addresses_are_server_names_and_empty_text_is_not() {
        assert!(server_name("router.csgoroll.com").is_ok());
        assert!(server_name("127.0.0.1").is_ok());
        assert!(server_name("::1").is_ok());
        assert!(matches!(server_name(""), Err(TlsError::ServerName { .. })));
    }
}
