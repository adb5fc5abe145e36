//! Cost of the WebSocket reader: messages of a burst, decoded from bytes in memory.

use std::{
    hint::black_box,
    io::{self, Read, Write},
};

use sniper::{
    config::Generation,
    ws::frames::{FrameDecoder, WsMessage},
};
use tokio_tungstenite::tungstenite::{Message, WebSocket, protocol::Role};

use crate::{frames::frame, measure::Times, ns};

/// Messages of a burst.
const MESSAGES: usize = 200;

/// Bytes of a burst. Writes are discarded.
struct Burst<'a>(&'a [u8]);

impl Read for Burst<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Burst<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the frames of a burst, each with one listing.
fn burst() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..MESSAGES {
        let text = frame(Generation::B, u64::try_from(number).unwrap(), 1_450);
        bytes.extend([0x81, 126]);
        bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// Decodes a burst in the bot's way: all messages of a read before the memory is released.
fn decode(decoder: &mut FrameDecoder, mut bytes: &[u8]) -> usize {
    let mut texts = 0;
    loop {
        while let Some(message) = decoder.advance().unwrap() {
            if let WsMessage::Text(text) = decoder.message(&message).unwrap() {
                texts += usize::from(!black_box(text).is_empty());
            }
        }
        decoder.release();
        if bytes.is_empty() {
            return texts;
        }
        let count = bytes.read(decoder.space()).unwrap();
        decoder.filled(count);
    }
}

fn decode_with_tungstenite(socket: &mut WebSocket<Burst<'_>>) -> usize {
    let mut texts = 0;
    while let Ok(message) = socket.read() {
        if let Message::Text(text) = message {
            texts += usize::from(!black_box(text).is_empty());
        }
    }
    texts
}

/// Measures both readers in turn.
pub(crate) fn run(rounds: usize, out: &mut impl Write) -> io::Result<()> {
    let bytes = burst();
    let mut decoder = FrameDecoder::default();
    let mut socket = WebSocket::from_raw_socket(Burst(&[]), Role::Client, None);
    let ours = Times::of(rounds, MESSAGES, || {
        assert_eq!(decode(&mut decoder, &bytes), MESSAGES);
    });
    let theirs = Times::of(rounds, MESSAGES, || {
        socket.get_mut().0 = &bytes;
        assert_eq!(decode_with_tungstenite(&mut socket), MESSAGES);
    });
    writeln!(out, "ns per message of a burst of {MESSAGES}, median of {rounds} rounds (fastest)")?;
    for (name, times) in [("own reader", ours), ("tungstenite", theirs)] {
        let (median, fastest) = (ns(times.percentile(50)), ns(times.percentile(0)));
        writeln!(out, "{name:<12} {median:>8} ({fastest})")?;
    }
    Ok(())
}
