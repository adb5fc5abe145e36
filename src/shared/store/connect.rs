//! Connects to a PostgreSQL server, with rustls for TLS.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_postgres::{
    Client, NoTls, SimpleQueryMessage,
    config::SslMode,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};
use tokio_rustls::TlsConnector;

use super::StoreError;
use crate::{
    config::shared::{DatabaseHost, DatabaseUrl},
    net::{
        dial::{self, AllowedAddresses},
        tls::{self, Tls},
    },
};

/// Name of the program in the list of the server's sessions.
const APPLICATION: &str = "sniper";

/// Timeouts of a session, so that a member that hangs in a transaction does not block the others.
const SESSION_SETTINGS: &str = "\
SET statement_timeout = 2500; \
SET lock_timeout = 2000; \
SET idle_in_transaction_session_timeout = 2000";

/// Open connection. Dropping it closes it.
pub(super) struct DatabaseConnection {
    pub(super) client: Client,
    task: JoinHandle<()>,
}

impl Drop for DatabaseConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns the TLS configuration of an address; `None` without TLS.
pub(super) fn tls_config(url: &DatabaseUrl) -> Result<Option<Arc<ClientConfig>>, StoreError> {
    if !url.is_tls {
        return Ok(None);
    }
    let roots = match &url.root {
        None => Vec::new(),
        Some(path) => {
            let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            let roots: Vec<_> = read.map_err(|error| StoreError::Root(error.to_string()))?;
            if roots.is_empty() {
                return Err(StoreError::Root("it contains no certificate".to_owned()));
            }
            roots
        }
    };
    let mut config = ClientConfig::clone(&Tls::with_roots(&roots)?.config());
    // A server that supports ALPN accepts no protocol but its own.
    config.alpn_protocols.clear();
    Ok(Some(Arc::new(config)))
}

/// Connects to one server.
pub(super) async fn connect(
    url: &DatabaseUrl,
    host: &DatabaseHost,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<DatabaseConnection, StoreError> {
    let addresses =
        dial::lookup_name(&host.name, host.port, AllowedAddresses::of_database(url)).await?;
    let stream = dial::race(addresses.into()).await?;
    let mut config = tokio_postgres::Config::new();
    config.user(&url.user).dbname(&url.database).application_name(APPLICATION);
    if let Some(password) = url.reveal_password() {
        config.password(password);
    }
    if let Some(options) = &url.options {
        config.options(options);
    }
    let database = match tls {
        Some(tls) => {
            config.ssl_mode(SslMode::Require);
            let name = tls::server_name(&host.name)?;
            let handshake = Handshake { connector: TlsConnector::from(Arc::clone(tls)), name };
            let (client, connection) = config.connect_raw(stream, handshake).await?;
            DatabaseConnection { client, task: tokio::spawn(run(connection)) }
        }
        None => {
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = config.connect_raw(stream, NoTls).await?;
            DatabaseConnection { client, task: tokio::spawn(run(connection)) }
        }
    };
    database.client.batch_execute(SESSION_SETTINGS).await?;
    // A replica accepts connections but no serializable transaction, and not with the error of a
    // server that only reads. A database without this setting has no replicas of that kind.
    let shown =
        database.client.simple_query("SHOW transaction_read_only").await.unwrap_or_default();
    let is_on = |message: &SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("on"));
    if shown.iter().any(is_on) { Err(StoreError::ReadOnly) } else { Ok(database) }
}

/// Drives a connection. Its error is also that of the request that waits for it.
async fn run(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    let _reported_by_the_request = connection.await;
}

struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<TcpStream> for Handshake {
    type Stream = TlsSocket;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TlsSocket>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move { Ok(TlsSocket(self.connector.connect(self.name, stream).await?)) })
    }
}

struct TlsSocket(tokio_rustls::client::TlsStream<TcpStream>);

impl TlsStream for TlsSocket {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
