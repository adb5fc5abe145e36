//! Settings, runs and log capture for tests of the feed.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use sniper::{
    config::{Config, Endpoints},
    domain::trade::Trade,
    markets::csgoroll::Csgoroll,
    ws::{
        self, Feed, FeedError, RetriesExhausted,
        policy::{ReconnectPolicy, ReconnectionLimits, Thousandths},
    },
};

/// Maximum wait for an expected event.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// Short delays without jitter.
pub(crate) fn quick() -> ReconnectionLimits {
    ReconnectionLimits {
        initial_delay: Duration::from_millis(250),
        max_delay: Duration::from_secs(4),
        jitter: Thousandths(0),
        connect_timeout: Duration::from_secs(2),
        ..ReconnectionLimits::DEFAULT
    }
}

/// Returns the settings of a dry run against this server.
pub(crate) fn config(server: &str, limits: ReconnectionLimits) -> Config {
    let endpoints = Endpoints::new(server, "http://127.0.0.1:9/graphql").unwrap();
    Config {
        reconnection: ReconnectPolicy::new(limits).unwrap(),
        ..Config::new(endpoints, "unused")
    }
}

/// Returns the feed of the marketplace with these settings.
pub(crate) fn feed_of(config: Config) -> Feed<Csgoroll> {
    Feed::new(Csgoroll::new(&config), config)
}

/// Runs one connection to its end. Returns the delivered listing ids and the result.
pub(crate) async fn once(feed: &Feed<Csgoroll>) -> (Vec<String>, Result<(), FeedError>) {
    let mut ids = Vec::new();
    let connection = ws::connect_once(feed, |trade| ids.push(trade.id.to_string()));
    let ended =
        tokio::time::timeout(WAIT_MAX, connection).await.expect("the connection never ended");
    (ids, ended)
}

/// Runs the feed until the condition holds for the delivered listing ids, and returns them.
pub(crate) async fn until(
    feed: &Feed<Csgoroll>,
    condition: impl Fn(&[String]) -> bool,
) -> Vec<String> {
    let ids = RefCell::new(Vec::new());
    let reached = tokio::sync::Notify::new();
    let on_trade = |trade: Trade<'_>| {
        ids.borrow_mut().push(trade.id.to_string());
        if condition(&ids.borrow()) {
            reached.notify_one();
        }
    };
    tokio::select! {
        gave_up = ws::run_with_reconnect(feed, on_trade) => panic!("gave up: {gave_up}"),
        () = reached.notified() => {}
        () = tokio::time::sleep(WAIT_MAX) => {
            panic!("not reached with {:?}", ids.borrow());
        }
    }
    ids.into_inner()
}

/// Runs the feed until another future completes.
pub(crate) async fn during<T>(feed: &Feed<Csgoroll>, other: impl Future<Output = T>) -> T {
    tokio::select! {
        gave_up = ws::run_with_reconnect(feed, |_| {}) => panic!("gave up: {gave_up}"),
        done = other => done,
        () = tokio::time::sleep(WAIT_MAX) => panic!("the future never completed"),
    }
}

/// Runs the feed until its retries are exhausted.
pub(crate) async fn until_given_up(feed: &Feed<Csgoroll>) -> RetriesExhausted {
    let run = ws::run_with_reconnect(feed, |_| {});
    tokio::time::timeout(WAIT_MAX, run).await.expect("the feed never gave up")
}

thread_local! {
    /// Log buffer of this thread.
    static LOG: RefCell<Option<Arc<Mutex<Vec<u8>>>>> = const { RefCell::new(None) };
}

/// Captures the log of this thread until it is dropped.
///
/// One global subscriber serves the whole process: scoped subscribers on several threads would lose
/// each other's lines.
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

    /// Returns the lines logged so far, without their levels.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.text();
        text.lines()
            .map(|line| line.trim_start().split_once(' ').map_or("", |(_, rest)| rest).to_owned())
            .collect()
    }

    #[track_caller]
    pub(crate) fn assert_contains(&self, line: &str) {
        let text = self.text();
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        LOG.set(None);
    }
}
