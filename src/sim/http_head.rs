//! The head of an HTTP request, read off a connection within bounds.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest head of a request, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The longest body of a request, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 256 * 1024;
/// How many headers a request may have.
const HEADERS_MAX: usize = 64;
/// How long a request may take from its first byte to its last.
pub(super) const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// The head of a request, as far as the market looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestHead {
    /// How long it is, in bytes.
    pub(super) bytes: usize,
    /// The method.
    pub(super) method: String,
    /// The path.
    pub(super) path: String,
    /// The `Cookie` header.
    pub(super) cookie: Option<String>,
    /// Whether a WebSocket is wanted.
    pub(super) is_upgrade: bool,
    /// How long the body is, in bytes.
    pub(super) body_bytes: usize,
    /// Whether the body comes in chunks, which the market does not read.
    pub(super) is_chunked: bool,
    /// Whether the client wants the connection to end after the answer.
    pub(super) closes: bool,
}

/// Reads until a whole head is there. `None`: the client left, or took too long, before it was.
///
/// # Errors
///
/// An error of the connection, or a head that is none.
///
/// # Cancel safety
///
/// Safe: what was read stays in the buffer.
pub(super) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    idle: Duration,
) -> io::Result<Option<RequestHead>> {
    let mut until = tokio::time::Instant::now() + idle;
    loop {
        if let Some(head) = parse_head(buffer)? {
            return Ok(Some(head));
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(bad("a head that is too long"));
        }
        let was_empty = buffer.is_empty();
        match tokio::time::timeout_at(until, stream.read_buf(buffer)).await {
            Err(_elapsed) => return Ok(None),
            Ok(Ok(0)) if was_empty => return Ok(None),
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) if was_empty => until = tokio::time::Instant::now() + REQUEST_TIME_MAX,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The head that the bytes begin with; `None` while it is not whole.
fn parse_head(bytes: &[u8]) -> io::Result<Option<RequestHead>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_malformed) => return Err(bad("a head that is none")),
    };
    let mut head = RequestHead {
        bytes: length,
        method: request.method.unwrap_or_default().to_owned(),
        path: request.path.unwrap_or_default().to_owned(),
        closes: request.version == Some(0),
        ..RequestHead::default()
    };
    for header in request.headers.iter() {
        let value = str::from_utf8(header.value).unwrap_or_default().trim();
        match &*header.name.to_ascii_lowercase() {
            "content-length" => {
                head.body_bytes = value.parse().map_err(|_not_a_number| bad("a bad length"))?;
            }
            "transfer-encoding" => head.is_chunked = true,
            "connection" => head.closes |= value.eq_ignore_ascii_case("close"),
            "upgrade" => head.is_upgrade = value.eq_ignore_ascii_case("websocket"),
            "cookie" => head.cookie = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(Some(head))
}
