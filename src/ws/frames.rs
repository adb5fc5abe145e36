//! Frame decoder: the reading half of RFC 6455 for a client. Pure.
//!
//! Messages are parsed in place. The bytes of the socket go into one buffer, and a text that
//! arrived in one frame is returned as a slice of it, without a copy. Frames are written by
//! tungstenite.
//!
//! # Invariants
//!
//! 1. Each message is returned exactly as the server wrote it, once and in order.
//! 2. A text is UTF-8, a message is at most [`MESSAGE_BYTES_MAX`] long. The memory is one buffer,
//!    which grows only for an incomplete message that does not fit, and the messages that were
//!    reassembled from it since the last release.
//! 3. A protocol violation is reported with its kind; nothing is read after it.

use std::ops::Range;

use super::error::ProtocolViolation;

/// Maximum size of a message in bytes. Listings take 1.5 kB.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Maximum bytes per read from the socket.
pub const READ_BYTES: usize = 64 * 1024;

/// Initial size of the buffer, a multiple of a read: it holds messages that are not handled yet,
/// such as those of a whole inventory, and an incomplete frame is rarely moved to its start.
const BUFFER_BYTES: usize = 32 * READ_BYTES;
/// Initial content of the buffer. Not zero: the system provides zeroed pages only on the first
/// write, and that page fault would happen during a read.
const FILL: u8 = 1;
/// Maximum payload of a control frame.
const CONTROL_BYTES_MAX: u64 = 125;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WsMessage<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// Close with a code and a reason, if there are any.
    Close(Option<(u16, &'a str)>),
}

/// A violation of RFC 6455 by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ProtocolError {
    pub violation: ProtocolViolation,
    pub what: &'static str,
}

const fn protocol(what: &'static str) -> ProtocolError {
    ProtocolError { violation: ProtocolViolation::Protocol, what }
}

const TOO_BIG: ProtocolError =
    ProtocolError { violation: ProtocolViolation::TooBig, what: "message over the limit of 1 MiB" };
const NOT_UTF8: ProtocolError =
    ProtocolError { violation: ProtocolViolation::NotUtf8, what: "text is not UTF-8" };

/// Frame type, RFC 6455 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn of(byte: u8) -> Result<Self, ProtocolError> {
        match byte & 0x0F {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xA => Ok(Self::Pong),
            _ => Err(protocol("unknown opcode")),
        }
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

#[derive(Clone, Copy, Debug)]
struct FrameHead {
    opcode: Opcode,
    is_final: bool,
    /// Length of the head in bytes.
    len: usize,
    /// Length of the payload in bytes.
    payload_len: usize,
}

impl FrameHead {
    /// Parses a head. Returns `None` if it is incomplete.
    fn read(bytes: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(protocol("reserved bit set"));
        }
        if second & 0x80 != 0 {
            return Err(protocol("masked frame"));
        }
        let (opcode, is_final) = (Opcode::of(first)?, first & 0x80 != 0);
        let (len, payload_len) = match second {
            126 => match rest.first_chunk() {
                Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            short => (2, u64::from(short)),
        };
        if opcode.is_control() && (!is_final || CONTROL_BYTES_MAX < payload_len) {
            return Err(protocol("control frame fragmented or too long"));
        }
        match usize::try_from(payload_len) {
            Ok(payload_len) if payload_len <= MESSAGE_BYTES_MAX => {
                Ok(Some(Self { opcode, is_final, len, payload_len }))
            }
            _ => Err(TOO_BIG),
        }
    }
}

/// A complete message inside a decoder, until the next [`FrameDecoder::release`].
#[derive(Clone, Debug)]
pub struct DecodedMessage {
    opcode: Opcode,
    range: MessageRange,
}

#[derive(Clone, Debug)]
enum MessageRange {
    /// In the buffer, in one frame.
    Buffer(Range<usize>),
    /// In `fragments`, reassembled.
    Fragments(Range<usize>),
}

/// Decodes messages from a stream of bytes.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Length of the frame at `start`, head included, once it is known.
    frame: Option<usize>,
    /// Opcode of a message with missing fragments, and its start in `fragments`.
    fragmented: Option<(Opcode, usize)>,
    /// Reassembled messages.
    fragments: Vec<u8>,
    /// Start of the first message since the last release; its bytes must stay.
    kept: Option<usize>,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self {
            buffer: vec![FILL; BUFFER_BYTES],
            start: 0,
            end: 0,
            frame: None,
            fragmented: None,
            fragments: Vec::new(),
            kept: None,
        }
    }
}

