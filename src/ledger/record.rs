//! Encoding of an event as a record of 128 bytes.
//!
//! Pure. Little-endian, fixed layout, versioned, with a checksum over all other bytes:
//!
//! | bytes | content |
//! |---|---|
//! | 0–3 | CRC-32C of the rest |
//! | 4 | version of this layout, 3 |
//! | 5, 6, 7 | kind of event; its code; length of the text |
//! | 8–15 | position in the journal, from 1 |
//! | 16–23 | time, in Unix milliseconds |
//! | 24–27 | number of the intent |
//! | 28–31, 126–127 | the machine's uptime in milliseconds, 48 bits; all ones: unknown |
//! | 32–39, 40–47 | two amounts in thousandths, or moments |
//! | 48–51, 52–55 | whitelist entry; limits |
//! | 56–63 | one more number |
//! | 64–125 | text: a listing's id, or an operator's name |
//!
//! Version 2 has amounts in hundredths. So has version 1, which has no uptime either: the number of
//! the intent takes bytes 24 to 31, and the last two are zero. All versions are read, and a file may
//! contain several.
//!
//! # Invariants
//!
//! 1. Decoding an encoded record returns the same record.
//! 2. A record with a changed bit, or at another position than its own, does not decode as the
//!    record of that position.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod codes;

use crc32c::crc32c;

use super::event::LedgerEvent;
use crate::domain::time::UnixMs;

/// Length of a record in bytes. Divides every page and sector size, so no record straddles two.
pub const RECORD_BYTES: usize = 128;

/// Layout that is written. A new one requires a new version of the database, so that an older
/// program does not open the ledger.
pub const LAYOUT: u8 = 3;
/// Layout with amounts in hundredths.
const LAYOUT_2: u8 = 2;
/// Layout of 0.1.0.
const LAYOUT_1: u8 = 1;
/// Encodes an unknown uptime; the largest value of the field.
const NO_UPTIME: u64 = (1 << 48) - 1;
const TEXT_BYTES: usize = 62;

/// Event with its time and position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the journal: 1, 2, 3, …
    pub position: u64,
    /// Time of the event, by the clock of the run that wrote it.
    pub at: UnixMs,
    /// Uptime of the machine at that time, suspends included.
    pub uptime_ms: Option<u64>,
    pub event: LedgerEvent,
}

/// Fields of a record that encode its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RecordFields {
    layout: u8,
    kind: u8,
    code: u8,
    sequence: u64,
    first: i64,
    second: i64,
    entry: u32,
    limits: u32,
    number: u64,
    text_len: u8,
    text: [u8; TEXT_BYTES],
}

impl Default for RecordFields {
    fn default() -> Self {
        Self {
            layout: LAYOUT,
            kind: 0,
            code: 0,
            sequence: 0,
            first: 0,
            second: 0,
            entry: 0,
            limits: 0,
            number: 0,
            text_len: 0,
            text: [0; TEXT_BYTES],
        }
    }
}

