//! HTTP server of the price files.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use super::{
    coding,
    fixtures::{PriceFile, PriceItem, default_items},
};

/// Maximum time of one read from or write to the client.
const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of header lines of a request.
const HEADER_LINES_MAX: usize = 64;

/// Fault of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PriceFault {
    #[default]
    None,
    /// A gzip body without a header that announces it.
    UnannouncedGzip,
    /// A Brotli body, announced.
    Brotli,
    /// A byte order mark before the body.
    ByteOrderMark,
    /// Status 429 with `Retry-After`.
    TooManyRequests { retry_after_s: u32 },
    /// Status 418 with `Retry-After`.
    Banned { retry_after_s: u32 },
    /// A redirect to an XML error.
    Redirect,
    /// An XML error with status 200.
    Xml,
    /// A web page with status 200.
    Html,
    /// The connection closes in the middle of the body.
    CutConnection,
    /// A complete response with the first half of the file.
    TruncatedBody,
    /// Only a quarter of the items.
    FewItems,
    /// All prices are too high by a factor of 100.
    WrongUnit,
    /// A gzip body of 80 MiB of spaces.
    Bomb,
}

impl PriceFault {
    /// All faults, by their names.
    pub(crate) const ALL: [(&'static str, Self); 13] = [
        ("none", Self::None),
        ("unannounced-gzip", Self::UnannouncedGzip),
        ("brotli", Self::Brotli),
        ("byte-order-mark", Self::ByteOrderMark),
        ("too-many-requests", Self::TooManyRequests { retry_after_s: 90 }),
        ("redirect", Self::Redirect),
        ("xml", Self::Xml),
        ("html", Self::Html),
        ("cut-connection", Self::CutConnection),
        ("truncated-body", Self::TruncatedBody),
        ("few-names", Self::FewItems),
        ("wrong-unit", Self::WrongUnit),
        ("bomb", Self::Bomb),
    ];

    /// Returns the fault with this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(known, fault)| (known == name).then_some(fault))
    }
}

/// State shared with the thread of the server.
#[derive(Debug)]
struct ServedFiles {
    items: Vec<PriceItem>,
    fault: PriceFault,
    modified: Option<SystemTime>,
    has_etag: bool,
    /// Request line and headers of each request so far.
    requests: Vec<String>,
}

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct PriceServer {
    address: SocketAddr,
    files: Arc<Mutex<ServedFiles>>,
    is_stopped: Arc<AtomicBool>,
}

/// Response before it is written.
struct PriceResponse {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    /// Number of bytes of the body that are sent; the connection then closes.
    sent: usize,
}

impl PriceServer {
    /// Starts a server on a free port of the loopback address.
    ///
    /// # Errors
    ///
    /// Returns the error of the socket or the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let files = ServedFiles {
            items: default_items(),
            fault: PriceFault::None,
            modified: None,
            has_etag: true,
            requests: Vec::new(),
        };
        let files = Arc::new(Mutex::new(files));
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (served, stopped) = (Arc::clone(&files), Arc::clone(&is_stopped));
        thread::Builder::new().name("price-files".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A client that closes early is not an error of the server.
                drop(stream.and_then(|stream| serve(&stream, &served)));
            }
        })?;
        Ok(Self { address, files, is_stopped })
    }

    /// Returns the address of a file.
    pub(crate) fn url(&self, file: PriceFile) -> String {
        format!("http://{}/{}", self.address, file.kind())
    }

    pub(crate) fn set_fault(&self, fault: PriceFault) {
        lock(&self.files).fault = fault;
    }

    pub(crate) fn set_items(&self, items: Vec<PriceItem>) {
        lock(&self.files).items = items;
    }

    /// Sets the time of `Last-Modified`; `None` for no such header.
    pub(crate) fn set_modified(&self, modified: Option<SystemTime>) {
        lock(&self.files).modified = modified;
    }

    /// Sends no `ETag` from now on.
    pub(crate) fn remove_etag(&self) {
        lock(&self.files).has_etag = false;
    }

    /// Returns the request line and headers of each request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        lock(&self.files).requests.clone()
    }
}

impl Drop for PriceServer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        // Wakes the thread; without it, the thread ends with the process.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_millis(100)));
    }
}

