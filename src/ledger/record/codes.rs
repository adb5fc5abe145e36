//! Which numbers stand for which events. Numbers are for ever: a new event gets a new one. Pure.

use std::time::Duration;

use super::{Fields, VERSION_1};
use crate::{
    ledger::{
        event::{Answer, BootId, EntrySlot, Event, HaltReason, Proof, Sequence, Source, Who},
        fault::StorageFault,
    },
    money::Coins,
    outcome::{NotSent, Refusal, Unknown},
    threads::ThreadName,
    time::UnixMs,
    trade::TradeId,
};

/// Stands for an amount that is not known.
const NO_AMOUNT: i64 = i64::MIN;
/// The code of an answer that is an unconfirmed refusal.
const UNCONFIRMED: u8 = 23;

impl Fields {
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

    fn who(&self) -> Option<Who> {
        let text = self.text()?;
        Some(Who::new(text)).filter(|who| who.as_str() == text)
    }

    fn with_text(self, text: &str) -> Self {
        let mut fields = self;
        if let Some(room) = fields.text.get_mut(..text.len()) {
            room.copy_from_slice(text.as_bytes());
            fields.text_len = u8::try_from(text.len()).unwrap_or_default();
        }
        fields
    }

    fn by(self, by: Source) -> Self {
        match by {
            Source::Marketplace => self,
            Source::Feed => Self { number: 2, ..self },
            Source::Person(who) => Self { number: 1, ..self.with_text(who.as_str()) },
        }
    }

    fn source(&self) -> Option<Source> {
        match self.number {
            0 => Some(Source::Marketplace),
            1 => self.who().map(Source::Person),
            2 => Some(Source::Feed),
            _ => None,
        }
    }

    fn count(&self) -> Option<u32> {
        u32::try_from(self.number).ok()
    }

    fn status(&self) -> Option<u16> {
        u16::try_from(self.number).ok()
    }
}

pub(super) fn fields(event: &Event) -> Fields {
    match *event {
        Event::Reserved { sequence, id, price, entry, limits } => {
            let (first, entry) = (price.cents(), entry.0);
            let fields = Fields { first, entry, limits, ..Fields::of(1).about(sequence) };
            fields.with_text(id.as_str())
        }
        Event::Sent { sequence } => Fields::of(2).about(sequence),
        Event::Answered { sequence, answer } => {
            answer_fields(answer, Fields::of(3).about(sequence))
        }
        Event::Proved { sequence, proof, paid, by } => {
            let (code, first) = (proof_code(proof), amount(paid));
            Fields { code, first, ..Fields::of(4).about(sequence) }.by(by)
        }
        Event::Adopted { sequence, id, price } => {
            let fields = Fields { first: price.cents(), ..Fields::of(5).about(sequence) };
            fields.with_text(id.as_str())
        }
        Event::Accepted { id } => Fields::of(6).with_text(id.as_str()),
        Event::Baselined => Fields::of(7),
        Event::Halted(reason) => halt_fields(reason, Fields::of(8)),
        Event::Resumed { by } => Fields::of(9).with_text(by.as_str()),
        Event::Paused { until } => Fields { first: until.0, ..Fields::of(10) },
        Event::NewBudget { by } => Fields::of(11).with_text(by.as_str()),
        Event::Balance { coins, as_of } => {
            Fields { first: coins.cents(), second: as_of.0, ..Fields::of(12) }
        }
        Event::Started { boot } => Fields { number: boot.0, ..Fields::of(13) },
        Event::Lost { coins, count, barrier } => {
            let (first, second, number) = (coins.cents(), barrier.0, u64::from(count));
            Fields { first, second, number, ..Fields::of(14) }
        }
        Event::LossSettled { by } => Fields::of(15).by(by),
        Event::PriceConfirmed { sequence, price } => {
            Fields { first: price.cents(), ..Fields::of(16).about(sequence) }
        }
    }
}