impl Record {
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let fields = codes::fields(&self.event);
        let mut bytes = [0; RECORD_BYTES];
        put(&mut bytes, 4, &[LAYOUT, fields.kind, fields.code, fields.text_len]);
        put(&mut bytes, 8, &self.position.to_le_bytes());
        put(&mut bytes, 16, &self.at.0.to_le_bytes());
        // A ledger contains at most a million intents.
        let sequence = u32::try_from(fields.sequence).unwrap_or(u32::MAX);
        put(&mut bytes, 24, &sequence.to_le_bytes());
        let uptime = self.uptime_ms.unwrap_or(NO_UPTIME).min(NO_UPTIME).to_le_bytes();
        put(&mut bytes, 28, uptime.get(..4).unwrap_or_default());
        put(&mut bytes, 126, uptime.get(4..6).unwrap_or_default());
        put(&mut bytes, 32, &fields.first.to_le_bytes());
        put(&mut bytes, 40, &fields.second.to_le_bytes());
        put(&mut bytes, 48, &fields.entry.to_le_bytes());
        put(&mut bytes, 52, &fields.limits.to_le_bytes());
        put(&mut bytes, 56, &fields.number.to_le_bytes());
        put(&mut bytes, 64, &fields.text);
        let crc = crc32c(bytes.get(4..).unwrap_or_default());
        put(&mut bytes, 0, &crc.to_le_bytes());
        bytes
    }

    /// Returns the layout of the bytes. Returns `None` if their checksum is wrong.
    pub fn layout_of(bytes: &[u8; RECORD_BYTES]) -> Option<u8> {
        let crc = u32::from_le_bytes(take(bytes, 0)?);
        (crc == crc32c(bytes.get(4..)?)).then_some(bytes.get(4).copied()?)
    }

    /// Decodes a record. Returns `None` if this program did not write the bytes.
    pub fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let layout = Self::layout_of(bytes)?;
        let [kind, code, text_len] = take(bytes, 5)?;
        let (sequence, uptime) = match layout {
            LAYOUT_1 => (u64::from_le_bytes(take(bytes, 24)?), NO_UPTIME),
            LAYOUT_2 | LAYOUT => {
                let ([a, b, c, d], [e, f]) = (take(bytes, 28)?, take(bytes, 126)?);
                let uptime = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
                (u64::from(u32::from_le_bytes(take(bytes, 24)?)), uptime)
            }
            _ => return None,
        };
        let fields = RecordFields {
            layout,
            kind,
            code,
            text_len,
            sequence,
            first: i64::from_le_bytes(take(bytes, 32)?),
            second: i64::from_le_bytes(take(bytes, 40)?),
            entry: u32::from_le_bytes(take(bytes, 48)?),
            limits: u32::from_le_bytes(take(bytes, 52)?),
            number: u64::from_le_bytes(take(bytes, 56)?),
            text: take(bytes, 64)?,
        };
        Some(Self {
            position: u64::from_le_bytes(take(bytes, 8)?),
            at: UnixMs(i64::from_le_bytes(take(bytes, 16)?)),
            uptime_ms: Some(uptime).filter(|uptime| *uptime != NO_UPTIME),
            event: codes::event(&fields)?,
        })
    }
}

/// Writes a value at a constant offset inside the record.
fn put(bytes: &mut [u8; RECORD_BYTES], at: usize, value: &[u8]) {
    let end = at.saturating_add(value.len());
    if let Some(target) = bytes.get_mut(at..end) {
        target.copy_from_slice(value);
    }
}

