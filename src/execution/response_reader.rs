//! Parses one HTTP/1.x response from pieces of any size.
//!
//! Pure: the same bytes give the same response, regardless of how they are split. Everything has a
//! bound, and each byte is examined a bounded number of times, so memory and time are at most
//! proportional to the bytes that a server sends. Deadlines and the meaning of a response are left
//! to the caller.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::Duration;

use super::{chunked_body::ChunkDecoder, response::ResponseError};
use crate::{
    domain::time::UnixMs,
    net::{content_encoding, http_head::ResponseHead, http_message::HttpResponse},
};

/// Maximum length in bytes of the head of an order's response, and of its trailers.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 32 * 1024;

/// Maximum number of headers of an order's response.
pub const RESPONSE_HEADERS_MAX: usize = 128;

/// Maximum length of a body in bytes, before and after it is decompressed.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Maximum number of interim responses (1xx) before the final one.
const RESPONSE_INTERIM_MAX: u32 = 8;

/// Parser of one response.
#[derive(Clone, Debug, Default)]
pub struct ResponseReader {
    state: State,
    head_bytes: Vec<u8>,
    head: Option<ResponseHead>,
    body: Vec<u8>,
    /// Values of `Content-Encoding`, separated by commas.
    codings: String,
    interim: u32,
    keep_alive: KeepAlive,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Head,
    /// Remaining bytes of the body.
    Counted(usize),
    Chunked(ChunkDecoder),
    UntilClosed,
    Done,
    Failed(ResponseError),
}

/// Reuse of a connection, as its response announces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// `true` if another request may follow on the connection.
    pub reusable: bool,
    /// Idle timeout announced by the server.
    pub idle: Option<Duration>,
}

/// Progress of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadProgress {
    /// All bytes were consumed, more are needed.
    More,
    /// The response is complete. Bytes after the first `taken` were not requested.
    Done { taken: usize },
}

impl ResponseReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the head, once it was received.
    pub const fn head(&self) -> Option<ResponseHead> {
        self.head
    }

    /// Returns `true` if a part of a response was received.
    pub const fn has_begun(&self) -> bool {
        self.head.is_some() || !self.head_bytes.is_empty() || 0 < self.interim
    }

    /// Returns whether and how long the connection can be reused. Valid once the response is
    /// complete.
    pub const fn keep_alive(&self) -> KeepAlive {
        self.keep_alive
    }

    /// Parses the next bytes of the connection. `now` is the wall clock.
    ///
    /// # Errors
    ///
    /// Returns [`ResponseError::Malformed`] or [`ResponseError::TooLong`]. Every later call returns
    /// the same error.
    pub fn feed(&mut self, bytes: &[u8], now: UnixMs) -> Result<ReadProgress, ResponseError> {
        let progress = self.advance(bytes, now);
        if let Err(error) = progress {
            self.state = State::Failed(error);
        }
        progress
    }

    fn advance(&mut self, bytes: &[u8], now: UnixMs) -> Result<ReadProgress, ResponseError> {
        let mut rest = bytes;
        loop {
            match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Done => {
                    return Ok(ReadProgress::Done {
                        taken: bytes.len().saturating_sub(rest.len()),
                    });
                }
                _ if rest.is_empty() => return Ok(ReadProgress::More),
                State::Head => rest = self.feed_head(rest, now)?,
                State::Counted(remaining) => {
                    let (now, later) = rest.split_at_checked(*remaining).unwrap_or((rest, &[]));
                    self.body.extend_from_slice(now);
                    *remaining = remaining.saturating_sub(now.len());
                    rest = later;
                    if *remaining == 0 {
                        self.state = State::Done;
                    }
                }
                State::Chunked(chunks) => {
                    let (later, done) = chunks.decode(rest, &mut self.body)?;
                    rest = later;
                    if done {
                        self.state = State::Done;
                    }
                }
                State::UntilClosed => {
                    if BODY_BYTES_MAX.saturating_sub(self.body.len()) < rest.len() {
                        return Err(ResponseError::TooLong);
                    }
                    self.body.extend_from_slice(rest);
                    return Ok(ReadProgress::More);
                }
            }
        }
    }

    /// Handles the proper end of the connection. It completes a response that has no other
    /// delimiter.
    ///
    /// # Errors
    ///
    /// Returns [`ResponseError::Cut`] if the response is not complete.
    pub fn end(&mut self) -> Result<(), ResponseError> {
        match self.state {
            State::UntilClosed | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(error) => Err(error),
            State::Head | State::Counted(_) | State::Chunked(_) => {
                self.state = State::Failed(ResponseError::Cut);
                Err(ResponseError::Cut)
            }
        }
    }

    /// Takes the response, if it is complete, with its body decompressed. A body that cannot be
    /// decompressed stays as received. The parser is then ready for the next one.
    pub fn take_response(&mut self) -> Option<HttpResponse> {
        if !matches!(self.state, State::Done) {
            return None;
        }
        let Self { head, mut body, codings, .. } = std::mem::take(self);
        // Requests accept no coding, so this is rare.
        if !codings.is_empty() {
            body = content_encoding::decode(&codings, body.clone(), BODY_BYTES_MAX).unwrap_or(body);
        }
        Some(HttpResponse { head: head?, body })
    }

    /// Collects the head up to its empty line, then parses it once: a head that arrives byte by
    /// byte is not parsed repeatedly.
    fn feed_head<'a>(&mut self, bytes: &'a [u8], now: UnixMs) -> Result<&'a [u8], ResponseError> {
        for (at, byte) in bytes.iter().enumerate() {
            if self.head_bytes.len() == RESPONSE_HEAD_BYTES_MAX {
                return Err(ResponseError::TooLong);
            }
            self.head_bytes.push(*byte);
            let head_is_whole = *byte == b'\n'
                && (self.head_bytes.ends_with(b"\n\r\n") || self.head_bytes.ends_with(b"\n\n"));
            if head_is_whole {
                self.read_head(now)?;
                return Ok(bytes.get(at.saturating_add(1)..).unwrap_or_default());
            }
        }
        Ok(&[])
    }

    fn read_head(&mut self, now: UnixMs) -> Result<(), ResponseError> {
        let mut headers = [httparse::EMPTY_HEADER; RESPONSE_HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut headers);
        let complete = match parsed.parse(&self.head_bytes) {
            Ok(httparse::Status::Complete(length)) => length == self.head_bytes.len(),
            Ok(httparse::Status::Partial) => false,
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooLong),
            Err(_not_http) => false,
        };
        let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
            return Err(ResponseError::Malformed);
        };
        if !complete {
            return Err(ResponseError::Malformed);
        }
        if (100..200).contains(&status) {
            self.interim = self.interim.saturating_add(1);
            // No protocol switch was requested.
            if status == 101 || self.interim > RESPONSE_INTERIM_MAX {
                return Err(ResponseError::Malformed);
            }
            self.head_bytes.clear();
            return Ok(());
        }
        let framing = Framing::read(parsed.headers)?;
        let headers = parsed.headers.iter().map(|header| (header.name, header.value));
        self.head = Some(ResponseHead::parse_at(status, headers, now));
        let (state, delimited) = framing.body(status)?;
        self.state = state;
        self.keep_alive =
            KeepAlive { reusable: delimited && framing.keeps_alive(version), idle: framing.idle };
        self.codings = framing.codings;
        self.head_bytes = Vec::new();
        Ok(())
    }
}

