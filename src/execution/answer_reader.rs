//! Reads one HTTP/1.x answer from whatever pieces it arrives in.
//!
//! Pure: bytes are fed in, an answer comes out. The same bytes give the same answer however they
//! are cut. Everything has a bound, and each byte is looked at a bounded number of times, so a
//! server that dribbles or floods costs memory and time in proportion to what it sends at most.
//! When the answer must be here, and what it means, is for others to say.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::Duration;

use super::{
    answer::{HttpResponse, ResponseError},
    chunked_body::ChunkDecoder,
};
use crate::http_head::ResponseHead;

/// The longest head that is read, and the longest trailer section.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The most headers that are read.
pub const HEADERS_MAX: usize = 128;

/// The longest body that is kept.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// How many interim answers (1xx) may come before the real one.
pub const INTERIM_ANSWERS_MAX: u32 = 8;

/// One answer, as it comes in.
#[derive(Clone, Debug, Default)]
pub struct ResponseReader {
    state: State,
    head_bytes: Vec<u8>,
    head: Option<ResponseHead>,
    body: Vec<u8>,
    interim: u32,
    keep_alive: KeepAlive,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Head,
    /// This many bytes of the body are missing.
    Counted(usize),
    Chunked(ChunkDecoder),
    UntilClosed,
    Done,
    Failed(ResponseError),
}

/// What an answer says about the life of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// Another request may follow on it.
    pub reusable: bool,
    /// For how long the server says that it keeps it while idle.
    pub idle: Option<Duration>,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadProgress {
    /// All bytes were taken, more are needed.
    More,
    /// The answer is complete. So many of the bytes belong to it; any others were not asked for.
    Done {
        /// How many bytes were taken.
        taken: usize,
    },
}

impl ResponseReader {
    /// Waits for an answer's first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the head said, once it has come.
    pub const fn head(&self) -> Option<ResponseHead> {
        self.head
    }

    /// What the answer says about its connection; meaningful once it is complete.
    pub const fn keep_alive(&self) -> KeepAlive {
        self.keep_alive
    }

    /// Takes the next bytes of the connection.
    ///
    /// # Errors
    ///
    /// [`ResponseError::Malformed`] or [`ResponseError::TooLong`]. The reader stays broken.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<ReadProgress, ResponseError> {
        let step = self.take(bytes);
        if let Err(why) = step {
            self.state = State::Failed(why);
        }
        step
    }

    fn take(&mut self, bytes: &[u8]) -> Result<ReadProgress, ResponseError> {
        let mut rest = bytes;
        loop {
            match &mut self.state {
                State::Failed(why) => return Err(*why),
                State::Done => {
                    return Ok(ReadProgress::Done {
                        taken: bytes.len().saturating_sub(rest.len()),
                    });
                }
                _ if rest.is_empty() => return Ok(ReadProgress::More),
                State::Head => rest = self.take_head(rest)?,
                State::Counted(missing) => {
                    let (now, later) = rest.split_at_checked(*missing).unwrap_or((rest, &[]));
                    self.body.extend_from_slice(now);
                    *missing = missing.saturating_sub(now.len());
                    rest = later;
                    if *missing == 0 {
                        self.state = State::Done;
                    }
                }
                State::Chunked(chunks) => {
                    let (later, done) = chunks.take(rest, &mut self.body)?;
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

    /// The connection has ended properly. Completes an answer whose length only its end can tell.
    ///
    /// # Errors
    ///
    /// [`ResponseError::Cut`] if the answer is not complete.
    pub fn end(&mut self) -> Result<(), ResponseError> {
        match self.state {
            State::UntilClosed | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(why) => Err(why),
            State::Head | State::Counted(_) | State::Chunked(_) => {
                self.state = State::Failed(ResponseError::Cut);
                Err(ResponseError::Cut)
            }
        }
    }

    /// The answer, if it is complete. The reader is then ready for another.
    pub fn take_response(&mut self) -> Option<HttpResponse> {
        if !matches!(self.state, State::Done) {
            return None;
        }
        let done = std::mem::take(self);
        Some(HttpResponse { head: done.head?, body: done.body })
    }

    /// Collects the head up to its empty line, then reads it at once: a head that dribbles in is
    /// not read over and over.
    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], ResponseError> {
        for (at, byte) in bytes.iter().enumerate() {
            if self.head_bytes.len() == HEAD_BYTES_MAX {
                return Err(ResponseError::TooLong);
            }
            self.head_bytes.push(*byte);
            let head_is_whole = *byte == b'\n'
                && (self.head_bytes.ends_with(b"\n\r\n") || self.head_bytes.ends_with(b"\n\n"));
            if head_is_whole {
                self.read_head()?;
                return Ok(bytes.get(at.saturating_add(1)..).unwrap_or_default());
            }
        }
        Ok(&[])
    }

    fn read_head(&mut self) -> Result<(), ResponseError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
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
            // Nobody asked for another protocol.
            if status == 101 || self.interim > INTERIM_ANSWERS_MAX {
                return Err(ResponseError::Malformed);
            }
            self.head_bytes.clear();
            return Ok(());
        }
        let framing = Framing::read(parsed.headers)?;
        let headers = parsed.headers.iter().map(|header| (header.name, header.value));
        self.head = Some(ResponseHead::read(status, headers));
        let (state, delimited) = framing.body(status)?;
        self.state = state;
        self.keep_alive =
            KeepAlive { reusable: delimited && framing.keeps_alive(version), idle: framing.idle };
        self.head_bytes = Vec::new();
        Ok(())
    }
}

/// The headers that say how the answer and its connection end.
#[derive(Default)]
struct Framing {
    length: Option<usize>,
    chunked: bool,
    close: bool,
    keep: bool,
    idle: Option<Duration>,
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
                // We offered no other coding; whoever uses one does not answer us.
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
            } else if is("keep-alive") {
                framing.idle = text.and_then(idle_timeout).or(framing.idle);
            }
        }
        Ok(framing)
    }

    /// How the body ends, and whether it says so itself.
    fn body(&self, status: u16) -> Result<(State, bool), ResponseError> {
        if matches!(status, 204 | 304) {
            return Ok((State::Done, true));
        }
        match (self.chunked, self.length) {
            // Two lengths: the chunks count, and the connection is not to be trusted further.
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
    // More digits than a number can hold are a body that nobody can want.
    Ok(text.parse().unwrap_or(usize::MAX))
}

/// `timeout=5, max=100`
fn idle_timeout(text: &str) -> Option<Duration> {
    let timeout = text.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    timeout.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