fn take<const N: usize>(bytes: &[u8; RECORD_BYTES], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::money::Amount,
        domain::outcome::{NotSent, RejectReason, Unknown},
        domain::trade::{KeyedBy, TradeId},
        ledger::{
            event::{
                BootId, EntrySlot, Evidence, EvidenceSource, HaltReason, OPERATOR_BYTES_MAX,
                Operator, RecordedAnswer, Sequence,
            },
            fault::StorageFault,
        },
        threads::ThreadName,
    };

    /// Records outlive a release, so the checksum must not change. Source: RFC 3720, appendix B.4.
    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    fn coins() -> impl Strategy<Value = Amount> {
        any::<i64>().prop_map(Amount::from_thousandths)
    }

    fn paid() -> impl Strategy<Value = Option<Amount>> {
        prop::option::of((0..i64::MAX).prop_map(Amount::from_thousandths))
    }

    fn id() -> impl Strategy<Value = TradeId> {
        "[A-Za-z0-9+/=]{1,62}".prop_map(|text| TradeId::new(&text).unwrap())
    }

    fn operator() -> impl Strategy<Value = Operator> {
        "\\PC{0,40}".prop_map(|name| Operator::new(&name))
    }

    fn rejection() -> impl Strategy<Value = RejectReason> {
        prop_oneof![
            Just(RejectReason::NotJoinable),
            Just(RejectReason::Taken),
            Just(RejectReason::PriceChanged),
            Just(RejectReason::AbovePriceLimit),
            Just(RejectReason::DailyLimit),
            Just(RejectReason::Unauthenticated),
            Just(RejectReason::Captcha),
            Just(RejectReason::Challenge),
            any::<u16>().prop_map(|status| RejectReason::Forbidden { status }),
            prop::option::of(0_u64..1_000_000_000).prop_map(|ms| RejectReason::RateLimited {
                retry_after: ms.map(std::time::Duration::from_millis)
            }),
            Just(RejectReason::StaleQuery),
        ]
    }

    fn answer() -> impl Strategy<Value = RecordedAnswer> {
        let unknown = prop_oneof![
            Just(Unknown::Timeout),
            Just(Unknown::Cut),
            Just(Unknown::Stopped),
            any::<u16>().prop_map(|status| Unknown::Status { status }),
            Just(Unknown::Unreadable),
            Just(Unknown::UnknownError),
            Just(Unknown::Foreign),
            rejection().prop_map(Unknown::Unconfirmed),
        ];
        let not_sent = prop_oneof![
            Just(NotSent::NoConnection),
            Just(NotSent::Closed),
            Just(NotSent::Stopping)
        ];
        prop_oneof![
            paid().prop_map(RecordedAnswer::Bought),
            rejection().prop_map(RecordedAnswer::Rejected),
            not_sent.prop_map(RecordedAnswer::NotSent),
            unknown.prop_map(RecordedAnswer::Unknown),
        ]
    }

    fn halt() -> impl Strategy<Value = HaltReason> {
        prop_oneof![
            operator().prop_map(HaltReason::Operator),
            (coins(), coins())
                .prop_map(|(expected, actual)| HaltReason::BalanceDrop { expected, actual }),
            id().prop_map(|id| HaltReason::UnexpectedPurchase { id }),
            id().prop_map(|id| HaltReason::Contradiction { id }),
            (id(), coins(), coins()).prop_map(|(id, approved, paid)| HaltReason::Price {
                id,
                approved,
                paid
            }),
            (coins(), prop::option::of(id()))
                .prop_map(|(missing, listed)| HaltReason::Disagreement { missing, listed }),
            (id(), coins(), coins()).prop_map(|(id, approved, paid)| {
                HaltReason::ImplausiblePrice { id, approved, paid }
            }),
            any::<u32>().prop_map(|count| HaltReason::Unknowns { count }),
            any::<u32>().prop_map(|count| HaltReason::Rejections { count }),
            Just(HaltReason::OtherAccount),
            rejection().prop_map(HaltReason::Rejected),
            proptest::sample::select(StorageFault::ALL.to_vec()).prop_map(HaltReason::Storage),
            proptest::sample::select(ThreadName::ALL.to_vec()).prop_map(HaltReason::Thread),
        ]
    }

    /// Generates arbitrary events.
    pub(crate) fn event() -> impl Strategy<Value = LedgerEvent> {
        let sequence = || any::<u32>().prop_map(|number| Sequence(u64::from(number)));
        let by = || {
            prop_oneof![
                Just(EvidenceSource::Marketplace),
                Just(EvidenceSource::Feed),
                operator().prop_map(EvidenceSource::Operator)
            ]
        };
        let evidence = prop_oneof![
            Just(Evidence::Bought),
            Just(Evidence::Completed),
            Just(Evidence::Returning),
            Just(Evidence::Returned),
            Just(Evidence::NotBought),
            Just(Evidence::ReturnedByStatus)
        ];
        prop_oneof![
            (sequence(), id(), any::<bool>(), coins(), any::<u32>(), any::<u32>()).prop_map(
                |(sequence, id, has_price, price, entry, limits)| LedgerEvent::Reserved {
                    sequence,
                    id,
                    keyed_by: if has_price { KeyedBy::IdAndPrice } else { KeyedBy::Id },
                    price,
                    entry: EntrySlot(entry),
                    limits
                }
            ),
            sequence().prop_map(|sequence| LedgerEvent::Sent { sequence }),
            (sequence(), answer())
                .prop_map(|(sequence, answer)| LedgerEvent::Answered { sequence, answer }),
            (sequence(), evidence, paid(), by()).prop_map(|(sequence, evidence, paid, by)| {
                LedgerEvent::Proved { sequence, evidence, paid, by }
            }),
            (sequence(), id(), coins()).prop_map(|(sequence, id, price)| LedgerEvent::Adopted {
                sequence,
                id,
                price
            }),
            id().prop_map(|id| LedgerEvent::Accepted { id }),
            Just(LedgerEvent::Baselined),
            halt().prop_map(LedgerEvent::Halted),
            operator().prop_map(|by| LedgerEvent::Resumed { by }),
            any::<i64>().prop_map(|until| LedgerEvent::Paused { until: UnixMs(until) }),
            operator().prop_map(|by| LedgerEvent::NewBudget { by }),
            (coins(), any::<i64>())
                .prop_map(|(coins, as_of)| LedgerEvent::Balance { coins, as_of: UnixMs(as_of) }),
            any::<u64>().prop_map(|boot| LedgerEvent::Started { boot: BootId(boot) }),
            (sequence(), coins())
                .prop_map(|(sequence, price)| LedgerEvent::PriceConfirmed { sequence, price }),
            (coins(), any::<u32>(), any::<i64>()).prop_map(|(coins, count, barrier)| {
                LedgerEvent::Lost { coins, count, barrier: UnixMs(barrier) }
            }),
            by().prop_map(|by| LedgerEvent::LossCleared { by }),
        ]
    }

    #[test]
    fn a_long_name_is_cut_at_a_character_boundary() {
        let name = Operator::new(&"ä".repeat(OPERATOR_BYTES_MAX));
        assert_eq!(name.as_str(), "ä".repeat(OPERATOR_BYTES_MAX / 2));
    }

    fn bytes_of(hex: &str) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
        }
        bytes
    }

    /// Bytes that a program with layout 2 wrote, without the zeros at their ends.
    #[test]
    fn amounts_of_layout_2_are_hundredths() {
        let id = TradeId::new("VHJhZGU6OTAwMDAwMDE").unwrap();
        let (approved, paid) = (Amount::from_cents(1_250), Amount::from_cents(1_301));
        let (entry, as_of) = (EntrySlot(3), UnixMs(1_795_000_000_123));
        let text = "56484a685a4755364f5441774d4441774d4445";
        for (hex, event) in [
            (
                format!(
                    "776881db020100132900000000000000c85f56eea10100000700000015cd5b07\
                     e20400000000000000000000000000000300000002000000{}{text}",
                    "0".repeat(16)
                ),
                LedgerEvent::Reserved {
                    sequence: Sequence(7),
                    id,
                    keyed_by: KeyedBy::Id,
                    price: approved,
                    entry,
                    limits: 2,
                },
            ),
            (
                "06c388ab020c00002900000000000000c85f56eea10100000000000015cd5b07\
                 51c30000000000007b5e56eea1010000"
                    .to_owned(),
                LedgerEvent::Balance { coins: Amount::from_cents(50_001), as_of },
            ),
            (
                format!(
                    "bb774a7c020805132900000000000000c85f56eea10100000000000015cd5b07\
                     e2040000000000001505000000000000{}{text}",
                    "0".repeat(32)
                ),
                LedgerEvent::Halted(HaltReason::Price { id, approved, paid }),
            ),
        ] {
            let (at, uptime_ms) = (UnixMs(1_795_000_000_456), Some(123_456_789));
            let record = Record { position: 41, at, uptime_ms, event };
            let bytes = bytes_of(&hex);
            assert_eq!(
                (Record::layout_of(&bytes), Record::decode(&bytes)),
                (Some(2), Some(record))
            );
            assert_eq!(Record::layout_of(&record.encode()), Some(LAYOUT));
        }
    }

    #[test]
    fn zeroed_bytes_are_not_a_record() {
        assert_eq!(Record::decode(&[0; RECORD_BYTES]), None);
    }

    proptest! {
        /// Invariant 1.
        #[test]
        fn decoding_reverses_encoding(
            position: u64,
            at: i64,
            uptime_ms in prop::option::of(0..NO_UPTIME),
            event in event(),
        ) {
            let record = Record { position, at: UnixMs(at), uptime_ms, event };
            prop_assert_eq!(Record::decode(&record.encode()), Some(record));
        }

        /// Invariant 2, for every bit.
        #[test]
        fn a_flipped_bit_is_detected(event in event(), bit in 0..RECORD_BYTES * 8) {
            let mut bytes = Record { position: 7, at: UnixMs(0), uptime_ms: None, event }.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Record::decode(&bytes), None);
        }

        /// Invariant 2, for a torn write.
        #[test]
        fn a_torn_record_does_not_decode(event in event(), whole in 1..RECORD_BYTES) {
            let new = Record { position: 8, at: UnixMs(1), uptime_ms: Some(9), event }.encode();
            let old = LedgerEvent::Baselined;
            let old = Record { position: 7, at: UnixMs(0), uptime_ms: None, event: old };
            let mut bytes = old.encode();
            bytes[..whole].copy_from_slice(&new[..whole]);
            let found = Record::decode(&bytes);
            prop_assert!(found.is_none_or(|found| found.position != 8 || bytes == new));
        }

        #[test]
        fn decoding_never_panics(bytes: [u8; 32], fill: u8) {
            let mut record = [fill; RECORD_BYTES];
            record[4..36].copy_from_slice(&bytes);
            let crc = crc32c(&record[4..]);
            record[..4].copy_from_slice(&crc.to_le_bytes());
            let _any = Record::decode(&record);
        }
    }
}
