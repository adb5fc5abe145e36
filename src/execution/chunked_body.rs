//! Decodes a chunked body (RFC 9112, section 7.1) from pieces of any size.
//!
//! Pure and bounded. Extensions and trailers are skipped.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::{
    response::ResponseError,
    response_reader::{BODY_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX},
};

/// Maximum length of a chunk header line, extensions included.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Maximum bytes of chunk headers and trailers. It ends a flood of tiny chunks with long
/// extensions.
const OVERHEAD_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

#[derive(Clone, Debug, Default)]
pub(super) struct ChunkDecoder {
    state: State,
    /// Chunk header line so far.
    line: Vec<u8>,
    overhead: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Inside a chunk header line.
    #[default]
    Line,
    /// Remaining bytes of the chunk.
    Data(usize),
    /// Inside the line end after a chunk.
    DataEnd {
        return_seen: bool,
    },
    /// After the last chunk.
    Trailer {
        /// Bytes of trailers so far.
        taken: usize,
        /// Bytes of this line so far, its end not counted.
        line: usize,
        return_seen: bool,
    },
    Done,
}

impl ChunkDecoder {
    /// Decodes bytes and appends the body to `body`. Returns the unused bytes, and `true` if the
    /// body is complete.
    pub(super) fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        body: &mut Vec<u8>,
    ) -> Result<(&'a [u8], bool), ResponseError> {
        let mut rest = bytes;
        loop {
            if matches!(self.state, State::Done) {
                return Ok((rest, true));
            }
            if let State::Data(missing) = &mut self.state {
                let (now, later) = rest.split_at_checked(*missing).unwrap_or((rest, &[]));
                body.extend_from_slice(now);
                *missing = missing.saturating_sub(now.len());
                rest = later;
                if *missing > 0 {
                    return Ok((rest, false));
                }
                self.state = State::DataEnd { return_seen: false };
            }
            let Some((byte, later)) = rest.split_first() else { return Ok((rest, false)) };
            rest = later;
            self.overhead = self.overhead.saturating_add(1);
            if self.overhead > OVERHEAD_BYTES_MAX {
                return Err(ResponseError::TooLong);
            }
            self.state = self.next(*byte, body.len())?;
        }
    }

    /// Advances by one byte that is not part of the body.
    fn next(&mut self, byte: u8, body_bytes: usize) -> Result<State, ResponseError> {
        match self.state {
            State::Line if byte == b'\n' => match self.chunk_size()? {
                0 => Ok(State::Trailer { taken: 0, line: 0, return_seen: false }),
                size if size > BODY_BYTES_MAX.saturating_sub(body_bytes) => {
                    Err(ResponseError::TooLong)
                }
                size => Ok(State::Data(size)),
            },
            State::Line if self.line.len() >= CHUNK_LINE_BYTES_MAX => Err(ResponseError::TooLong),
            State::Line if self.line.ends_with(b"\r") => Err(ResponseError::Malformed),
            State::Line => {
                self.line.push(byte);
                Ok(State::Line)
            }
            State::DataEnd { return_seen } => match (return_seen, byte) {
                (false, b'\r') => Ok(State::DataEnd { return_seen: true }),
                (_, b'\n') => Ok(State::Line),
                _ => Err(ResponseError::Malformed),
            },
            State::Trailer { taken, .. } if taken >= RESPONSE_HEAD_BYTES_MAX => {
                Err(ResponseError::TooLong)
            }
            State::Trailer { taken, line, return_seen } => {
                let taken = taken.saturating_add(1);
                match byte {
                    b'\n' if line == 0 => Ok(State::Done),
                    b'\n' => Ok(State::Trailer { taken, line: 0, return_seen: false }),
                    _ if return_seen => Err(ResponseError::Malformed),
                    b'\r' => Ok(State::Trailer { taken, line, return_seen: true }),
                    _ => Ok(State::Trailer { taken, line: line.saturating_add(1), return_seen }),
                }
            }
            State::Data(_) | State::Done => Ok(self.state),
        }
    }

    /// Parses the chunk header line, without its newline.
    fn chunk_size(&mut self) -> Result<usize, ResponseError> {
        // httparse takes a missing size for zero, and requires a carriage return before the
        // newline.
        let has_size = self.line.first().is_some_and(u8::is_ascii_hexdigit);
        let end: &[u8] = if self.line.ends_with(b"\r") { b"\n" } else { b"\r\n" };
        self.line.extend_from_slice(end);
        let parsed = httparse::parse_chunk_size(&self.line);
        self.line.clear();
        match parsed {
            Ok(httparse::Status::Complete((_, size))) if has_size => {
                usize::try_from(size).map_err(|_too_large| ResponseError::TooLong)
            }
            _ => Err(ResponseError::Malformed),
        }
    }
}