pub(super) fn event(fields: &Fields) -> Option<Event> {
    let sequence = Sequence(fields.sequence);
    let first = Coins::from_cents(fields.first);
    Some(match fields.kind {
        1 => Event::Reserved {
            sequence,
            id: fields.id()?,
            price: first,
            entry: EntrySlot(fields.entry),
            limits: fields.limits,
        },
        2 => Event::Sent { sequence },
        3 => Event::Answered { sequence, answer: answer(fields)? },
        4 => Event::Proved {
            sequence,
            proof: proof(fields)?,
            paid: known(fields.first),
            by: fields.source()?,
        },
        5 => Event::Adopted { sequence, id: fields.id()?, price: first },
        6 => Event::Accepted { id: fields.id()? },
        7 => Event::Baselined,
        8 => Event::Halted(halt(fields)?),
        9 => Event::Resumed { by: fields.who()? },
        10 => Event::Paused { until: UnixMs(fields.first) },
        11 => Event::NewBudget { by: fields.who()? },
        12 => Event::Balance { coins: first, as_of: UnixMs(fields.second) },
        13 => Event::Started { boot: BootId(fields.number) },
        14 => {
            let barrier = UnixMs(fields.second);
            Event::Lost { coins: first, count: fields.count()?, barrier }
        }
        15 => Event::LossSettled { by: fields.source()? },
        16 => Event::PriceConfirmed { sequence, price: first },
        _ => return None,
    })
}

fn amount(coins: Option<Coins>) -> i64 {
    coins.map_or(NO_AMOUNT, Coins::cents)
}

fn known(cents: i64) -> Option<Coins> {
    Some(cents).filter(|cents| *cents != NO_AMOUNT).map(Coins::from_cents)
}

const fn proof_code(proof: Proof) -> u8 {
    match proof {
        Proof::Bought => 1,
        Proof::Completed => 2,
        Proof::Returned => 3,
        Proof::NotBought => 4,
        Proof::Returning => 5,
        Proof::ReturnedByStatus => 6,
    }
}

const fn proof(fields: &Fields) -> Option<Proof> {
    Some(match fields.code {
        1 => Proof::Bought,
        2 => Proof::Completed,
        3 if fields.version == VERSION_1 => Proof::ReturnedByStatus,
        3 => Proof::Returned,
        4 => Proof::NotBought,
        5 => Proof::Returning,
        6 => Proof::ReturnedByStatus,
        _ => return None,
    })
}

fn answer_fields(answer: Answer, fields: Fields) -> Fields {
    match answer {
        Answer::Bought(paid) => Fields { code: 1, first: amount(paid), ..fields },
        Answer::NotSent(why) => {
            let code = match why {
                NotSent::NoConnection => 2,
                NotSent::Closed => 3,
                NotSent::Stopping => 4,
            };
            Fields { code, ..fields }
        }
        Answer::Unknown(why) => {
            let (code, number) = match why {
                Unknown::Timeout => (16, 0),
                Unknown::Cut => (17, 0),
                Unknown::Stopped => (18, 0),
                Unknown::Status { status } => (19, u64::from(status)),
                Unknown::Unreadable => (20, 0),
                Unknown::UnknownError => (21, 0),
                Unknown::Foreign => (22, 0),
                Unknown::Unconfirmed(refusal) => {
                    // The refusal's own code stands in the first amount.
                    let Fields { code, number, .. } = refusal_fields(refusal, fields);
                    let first = i64::from(code);
                    return Fields { code: UNCONFIRMED, number, first, ..fields };
                }
            };
            Fields { code, number, ..fields }
        }
        Answer::Refused(refusal) => refusal_fields(refusal, fields),
    }
}

fn answer(fields: &Fields) -> Option<Answer> {
    Some(match fields.code {
        1 => Answer::Bought(known(fields.first)),
        2 => Answer::NotSent(NotSent::NoConnection),
        3 => Answer::NotSent(NotSent::Closed),
        4 => Answer::NotSent(NotSent::Stopping),
        16 => Answer::Unknown(Unknown::Timeout),
        17 => Answer::Unknown(Unknown::Cut),
        18 => Answer::Unknown(Unknown::Stopped),
        19 => Answer::Unknown(Unknown::Status { status: fields.status()? }),
        20 => Answer::Unknown(Unknown::Unreadable),
        21 => Answer::Unknown(Unknown::UnknownError),
        22 => Answer::Unknown(Unknown::Foreign),
        UNCONFIRMED => {
            let code = u8::try_from(fields.first).ok()?;
            Answer::Unknown(Unknown::Unconfirmed(refusal(&Fields { code, ..*fields })?))
        }
        _ => Answer::Refused(refusal(fields)?),
    })
}

