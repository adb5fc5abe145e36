//! Encoding of an event as a record of 128 bytes, and conversion of its time to the clock of a
//! later run.
//!
//! Pure. Little-endian, fixed layout, versioned, with a checksum over all other bytes:
//!
//! | bytes | content |
//! |---|---|
//! | 0–3 | CRC-32C of the rest |
//! | 4 | version of this layout, 3 |
//! | 5, 6, 7 | kind of event; its code; length of the text, in bytes |
//! | 8–15 | position in the journal, from 1 |
//! | 16–23 | time, in Unix milliseconds |
//! | 24–27 | number of the intent |
//! | 28–31, 126–127 | the machine's uptime in milliseconds, 48 bits; all ones: unknown |
//! | 32–39, 40–47 | two amounts in thousandths, or moments |
//! | 48–51, 52–55 | whitelist entry; limits |
//! | 56–63 | one more number |
//! | 64–125 | text: a listing's id, an operator's name, or the random bits of a start |
//!
//! The codes are permanent: a new event gets a new one. Versions 1 and 2 have amounts in
//! hundredths. Version 1 has no uptime: the number of the intent takes bytes 24 to 31, and the last
//! two are zero. All versions are read, and a file may contain several.
//!
//! # Invariants
//!
//! 1. Decoding an encoded record returns the same record.
//! 2. A record with a changed bit, or at another position than its own, does not decode as the
//!    record of that position.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::Duration;

use crc32c::crc32c;

use super::event::{
    BootId, EntrySlot, Evidence, EvidenceSource, HaltReason, LedgerEvent, Operator, RecordedAnswer,
    Sequence, StorageFault,
};
use crate::{
    domain::money::Amount,
    domain::outcome::{NotSent, RejectReason, Unknown},
    domain::own_order_id::StartId,
    domain::time::UnixMs,
    domain::trade::{KeyedBy, TradeId},
    threads::ThreadName,
};

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
        let fields = fields(&self.event);
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

    /// Returns the version of the layout; `None` if the checksum is wrong.
    pub fn layout_of(bytes: &[u8; RECORD_BYTES]) -> Option<u8> {
        let crc = u32::from_le_bytes(take(bytes, 0)?);
        (crc == crc32c(bytes.get(4..)?)).then_some(bytes.get(4).copied()?)
    }

    /// Decodes a record. Returns `None` unless this version or an earlier one wrote it.
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
            event: event(&fields)?,
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

/// Encodes an unknown amount.
const NO_AMOUNT: i64 = i64::MIN;
/// Code of an answer that is an unconfirmed rejection.
const UNCONFIRMED: u8 = 23;

impl RecordFields {
    fn of(kind: u8) -> Self {
        Self { kind, ..Self::default() }
    }

    fn with_sequence(self, sequence: Sequence) -> Self {
        Self { sequence: sequence.0, ..self }
    }

    fn text(&self) -> Option<&str> {
        str::from_utf8(self.text.get(..usize::from(self.text_len))?).ok()
    }

    fn id(&self) -> Option<TradeId> {
        TradeId::new(self.text()?)
    }

    fn operator(&self) -> Option<Operator> {
        let text = self.text()?;
        Some(Operator::new(text)).filter(|operator| operator.as_str() == text)
    }

    fn with_text(self, text: &str) -> Self {
        let mut fields = self;
        if let Some(target) = fields.text.get_mut(..text.len()) {
            target.copy_from_slice(text.as_bytes());
            fields.text_len = u8::try_from(text.len()).unwrap_or_default();
        }
        fields
    }

    fn by(self, by: EvidenceSource) -> Self {
        match by {
            EvidenceSource::Marketplace => self,
            EvidenceSource::Feed => Self { number: 2, ..self },
            EvidenceSource::Operator(operator) => {
                Self { number: 1, ..self.with_text(operator.as_str()) }
            }
        }
    }

    fn source(&self) -> Option<EvidenceSource> {
        match self.number {
            0 => Some(EvidenceSource::Marketplace),
            1 => self.operator().map(EvidenceSource::Operator),
            2 => Some(EvidenceSource::Feed),
            _ => None,
        }
    }

    /// Converts a stored amount. Layouts 1 and 2 have hundredths.
    const fn amount(&self, stored: i64) -> Amount {
        if self.layout <= LAYOUT_2 {
            Amount::from_cents(stored)
        } else {
            Amount::from_thousandths(stored)
        }
    }

    fn optional_amount(&self) -> Option<Amount> {
        Some(self.first).filter(|stored| *stored != NO_AMOUNT).map(|stored| self.amount(stored))
    }

    fn count(&self) -> Option<u32> {
        u32::try_from(self.number).ok()
    }

    fn status(&self) -> Option<u16> {
        u16::try_from(self.number).ok()
    }
}

