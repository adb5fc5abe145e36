//! Web page with the state of a session and its controls, and metrics for Prometheus.
//!
//! The server has its own thread with a low priority. It requests snapshots from the session
//! ([`SessionWatch`]) only while there is a reader, and passes controls to it over the queue of
//! `sniper halt`.
//!
//! - `server`: routes, checks and streams. `connection`: bounds of a connection.
//! - [`access`], [`token`]: which requests are answered, and who may change something.
//! - `page`, `html`, `rates`, [`metrics`]: the output. Pure.
//!
//! # Invariants
//!
//! 1. No request can raise a limit.
//! 2. A change needs the token or a cookie, an own origin, and an id that was not used before.
//! 3. The number of connections, of streams and of remembered ids is bounded, and a client that
//!    does not read or does not complete its request is disconnected.

pub mod access;
mod connection;
mod html;
pub mod metrics;
mod page;
mod rates;
mod server;
pub mod token;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc::Sender, watch},
    time::{interval, sleep},
};
use tracing::debug;

use self::{
    access::HostRules,
    connection::{BoundedListener, CONNECTIONS_MAX, ClientAddress, ConnectionTimes},
    server::App,
    token::AccessTokens,
};
pub use self::{page::PageFacts, server::STREAMS_MAX};
use crate::{
    clock,
    config::{DashboardConfig, dashboard::DEFAULT_LISTEN},
    ledger::control::PendingRequest,
    sniper::view::SessionWatch,
    threads::{Alarm, ThreadGuard, ThreadName, lock, priority, wait_for_failpoint},
    ws::FeedMetrics,
};

/// Interval at which a stream looks for changes: about three times a second.
const STREAM_INTERVAL: Duration = Duration::from_millis(300);

/// Maximum time for which a client accepts no byte before it is disconnected.
const WRITE_STALL_MAX: Duration = Duration::from_secs(10);

/// Maximum time in which nothing is sent on a connection. Greater than the times of a snapshot and
/// of a control.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Maximum time for open connections to end when the bot stops.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Interval at which the received listings are counted for the rate per second.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// Data that the dashboard shows, and the handles by which it controls the bot.
#[derive(Debug)]
pub struct DashboardSource {
    pub facts: PageFacts,
    /// File for the address; `None` if another bot has it.
    pub address_file: Option<PathBuf>,
    pub watch: SessionWatch,
    pub metrics: Arc<FeedMetrics>,
    /// Queue of the requests to the session.
    pub requests: Sender<PendingRequest>,
}

/// Time limits of the server. Tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct DashboardTimes {
    pub stream_interval: Duration,
    pub write_stall_max: Duration,
    pub idle_max: Duration,
}

impl Default for DashboardTimes {
    fn default() -> Self {
        Self {
            stream_interval: STREAM_INTERVAL,
            write_stall_max: WRITE_STALL_MAX,
            idle_max: IDLE_MAX,
        }
    }
}

/// Cause of a failed start of the dashboard.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    #[error("cannot listen on {address}; choose another `listen` in [dashboard]")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot use {} in the data directory", token::TOKEN_FILE)]
    Token(#[source] io::Error),
    #[error("cannot write the file with its address in the data directory")]
    AddressFile(#[source] io::Error),
    #[error("cannot start its thread")]
    Thread(#[source] io::Error),
}

/// A running dashboard. Dropping it stops the server, within about a second.
#[derive(Debug)]
pub struct Dashboard {
    address: SocketAddr,
    address_file: Option<PathBuf>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Dashboard {
    /// Listens at the address of the settings and starts the thread.
    ///
    /// # Errors
    ///
    /// Returns a [`DashboardError`] if the address or a file cannot be used, or no thread started.
    pub fn start(
        (config, directory): (&DashboardConfig, &Path),
        source: DashboardSource,
        times: DashboardTimes,
        alarm: &Alarm,
    ) -> Result<Self, DashboardError> {
        let listen = config.listen.unwrap_or(DEFAULT_LISTEN);
        let bound = std::net::TcpListener::bind(listen).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) =
            bound.map_err(|source| DashboardError::Listen { address: listen, source })?;
        let tokens = AccessTokens::open(config.token.as_ref(), directory, address.port())
            .map_err(DashboardError::Token)?;
        let address_file = source.address_file;
        if let Some(file) = &address_file {
            // The second line is the name by which other machines reach the page.
            let name = config.allowed_hosts.first().map_or("", String::as_str);
            let written = token::write_private(file, &format!("{address}\n{name}\n"));
            written.map_err(DashboardError::AddressFile)?;
        }
        let (stop, stopping) = watch::channel(false);
        let app = Arc::new(App {
            facts: source.facts,
            watch: source.watch,
            metrics: source.metrics,
            requests: source.requests,
            tokens,
            hosts: HostRules::new(address, &config.allowed_hosts),
            needs_token_to_read: config.allow_remote,
            start: clock::wall(),
            rates: Mutex::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            last_view: tokio::sync::Mutex::default(),
            used_keys: Mutex::default(),
            stopping,
            interval: times.stream_interval,
        });
        let thread = spawn(listener, app, times, alarm).map_err(DashboardError::Thread)?;
        Ok(Self { address, address_file, stop, thread: Some(thread) })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            debug!("The dashboard's thread had panicked");
        }
        // The bot that has the control socket now may have written its own address.
        if let Some(file) = &self.address_file {
            let removed = token::read(file).and_then(|text| match text {
                Some(text) if text.lines().next() == Some(&self.address.to_string()) => {
                    fs::remove_file(file)
                }
                _ => Ok(()),
            });
            if let Err(error) = removed {
                debug!("Could not remove the address of the dashboard: {error}");
            }
        }
    }
}

fn spawn(
    listener: std::net::TcpListener,
    app: Arc<App>,
    times: DashboardTimes,
    alarm: &Alarm,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = ThreadGuard::new(ThreadName::Dashboard, alarm.clone());
    let name = ThreadName::Dashboard;
    thread::Builder::new().name(name.to_string()).spawn(move || {
        priority::lower(name);
        match runtime.block_on(serve(listener, app, times)) {
            Ok(()) => guard.finished(),
            Err(error) => debug!("The dashboard cannot use its listener: {error}"),
        }
        // A control that waits for the session does not delay the stop.
        runtime.shutdown_background();
    })
}

/// Serves until the bot stops, and then ends the open connections within [`DRAIN_MAX`].
async fn serve(
    listener: std::net::TcpListener,
    app: Arc<App>,
    times: DashboardTimes,
) -> io::Result<()> {
    let times = ConnectionTimes { write_stall: times.write_stall_max, idle: times.idle_max };
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let listener = BoundedListener { listener: TcpListener::from_std(listener)?, permits, times };
    let (mut stopping, mut draining) = (app.stopping.clone(), app.stopping.clone());
    let stopped = async move { drop(stopping.wait_for(|is_stopping| *is_stopping).await) };
    let drained = async move {
        drop(draining.wait_for(|is_stopping| *is_stopping).await);
        sleep(DRAIN_MAX).await;
    };
    let sampled = sample_rates(Arc::clone(&app));
    let router = server::router(app).into_make_service_with_connect_info::<ClientAddress>();
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(stopped) => served,
        () = drained => Ok(()),
        () = sampled => Ok(()),
        () = wait_for_failpoint(ThreadName::Dashboard) => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// Counts the listings of each second. Never returns.
async fn sample_rates(app: Arc<App>) {
    let mut seconds = interval(RATE_INTERVAL);
    loop {
        seconds.tick().await;
        lock(&app.rates).add_total(app.metrics.listings.load(Ordering::Relaxed));
    }
}
