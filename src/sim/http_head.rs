//! Bounded reading of HTTP request heads.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
pub(super) const BODY_BYTES_MAX: usize = 256 * 1024;
const HEADERS_MAX: usize = 64;
/// Maximum time from the first byte of a request to its last.
pub(super) const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// The fields of a request head that the simulator uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestHead {
    /// Length of the head in bytes.
    pub(super) bytes: usize,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) cookie: Option<String>,
    /// Set for an upgrade to WebSocket.
    pub(super) is_upgrade: bool,
    /// `Content-Length`.
    pub(super) body_bytes: usize,
    /// Set for a chunked body, which the simulator does not support.
    pub(super) is_chunked: bool,
    /// Set if the client requests that the connection closes after the response.
    pub(super) closes: bool,
}

/// Reads a whole request head. Returns `None` if the client closed the connection before the first
/// byte, or took too long.
///
/// # Errors
///
/// Returns an error if the connection fails or the head is malformed or too long.
///
/// # Cancel safety
///
/// Cancel safe: bytes already read stay in the buffer.
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
            return Err(invalid("request head too long"));
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

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Parses the head at the start of the bytes. Returns `None` while it is incomplete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<RequestHead>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_malformed) => return Err(invalid("malformed request head")),
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
                head.body_bytes =
                    value.parse().map_err(|_not_a_number| invalid("invalid Content-Length"))?;
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