fn refusal_fields(refusal: Refusal, fields: Fields) -> Fields {
    let (code, number) = match refusal {
        Refusal::NotJoinable => (32, 0),
        Refusal::Taken => (33, 0),
        Refusal::DailyLimit => (34, 0),
        Refusal::Unauthenticated => (35, 0),
        Refusal::Captcha => (36, 0),
        Refusal::Challenge => (37, 0),
        Refusal::Forbidden { status } => (38, u64::from(status)),
        Refusal::RateLimited { retry_after: None } => (39, 0),
        Refusal::RateLimited { retry_after: Some(wait) } => {
            (40, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
        }
        Refusal::StaleQuery => (41, 0),
    };
    Fields { code, number, ..fields }
}

fn refusal(fields: &Fields) -> Option<Refusal> {
    Some(match fields.code {
        32 => Refusal::NotJoinable,
        33 => Refusal::Taken,
        34 => Refusal::DailyLimit,
        35 => Refusal::Unauthenticated,
        36 => Refusal::Captcha,
        37 => Refusal::Challenge,
        38 => Refusal::Forbidden { status: fields.status()? },
        39 => Refusal::RateLimited { retry_after: None },
        40 => Refusal::RateLimited { retry_after: Some(Duration::from_millis(fields.number)) },
        41 => Refusal::StaleQuery,
        _ => return None,
    })
}

fn halt_fields(reason: HaltReason, fields: Fields) -> Fields {
    match reason {
        HaltReason::Person(who) => Fields { code: 1, ..fields }.with_text(who.as_str()),
        HaltReason::BalanceDrop { expected, actual } => {
            Fields { code: 2, first: expected.cents(), second: actual.cents(), ..fields }
        }
        HaltReason::Unintended { id } => Fields { code: 3, ..fields }.with_text(id.as_str()),
        HaltReason::Contradiction { id } => Fields { code: 4, ..fields }.with_text(id.as_str()),
        HaltReason::Price { id, approved, paid } => {
            let (first, second) = (approved.cents(), paid.cents());
            Fields { code: 5, first, second, ..fields }.with_text(id.as_str())
        }
        HaltReason::Disagreement { missing, listed } => {
            let fields = Fields { code: 6, first: missing.cents(), ..fields };
            listed.map_or(fields, |id| fields.with_text(id.as_str()))
        }
        HaltReason::AbsurdPrice { id, approved, paid } => {
            let (first, second) = (approved.cents(), paid.cents());
            Fields { code: 16, first, second, ..fields }.with_text(id.as_str())
        }
        HaltReason::Unknowns { count } => Fields { code: 7, number: u64::from(count), ..fields },
        HaltReason::Refusals { count } => Fields { code: 8, number: u64::from(count), ..fields },
        HaltReason::Storage(fault) => Fields { code: 9, number: u64::from(fault.code()), ..fields },
        HaltReason::Thread(thread) => {
            Fields { code: 10, number: u64::from(thread.code()), ..fields }
        }
        HaltReason::OtherAccount => Fields { code: 17, ..fields },
        HaltReason::Refused(refusal) => refusal_fields(refusal, fields),
    }
}

fn halt(fields: &Fields) -> Option<HaltReason> {
    let (first, second) = (Coins::from_cents(fields.first), Coins::from_cents(fields.second));
    Some(match fields.code {
        1 => HaltReason::Person(fields.who()?),
        2 => HaltReason::BalanceDrop { expected: first, actual: second },
        3 => HaltReason::Unintended { id: fields.id()? },
        4 => HaltReason::Contradiction { id: fields.id()? },
        5 => HaltReason::Price { id: fields.id()?, approved: first, paid: second },
        6 if fields.text_len == 0 => HaltReason::Disagreement { missing: first, listed: None },
        6 => HaltReason::Disagreement { missing: first, listed: Some(fields.id()?) },
        7 => HaltReason::Unknowns { count: fields.count()? },
        8 => HaltReason::Refusals { count: fields.count()? },
        16 => HaltReason::AbsurdPrice { id: fields.id()?, approved: first, paid: second },
        9 => HaltReason::Storage(StorageFault::from_code(fields.count()?)?),
        10 => HaltReason::Thread(ThreadName::from_code(fields.count()?)?),
        17 => HaltReason::OtherAccount,
        _ => HaltReason::Refused(refusal(fields)?),
    })
}
