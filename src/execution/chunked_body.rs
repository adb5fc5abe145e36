//! Decodes a chunked body (RFC 9112, section 7.1) from pieces of any size.
//!
//! Pure and bounded. Extensions and trailers are skipped.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::{
    response::ResponseError,
    response_reader::{BODY_BYTES_MAX, HEAD_BYTES_MAX},
};

/// Maximum length of a chunk header line, extensions included.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Maximum bytes of chunk headers and trailers, so that a flood of tiny chunks with long extensions
/// ends.
const OVERHEAD_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

#[derive(Clone, Debug, Default)]
pub(super) struct ChunkDecoder {
    state: State,
    overhead: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Inside a chunk header line.
    Line(ChunkLine),
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

impl Default for State {
    fn default() -> Self {
        Self::Line(ChunkLine::default())
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct ChunkLine {
    taken: usize,
    size: usize,
    part: ChunkPart,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkPart {
    #[default]
    NoDigitYet,
    Digits,
    Extension,
    Return,
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
            self.state = next(self.state, *byte, body.len())?;
        }
    }
}

/// Advances by one byte that is not part of the body.
fn next(state: State, byte: u8, body_bytes: usize) -> Result<State, ResponseError> {
    match state {
        State::Line(line) => line.next(byte, body_bytes),
        State::DataEnd { return_seen } => match (return_seen, byte) {
            (false, b'\r') => Ok(State::DataEnd { return_seen: true }),
            (_, b'\n') => Ok(State::default()),
            _ => Err(ResponseError::Malformed),
        },
        State::Trailer { taken, .. } if taken >= HEAD_BYTES_MAX => Err(ResponseError::TooLong),
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
        State::Data(_) | State::Done => Ok(state),
    }
}

impl ChunkLine {
    fn next(self, byte: u8, body_bytes: usize) -> Result<State, ResponseError> {
        if self.taken >= CHUNK_LINE_BYTES_MAX {
            return Err(ResponseError::TooLong);
        }
        let line = Self { taken: self.taken.saturating_add(1), ..self };
        let part = match (self.part, byte) {
            (ChunkPart::NoDigitYet, b'\n' | b'\r') => return Err(ResponseError::Malformed),
            (ChunkPart::Digits | ChunkPart::Extension | ChunkPart::Return, b'\n') => {
                return line.finish(body_bytes);
            }
            (ChunkPart::Return, _) => return Err(ResponseError::Malformed),
            (_, b'\r') => ChunkPart::Return,
            (ChunkPart::Extension, _) | (ChunkPart::Digits, b';' | b' ' | b'\t') => {
                ChunkPart::Extension
            }
            (ChunkPart::NoDigitYet | ChunkPart::Digits, digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(ResponseError::Malformed)?;
                let digit = usize::try_from(digit).map_err(|_too_big| ResponseError::Malformed)?;
                let size = self.size.saturating_mul(16).saturating_add(digit);
                return Ok(State::Line(Self { size, part: ChunkPart::Digits, ..line }));
            }
        };
        Ok(State::Line(Self { part, ..line }))
    }

    const fn finish(self, body_bytes: usize) -> Result<State, ResponseError> {
        if self.size == 0 {
            return Ok(State::Trailer { taken: 0, line: 0, return_seen: false });
        }
        if self.size > BODY_BYTES_MAX.saturating_sub(body_bytes) {
            return Err(ResponseError::TooLong);
        }
        Ok(State::Data(self.size))
    }
}