fn fields(event: &LedgerEvent) -> RecordFields {
    match *event {
        LedgerEvent::Reserved { sequence, id, keyed_by, price, entry, limits, own_number } => {
            let code = match keyed_by {
                KeyedBy::Id => 0,
                KeyedBy::IdAndPrice => 1,
            };
            let (first, entry) = (price.thousandths(), entry.0);
            let fields = RecordFields::of(1).with_sequence(sequence).with_text(id.as_str());
            RecordFields { code, first, entry, limits, number: own_number.into(), ..fields }
        }
        LedgerEvent::Sent { sequence } => RecordFields::of(2).with_sequence(sequence),
        LedgerEvent::Answered { sequence, answer } => {
            answer_fields(answer, RecordFields::of(3).with_sequence(sequence))
        }
        LedgerEvent::Proved { sequence, evidence, paid, by, since } => {
            let (code, first, second) = (evidence_code(evidence), encoded(paid), since.0);
            RecordFields { code, first, second, ..RecordFields::of(4).with_sequence(sequence) }
                .by(by)
        }
        LedgerEvent::Adopted { sequence, id, price, keeps_loss } => {
            let fields = RecordFields::of(5).with_sequence(sequence).with_text(id.as_str());
            RecordFields { first: price.thousandths(), number: keeps_loss.into(), ..fields }
        }
        LedgerEvent::Accepted { id } => RecordFields::of(6).with_text(id.as_str()),
        LedgerEvent::Baselined => RecordFields::of(7),
        LedgerEvent::Halted(reason) => halt_fields(reason, RecordFields::of(8)),
        LedgerEvent::Resumed { by } => RecordFields::of(9).with_text(by.as_str()),
        LedgerEvent::Paused { until } => RecordFields { first: until.0, ..RecordFields::of(10) },
        LedgerEvent::NewBudget { by } => RecordFields::of(11).with_text(by.as_str()),
        LedgerEvent::Balance { coins, as_of } => {
            RecordFields { first: coins.thousandths(), second: as_of.0, ..RecordFields::of(12) }
        }
        LedgerEvent::Started { boot, start } => {
            let fields = RecordFields { number: boot.0, ..RecordFields::of(13) };
            start.map_or(fields, |start| fields.with_text(&start.to_string()))
        }
        LedgerEvent::Lost { coins, count, barrier } => {
            let (first, second, number) = (coins.thousandths(), barrier.0, u64::from(count));
            RecordFields { first, second, number, ..RecordFields::of(14) }
        }
        LedgerEvent::LossCleared { by } => RecordFields::of(15).by(by),
        LedgerEvent::PriceConfirmed { sequence, price } => RecordFields {
            first: price.thousandths(),
            ..RecordFields::of(16).with_sequence(sequence)
        },
        LedgerEvent::Joined { group } => RecordFields { number: group, ..RecordFields::of(17) },
        LedgerEvent::AccountShared { is_shared } => {
            RecordFields { code: u8::from(is_shared), ..RecordFields::of(18) }
        }
    }
}

fn event(fields: &RecordFields) -> Option<LedgerEvent> {
    let sequence = Sequence(fields.sequence);
    let first = fields.amount(fields.first);
    Some(match fields.kind {
        1 => LedgerEvent::Reserved {
            sequence,
            id: fields.id()?,
            keyed_by: match fields.code {
                0 => KeyedBy::Id,
                1 => KeyedBy::IdAndPrice,
                _ => return None,
            },
            price: first,
            entry: EntrySlot(fields.entry),
            limits: fields.limits,
            own_number: fields.count()?,
        },
        2 => LedgerEvent::Sent { sequence },
        3 => LedgerEvent::Answered { sequence, answer: answer(fields)? },
        4 => LedgerEvent::Proved {
            sequence,
            evidence: evidence(fields)?,
            paid: fields.optional_amount(),
            by: fields.source()?,
            since: UnixMs(fields.second),
        },
        5 => LedgerEvent::Adopted {
            sequence,
            id: fields.id()?,
            price: first,
            keeps_loss: fields.number != 0,
        },
        6 => LedgerEvent::Accepted { id: fields.id()? },
        7 => LedgerEvent::Baselined,
        8 => LedgerEvent::Halted(halt(fields)?),
        9 => LedgerEvent::Resumed { by: fields.operator()? },
        10 => LedgerEvent::Paused { until: UnixMs(fields.first) },
        11 => LedgerEvent::NewBudget { by: fields.operator()? },
        12 => LedgerEvent::Balance { coins: first, as_of: UnixMs(fields.second) },
        13 => LedgerEvent::Started {
            boot: BootId(fields.number),
            start: match fields.text_len {
                0 => None,
                _ => Some(StartId::new(fields.text()?)?),
            },
        },
        14 => {
            let barrier = UnixMs(fields.second);
            LedgerEvent::Lost { coins: first, count: fields.count()?, barrier }
        }
        15 => LedgerEvent::LossCleared { by: fields.source()? },
        16 => LedgerEvent::PriceConfirmed { sequence, price: first },
        17 => LedgerEvent::Joined { group: fields.number },
        18 => LedgerEvent::AccountShared {
            is_shared: match fields.code {
                0 => false,
                1 => true,
                _ => return None,
            },
        },
        _ => return None,
    })
}