/// Headers that delimit the response and its connection.
#[derive(Default)]
struct Framing {
    length: Option<usize>,
    chunked: bool,
    close: bool,
    keep: bool,
    idle: Option<Duration>,
    codings: String,
}

impl Framing {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Self, ResponseError> {
        let mut framing = Self::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let text = str::from_utf8(header.value).map(str::trim).ok();
            if is("content-length") {
                let length = content_length(text.ok_or(ResponseError::Malformed)?)?;
                if framing.length.is_some_and(|before| before != length) {
                    return Err(ResponseError::Malformed);
                }
                framing.length = Some(length);
            } else if is("transfer-encoding") {
                // Requests offer no other coding.
                let is_chunked = text.is_some_and(|text| text.eq_ignore_ascii_case("chunked"));
                if !is_chunked || framing.chunked {
                    return Err(ResponseError::Malformed);
                }
                framing.chunked = true;
            } else if is("connection") {
                for token in text.unwrap_or("close").split(',').map(str::trim) {
                    framing.close |= token.eq_ignore_ascii_case("close");
                    framing.keep |= token.eq_ignore_ascii_case("keep-alive");
                }
            } else if is("content-encoding") {
                framing.codings.push_str(text.unwrap_or("?"));
                framing.codings.push(',');
            } else if is("keep-alive") {
                framing.idle = text.and_then(idle_timeout).or(framing.idle);
            }
        }
        Ok(framing)
    }

    /// Returns the delimiter of the body, and `true` if it is not the end of the connection.
    fn body(&self, status: u16) -> Result<(State, bool), ResponseError> {
        if matches!(status, 204 | 304) {
            return Ok((State::Done, true));
        }
        match (self.chunked, self.length) {
            // With both lengths, the chunks count, and the connection is not reused.
            (true, length) => Ok((State::Chunked(ChunkDecoder::default()), length.is_none())),
            (false, Some(0)) => Ok((State::Done, true)),
            (false, Some(length)) if length > BODY_BYTES_MAX => Err(ResponseError::TooLong),
            (false, Some(length)) => Ok((State::Counted(length), true)),
            (false, None) => Ok((State::UntilClosed, false)),
        }
    }

    const fn keeps_alive(&self, version: u8) -> bool {
        !self.close && (version == 1 || self.keep)
    }
}

fn content_length(text: &str) -> Result<usize, ResponseError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    if !digits {
        return Err(ResponseError::Malformed);
    }
    // Numbers out of range are treated as too long.
    Ok(text.parse().unwrap_or(usize::MAX))
}

/// Parses `timeout=5, max=100`.
fn idle_timeout(text: &str) -> Option<Duration> {
    let timeout = text.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    timeout.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
