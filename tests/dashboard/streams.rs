//! The stream of changes: its bound, clients that do not read, and the end.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sniper::{
    config::{Budget, DashboardConfig},
    dashboard::{Dashboard, DashboardSource, DashboardTimes, PageFacts, STREAMS_MAX},
    domain::{server_clock::ServerClock, trade::KeyedBy},
    ledger::Ledger,
    sniper::{Engine, EngineInputs, Executor, Sniper},
    threads::Alarm,
    whitelist::Whitelist,
    ws::FeedMetrics,
};

use crate::harness::{Bot, REDLINE, WAIT_MAX, control, get, read_response, until};

const ADDRESS_FILE: &str = "dashboard-dry.address";

/// Number of connections that the dashboard accepts.
const CONNECTIONS: usize = 32;

/// Time for which a request for a snapshot waits for the session's thread.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(2);

/// An open stream.
struct Stream(TcpStream);

impl Stream {
    fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        Self(stream)
    }

    /// Reads until the text occurs, and returns what was read.
    fn read_until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let mut buffer = [0; 4_096];
        let deadline = Instant::now() + WAIT_MAX;
        while !String::from_utf8_lossy(&seen).contains(text) {
            let count = self.0.read(&mut buffer).unwrap();
            let is_open = count > 0 && Instant::now() < deadline;
            assert!(is_open, "no {text}: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }
}

#[test]
fn a_stream_begins_with_the_whole_page_and_then_sends_what_changes() {
    let bot = Bot::start().ready();
    let mut stream = Stream::open(bot.address);
    let first = stream.read_until("\"entries\"");
    assert!(first.contains("text/event-stream") && first.contains("event: page"), "{first}");
    bot.offer(REDLINE, 1_000);
    stream.read_until("\\\"good\\\">bought</b>");
    assert_eq!(control(bot.address, "/api/halt", "halt-for-stream").status, 200);
    stream.read_until("Halted");
}

#[test]
fn at_most_eight_streams_are_open() {
    let bot = Bot::start().ready();
    let mut streams: Vec<Stream> = (0..STREAMS_MAX).map(|_| Stream::open(bot.address)).collect();
    streams.iter_mut().for_each(|stream| drop(stream.read_until("event: page")));
    let rejected = get(bot.address, "/events");
    assert_eq!(rejected.status, 503, "{rejected:?}");
    assert!(rejected.body.contains("8 pages are open already"), "{}", rejected.body);
    streams.pop();
    until(|| {
        let mut stream = Stream::open(bot.address);
        let mut start = [0; 12];
        stream.0.read_exact(&mut start).unwrap();
        start == *b"HTTP/1.1 200"
    });
}

#[test]
fn open_streams_do_not_delay_the_stop() {
    let mut bot = Bot::start().ready();
    let mut streams: Vec<Stream> = (0..STREAMS_MAX).map(|_| Stream::open(bot.address)).collect();
    streams.iter_mut().for_each(|stream| drop(stream.read_until("event: page")));
    let took = bot.stop();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let mut rest = Vec::new();
    streams[0].0.read_to_end(&mut rest).unwrap();
}

/// Starts a dashboard with these times on a session without a feed.
fn idle_dashboard(times: DashboardTimes) -> (Dashboard, tempfile::TempDir) {
    dashboard_of(true, times)
}

/// Starts a dashboard on a session whose thread runs or does not.
fn dashboard_of(is_running: bool, times: DashboardTimes) -> (Dashboard, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::in_memory(Budget::default(), &[], false);
    let clock = Arc::new(Mutex::new(ServerClock::new(Instant::now())));
    let whitelist = Arc::new(Whitelist::default());
    let engine = Engine::new(whitelist, ledger, Executor::Dry, KeyedBy::Id, clock);
    let sniper = Sniper::<Arc<sniper::execution::OrderClient>>::new(engine);
    let source = DashboardSource {
        facts: PageFacts::default(),
        address_file: Some(directory.path().join(ADDRESS_FILE)),
        watch: sniper.watch(),
        metrics: Arc::new(FeedMetrics::default()),
        requests: tokio::sync::mpsc::channel(1).0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if is_running {
        std::thread::spawn(move || {
            let mut inputs = EngineInputs::default();
            runtime.block_on(sniper.run(&mut inputs, &FeedMetrics::default()));
        });
    }
    let config =
        DashboardConfig { listen: Some("127.0.0.1:0".parse().unwrap()), ..Default::default() };
    let place = (&config, directory.path());
    let dashboard = Dashboard::start(place, source, times, &Alarm::default()).unwrap();
    (dashboard, directory)
}

#[test]
fn an_address_is_removed_at_the_end_unless_another_bot_has_written_its_own() {
    for other in [None, Some("127.0.0.1:9\n")] {
        let (dashboard, directory) = idle_dashboard(DashboardTimes::default());
        let file = directory.path().join(ADDRESS_FILE);
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), dashboard.address().to_string());
        if let Some(other) = other {
            fs::write(&file, other).unwrap();
        }
        drop(dashboard);
        assert_eq!(fs::read_to_string(&file).ok().as_deref(), other);
    }
}

