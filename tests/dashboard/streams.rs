//! The stream of changes: its bound, clients that do not read, and the end.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
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

use crate::harness::{Bot, REDLINE, WAIT_MAX, control, get, until};

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

/// Starts a dashboard with these times on a session that nothing runs, so that it has no snapshots.
fn idle_dashboard(times: DashboardTimes) -> (Dashboard, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::in_memory(Budget::default(), &[], false);
    let clock = Arc::new(Mutex::new(ServerClock::new(Instant::now())));
    let whitelist = Arc::new(Whitelist::default());
    let engine = Engine::new(whitelist, ledger, Executor::Dry, KeyedBy::Id, clock);
    let sniper = Sniper::<Arc<sniper::execution::OrderClient>>::new(engine);
    let source = DashboardSource {
        facts: PageFacts::default(),
        watch: sniper.watch(),
        metrics: Arc::new(FeedMetrics::default()),
        requests: tokio::sync::mpsc::channel(1).0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || {
        let mut inputs = EngineInputs::default();
        runtime.block_on(sniper.run(&mut inputs, &FeedMetrics::default()));
    });
    let config =
        DashboardConfig { listen: Some("127.0.0.1:0".parse().unwrap()), ..Default::default() };
    let place = (&config, directory.path());
    let dashboard = Dashboard::start(place, source, times, &Alarm::default()).unwrap();
    (dashboard, directory)
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
