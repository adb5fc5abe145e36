//! Ids that the bot gives to its own orders, for markets that accept one. Pure.
//!
//! An id is made of the random bits of the start that approved the order, and of the order's number
//! in that run. The bits are durable before the first order of their start, so no id is used twice,
//! not even by two copies of one ledger, and it contains no secret. Bits and number are recorded,
//! because a power loss may give the number of a lost order to another one.
//!
//! Earlier versions derived the id from the ledger's id and the key of the listing. Their orders
//! are still looked up by it.

use std::fmt;

use super::trade::TradeKey;

/// Maximum length of an id, in bytes. The markets accept at least 36.
const OWN_ORDER_ID_BYTES_MAX: usize = START_DIGITS + NUMBER_DIGITS;
/// Number of different order numbers that an id can contain, from 0.
pub const ORDER_NUMBERS: u32 = 36_u32.pow(4);

/// Hexadecimal digits of the random bits of a start.
const START_DIGITS: usize = 32;
/// Digits of the number, to the base of 36. Their count is fixed, so that no id contains another.
const NUMBER_DIGITS: usize = 4;
/// Hexadecimal digits of a hash, and of the part of the ledger's id, in a derived id.
const HASH_DIGITS: usize = 16;

/// Length of a derived id.
const DERIVED_BYTES: usize = 2 * HASH_DIGITS + 1;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Own id of an order: lower-case letters, digits and hyphens, so it needs no escaping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnOrderId(
    /// The last three bytes of a derived id are zero.
    [u8; OWN_ORDER_ID_BYTES_MAX],
);

/// Random bits that were drawn at a start, as the digits with which the ids of its orders begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StartId([u8; START_DIGITS]);

impl StartId {
    pub fn from_bits(bits: [u8; 16]) -> Self {
        let mut digits = [b'0'; START_DIGITS];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bits) {
            put::<16>(pair.iter_mut().rev(), byte.into());
        }
        Self(digits)
    }

    /// Parses the id as it is displayed.
    pub fn new(text: &str) -> Option<Self> {
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        let digits = text.as_bytes().try_into().ok()?;
        text.as_bytes().iter().all(is_digit).then_some(Self(digits))
    }

    /// Returns the own id of the order with this number, which must be below [`ORDER_NUMBERS`].
    pub fn order_id(self, number: u32) -> OwnOrderId {
        let mut bytes = [0; OWN_ORDER_ID_BYTES_MAX];
        if let Some((start, places)) = bytes.split_first_chunk_mut() {
            *start = self.0;
            put::<36>(places.iter_mut().rev(), number.into());
        }
        OwnOrderId(bytes)
    }
}

impl fmt::Display for StartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for StartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StartId({self})")
    }
}

/// The own ids of orders that earlier versions sent for one ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DerivedOrderIds {
    ledger: [u8; HASH_DIGITS],
}

impl DerivedOrderIds {
    /// `ledger` is the random hexadecimal id of the ledger.
    pub fn new(ledger: &str) -> Self {
        let mut digits = [b'0'; HASH_DIGITS];
        let hexadecimal = ledger.bytes().filter(u8::is_ascii_hexdigit);
        for (digit, byte) in digits.iter_mut().zip(hexadecimal) {
            *digit = byte.to_ascii_lowercase();
        }
        Self { ledger: digits }
    }

    /// Returns the own id of the order for this listing.
    pub fn id(&self, key: &TradeKey) -> OwnOrderId {
        let mut bytes = [0; OWN_ORDER_ID_BYTES_MAX];
        if let Some((ledger, [separator, places @ .., _, _, _])) = bytes.split_first_chunk_mut() {
            *ledger = self.ledger;
            *separator = b'-';
            put::<16>(places.iter_mut().rev(), hash(key));
        }
        OwnOrderId(bytes)
    }
}

