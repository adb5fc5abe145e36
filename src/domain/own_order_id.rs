//! Ids that the bot gives to its own orders, for markets that accept one. Pure.
//!
//! An id is derived from the ledger's id and the order's number, so it is unique per ledger, is
//! known again after a restart, and contains no secret. A market that has seen an id refuses it, and
//! reports what became of the order.

use std::fmt;

/// Length of an id, in bytes. The markets accept at least 36.
pub const OWN_ORDER_ID_BYTES: usize = LEDGER_BYTES + 1 + NUMBER_BYTES;

/// Hexadecimal digits of the ledger's id that are used: 64 bits.
const LEDGER_BYTES: usize = 16;
/// Hexadecimal digits of an order's number.
const NUMBER_BYTES: usize = 16;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Own id of an order: lower-case hexadecimal digits and one hyphen, so it needs no escaping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnOrderId([u8; OWN_ORDER_ID_BYTES]);

/// The own ids of one ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnOrderIds {
    ledger: [u8; LEDGER_BYTES],
}

impl OwnOrderIds {
    /// `ledger` is the random hexadecimal id of the ledger.
    pub fn new(ledger: &str) -> Self {
        let mut digits = [b'0'; LEDGER_BYTES];
        let hexadecimal = ledger.bytes().filter(u8::is_ascii_hexdigit);
        for (digit, byte) in digits.iter_mut().zip(hexadecimal) {
            *digit = byte.to_ascii_lowercase();
        }
        Self { ledger: digits }
    }

    /// Returns the own id of the order with this number.
    pub fn id(&self, number: u64) -> OwnOrderId {
        let mut bytes = [b'-'; OWN_ORDER_ID_BYTES];
        for (place, digit) in bytes.iter_mut().zip(self.ledger) {
            *place = digit;
        }
        let mut rest = number;
        for place in bytes.iter_mut().rev().take(NUMBER_BYTES) {
            let digit = usize::try_from(rest & 0xf).unwrap_or_default();
            *place = HEX.get(digit).copied().unwrap_or(b'0');
            rest >>= 4;
        }
        OwnOrderId(bytes)
    }
}

impl OwnOrderId {
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for OwnOrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for OwnOrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnOrderId({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_consists_of_the_ledger_and_the_number() {
        let ids = OwnOrderIds::new("00FFee11223344556677889900aabbcc");
        assert_eq!(ids.id(0).as_str(), "00ffee1122334455-0000000000000000");
        assert_eq!(ids.id(0x1f).as_str(), "00ffee1122334455-000000000000001f");
        assert_eq!(ids.id(u64::MAX).as_str(), "00ffee1122334455-ffffffffffffffff");
        assert_eq!(OwnOrderIds::new("").id(10).as_str(), "0000000000000000-000000000000000a");
    }

    proptest! {
        #[test]
        fn ids_of_different_orders_or_ledgers_differ(ledgers: (u64, u64), numbers: (u64, u64)) {
            let id = |ledger: u64, number| OwnOrderIds::new(&format!("{ledger:016x}")).id(number);
            let is_same = ledgers.0 == ledgers.1 && numbers.0 == numbers.1;
            prop_assert_eq!(id(ledgers.0, numbers.0) == id(ledgers.1, numbers.1), is_same);
            prop_assert_eq!(id(ledgers.0, numbers.0).to_string(), format!("{:016x}-{:016x}", ledgers.0, numbers.0));
        }
    }
}