#[test]
fn a_client_that_does_not_read_is_disconnected() {
    let times =
        DashboardTimes { write_stall_max: Duration::from_millis(300), ..DashboardTimes::default() };
    let (dashboard, _directory) = idle_dashboard(times);
    let address = dashboard.address();
    // Many requests whose responses are not read fill the buffers of both sides.
    let mut client = TcpStream::connect(address).unwrap();
    client.set_write_timeout(Some(WAIT_MAX)).unwrap();
    let request = format!("GET /app.js HTTP/1.1\r\nHost: {address}\r\n\r\n").repeat(64);
    until(|| client.write_all(request.as_bytes()).is_err());
    assert_eq!(get(address, "/livez").status, 200, "others are served");
}

#[test]
fn an_idle_connection_is_closed() {
    let times =
        DashboardTimes { idle_max: Duration::from_millis(200), ..DashboardTimes::default() };
    let (dashboard, _directory) = idle_dashboard(times);
    let mut silent = TcpStream::connect(dashboard.address()).unwrap();
    silent.set_read_timeout(Some(WAIT_MAX)).unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).unwrap();
    // A stream is not idle: it sends something each second.
    let times = DashboardTimes { idle_max: Duration::from_millis(1_500), ..times };
    let (dashboard, _directory) = idle_dashboard(times);
    let mut stream = Stream::open(dashboard.address());
    for _ in 0..3 {
        stream.read_until("event: ");
    }
}

#[test]
fn requests_that_arrive_slowly_do_not_hold_the_places_of_others() {
    let times = DashboardTimes { idle_max: Duration::from_secs(2), ..DashboardTimes::default() };
    let (dashboard, _directory) = idle_dashboard(times);
    let address = dashboard.address();
    let is_over = Arc::new(AtomicBool::new(false));
    let slow = (0..CONNECTIONS).map(|_| {
        let (mut client, is_over) = (TcpStream::connect(address).unwrap(), Arc::clone(&is_over));
        client.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").unwrap();
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) && client.write_all(b"a").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
            !is_over.load(Ordering::Relaxed)
        })
    });
    let slow: Vec<_> = slow.collect();
    let mut other = TcpStream::connect(address).unwrap();
    other.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let request = format!("GET /livez HTTP/1.1\r\nHost: {address}\r\n\r\n");
    other.write_all(request.as_bytes()).unwrap();
    let mut start = [0; 12];
    other.read_exact(&mut start).expect("a place is free again");
    assert_eq!(&start, b"HTTP/1.1 200");
    until(|| slow.iter().any(std::thread::JoinHandle::is_finished));
    is_over.store(true, Ordering::Relaxed);
    let closed = slow.into_iter().filter(|client| client.is_finished()).count();
    assert!(0 < closed, "the slow ones were disconnected");
}

#[test]
fn livez_does_not_wait_for_a_snapshot() {
    let (dashboard, _directory) = dashboard_of(false, DashboardTimes::default());
    let begun = Instant::now();
    let reply = get(dashboard.address(), "/livez");
    assert_eq!((reply.status, &*reply.body), (503, "the trading thread does not answer\n"));
    assert!(begun.elapsed() < SNAPSHOT_WAIT, "{:?}", begun.elapsed());
    let (dashboard, _directory) = idle_dashboard(DashboardTimes::default());
    until(|| get(dashboard.address(), "/livez").status == 200);
}

/// A connection with unread bytes cannot be used again, and closing it would be a reset, with which
/// the client may lose the response.
#[test]
fn a_request_with_a_body_is_answered_and_its_connection_stays_open() {
    let (dashboard, _directory) = idle_dashboard(DashboardTimes::default());
    let address = dashboard.address();
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let body = "a".repeat(60 * 1024);
    for (path, status) in [("/api/halt", "401"), ("/nowhere", "401"), ("/livez", "405")] {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}");
        client.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        let response = read_response(&mut client);
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {response}");
    }
}
