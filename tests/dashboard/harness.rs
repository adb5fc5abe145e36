//! A session with a dashboard on a simulated market, and a plain HTTP client that sends any header.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use sniper::{
    commands::session::{SessionEnd, SessionStart, TradingSession},
    config::{Config, Sources},
    domain::money::Amount,
    markets::csgoroll::Csgoroll,
    shutdown::{Shutdown, ShutdownReason},
    sim::{Delivery, ListedItem, Rate, SimServer, SimSettings},
    ws::{self, Feed},
};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Maximum wait for an expected event.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// Token that the tests set.
pub(crate) const TOKEN: &str = "token-of-the-tests-0123456789abcdef";

pub(crate) const REDLINE: &str = "AK-47 | Redline (Field-Tested)";

/// Settings whose limits do not bind, and that match everything.
const SETTINGS: &str = r#"
[budget]
max_price = 1000
total = 100000
min_balance = 0
max_buys_per_minute = 10000

[[whitelist]]
name = "red / line"
item = "AK-47 | Redline"
max_price = 12
max_quantity = 1000
group = "rifles <i>"

[groups."rifles <i>"]
max_quantity = 900
max_total = 5000

[[whitelist]]
name = "all <b>"
item = "*"
max_price = 500
max_quantity = 1000

[dashboard]
listen = "127.0.0.1:0"
"#;

/// Response to a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends a request over a new connection.
pub(crate) fn send(
    address: SocketAddr,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).unwrap();
    let text = read_response(&mut stream);
    let (head, body) = text.split_once("\r\n\r\n").expect(&text);
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect(head);
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// Reads a response up to the length that it states, or to the end of the connection: not every
/// server closes it.
pub(crate) fn read_response(stream: &mut TcpStream) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length:")?.trim().parse::<usize>().ok()
            });
            if length.is_some_and(|length| body.len() >= length) {
                return text.into_owned();
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return text.into_owned(),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            // The system interrupts a read with a time limit when the process was stopped.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error:?} after {text:?}"),
        }
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, ("GET", path), &[], "")
}

/// Returns the value of an `Authorization` header.
pub(crate) fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

/// Sends a control with the token.
pub(crate) fn control(address: SocketAddr, path: &str, key: &str) -> Reply {
    let headers = [("Authorization", &*bearer()), ("Idempotency-Key", key)];
    send(address, ("POST", path), &headers, "")
}

/// Waits until the condition holds, at most [`WAIT_MAX`].
#[track_caller]
pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never held");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A live session with a dashboard, on a market that sells what is offered.
pub(crate) struct Bot {
    pub(crate) market: SimServer,
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bot {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a session with further lines below `[dashboard]`.
    pub(crate) fn start_with(dashboard: &str) -> Self {
        let never = Duration::from_secs(3_600);
        let delivery = Delivery { confirm: (never, never), ..Delivery::default() };
        let settings =
            SimSettings { rate: Rate::NONE, rivals: None, delivery, ..SimSettings::default() };
        let market = SimServer::start(settings).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("sniper.toml"), format!("{SETTINGS}{dashboard}\n"))
            .unwrap();
        let environment = market.environment();
        let lookup = |name: &str| match name {
            "SNIPER_DASHBOARD_TOKEN" => Some(TOKEN.to_owned()),
            "XDG_STATE_HOME" => directory.path().to_str().map(str::to_owned),
            "SNIPER_DATA" => None,
            _ => {
                let variable = environment.iter().find(|(known, _)| *known == name);
                variable.map(|(_, value)| value.clone())
            }
        };
        let sources = Sources {
            lookup: &lookup,
            directory: directory.path(),
            config_file: None,
            live: true,
            decimals: |_market| sniper::markets::csgoroll::DECIMALS,
        };
        let config = Config::load(&sources).map_err(|problems| format!("{problems:?}")).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (started, address) = std::sync::mpsc::sync_channel(1);
        let config = config.config;
        let thread = thread::spawn(move || run(config, stopped, &started));
        let address = address.recv_timeout(WAIT_MAX).unwrap();
        Self { market, address, directory, stop: Some(stop), thread: Some(thread) }
    }

    /// Waits until the feed is connected and the account was read.
    pub(crate) fn ready(self) -> Self {
        until(|| get(self.address, "/readyz").status == 200);
        until(|| get(self.address, "/metrics").body.contains("\nsniper_reconciled 1\n"));
        self
    }

    /// Offers an item at this price in hundredths.
    pub(crate) fn offer(&self, name: &str, cents: i64) {
        let price = Amount::from_cents(cents);
        self.market.list_items(vec![ListedItem::plain(name, price, price)]);
    }

    /// Stops the session, and returns the time that this took.
    pub(crate) fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            stop.send(()).unwrap();
            thread.join().unwrap();
        }
        begun.elapsed()
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

fn run(
    config: Config,
    stopped: oneshot::Receiver<()>,
    started: &std::sync::mpsc::SyncSender<SocketAddr>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut feed = Feed::new(Csgoroll::new(&config), config);
        let filler = feed.fill_gaps();
        let mut session = TradingSession::start(&feed, filler, SessionStart::default()).unwrap();
        started.send(session.dashboard_address().unwrap()).unwrap();
        let (sniper, mut shutdown) = (session.sniper(), Shutdown::without_signals(None));
        let ended = {
            let trading =
                std::pin::pin!(ws::run_with_reconnect(&feed, |trade| sniper.consider(trade)));
            tokio::select! {
                ended = session.run_with(trading, &mut shutdown) => ended,
                _ = stopped => SessionEnd::Stopped(ShutdownReason::TimeLimit(Duration::ZERO)),
            }
        };
        drop(sniper);
        session.finish(ended).await;
    });
}
