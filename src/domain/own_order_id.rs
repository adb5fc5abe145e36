//! Ids that the bot gives to its own orders, for markets that accept one. Pure.
//!
//! An id is derived from the ledger's id and the key of the listing, for which at most one order is
//! ever sent. So it is unique per ledger, can be computed again from what the ledger stores, and
//! contains no secret. It does not contain the order's number, because a power loss may give the
//! number of a lost order to another one. A market that has seen an id refuses it, and states the
//! result of its order.

use std::fmt;

use super::trade::TradeKey;

/// Length of an id, in bytes. The markets accept at least 36.
pub const OWN_ORDER_ID_BYTES: usize = LEDGER_BYTES + 1 + KEY_BYTES;

/// Hexadecimal digits of the ledger's id that are used: 64 bits.
const LEDGER_BYTES: usize = 16;
/// Hexadecimal digits of the hash of a key.
const KEY_BYTES: usize = 16;

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
    /// Creates the ids of the orders of one ledger. `ledger` is its random hexadecimal id.
    pub fn new(ledger: &str) -> Self {
        let mut digits = [b'0'; LEDGER_BYTES];
        let hexadecimal = ledger.bytes().filter(u8::is_ascii_hexdigit);
        for (digit, byte) in digits.iter_mut().zip(hexadecimal) {
            *digit = byte.to_ascii_lowercase();
        }
        Self { ledger: digits }
    }

    /// Returns the own id of the order for this listing.
    pub fn id(&self, key: &TradeKey) -> OwnOrderId {
        let mut bytes = [b'-'; OWN_ORDER_ID_BYTES];
        for (place, digit) in bytes.iter_mut().zip(self.ledger) {
            *place = digit;
        }
        let mut rest = hash(key);
        for place in bytes.iter_mut().rev().take(KEY_BYTES) {
            let digit = usize::try_from(rest & 0xf).unwrap_or_default();
            *place = HEX.get(digit).copied().unwrap_or(b'0');
            rest >>= 4;
        }
        OwnOrderId(bytes)
    }
}

/// Returns the hash of a key: FNV-1a of the id and the price, mixed by the finalizer of
/// `MurmurHash3`. It must never change, because it identifies orders of earlier runs.
fn hash(key: &TradeKey) -> u64 {
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = key.id.as_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, add);
    if let Some(price) = key.price {
        // No id contains this byte, so it separates the id from the price.
        hash = price.thousandths().to_le_bytes().iter().fold(add(hash, &0xff), add);
    }
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
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
    use crate::domain::{
        money::Amount,
        trade::{KeyedBy, TradeId},
    };

    fn key(id: &str, price: i64) -> TradeKey {
        KeyedBy::IdAndPrice.key(TradeId::new(id).unwrap(), Some(Amount::from_thousandths(price)))
    }

    /// The ids of orders of earlier versions must stay the same.
    #[test]
    fn an_id_consists_of_the_ledger_and_the_key() {
        let ids = OwnOrderIds::new("00FFee11223344556677889900aabbcc");
        assert_eq!(ids.id(&key("7", 10_157)).as_str(), "00ffee1122334455-8d3eaf57c5c542aa");
        assert_eq!(ids.id(&key("7", 10_158)).as_str(), "00ffee1122334455-eb1d34140f387d50");
        let by_id = TradeKey { price: None, ..key("7", 0) };
        assert_eq!(ids.id(&by_id).as_str(), "00ffee1122334455-cf48ffa9f52ba797");
        assert_eq!(OwnOrderIds::new("").id(&by_id).as_str(), "0000000000000000-cf48ffa9f52ba797");
    }

    proptest! {
        #[test]
        fn ids_of_different_orders_or_ledgers_differ(
            ledgers: (u64, u64),
            ids in ("[!#-~]{1,62}", "[!#-~]{1,62}"),
            prices: (u32, u32),
        ) {
            prop_assume!(!ids.0.contains('\\') && !ids.1.contains('\\'));
            let keys = (key(&ids.0, prices.0.into()), key(&ids.1, prices.1.into()));
            let id = |ledger: u64, key: &TradeKey| OwnOrderIds::new(&format!("{ledger:016x}")).id(key);
            prop_assert_ne!(id(ledgers.0, &keys.0) == id(ledgers.1, &keys.0), ledgers.0 != ledgers.1);
            let is_same = ids.0 == ids.1 && prices.0 == prices.1;
            prop_assert_eq!(id(ledgers.0, &keys.0) == id(ledgers.0, &keys.1), is_same);
            let one_price = key(&ids.0, prices.1.into());
            prop_assert_eq!(id(ledgers.0, &keys.0) == id(ledgers.0, &one_price), prices.0 == prices.1);
        }
    }
}