/// Writes digits of a number to the base of `RADIX`, the last one first.
fn put<'a, const RADIX: u64>(places: impl Iterator<Item = &'a mut u8>, number: u64) {
    let mut rest = number;
    for place in places {
        let digit = usize::try_from(rest % RADIX).unwrap_or_default();
        *place = DIGITS.get(digit).copied().unwrap_or(b'0');
        rest /= RADIX;
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
    /// Returns the id in the market's record of a purchase, which is untrusted and may be in upper
    /// case. All texts that no order of this program has become one id.
    pub fn of_record(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let is_possible = matches!(text.len(), DERIVED_BYTES | OWN_ORDER_ID_BYTES_MAX)
            && text.bytes().all(|byte| byte == b'-' || DIGITS.contains(&byte));
        let text = if is_possible { text.as_bytes() } else { &[b'-'; OWN_ORDER_ID_BYTES_MAX] };
        let mut bytes = [0; OWN_ORDER_ID_BYTES_MAX];
        bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        Self(bytes)
    }

    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            [derived @ .., 0, 0, 0] => derived,
            bytes => bytes,
        }
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

    #[test]
    fn an_id_consists_of_the_bits_of_the_start_and_the_number() {
        let start = StartId::new("00112233445566778899aabbccddeeff").unwrap();
        assert_eq!(start.order_id(1).as_str(), "00112233445566778899aabbccddeeff0001");
        let last = start.order_id(ORDER_NUMBERS - 1);
        assert_eq!(last.as_str(), "00112233445566778899aabbccddeeffzzzz");
        assert_eq!(StartId::new("00112233"), None);
        assert_eq!(StartId::new(&"g".repeat(32)), None);
    }

    /// The ids of orders of earlier versions must stay the same.
    #[test]
    fn a_derived_id_consists_of_the_ledger_and_the_key() {
        let ids = DerivedOrderIds::new("00FFee11223344556677889900aabbcc");
        assert_eq!(ids.id(&key("7", 10_157)).as_str(), "00ffee1122334455-8d3eaf57c5c542aa");
        assert_eq!(ids.id(&key("7", 10_158)).as_str(), "00ffee1122334455-eb1d34140f387d50");
        let by_id = TradeKey { price: None, ..key("7", 0) };
        assert_eq!(ids.id(&by_id).as_str(), "00ffee1122334455-cf48ffa9f52ba797");
        let derived = ids.id(&by_id);
        assert_eq!(OwnOrderId::of_record(derived.as_str()), derived);
        assert_eq!(
            DerivedOrderIds::new("").id(&by_id).as_str(),
            "0000000000000000-cf48ffa9f52ba797"
        );
    }

    proptest! {
        #[test]
        fn ids_of_different_orders_or_starts_differ(
            starts: (u128, u128),
            numbers in (0..ORDER_NUMBERS, 0..ORDER_NUMBERS),
        ) {
            let ids = [(starts.0, numbers.0), (starts.1, numbers.1), (starts.0, numbers.1)];
            let start = |bits: u128| StartId::from_bits(bits.to_be_bytes());
            let [first, second, third] = ids.map(|(bits, number)| start(bits).order_id(number));
            prop_assert_eq!(first == second, starts.0 == starts.1 && numbers.0 == numbers.1);
            prop_assert_eq!(first == third, numbers.0 == numbers.1);
            prop_assert_eq!(second == third, starts.0 == starts.1);
            prop_assert_eq!(first.as_str().len(), 36);
            prop_assert_eq!(StartId::new(&start(starts.0).to_string()), Some(start(starts.0)));
            prop_assert_eq!(start(starts.0).to_string(), format!("{:032x}", starts.0));
            prop_assert_eq!(OwnOrderId::of_record(first.as_str()), first);
            prop_assert_eq!(OwnOrderId::of_record(&first.as_str().to_uppercase()), first);
        }

        #[test]
        fn no_text_of_a_record_becomes_the_id_of_an_order_with_another_text(
            text in "\\PC{0,40}|[0-9a-fA-F]{15,33}[-0-9a-z]?[0-9a-zA-Z]{3,20}",
        ) {
            let own_id = OwnOrderId::of_record(&text);
            let text = text.to_ascii_lowercase();
            prop_assert!(own_id.as_str() == text || own_id == OwnOrderId::of_record(""));
            prop_assert!(OwnOrderId::of_record("").as_str().bytes().all(|byte| byte == b'-'));
        }

        #[test]
        fn derived_ids_of_different_orders_or_ledgers_differ(
            ledgers: (u64, u64),
            ids in ("[!#-~]{1,62}", "[!#-~]{1,62}"),
            prices: (u32, u32),
        ) {
            prop_assume!(!ids.0.contains('\\') && !ids.1.contains('\\'));
            let keys = (key(&ids.0, prices.0.into()), key(&ids.1, prices.1.into()));
            let id = |ledger: u64, key: &TradeKey| DerivedOrderIds::new(&format!("{ledger:016x}")).id(key);
            prop_assert_ne!(id(ledgers.0, &keys.0) == id(ledgers.1, &keys.0), ledgers.0 != ledgers.1);
            let is_same = ids.0 == ids.1 && prices.0 == prices.1;
            prop_assert_eq!(id(ledgers.0, &keys.0) == id(ledgers.0, &keys.1), is_same);
            let one_price = key(&ids.0, prices.1.into());
            prop_assert_eq!(id(ledgers.0, &keys.0) == id(ledgers.0, &one_price), prices.0 == prices.1);
        }
    }
}
