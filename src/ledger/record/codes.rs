//! Numeric codes of the events. Codes are permanent: a new event gets a new one. Pure.

use std::time::Duration;

use super::{LAYOUT_1, LAYOUT_2, RecordFields};
use crate::{
    domain::money::Amount,
    domain::outcome::{NotSent, RejectReason, Unknown},
    domain::time::UnixMs,
    domain::trade::{KeyedBy, TradeId},
    ledger::{
        event::{
            BootId, EntrySlot, Evidence, EvidenceSource, HaltReason, LedgerEvent, Operator,
            RecordedAnswer, Sequence,
        },
        fault::StorageFault,
    },
    threads::ThreadName,
};

/// Encodes an unknown amount.
const NO_AMOUNT: i64 = i64::MIN;
/// Code of an answer that is an unconfirmed rejection.
const UNCONFIRMED: u8 = 23;

impl RecordFields {
    fn of(kind: u8) -> Self {
        Self { kind, ..Self::default() }
    }

    fn about(self, sequence: Sequence) -> Self {
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

pub(super) fn fields(event: &LedgerEvent) -> RecordFields {
    match *event {
        LedgerEvent::Reserved { sequence, id, keyed_by, price, entry, limits } => {
            let code = match keyed_by {
                KeyedBy::Id => 0,
                KeyedBy::IdAndPrice => 1,
            };
            let (first, entry) = (price.thousandths(), entry.0);
            let fields = RecordFields::of(1).about(sequence).with_text(id.as_str());
            RecordFields { code, first, entry, limits, ..fields }
        }
        LedgerEvent::Sent { sequence } => RecordFields::of(2).about(sequence),
        LedgerEvent::Answered { sequence, answer } => {
            answer_fields(answer, RecordFields::of(3).about(sequence))
        }
        LedgerEvent::Proved { sequence, evidence, paid, by } => {
            let (code, first) = (evidence_code(evidence), encoded(paid));
            RecordFields { code, first, ..RecordFields::of(4).about(sequence) }.by(by)
        }
        LedgerEvent::Adopted { sequence, id, price } => {
            let fields =
                RecordFields { first: price.thousandths(), ..RecordFields::of(5).about(sequence) };
            fields.with_text(id.as_str())
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
        LedgerEvent::Started { boot } => RecordFields { number: boot.0, ..RecordFields::of(13) },
        LedgerEvent::Lost { coins, count, barrier } => {
            let (first, second, number) = (coins.thousandths(), barrier.0, u64::from(count));
            RecordFields { first, second, number, ..RecordFields::of(14) }
        }
        LedgerEvent::LossCleared { by } => RecordFields::of(15).by(by),
        LedgerEvent::PriceConfirmed { sequence, price } => {
            RecordFields { first: price.thousandths(), ..RecordFields::of(16).about(sequence) }
        }
    }
}

pub(super) fn event(fields: &RecordFields) -> Option<LedgerEvent> {
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
        },
        2 => LedgerEvent::Sent { sequence },
        3 => LedgerEvent::Answered { sequence, answer: answer(fields)? },
        4 => LedgerEvent::Proved {
            sequence,
            evidence: evidence(fields)?,
            paid: fields.optional_amount(),
            by: fields.source()?,
        },
        5 => LedgerEvent::Adopted { sequence, id: fields.id()?, price: first },
        6 => LedgerEvent::Accepted { id: fields.id()? },
        7 => LedgerEvent::Baselined,
        8 => LedgerEvent::Halted(halt(fields)?),
        9 => LedgerEvent::Resumed { by: fields.operator()? },
        10 => LedgerEvent::Paused { until: UnixMs(fields.first) },
        11 => LedgerEvent::NewBudget { by: fields.operator()? },
        12 => LedgerEvent::Balance { coins: first, as_of: UnixMs(fields.second) },
        13 => LedgerEvent::Started { boot: BootId(fields.number) },
        14 => {
            let barrier = UnixMs(fields.second);
            LedgerEvent::Lost { coins: first, count: fields.count()?, barrier }
        }
        15 => LedgerEvent::LossCleared { by: fields.source()? },
        16 => LedgerEvent::PriceConfirmed { sequence, price: first },
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
                Unknown::Unconfirmed(rejection) => {
                    // The code of the rejection is stored in the first amount.
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
        HaltReason::UnexpectedPurchase { id } => {
            RecordFields { code: 3, ..fields }.with_text(id.as_str())
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
        3 => HaltReason::UnexpectedPurchase { id: fields.id()? },
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