fn encoded(coins: Option<Amount>) -> i64 {
    coins.map_or(NO_AMOUNT, Amount::thousandths)
}

const fn evidence_code(evidence: Evidence) -> u8 {
    match evidence {
        Evidence::Bought => 1,
        Evidence::Completed => 2,
        Evidence::Returned => 3,
        Evidence::NotBought => 4,
        Evidence::Returning => 5,
        Evidence::ReturnedByStatus => 6,
    }
}

const fn evidence(fields: &RecordFields) -> Option<Evidence> {
    Some(match fields.code {
        1 => Evidence::Bought,
        2 => Evidence::Completed,
        3 if fields.layout == LAYOUT_1 => Evidence::ReturnedByStatus,
        3 => Evidence::Returned,
        4 => Evidence::NotBought,
        5 => Evidence::Returning,
        6 => Evidence::ReturnedByStatus,
        _ => return None,
    })
}

fn answer_fields(answer: RecordedAnswer, fields: RecordFields) -> RecordFields {
    match answer {
        RecordedAnswer::Bought(paid) => RecordFields { code: 1, first: encoded(paid), ..fields },
        RecordedAnswer::NotSent(why) => {
            let code = match why {
                NotSent::NoConnection => 2,
                NotSent::Closed => 3,
                NotSent::Stopping => 4,
            };
            RecordFields { code, ..fields }
        }
        RecordedAnswer::Unknown(why) => {
            let (code, number) = match why {
                Unknown::Timeout => (16, 0),
                Unknown::Cut => (17, 0),
                Unknown::Stopped => (18, 0),
                Unknown::Status { status } => (19, u64::from(status)),
                Unknown::Unreadable => (20, 0),
                Unknown::UnknownError => (21, 0),
                Unknown::Foreign => (22, 0),
                Unknown::AlreadyOrdered => (24, 0),
                Unknown::Failed => (25, 0),
                Unknown::Unconfirmed(rejection) => {
                    // The code of the rejection is stored in place of the first amount.
                    let RecordFields { code, number, .. } = rejection_fields(rejection, fields);
                    let first = i64::from(code);
                    return RecordFields { code: UNCONFIRMED, number, first, ..fields };
                }
            };
            RecordFields { code, number, ..fields }
        }
        RecordedAnswer::Rejected(rejection) => rejection_fields(rejection, fields),
    }
}

fn answer(fields: &RecordFields) -> Option<RecordedAnswer> {
    Some(match fields.code {
        1 => RecordedAnswer::Bought(fields.optional_amount()),
        2 => RecordedAnswer::NotSent(NotSent::NoConnection),
        3 => RecordedAnswer::NotSent(NotSent::Closed),
        4 => RecordedAnswer::NotSent(NotSent::Stopping),
        16 => RecordedAnswer::Unknown(Unknown::Timeout),
        17 => RecordedAnswer::Unknown(Unknown::Cut),
        18 => RecordedAnswer::Unknown(Unknown::Stopped),
        19 => RecordedAnswer::Unknown(Unknown::Status { status: fields.status()? }),
        20 => RecordedAnswer::Unknown(Unknown::Unreadable),
        21 => RecordedAnswer::Unknown(Unknown::UnknownError),
        22 => RecordedAnswer::Unknown(Unknown::Foreign),
        24 => RecordedAnswer::Unknown(Unknown::AlreadyOrdered),
        25 => RecordedAnswer::Unknown(Unknown::Failed),
        UNCONFIRMED => {
            let code = u8::try_from(fields.first).ok()?;
            RecordedAnswer::Unknown(Unknown::Unconfirmed(rejection(&RecordFields {
                code,
                ..*fields
            })?))
        }
        _ => RecordedAnswer::Rejected(rejection(fields)?),
    })
}