fn lock(files: &Mutex<ServedFiles>) -> MutexGuard<'_, ServedFiles> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: &TcpStream, files: &Mutex<ServedFiles>) -> io::Result<()> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let mut lines = BufReader::new(stream).lines().take(HEADER_LINES_MAX);
    let mut head = String::new();
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        head.push_str(&line);
        head.push('\n');
    }
    let response = {
        let mut files = lock(files);
        files.requests.push(head.clone());
        respond(&head, &files)?
    };
    let PriceResponse { status, headers, body, sent } = response;
    let mut out = stream;
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    )?;
    out.write_all(body.get(..sent).unwrap_or(&body))?;
    out.flush()
}

/// Returns the value of a header of a request.
fn request_header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn empty_response(status: &'static str, headers: String) -> PriceResponse {
    PriceResponse { status, headers, body: Vec::new(), sent: 0 }
}

fn full_response(headers: String, body: Vec<u8>) -> PriceResponse {
    PriceResponse { status: "200 OK", headers, sent: body.len(), body }
}

fn respond(head: &str, files: &ServedFiles) -> io::Result<PriceResponse> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let Some(file) = PriceFile::of_path(path) else {
        return Ok(empty_response("404 Not Found", String::new()));
    };
    let accepts_brotli =
        request_header(head, "Accept-Encoding").is_some_and(|it| it.contains("br"));
    if file == PriceFile::Skinport && !accepts_brotli {
        return Ok(empty_response("406 Not Acceptable", String::new()));
    }
    match files.fault {
        PriceFault::TooManyRequests { retry_after_s } => {
            let headers = format!("Retry-After: {retry_after_s}\r\n");
            return Ok(empty_response("429 Too Many Requests", headers));
        }
        PriceFault::Banned { retry_after_s } => {
            let headers = format!("Retry-After: {retry_after_s}\r\n");
            return Ok(empty_response("418 I'm a teapot", headers));
        }
        PriceFault::Redirect => {
            return Ok(empty_response(
                "301 Moved Permanently",
                "Location: /error.xml\r\n".to_owned(),
            ));
        }
        _ => {}
    }
    let items = match files.fault {
        PriceFault::FewItems => files.items.get(..files.items.len() / 4).unwrap_or_default(),
        _ => &files.items,
    };
    let factor = if files.fault == PriceFault::WrongUnit { 100 } else { 1 };
    let text = file.write(items, factor);
    let etag = files.has_etag.then(|| format!("\"{:08x}\"", crc32c::crc32c(&text)));
    let modified = files.modified.map(httpdate::fmt_http_date);
    let mut headers = "Content-Type: application/json\r\n".to_owned();
    for (name, value) in [("ETag", &etag), ("Last-Modified", &modified)] {
        headers.extend(value.iter().map(|value| format!("{name}: {value}\r\n")));
    }
    let is_same = |name, value: &Option<String>| {
        value.is_some() && request_header(head, name) == value.as_deref()
    };
    let is_confirmed = is_same("If-None-Match", &etag) || is_same("If-Modified-Since", &modified);
    if is_confirmed && files.fault == PriceFault::None {
        return Ok(empty_response("304 Not Modified", headers));
    }
    apply_body_fault(file, headers, text, files.fault)
}

/// Returns the response with this file's text under a fault of the body.
fn apply_body_fault(
    file: PriceFile,
    mut headers: String,
    text: Vec<u8>,
    fault: PriceFault,
) -> io::Result<PriceResponse> {
    const XML: &[u8] =
        b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code></Error>";
    const HTML: &[u8] = b"<!DOCTYPE html><html><title>Just a moment...</title></html>";
    Ok(match fault {
        PriceFault::UnannouncedGzip => full_response(headers, coding::gzip(&text)?),
        PriceFault::Xml => full_response(headers, XML.to_vec()),
        PriceFault::Html => full_response(headers, HTML.to_vec()),
        PriceFault::ByteOrderMark => full_response(headers, [b"\xef\xbb\xbf", &*text].concat()),
        PriceFault::Bomb => {
            headers.push_str("Content-Encoding: gzip\r\n");
            full_response(headers, coding::gzip(&vec![b' '; 80 << 20])?)
        }
        PriceFault::CutConnection => {
            PriceResponse { sent: text.len() / 2, ..full_response(headers, text) }
        }
        PriceFault::TruncatedBody => {
            full_response(headers, text.get(..text.len() / 2).unwrap_or_default().to_vec())
        }
        PriceFault::Brotli => {
            headers.push_str("Content-Encoding: br\r\n");
            full_response(headers, coding::brotli(&text))
        }
        // This source compresses every response.
        _ if file == PriceFile::Skinport => {
            headers.push_str("Content-Encoding: br\r\n");
            full_response(headers, coding::brotli(&text))
        }
        _ => full_response(headers, text),
    })
}