impl FrameDecoder {
    /// Creates a decoder with bytes that were read already.
    pub fn with_bytes(bytes: &[u8]) -> Self {
        let mut decoder = Self::default();
        let missing = bytes.len().saturating_sub(decoder.buffer.len());
        decoder.grow(missing);
        if let Some(place) = decoder.buffer.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
            decoder.end = bytes.len();
        }
        decoder
    }

    /// Returns the space for the next read, at most [`READ_BYTES`]. It is empty if the messages
    /// since the last [`release`](Self::release) fill the buffer.
    pub fn space(&mut self) -> &mut [u8] {
        if self.kept.is_none() {
            self.make_space();
        }
        let end = self.end.saturating_add(READ_BYTES).min(self.buffer.len());
        self.buffer.get_mut(self.end..end).unwrap_or_default()
    }

    /// Moves an incomplete frame to the start of the buffer if there is not enough space behind it,
    /// and an incomplete message to the start of `fragments`.
    fn make_space(&mut self) {
        let incomplete = self.fragmented.as_mut().map(|(_, start)| std::mem::take(start));
        self.fragments.drain(..incomplete.unwrap_or(self.fragments.len()));
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.shrink();
        }
        let needed = self.frame.unwrap_or(0).max(READ_BYTES);
        if self.buffer.len().saturating_sub(self.start) < needed {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end.saturating_sub(self.start));
            self.grow(needed.saturating_sub(self.buffer.len()));
        }
        if self.end == self.buffer.len() {
            self.grow(READ_BYTES);
        }
    }

    /// Reports the number of bytes written to [`space`](Self::space).
    pub fn filled(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.buffer.len());
    }

    /// Returns the next message, or `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// Returns a [`ProtocolError`], after which the connection must be closed and the decoder not
    /// be used again.
    #[inline]
    pub fn advance(&mut self) -> Result<Option<DecodedMessage>, ProtocolError> {
        let start = self.start;
        let message = self.next_message()?;
        if message.is_some() {
            self.kept.get_or_insert(start);
        }
        Ok(message)
    }

    /// Releases the memory of all messages so far.
    pub const fn release(&mut self) {
        self.kept = None;
    }

    /// Returns the payload of a message.
    #[inline]
    pub fn payload(&self, message: &DecodedMessage) -> &[u8] {
        match &message.range {
            MessageRange::Buffer(range) => self.buffer.get(range.clone()).unwrap_or_default(),
            MessageRange::Fragments(range) => self.fragments.get(range.clone()).unwrap_or_default(),
        }
    }

    /// Returns the payload of a text message, which may not be UTF-8.
    #[inline]
    pub fn unchecked_text(&self, message: &DecodedMessage) -> Option<&[u8]> {
        (message.opcode == Opcode::Text).then(|| self.payload(message))
    }

    /// Returns a message with its payload.
    ///
    /// # Errors
    ///
    /// Returns a [`ProtocolError`] for a text that is not UTF-8 or an invalid close.
    #[inline]
    pub fn message(&self, message: &DecodedMessage) -> Result<WsMessage<'_>, ProtocolError> {
        let payload = self.payload(message);
        Ok(match message.opcode {
            Opcode::Text | Opcode::Continuation => WsMessage::Text(text(payload)?),
            Opcode::Binary => WsMessage::Binary(payload),
            Opcode::Ping => WsMessage::Ping(payload),
            Opcode::Pong => WsMessage::Pong,
            Opcode::Close => WsMessage::Close(close(payload)?),
        })
    }

    /// Consumes frames until a message is complete.
    #[inline]
    fn next_message(&mut self) -> Result<Option<DecodedMessage>, ProtocolError> {
        let in_buffer =
            |opcode, payload| Some(DecodedMessage { opcode, range: MessageRange::Buffer(payload) });
        while let Some((head, payload)) = self.next_frame()? {
            match (head.opcode, self.fragmented) {
                (opcode, _) if opcode.is_control() => {
                    return Ok(in_buffer(opcode, payload));
                }
                (Opcode::Continuation, None) => {
                    return Err(protocol("continuation without a message"));
                }
                (Opcode::Continuation, Some((opcode, start))) => {
                    self.append_fragment(payload, start)?;
                    if head.is_final {
                        self.fragmented = None;
                        let range = MessageRange::Fragments(start..self.fragments.len());
                        return Ok(Some(DecodedMessage { opcode, range }));
                    }
                }
                (_, Some(_)) => return Err(protocol("new message inside a fragmented one")),
                (opcode, None) if head.is_final => {
                    return Ok(in_buffer(opcode, payload));
                }
                (opcode, None) => {
                    let start = self.fragments.len();
                    self.fragmented = Some((opcode, start));
                    self.append_fragment(payload, start)?;
                }
            }
        }
        Ok(None)
    }

    /// Consumes one frame. Returns its head and the range of its payload.
    #[inline]
    fn next_frame(&mut self) -> Result<Option<(FrameHead, Range<usize>)>, ProtocolError> {
        let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(head) = FrameHead::read(bytes)? else { return Ok(None) };
        let len = head.len.saturating_add(head.payload_len);
        if bytes.len() < len {
            self.frame = Some(len);
            return Ok(None);
        }
        self.frame = None;
        let end = self.start.saturating_add(len);
        let payload = self.start.saturating_add(head.len)..end;
        self.start = end;
        Ok(Some((head, payload)))
    }

    /// Appends a fragment of the message at `start`.
    fn append_fragment(
        &mut self,
        payload: Range<usize>,
        start: usize,
    ) -> Result<(), ProtocolError> {
        let payload = self.buffer.get(payload).unwrap_or_default();
        let len = self.fragments.len().saturating_sub(start).saturating_add(payload.len());
        if MESSAGE_BYTES_MAX < len {
            return Err(TOO_BIG);
        }
        self.fragments.extend_from_slice(payload);
        Ok(())
    }

    fn grow(&mut self, by: usize) {
        self.buffer.resize(self.buffer.len().saturating_add(by), 0);
    }

    /// Releases memory that a long message needed.
    fn shrink(&mut self) {
        if BUFFER_BYTES < self.buffer.len() {
            self.buffer.truncate(BUFFER_BYTES);
            self.buffer.shrink_to_fit();
        }
        if self.fragmented.is_none() && BUFFER_BYTES < self.fragments.capacity() {
            self.fragments = Vec::new();
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, ProtocolError> {
    str::from_utf8(bytes).map_err(|_invalid| NOT_UTF8)
}

/// Parses a close frame, RFC 6455 5.5.1 and 7.4.
fn close(payload: &[u8]) -> Result<Option<(u16, &str)>, ProtocolError> {
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            match code {
                1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(Some((code, text(reason)?))),
                _ => Err(protocol("reserved close code")),
            }
        }
        [_] => Err(protocol("truncated close code")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::{
        self, WebSocket,
        error::{CapacityError, ProtocolError},
        protocol::{Role, WebSocketConfig},
    };

    use super::*;

    /// Encodes a frame, valid or not.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match u16::try_from(payload.len()) {
            Ok(len @ 0..126) => bytes.push(u8::try_from(len).unwrap()),
            Ok(len) => {
                bytes.push(126);
                bytes.extend(len.to_be_bytes());
            }
            Err(_) => {
                bytes.push(127);
                bytes.extend(u64::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        bytes.extend(payload);
        bytes
    }

    /// Encodes a text in frames of at most `size` bytes.
    fn fragmented(text: &str, size: usize) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        let last = parts.pop().unwrap_or_default();
        let (first, end) = if parts.is_empty() { (0x81, 0x81) } else { (0x01, 0x80) };
        let opening = |place: usize| if place == 0 { first } else { 0x00 };
        let parts = parts.iter().enumerate().flat_map(|(place, part)| frame(opening(place), part));
        parts.chain(frame(end, last)).collect()
    }

    /// Decoded messages and the violation that ended them, if any.
    #[derive(Debug, PartialEq, Eq)]
    struct Decoded {
        messages: Vec<String>,
        violation: Option<ProtocolViolation>,
    }

    /// Decodes the bytes in reads of `step` bytes.
    fn decode(bytes: &[u8], step: usize) -> Decoded {
        let mut decoder = FrameDecoder::default();
        let mut decoded = Decoded { messages: Vec::new(), violation: None };
        let mut rest = bytes;
        loop {
            decoder.release();
            let next = decoder.advance();
            let next = next.and_then(|next| next.map(|next| decoder.message(&next)).transpose());
            match next {
                Ok(Some(message)) => {
                    decoded.messages.push(format!("{message:?}"));
                    if matches!(message, WsMessage::Close(_)) {
                        return decoded;
                    }
                }
                Ok(None) if rest.is_empty() => return decoded,
                Ok(None) => {
                    let space = decoder.space();
                    assert!(!space.is_empty() && space.len() <= READ_BYTES);
                    let count = space.len().min(step).min(rest.len());
                    space[..count].copy_from_slice(&rest[..count]);
                    decoder.filled(count);
                    rest = &rest[count..];
                }
                Err(violation) => {
                    decoded.violation = Some(violation.violation);
                    return decoded;
                }
            }
        }
    }

    #[track_caller]
    fn check(bytes: &[u8], messages: &[WsMessage<'_>], violation: Option<ProtocolViolation>) {
        let messages = messages.iter().map(|message| format!("{message:?}")).collect();
        let expected = Decoded { messages, violation };
        for step in [1, 2, 3, 7, 1_000, usize::MAX] {
            assert_eq!(decode(bytes, step), expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn messages_are_decoded_for_any_read_size() {
        let long = "x".repeat(70_000);
        let bytes = [
            frame(0x81, b"short"),
            frame(0x81, long.as_bytes()),
            frame(0x89, b"are you there"),
            frame(0x8A, b""),
            frame(0x82, &[0xFF; 300]),
            frame(0x81, b""),
            frame(0x88, b"\x03\xE8bye"),
        ];
        let messages = [
            WsMessage::Text("short"),
            WsMessage::Text(&long),
            WsMessage::Ping(b"are you there"),
            WsMessage::Pong,
            WsMessage::Binary(&[0xFF; 300]),
            WsMessage::Text(""),
            WsMessage::Close(Some((1_000, "bye"))),
        ];
        check(&bytes.concat(), &messages, None);
    }

    #[test]
    fn fragments_are_reassembled_across_control_frames() {
        let bytes = [
            frame(0x01, "gr".as_bytes()),
            frame(0x00, &"ü".as_bytes()[..1]),
            frame(0x89, b"!"),
            frame(0x00, &"ü".as_bytes()[1..]),
            frame(0x80, "ße".as_bytes()),
            frame(0x81, b"next"),
        ];
        let messages = [WsMessage::Ping(b"!"), WsMessage::Text("grüße"), WsMessage::Text("next")];
        check(&bytes.concat(), &messages, None);
    }

    #[test]
    fn each_protocol_violation_is_detected() {
        let check_violation = |violation, bytes: &[u8]| check(bytes, &[], Some(violation));
        check_violation(ProtocolViolation::Protocol, &frame(0xC1, b"{}"));
        check_violation(ProtocolViolation::Protocol, &frame(0x83, b"{}"));
        check_violation(ProtocolViolation::Protocol, &frame(0x8B, b""));
        check_violation(ProtocolViolation::Protocol, &frame(0x80, b"of nothing"));
        check_violation(ProtocolViolation::Protocol, &frame(0x09, b"a ping in fragments"));
        check_violation(ProtocolViolation::Protocol, &frame(0x89, &[b'x'; 126]));
        check_violation(ProtocolViolation::Protocol, &[0x81, 0x82, 0, 0, 0, 0, b'{', b'}']);
        check_violation(
            ProtocolViolation::Protocol,
            &[frame(0x01, b"a"), frame(0x81, b"b")].concat(),
        );
        check_violation(ProtocolViolation::Protocol, &frame(0x88, &[3]));
        for code in [0_u16, 999, 1_004, 1_005, 1_006, 1_015, 1_016, 2_999, 5_000] {
            check_violation(ProtocolViolation::Protocol, &frame(0x88, &code.to_be_bytes()));
        }
        check_violation(ProtocolViolation::NotUtf8, &frame(0x81, &[b'"', 0xFF, b'"']));
        check_violation(ProtocolViolation::NotUtf8, &frame(0x88, &[3, 0xE8, 0xFF]));
        check_violation(
            ProtocolViolation::TooBig,
            &[0x81, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        );
        let half = vec![b' '; MESSAGE_BYTES_MAX / 2 + 1];
        let halves = [frame(0x01, &half), frame(0x80, &half)].concat();
        let decoded = Decoded { messages: Vec::new(), violation: Some(ProtocolViolation::TooBig) };
        assert_eq!(decode(&halves, usize::MAX), decoded);
    }

    #[test]
    fn a_message_of_maximum_size_is_read_and_its_memory_released() {
        let text = vec![b' '; MESSAGE_BYTES_MAX];
        let bytes = [frame(0x81, &text), frame(0x81, &text), frame(0x81, b"next")].concat();
        let mut decoder = FrameDecoder::with_bytes(&bytes);
        assert!(BUFFER_BYTES < decoder.buffer.len());
        let _first = decoder.advance().unwrap().unwrap();
        let long = decoder.advance().unwrap().unwrap();
        let next = decoder.advance().unwrap().unwrap();
        let long = decoder.message(&long).unwrap();
        assert_eq!(long, WsMessage::Text(str::from_utf8(&text).unwrap()));
        assert_eq!(decoder.message(&next).unwrap(), WsMessage::Text("next"));
        assert!(decoder.advance().unwrap().is_none());
        decoder.release();
        decoder.space();
        assert_eq!(decoder.buffer.capacity(), BUFFER_BYTES);
        let claimed = [&[0x81, 127][..], &1_000_000_u64.to_be_bytes()].concat();
        let mut decoder = FrameDecoder::with_bytes(&claimed);
        assert!(decoder.advance().unwrap().is_none());
        decoder.space();
        assert_eq!(decoder.buffer.len(), BUFFER_BYTES);
    }

    #[test]
    fn messages_stay_until_they_are_released() {
        let mut decoder = FrameDecoder::default();
        let mut kept = Vec::new();
        for number in 0.. {
            let bytes = frame(0x81, number.to_string().repeat(500).as_bytes());
            let space = decoder.space();
            if space.len() < bytes.len() {
                break;
            }
            space[..bytes.len()].copy_from_slice(&bytes);
            decoder.filled(bytes.len());
            kept.push(decoder.advance().unwrap().unwrap());
        }
        assert!(kept.len() > 100, "{}", kept.len());
        for (number, message) in kept.iter().enumerate() {
            assert_eq!(decoder.payload(message), number.to_string().repeat(500).as_bytes());
        }
        decoder.release();
        assert_eq!(decoder.space().len(), READ_BYTES);
    }

    /// Each read ends inside a message.
    #[test]
    fn reassembled_messages_are_released() {
        let mut decoder = FrameDecoder::default();
        let [start, end] = [0x01, 0x80].map(|first| frame(first, &[b'x'; 1_000]));
        let next = [frame(0x89, b"ping"), end, start.clone()].concat();
        for bytes in std::iter::once(&start).chain(std::iter::repeat_n(&next, 1_000)) {
            decoder.space()[..bytes.len()].copy_from_slice(bytes);
            decoder.filled(bytes.len());
            while let Some(message) = decoder.advance().unwrap() {
                let len = decoder.payload(&message).len();
                assert!([4, 2_000].contains(&len), "{len}");
            }
            decoder.release();
            assert!(decoder.fragments.len() <= 3_000, "{}", decoder.fragments.len());
        }
    }

    /// A reader of bytes; writes are discarded.
    struct Wire<'a>(&'a [u8]);

    impl Read for Wire<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.read(buffer)
        }
    }

    impl Write for Wire<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Decodes the same bytes with tungstenite.
    fn decode_with_tungstenite(bytes: &[u8]) -> Decoded {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let mut socket = WebSocket::from_raw_socket(Wire(bytes), Role::Client, Some(config));
        let mut decoded = Decoded { messages: Vec::new(), violation: None };
        loop {
            let message = match socket.read() {
                Ok(tungstenite::Message::Text(text)) => format!("{:?}", WsMessage::Text(&text)),
                Ok(tungstenite::Message::Binary(bytes)) => {
                    format!("{:?}", WsMessage::Binary(&bytes))
                }
                Ok(tungstenite::Message::Ping(bytes)) => format!("{:?}", WsMessage::Ping(&bytes)),
                Ok(tungstenite::Message::Pong(_)) => format!("{:?}", WsMessage::Pong),
                Ok(tungstenite::Message::Close(close)) => {
                    // Tungstenite replaces a reserved code with this reason.
                    if close.as_ref().is_some_and(|it| it.reason.as_str() == "Protocol violation") {
                        decoded.violation = Some(ProtocolViolation::Protocol);
                        return decoded;
                    }
                    let close = close.as_ref().map(|it| (it.code.into(), it.reason.as_str()));
                    decoded.messages.push(format!("{:?}", WsMessage::Close(close)));
                    return decoded;
                }
                Ok(tungstenite::Message::Frame(_)) => unreachable!("only ever written"),
                Err(tungstenite::Error::Io(_)) => return decoded,
                Err(error) => {
                    decoded.violation = Some(match error {
                        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                            ProtocolViolation::TooBig
                        }
                        tungstenite::Error::Utf8(_) => ProtocolViolation::NotUtf8,
                        tungstenite::Error::Protocol(ProtocolError::InvalidCloseSequence | _) => {
                            ProtocolViolation::Protocol
                        }
                        other => panic!("{other}"),
                    });
                    return decoded;
                }
            };
            decoded.messages.push(message);
        }
    }

    /// Mostly valid frames, and random bytes.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            4 => Just(0x81_u8),
            2 => prop::sample::select(vec![0x01, 0x00, 0x80, 0x82, 0x02, 0x89, 0x8A]),
            1 => any::<u8>(),
        ];
        let payload = prop_oneof![
            3 => "\\PC{0,40}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..40),
            1 => (100_usize..400).prop_map(|len| vec![b'x'; len]),
            1 => (1_000_u16..1_014, "[a-z]{0,8}")
                .prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat()),
        ];
        let piece = prop_oneof![
            12 => (first, payload).prop_map(|(first, payload)| frame(first, &payload)),
            1 => prop::collection::vec(any::<u8>(), 0..12),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_decoder_agrees_with_tungstenite(bytes in bytes(), step in 1_usize..200) {
            // 1014 was registered after tungstenite's list was made.
            prop_assume!(!bytes.windows(2).any(|pair| pair == 1_014_u16.to_be_bytes()));
            let (ours, theirs) = (decode(&bytes, step), decode_with_tungstenite(&bytes));
            if theirs.violation == Some(ProtocolViolation::NotUtf8) {
                // Tungstenite checks each fragment; this decoder checks the complete text.
                prop_assert!(ours.messages.starts_with(&theirs.messages), "{ours:?} {theirs:?}");
            } else {
                // This decoder reports a violation in the head before the payload has arrived.
                prop_assert_eq!(&ours.messages, &theirs.messages);
                prop_assert!(ours.violation.is_some() || theirs.violation.is_none(), "{:?}", theirs);
            }
        }

        #[test]
        fn the_read_size_does_not_change_the_result(bytes in bytes(), step in 1_usize..200) {
            prop_assert_eq!(decode(&bytes, step), decode(&bytes, usize::MAX));
        }

        #[test]
        fn texts_stay_until_they_are_released_also_in_fragments(
            texts in prop::collection::vec(("\\PC{0,60}", 1_usize..80), 0..20),
            step in 1_usize..2_000,
            released in 1_usize..10,
        ) {
            let bytes: Vec<u8> =
                texts.iter().flat_map(|(text, size)| fragmented(text, *size)).collect();
            let (mut decoder, mut rest) = (FrameDecoder::default(), &*bytes);
            let (mut held, mut decoded) = (Vec::new(), Vec::new());
            loop {
                let next = decoder.advance().unwrap();
                let is_incomplete = next.is_none();
                held.extend(next);
                if held.len() == released || is_incomplete && rest.is_empty() {
                    let messages = held.drain(..).map(|message| {
                        format!("{:?}", decoder.message(&message).unwrap())
                    });
                    decoded.extend(messages);
                    decoder.release();
                }
                if is_incomplete && rest.is_empty() {
                    break;
                }
                if is_incomplete {
                    let count = step.min(rest.len());
                    decoder.space()[..count].copy_from_slice(&rest[..count]);
                    decoder.filled(count);
                    rest = &rest[count..];
                }
            }
            let texts = texts.iter().map(|(text, _)| format!("{:?}", WsMessage::Text(text)));
            prop_assert_eq!(decoded, texts.collect::<Vec<_>>());
        }

        #[test]
        fn texts_are_decoded_unchanged(
            texts in prop::collection::vec("\\PC{0,60}", 0..20),
            step in 1_usize..5_000,
        ) {
            let bytes: Vec<u8> =
                texts.iter().flat_map(|text| frame(0x81, text.as_bytes())).collect();
            let messages = texts.iter().map(|text| format!("{:?}", WsMessage::Text(text))).collect();
            prop_assert_eq!(decode(&bytes, step), Decoded { messages, violation: None });
        }
    }
}