fn rejection_fields(rejection: RejectReason, fields: RecordFields) -> RecordFields {
    let (code, number) = match rejection {
        RejectReason::NotJoinable => (32, 0),
        RejectReason::Taken => (33, 0),
        RejectReason::DailyLimit => (34, 0),
        RejectReason::Unauthenticated => (35, 0),
        RejectReason::Captcha => (36, 0),
        RejectReason::Challenge => (37, 0),
        RejectReason::Forbidden { status } => (38, u64::from(status)),
        RejectReason::RateLimited { retry_after: None } => (39, 0),
        RejectReason::RateLimited { retry_after: Some(wait) } => {
            (40, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
        }
        RejectReason::StaleQuery => (41, 0),
        RejectReason::PriceChanged => (42, 0),
        RejectReason::AbovePriceLimit => (43, 0),
        RejectReason::KeyRejected { status } => (44, u64::from(status)),
        RejectReason::InsufficientFunds => (45, 0),
        RejectReason::AccountRestricted => (46, 0),
        RejectReason::InvalidOrder => (47, 0),
        RejectReason::Busy => (48, 0),
        RejectReason::BuyingDisabled => (49, 0),
    };
    RecordFields { code, number, ..fields }
}

fn rejection(fields: &RecordFields) -> Option<RejectReason> {
    Some(match fields.code {
        32 => RejectReason::NotJoinable,
        33 => RejectReason::Taken,
        34 => RejectReason::DailyLimit,
        35 => RejectReason::Unauthenticated,
        36 => RejectReason::Captcha,
        37 => RejectReason::Challenge,
        38 => RejectReason::Forbidden { status: fields.status()? },
        39 => RejectReason::RateLimited { retry_after: None },
        40 => RejectReason::RateLimited { retry_after: Some(Duration::from_millis(fields.number)) },
        41 => RejectReason::StaleQuery,
        42 => RejectReason::PriceChanged,
        43 => RejectReason::AbovePriceLimit,
        44 => RejectReason::KeyRejected { status: fields.status()? },
        45 => RejectReason::InsufficientFunds,
        46 => RejectReason::AccountRestricted,
        47 => RejectReason::InvalidOrder,
        48 => RejectReason::Busy,
        49 => RejectReason::BuyingDisabled,
        _ => return None,
    })
}

fn halt_fields(reason: HaltReason, fields: RecordFields) -> RecordFields {
    match reason {
        HaltReason::Operator(operator) => {
            RecordFields { code: 1, ..fields }.with_text(operator.as_str())
        }
        HaltReason::BalanceDrop { expected, actual } => RecordFields {
            code: 2,
            first: expected.thousandths(),
            second: actual.thousandths(),
            ..fields
        },
        HaltReason::UnexpectedPurchase { id, price } => {
            let first = price.unwrap_or_default().thousandths();
            RecordFields { code: 3, first, ..fields }.with_text(id.as_str())
        }
        HaltReason::Contradiction { id } => {
            RecordFields { code: 4, ..fields }.with_text(id.as_str())
        }
        HaltReason::Price { id, approved, paid } => {
            let (first, second) = (approved.thousandths(), paid.thousandths());
            RecordFields { code: 5, first, second, ..fields }.with_text(id.as_str())
        }
        HaltReason::Disagreement { missing, listed } => {
            let fields = RecordFields { code: 6, first: missing.thousandths(), ..fields };
            listed.map_or(fields, |id| fields.with_text(id.as_str()))
        }
        HaltReason::ImplausiblePrice { id, approved, paid } => {
            let (first, second) = (approved.thousandths(), paid.thousandths());
            RecordFields { code: 16, first, second, ..fields }.with_text(id.as_str())
        }
        HaltReason::Unknowns { count } => {
            RecordFields { code: 7, number: u64::from(count), ..fields }
        }
        HaltReason::Rejections { count } => {
            RecordFields { code: 8, number: u64::from(count), ..fields }
        }
        HaltReason::Storage(fault) => {
            RecordFields { code: 9, number: u64::from(fault.code()), ..fields }
        }
        HaltReason::Thread(thread) => {
            RecordFields { code: 10, number: u64::from(thread.code()), ..fields }
        }
        HaltReason::OtherAccount => RecordFields { code: 17, ..fields },
        HaltReason::Rejected(rejection) => rejection_fields(rejection, fields),
    }
}

fn halt(fields: &RecordFields) -> Option<HaltReason> {
    let (first, second) = (fields.amount(fields.first), fields.amount(fields.second));
    Some(match fields.code {
        1 => HaltReason::Operator(fields.operator()?),
        2 => HaltReason::BalanceDrop { expected: first, actual: second },
        // Earlier versions recorded no price.
        3 => HaltReason::UnexpectedPurchase {
            id: fields.id()?,
            price: Some(first).filter(|price| Amount::ZERO < *price),
        },
        4 => HaltReason::Contradiction { id: fields.id()? },
        5 => HaltReason::Price { id: fields.id()?, approved: first, paid: second },
        6 if fields.text_len == 0 => HaltReason::Disagreement { missing: first, listed: None },
        6 => HaltReason::Disagreement { missing: first, listed: Some(fields.id()?) },
        7 => HaltReason::Unknowns { count: fields.count()? },
        8 => HaltReason::Rejections { count: fields.count()? },
        16 => HaltReason::ImplausiblePrice { id: fields.id()?, approved: first, paid: second },
        9 => HaltReason::Storage(StorageFault::from_code(fields.count()?)?),
        10 => HaltReason::Thread(ThreadName::from_code(fields.count()?)?),
        17 => HaltReason::OtherAccount,
        _ => HaltReason::Rejected(rejection(fields)?),
    })
}

/// Converts records to the clock of this run. Records must be passed in their order.
///
/// A record contains the wall clock of the run that wrote it and the machine's uptime. The wall
/// clock may have been set since. Records of the current boot are therefore converted by their
/// uptime. Between two boots only the wall clock is known: records of an earlier boot are moved by
/// the time by which it was set forward later on that boot and on the boots after it. If a boot
/// begins before the last record of the boot before, that gap is subtracted once, because either
/// the clock before was ahead or the clock after it was behind.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    boot: BootId,
    now: UnixMs,
    /// Clock of this run less the machine's uptime, in milliseconds.
    offset_ms: Option<i64>,
    /// Known boots of the starts that were noted, oldest first.
    boots: Vec<BootClock>,
    /// Number of them that have begun when the present record was written.
    begun: usize,
    /// `true` while the records are of the current boot.
    is_this_boot: bool,
    /// Time by which records of the present run are moved, if it is of an earlier boot.
    moved_ms: i64,
}

