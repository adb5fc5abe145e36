//! Readers of a bot that must not delay it: an open page, a scraper of its metrics, and a server
//! that receives its alerts.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Interval between scrapes of the metrics.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which a reader looks for its end.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Server for alerts that accepts every message.
pub(crate) struct AlertReceiver {
    pub(crate) address: SocketAddr,
    received: Arc<AtomicUsize>,
}

impl AlertReceiver {
    /// Starts the server, which ends with the process.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&received);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                thread::spawn(move || {
                    while answer(&client).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { address, received }
    }
}

/// Reads one request and accepts it.
fn answer(mut client: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
}

/// An open page and a scraper of the metrics, which end when this is dropped.
pub(crate) struct Observers {
    alerts: AlertReceiver,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Observers {
    pub(crate) fn start(dashboard: SocketAddr, alerts: AlertReceiver) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let page = Arc::clone(&is_over);
        let metrics = Arc::clone(&is_over);
        let threads = vec![
            thread::spawn(move || read_page(dashboard, &page)),
            thread::spawn(move || scrape(dashboard, &metrics)),
        ];
        Self { alerts, is_over, threads }
    }
}

impl Drop for Observers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for (thread, what) in self.threads.drain(..).zip(["the page", "the metrics"]) {
            assert!(thread.join().unwrap() > 0, "{what} sent nothing");
        }
        assert!(self.alerts.received.load(Ordering::Relaxed) > 0, "no alert was sent");
    }
}

/// Reads the stream of the page. Returns the number of bytes.
fn read_page(dashboard: SocketAddr, is_over: &AtomicBool) -> usize {
    let mut stream = request(dashboard, "/events", "keep-alive");
    let (mut bytes, mut count) = (vec![0; 64 * 1024], 0);
    while !is_over.load(Ordering::Relaxed) {
        // An error is a time-out, after which the end is looked for again.
        if let Ok(read) = stream.read(&mut bytes) {
            assert!(read > 0, "the stream of the page ended");
            count += read;
        }
    }
    count
}

/// Reads the metrics once a second. Returns the number of bytes.
fn scrape(dashboard: SocketAddr, is_over: &AtomicBool) -> usize {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut text = Vec::new();
        let _timeout = request(dashboard, "/metrics", "close").read_to_end(&mut text);
        count += text.len();
        let mut waited = Duration::ZERO;
        while waited < SCRAPE_INTERVAL && !is_over.load(Ordering::Relaxed) {
            thread::sleep(POLL_INTERVAL);
            waited += POLL_INTERVAL;
        }
    }
    count
}

fn request(dashboard: SocketAddr, path: &str, connection: &str) -> TcpStream {
    let mut stream = TcpStream::connect(dashboard).unwrap();
    stream.set_read_timeout(Some(POLL_INTERVAL)).unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {dashboard}\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}
