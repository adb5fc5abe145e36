//! A listing's id. Pure.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

/// The longest listing id that is accepted, in bytes. Recorded ones have 20.
pub const TRADE_ID_BYTES_MAX: usize = 62;

/// A listing's id: opaque, and the only key to tell listings apart.
///
/// Held inline, so that it can be copied without allocating.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TradeId {
    len: u8,
    bytes: [u8; TRADE_ID_BYTES_MAX],
}

impl TradeId {
    /// No listing's id: what stands where there is none yet.
    pub(crate) const FILLER: Self = Self { len: 0, bytes: [0; TRADE_ID_BYTES_MAX] };

    /// Takes an id over if it is one to four dozen plain characters: ASCII, printable, and without
    /// quotes, backslashes or spaces, so that it can stand in a JSON string as it is.
    pub fn new(text: &str) -> Option<Self> {
        // Looks at every byte without stopping at the first wrong one: several at a time.
        let odd = |byte: u8| !byte.is_ascii_graphic() | (byte == b'"') | (byte == b'\\');
        if text.is_empty() || text.bytes().fold(false, |any, byte| any | odd(byte)) {
            return None;
        }
        let len = u8::try_from(text.len()).ok()?;
        let mut bytes = [0; TRADE_ID_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { len, bytes })
    }

    /// The id as the marketplace writes it.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

/// Only what is there, and not the room for more: a third of the work.
impl Hash for TradeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As a text is: what follows cannot be mistaken for a part of it.
        state.write(self.bytes.get(..usize::from(self.len)).unwrap_or_default());
        state.write_u8(0xff);
    }
}

impl fmt::Debug for TradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TradeId({self})")
    }
}

impl fmt::Display for TradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