/// Wall clock of one boot of the machine.
#[derive(Clone, Copy, Debug)]
struct BootClock {
    boot: BootId,
    /// Wall clock less uptime in milliseconds, at the first start with an uptime and at the last
    /// start.
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    /// Time by which the first start is earlier than the record before it.
    behind_ms: i64,
    /// Time of the last record that was noted.
    last_at: UnixMs,
}

impl Timeline {
    /// Creates a timeline for a run whose clock was `now` at the uptime `uptime_ms`.
    pub(super) fn new(boot: BootId, uptime_ms: Option<u64>, now: UnixMs) -> Self {
        let offset_ms = offset_ms(now, uptime_ms);
        Self { boot, now, offset_ms, boots: Vec::new(), begun: 0, is_this_boot: false, moved_ms: 0 }
    }

    /// Returns the uptime at a moment of this run.
    pub(super) fn uptime_ms(&self, at: UnixMs) -> Option<u64> {
        self.offset_ms.and_then(|offset| u64::try_from(at.0.saturating_sub(offset)).ok())
    }

    /// Takes the records of starts, each after the record before it, before any record is
    /// converted.
    pub(super) fn note_start(&mut self, record: &Record) {
        let started = match record.event {
            LedgerEvent::Started { boot, .. } if boot != BootId::default() => Some(boot),
            _ => None,
        };
        let (started_ms, last_at) = (offset_ms(record.at, record.uptime_ms), record.at);
        let behind_ms = self.boots.last().map_or(0, |last| gap_ms(last.last_at, record.at));
        if let Some(last) = self.boots.last_mut()
            && started.is_none_or(|boot| boot == last.boot)
        {
            if started.is_some() {
                (last.first_ms, last.last_ms) = (last.first_ms.or(started_ms), started_ms);
            }
            last.last_at = last_at;
        } else if let Some(boot) = started {
            let (first_ms, last_ms) = (started_ms, started_ms);
            self.boots.push(BootClock { boot, first_ms, last_ms, behind_ms, last_at });
        }
    }

    /// Begins the run of this start. Returns by how much its records are moved if it is of an
    /// earlier boot.
    fn begin_run(&mut self, boot: BootId, started_ms: Option<i64>) -> i64 {
        let known = self.boots.iter().position(|clock| clock.boot == boot);
        let first = known.unwrap_or(self.begun);
        self.begun = known.map_or(self.begun, |index| index.saturating_add(1));
        // Part of a gap before a boot that no change on the boot before it explains.
        let unexplained = self.boots.get(first).map_or(0, |clock| clock.behind_ms);
        let (mut moved_ms, mut unexplained_ms) = (0_i64, unexplained);
        for (index, clock) in self.boots.iter().enumerate().skip(first) {
            let (last_ms, gap_ms) = match self.boots.get(index.saturating_add(1)) {
                Some(next) => (clock.last_ms, next.behind_ms),
                None if clock.boot == self.boot => (self.offset_ms, 0),
                None => (clock.last_ms, gap_ms(clock.last_at, self.now)),
            };
            let first_ms = clock.first_ms.map(|first| first.saturating_add(unexplained_ms));
            let from_ms = if Some(index) == known { started_ms } else { first_ms };
            let set_ms = last_ms.zip(from_ms).map_or(0, |(last, from)| last.saturating_sub(from));
            let explained_ms = set_ms.clamp(0, gap_ms);
            unexplained_ms = gap_ms.saturating_sub(explained_ms);
            moved_ms = moved_ms.saturating_add(set_ms.max(0).saturating_sub(explained_ms));
        }
        moved_ms
    }

