//! The feed against servers that do what they are told: right, wrong, slowly, or not at all.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod gaps;
mod listings;
mod long;
mod managed;
mod modes;
pub(crate) mod peer;
mod reconnecting;
mod refusals;
mod wire;

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use sniper::{
    config::{Config, Endpoints},
    domain::trade::Trade,
    ws::{
        self, FeedError, RetriesExhausted,
        policy::{ReconnectPolicy, ReconnectionLimits, Thousandths},
    },
};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits that tests can afford, without chance.
pub(crate) fn quick() -> ReconnectionLimits {
    ReconnectionLimits {
        initial_delay: Duration::from_millis(250),
        max_delay: Duration::from_secs(4),
        jitter: Thousandths(0),
        connect_timeout: Duration::from_secs(2),
        ..ReconnectionLimits::DEFAULT
    }
}

/// A dry run against this server.
pub(crate) fn config(server: &str, limits: ReconnectionLimits) -> Config {
    let endpoints = Endpoints::new(server, "http://127.0.0.1:9/graphql").unwrap();
    Config {
        reconnection: ReconnectPolicy::new(limits).unwrap(),
        ..Config::new(endpoints, "unused")
    }
}

/// One connection, to its end; the ids of what it delivered.
pub(crate) async fn once(config: &Config) -> (Vec<String>, Result<(), FeedError>) {
    let mut ids = Vec::new();
    let connection = ws::connect_once(config, |trade| ids.push(trade.id.to_string()));
    let ended = tokio::time::timeout(PATIENCE, connection).await.expect("it never ended");
    (ids, ended)
}

/// Keeps the feed up until the condition holds for what was delivered so far.
pub(crate) async fn until(config: &Config, condition: impl Fn(&[String]) -> bool) -> Vec<String> {
    let ids = RefCell::new(Vec::new());
    let reached = tokio::sync::Notify::new();
    let on_trade = |trade: Trade<'_>| {
        ids.borrow_mut().push(trade.id.to_string());
        if condition(&ids.borrow()) {
            reached.notify_one();
        }
    };
    tokio::select! {
        gave_up = ws::run_with_reconnect(config, on_trade) => panic!("gave up: {gave_up}"),
        () = reached.notified() => {}
        () = tokio::time::sleep(PATIENCE) => {
            panic!("not reached with {:?}", ids.borrow());
        }
    }
    ids.into_inner()
}

/// Keeps the feed up until something else is done.
pub(crate) async fn during<T>(config: &Config, other: impl Future<Output = T>) -> T {
    tokio::select! {
        gave_up = ws::run_with_reconnect(config, |_| {}) => panic!("gave up: {gave_up}"),
        done = other => done,
        () = tokio::time::sleep(PATIENCE) => panic!("it was never done"),
    }
}

/// Keeps the feed up until it gives up.
pub(crate) async fn to_the_end(config: &Config) -> RetriesExhausted {
    let run = ws::run_with_reconnect(config, |_| {});
    tokio::time::timeout(PATIENCE, run).await.expect("it never gave up")
}

thread_local! {
    /// Where this thread's log goes.
    static LOG: RefCell<Option<Arc<Mutex<Vec<u8>>>>> = const { RefCell::new(None) };
}

/// The log of this thread, while it is held.
///
/// One subscriber serves the whole process: scoped ones, coming and going on many threads, would
/// lose each other's lines.
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
}

struct Writer;

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow(|log| {
            if let Some(text) = log {
                text.lock().unwrap().extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(crate) fn capture() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .without_time()
                .with_target(false)
                .with_writer(|| Writer)
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        let text = Arc::default();
        LOG.set(Some(Arc::clone(&text)));
        Self { text }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }

    /// The lines so far, without their levels.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.text();
        text.lines()
            .map(|line| line.trim_start().split_once(' ').map_or("", |(_, rest)| rest).to_owned())
            .collect()
    }

    #[track_caller]
    pub(crate) fn has(&self, line: &str) {
        let text = self.text();
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        LOG.set(None);
    }
}
