//! A lower bound for any client: two blocking sockets, without parsing and checks. It finds
//! matching listings by a search for the item's name, and inserts the id into a prepared request.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
};

use memchr::memmem;
use sniper::markets::csgoroll::operations;

use crate::{
    frames::WANTED,
    run::{Client, Environment, Running},
};

/// The bare client, with a blocking or a spinning read.
pub(crate) struct Bare {
    pub(crate) spins: bool,
}

impl Client for Bare {
    fn name(&self) -> &'static str {
        if self.spins { "bare, spinning" } else { "bare, blocking" }
    }

    fn start(&self, env: &Environment) -> Running {
        let connect = |address| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        let (mut feed, mut http) = (connect(env.ws), connect(env.http));
        subscribe(&mut feed, env);
        let (feed_end, http_end) = (feed.try_clone().unwrap(), http.try_clone().unwrap());
        let mut answers = http.try_clone().unwrap();
        let drain = thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            while answers.read(&mut chunk).is_ok_and(|count| count > 0) {}
        });
        let request = Request::new(env);
        feed.set_nonblocking(self.spins).unwrap();
        let watch = thread::spawn(move || watch(&mut feed, &mut http, &request));
        Running::new(move || {
            for stream in [feed_end, http_end] {
                // The connection may be closed already.
                drop(stream.shutdown(Shutdown::Both));
            }
            watch.join().unwrap();
            drain.join().unwrap();
            Vec::new()
        })
    }
}

fn subscribe(feed: &mut TcpStream, env: &Environment) {
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n",
        env.ws
    );
    feed.write_all(upgrade.as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        feed.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    send_text(feed, r#"{"type":"connection_init"}"#);
    let mut acknowledged = [0; 2];
    feed.read_exact(&mut acknowledged).unwrap();
    feed.read_exact(&mut vec![0; usize::from(acknowledged[1])]).unwrap();
    send_text(
        feed,
        r#"{"id":"1","type":"subscribe","payload":{"query":"subscription { createTrades { trades { id } } }"}}"#,
    );
}

/// Writes one short message with a mask of zeros.
fn send_text(feed: &mut TcpStream, text: &str) {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126);
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    feed.write_all(&frame).unwrap();
}

/// An order that is complete except for the id.
struct Request {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Request {
    fn new(env: &Environment) -> Self {
        let (before_id, after_id) = (operations::ORDER_BEFORE_ID, operations::ORDER_AFTER_ID);
        let length = before_id.len() + "VHJhZGU6NTAwMDAwMDAw".len() + after_id.len();
        let before = format!(
            "POST /graphql HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nCookie: session=bench\r\nContent-Length: {length}\r\n\r\n{before_id}",
            env.http
        );
        Self { before: before.into_bytes(), after: after_id.as_bytes().to_vec() }
    }
}

fn watch(feed: &mut TcpStream, http: &mut TcpStream, request: &Request) {
    let name = format!(r#""marketName":"{WANTED}""#);
    let name = memmem::Finder::new(name.as_bytes());
    let id = memmem::FinderRev::new(br#"{"id":"VHJhZGU6"#);
    let mut buffer = vec![0; 1024 * 1024];
    let mut out = Vec::with_capacity(2_048);
    let (mut start, mut end) = (0, 0);
    loop {
        match feed.read(&mut buffer[end..]) {
            Ok(0) => return,
            Ok(count) => end += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::hint::spin_loop();
                continue;
            }
            Err(_gone) => return,
        }
        while let Some(text) = next_text(&buffer[start..end]) {
            let text = start + text.start..start + text.end;
            start = text.end;
            let text = &buffer[text];
            for at in name.find_iter(text) {
                let Some(at) = id.rfind(&text[..at]).map(|at| at + r#"{"id":""#.len()) else {
                    continue;
                };
                out.clear();
                out.extend_from_slice(&request.before);
                out.extend_from_slice(&text[at..at + 20]);
                out.extend_from_slice(&request.after);
                if http.write_all(&out).is_err() {
                    return;
                }
            }
        }
        buffer.copy_within(start..end, 0);
        (start, end) = (0, end - start);
    }
}

/// Returns the range of the first frame's text, or `None` while the frame is incomplete.
fn next_text(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let (start, length) = match bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => {
            let length = u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
            (10, usize::try_from(length).ok()?)
        }
        short => (2, usize::from(*short)),
    };
    (bytes.len() >= start + length).then_some(start..start + length)
}