    /// Returns the converted time of a record, and its event with converted moments.
    pub(super) fn convert(&mut self, record: &Record) -> (UnixMs, LedgerEvent) {
        if let LedgerEvent::Started { boot, .. } = record.event {
            self.is_this_boot = boot == self.boot && boot != BootId::default();
            self.moved_ms = self.begin_run(boot, offset_ms(record.at, record.uptime_ms));
        }
        let moved_ms = if self.is_this_boot {
            let written_ms = offset_ms(record.at, record.uptime_ms);
            self.offset_ms.zip(written_ms).map(|(now, written)| now.saturating_sub(written))
        } else {
            Some(self.moved_ms)
        };
        let Some(moved_ms) = moved_ms else { return (record.at, record.event) };
        let moved = |moment: UnixMs| UnixMs(moment.0.saturating_add(moved_ms));
        let at = moved(record.at);
        let event = match record.event {
            LedgerEvent::Balance { coins, as_of } => {
                LedgerEvent::Balance { coins, as_of: moved(as_of) }
            }
            LedgerEvent::Paused { until } => LedgerEvent::Paused { until: moved(until) },
            LedgerEvent::Proved { sequence, evidence, paid, by, since } => {
                LedgerEvent::Proved { sequence, evidence, paid, by, since: moved(since) }
            }
            other => other,
        };
        (at, event)
    }
}

/// Returns a wall clock less the machine's uptime, in milliseconds.
fn offset_ms(at: UnixMs, uptime_ms: Option<u64>) -> Option<i64> {
    uptime_ms.and_then(|ms| i64::try_from(ms).ok()).map(|uptime| at.0.saturating_sub(uptime))
}

