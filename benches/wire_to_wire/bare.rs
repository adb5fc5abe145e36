//! A lower bound for any client: two blocking sockets, without parsing and checks. It finds
//! matching listings by a search for the item's name, and inserts the id into a prepared request.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
};

use memchr::memmem;
use sniper::{config::Market as MarketName, markets::csgoroll::operations};

use crate::{
    frames::WANTED,
    run::{Client, Environment, Running},
    wire,
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
    let protocol = match env.market {
        MarketName::Csgoroll => "Sec-WebSocket-Protocol: graphql-transport-ws\r\n",
        MarketName::LisSkins | MarketName::Waxpeer => "",
    };
    let upgrade = format!(
        "GET /{} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n",
        wire::feed_path(env.market),
        env.ws
    );
    feed.write_all(upgrade.as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        feed.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    match env.market {
        MarketName::Csgoroll => send_text(feed, r#"{"type":"connection_init"}"#),
        MarketName::LisSkins => {
            send_text(feed, r#"{"id":1,"connect":{"token":"a"}}"#);
            send_text(feed, r#"{"id":2,"subscribe":{"channel":"public:obtained-skins"}}"#);
            return send_text(feed, r#"{"id":3,"subscribe":{"channel":"private:a"}}"#);
        }
        MarketName::Waxpeer => {
            send_text(feed, "40");
            return send_text(feed, r#"42["sub",{"name":"csgo"}]"#);
        }
    }
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
    /// Text by which a matching listing is found.
    name: String,
    /// Text before its id.
    id_mark: &'static str,
    /// Offset of the id in that text, and its length.
    id_from: usize,
    id_bytes: usize,
}

impl Request {
    fn new(env: &Environment) -> Self {
        if env.market != MarketName::Csgoroll {
            return Self::of_listing(env);
        }
        let (before_id, after_id) = (operations::ORDER_BEFORE_ID, operations::ORDER_AFTER_ID);
        let length = before_id.len() + "VHJhZGU6NTAwMDAwMDAw".len() + after_id.len();
        let before = format!(
            "POST /graphql HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nCookie: session=bench\r\nContent-Length: {length}\r\n\r\n{before_id}",
            env.http
        );
        Self {
            before: before.into_bytes(),
            after: after_id.as_bytes().to_vec(),
            name: format!(r#""marketName":"{WANTED}""#),
            id_mark: r#"{"id":"VHJhZGU6"#,
            id_from: r#"{"id":""#.len(),
            id_bytes: 20,
        }
    }

    /// Creates the order of a market other than CSGORoll.
    fn of_listing(env: &Environment) -> Self {
        let id = wire::first_number(env.market).to_string();
        let (before, after, id_mark) = if env.market == MarketName::Waxpeer {
            let before = "GET /v1/buy-one-p2p?item_id=".to_owned();
            let after = format!(
                "&price=10000&partner=123456789&token=AbCdEf12&project_id=o-1&api=key-of-the-bench HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\r\n",
                env.http
            );
            (before, after, r#"{"item_id":""#)
        } else {
            let start = r#"{"ids":["#;
            let after = r#"],"partner":"123456789","token":"AbCdEf12","max_price":10.00,"custom_id":"o-1","skip_unavailable":false}"#;
            let length = start.len() + id.len() + after.len();
            let before = format!(
                "POST /v1/market/buy HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAuthorization: Bearer key-of-the-bench\r\nContent-Length: {length}\r\n\r\n{start}",
                env.http
            );
            (before, after.to_owned(), r#"{"id":"#)
        };
        Self {
            before: before.into_bytes(),
            after: after.into_bytes(),
            name: format!(r#""name":"{WANTED}""#),
            id_mark,
            id_from: id_mark.len(),
            id_bytes: id.len(),
        }
    }
}

fn watch(feed: &mut TcpStream, http: &mut TcpStream, request: &Request) {
    let name = memmem::Finder::new(request.name.as_bytes());
    let id = memmem::FinderRev::new(request.id_mark.as_bytes());
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
                let Some(at) = id.rfind(&text[..at]).map(|at| at + request.id_from) else {
                    continue;
                };
                out.clear();
                out.extend_from_slice(&request.before);
                out.extend_from_slice(&text[at..at + request.id_bytes]);
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