/// Returns by how much the earlier one of two records has the later time.
fn gap_ms(earlier: UnixMs, later: UnixMs) -> i64 {
    earlier.0.saturating_sub(later.0).max(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::event::OPERATOR_BYTES_MAX;

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
            any::<u16>().prop_map(|status| RejectReason::KeyRejected { status }),
            Just(RejectReason::InsufficientFunds),
            Just(RejectReason::AccountRestricted),
            Just(RejectReason::InvalidOrder),
            prop::option::of(0_u64..1_000_000_000).prop_map(|ms| RejectReason::RateLimited {
                retry_after: ms.map(Duration::from_millis)
            }),
            Just(RejectReason::StaleQuery),
            Just(RejectReason::Busy),
            Just(RejectReason::BuyingDisabled),
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
            Just(Unknown::AlreadyOrdered),
            Just(Unknown::Failed),
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
            (id(), coins()).prop_map(|(id, price)| HaltReason::UnexpectedPurchase {
                id,
                price: Some(price).filter(|price| Amount::ZERO < *price),
            }),
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
            (sequence(), id(), any::<bool>(), coins(), any::<[u32; 3]>()).prop_map(
                |(sequence, id, has_price, price, [entry, limits, own_number])| {
                    LedgerEvent::Reserved {
                        sequence,
                        id,
                        keyed_by: if has_price { KeyedBy::IdAndPrice } else { KeyedBy::Id },
                        price,
                        entry: EntrySlot(entry),
                        limits,
                        own_number,
                    }
                }
            ),
            sequence().prop_map(|sequence| LedgerEvent::Sent { sequence }),
            (sequence(), answer())
                .prop_map(|(sequence, answer)| LedgerEvent::Answered { sequence, answer }),
            (sequence(), evidence, paid(), by(), any::<i64>()).prop_map(
                |(sequence, evidence, paid, by, since)| {
                    let since = UnixMs(since);
                    LedgerEvent::Proved { sequence, evidence, paid, by, since }
                }
            ),
            (sequence(), id(), coins(), any::<bool>()).prop_map(
                |(sequence, id, price, keeps_loss)| LedgerEvent::Adopted {
                    sequence,
                    id,
                    price,
                    keeps_loss,
                }
            ),
            id().prop_map(|id| LedgerEvent::Accepted { id }),
            Just(LedgerEvent::Baselined),
            halt().prop_map(LedgerEvent::Halted),
            operator().prop_map(|by| LedgerEvent::Resumed { by }),
            any::<i64>().prop_map(|until| LedgerEvent::Paused { until: UnixMs(until) }),
            operator().prop_map(|by| LedgerEvent::NewBudget { by }),
            (coins(), any::<i64>())
                .prop_map(|(coins, as_of)| LedgerEvent::Balance { coins, as_of: UnixMs(as_of) }),
            (any::<u64>(), any::<Option<[u8; 16]>>()).prop_map(|(boot, start)| {
                LedgerEvent::Started { boot: BootId(boot), start: start.map(StartId::from_bits) }
            }),
            (sequence(), coins())
                .prop_map(|(sequence, price)| LedgerEvent::PriceConfirmed { sequence, price }),
            (coins(), any::<u32>(), any::<i64>()).prop_map(|(coins, count, barrier)| {
                LedgerEvent::Lost { coins, count, barrier: UnixMs(barrier) }
            }),
            by().prop_map(|by| LedgerEvent::LossCleared { by }),
            any::<u64>().prop_map(|group| LedgerEvent::Joined { group }),
            any::<bool>().prop_map(|is_shared| LedgerEvent::AccountShared { is_shared }),
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

    /// The bytes are those that a program with layout 2 wrote, without the zeros at their ends.
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
                    own_number: 0,
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
        /// Checks invariant 1.
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

        /// Checks invariant 2 for every bit.
        #[test]
        fn a_flipped_bit_is_detected(event in event(), bit in 0..RECORD_BYTES * 8) {
            let mut bytes = Record { position: 7, at: UnixMs(0), uptime_ms: None, event }.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Record::decode(&bytes), None);
        }

        /// Checks invariant 2 for a partial write.
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

    const BOOT: BootId = BootId(7);

    fn record(at: i64, uptime_ms: Option<u64>, event: LedgerEvent) -> Record {
        Record { position: 1, at: UnixMs(at), uptime_ms, event }
    }

    #[test]
    fn records_of_this_boot_are_converted_by_their_uptime() {
        // The wall clock was set forward by an hour between the runs.
        let mut timeline = Timeline::new(BOOT, Some(10_000), UnixMs(3_600_000 + 10_000));
        let started = timeline.convert(&record(
            1_000,
            Some(1_000),
            LedgerEvent::Started { boot: BOOT, start: None },
        ));
        assert_eq!(started.0, UnixMs(3_600_000 + 1_000));
        let balance = LedgerEvent::Balance { coins: Amount::ZERO, as_of: UnixMs(1_990) };
        let moved = LedgerEvent::Balance { coins: Amount::ZERO, as_of: UnixMs(3_600_000 + 1_990) };
        let converted = timeline.convert(&record(2_000, Some(2_000), balance));
        assert_eq!(converted, (UnixMs(3_600_000 + 2_000), moved));
        let paused = LedgerEvent::Paused { until: UnixMs(2_500) };
        let moved = LedgerEvent::Paused { until: UnixMs(3_600_000 + 2_500) };
        assert_eq!(timeline.convert(&record(2_000, Some(2_000), paused)).1, moved);
        assert_eq!(timeline.uptime_ms(UnixMs(3_600_000 + 2_000)), Some(2_000));
    }

    #[test]
    fn records_before_this_boot_are_moved_by_what_the_clock_was_set_forward_since() {
        let start = |boot| LedgerEvent::Started { boot, start: None };
        let earlier =
            [(50_000, Some(900), start(BootId(8))), (51_000, Some(1_900), LedgerEvent::Baselined)];
        let this = [(60_000, Some(1_000), start(BOOT)), (99_000, Some(3_000), start(BOOT))];
        // The wall clock of the first start on this boot would show 64 s now.
        for (now, last, expected) in [
            (74_000, 51_000, [60_000, 61_000, 70_000, 72_000]),
            (54_000, 51_000, [50_000, 51_000, 50_000, 52_000]),
            // The first start on this boot was behind by 3 s and 30 s.
            (74_000, 63_000, [57_000, 70_000, 70_000, 72_000]),
            (74_000, 90_000, [50_000, 90_000, 70_000, 72_000]),
        ] {
            let mut earlier = earlier;
            earlier[1].0 = last;
            let mut timeline = Timeline::new(BOOT, Some(5_000), UnixMs(now));
            let records = earlier.into_iter().chain(this);
            let records: Vec<_> =
                records.map(|(at, uptime_ms, event)| record(at, uptime_ms, event)).collect();
            records.iter().for_each(|record| timeline.note_start(record));
            let times = records.iter().map(|record| timeline.convert(record).0.0);
            assert_eq!(times.collect::<Vec<_>>(), expected, "at {now}");
        }
    }

    /// At the starts, the wall clock less the uptime is 1,000, 1,500, 1,690, 1,730 and 1,670 s.
    #[test]
    fn records_of_earlier_boots_are_moved_by_what_the_clock_was_set_forward_between_their_starts() {
        let start = |boot| LedgerEvent::Started { boot: BootId(boot), start: None };
        let seconds = [
            (1_010, 10, start(8)),
            (1_020, 20, LedgerEvent::Baselined),
            // Set forward by 500 s.
            (1_530, 30, start(8)),
            (1_600, 100, LedgerEvent::Baselined),
            (1_700, 10, start(9)),
            // Set forward by 40 s, then back by 60 s.
            (1_760, 30, start(9)),
            (1_710, 40, start(9)),
        ];
        for (last, now, boot, expected) in [
            (1_600, 2_000, 7, [1_510, 1_520, 1_530, 1_600, 1_700, 1_760, 1_710]),
            // The last record of the first boot is later than the start of the second one.
            (1_950, 2_000, 7, [1_260, 1_270, 1_530, 1_950, 1_700, 1_760, 1_710]),
            // The clock of the second boot was set forward by 150 s since its first start.
            (1_600, 1_890, 9, [1_660, 1_670, 1_680, 1_750, 1_850, 1_870, 1_880]),
        ] {
            let mut seconds = seconds;
            seconds[3].0 = last;
            let mut timeline = Timeline::new(BootId(boot), Some(50_000), UnixMs(now * 1_000));
            let records = seconds
                .map(|(at, uptime_s, event)| record(at * 1_000, Some(uptime_s * 1_000), event));
            records.iter().for_each(|record| timeline.note_start(record));
            let times = records.map(|record| timeline.convert(&record).0.0 / 1_000);
            assert_eq!(times, expected, "at {now}");
        }
    }

    /// Returns the converted times in seconds of records with these times and uptimes.
    fn times(timeline: &mut Timeline, seconds: &[(i64, u64, LedgerEvent)]) -> Vec<i64> {
        let records: Vec<_> = seconds
            .iter()
            .map(|(at, uptime, event)| record(at * 1_000, Some(uptime * 1_000), *event))
            .collect();
        records.iter().for_each(|record| timeline.note_start(record));
        records.iter().map(|record| timeline.convert(record).0.0 / 1_000).collect()
    }

    /// On both boots the clock was two hours behind at the first start, and right at the last one.
    #[test]
    fn a_gap_between_two_boots_is_subtracted_once() {
        let start = |boot| LedgerEvent::Started { boot: BootId(boot), start: None };
        let seconds = [
            (36_000, 10, start(8)),
            (36_005, 15, LedgerEvent::Baselined),
            (43_260, 70, start(8)),
            (43_320, 130, LedgerEvent::Baselined),
            (36_600, 10, start(9)),
        ];
        let mut timeline = Timeline::new(BootId(9), Some(610_000), UnixMs(44_400_000));
        assert_eq!(times(&mut timeline, &seconds), [43_680, 43_685, 43_740, 43_800, 43_800]);
    }

    #[test]
    fn records_of_a_run_without_a_boot_id_are_moved_by_what_the_clock_was_set_forward_later() {
        let start = |boot| LedgerEvent::Started { boot: BootId(boot), start: None };
        let seconds = [
            (1_000, 10, start(8)),
            (1_100, 10, start(0)),
            (1_110, 20, LedgerEvent::Baselined),
            (1_200, 10, start(9)),
        ];
        let mut timeline = Timeline::new(BootId(9), Some(20_000), UnixMs(1_510_000));
        assert_eq!(times(&mut timeline, &seconds), [1_300, 1_400, 1_410, 1_500]);
    }

    #[test]
    fn a_first_start_without_an_uptime_leaves_the_next_one_to_show_a_change() {
        let start = |boot| LedgerEvent::Started { boot: BootId(boot), start: None };
        let records = [
            record(1_000_000, Some(10_000), start(8)),
            record(1_100_000, None, start(9)),
            record(1_110_000, Some(20_000), start(9)),
        ];
        let mut timeline = Timeline::new(BootId(9), Some(30_000), UnixMs(1_420_000));
        records.iter().for_each(|record| timeline.note_start(record));
        assert_eq!(timeline.convert(&records[0]).0, UnixMs(1_300_000));
    }

    #[test]
    fn records_of_another_boot_or_without_an_uptime_keep_their_wall_clock() {
        let mut timeline = Timeline::new(BOOT, Some(10_000), UnixMs(99_000_000));
        let other = LedgerEvent::Started { boot: BootId(8), start: None };
        assert_eq!(timeline.convert(&record(5, Some(1), other)), (UnixMs(5), other));
        let event = LedgerEvent::Baselined;
        assert_eq!(timeline.convert(&record(6, Some(2), event)), (UnixMs(6), event));
        let this = LedgerEvent::Started { boot: BOOT, start: None };
        assert_eq!(timeline.convert(&record(7, None, this)), (UnixMs(7), this));
        let unknown = LedgerEvent::Started { boot: BootId(0), start: None };
        let mut nameless = Timeline::new(BootId(0), Some(1), UnixMs(50));
        assert_eq!(nameless.convert(&record(8, Some(1), unknown)).0, UnixMs(8));
    }
}
