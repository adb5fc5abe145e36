//! What can happen to a ledger, as plain values.
//!
//! A [`Book`](super::state::Book) is the sum of its [`LedgerEvent`]s: whoever applies the same events in
//! the same order has the same book. So the journal keeps events, recovery replays them, and
//! `verify` compares. Everything here is `Copy` and of fixed size, so that a record of it is too.

use std::fmt;

use super::fault::StorageFault;
use crate::{
    domain::money::Amount,
    domain::outcome::{NotSent, Outcome, RejectReason, Unknown},
    domain::time::UnixMs,
    domain::trade::{TradeId, TradeStatus},
    threads::ThreadName,
};

/// The number of an intent: 1, 2, 3, … in the order in which they were approved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A whitelist entry, as the ledger numbers them over all its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntrySlot(pub u32);

impl EntrySlot {
    /// Nobody knows which entry it was: it counts against every one.
    pub const ANY: Self = Self(0);
}

/// Where an intent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderState {
    /// Approved; its request may be leaving.
    Reserved,
    /// Its request has begun to leave.
    Sent,
    /// The marketplace named it as ours: a reservation there, not yet a delivery.
    Bought,
    /// The marketplace said no.
    Refused,
    /// Nobody can tell. Counts as spent.
    Unknown,
    /// Not one byte of it left.
    NotSent,
    /// Delivered.
    Completed,
    /// Cancelled after it was bought, and its coins are not back yet. Counts as spent.
    Returning,
    /// Cancelled after it was bought, and a balance has shown its coins.
    Returned,
    /// It was unknown, and then proven not to have happened.
    NotBought,
}

impl OrderState {
    /// Whether its price counts against the limits.
    pub const fn counts(self) -> bool {
        match self {
            Self::Reserved
            | Self::Sent
            | Self::Bought
            | Self::Unknown
            | Self::Completed
            | Self::Returning => true,
            Self::Refused | Self::NotSent | Self::Returned | Self::NotBought => false,
        }
    }

    /// Whether an answer is still being waited for.
    pub const fn is_in_flight(self) -> bool {
        matches!(self, Self::Reserved | Self::Sent)
    }

    /// Whether reconciliation still has something to find out about it.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Bought | Self::Unknown | Self::Returning)
    }

    /// Whether the marketplace has confirmed the charge, and has not given it back.
    pub const fn is_charged(self) -> bool {
        matches!(self, Self::Bought | Self::Completed | Self::Returning)
    }

    /// The word for tables and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Sent => "sent",
            Self::Bought => "bought",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::NotSent => "not_sent",
            Self::Completed => "completed",
            Self::Returning => "returning",
            Self::Returned => "returned",
            Self::NotBought => "not_bought",
        }
    }
}

/// Why an order stops counting against the limits. There is no other reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// Not one byte of its request was handed to the system.
    NotSent,
    /// The marketplace rejected it in an answer that surely belongs to it.
    Rejected,
    /// It was unknown; a complete list does not have it, and no balance lacks its price.
    NotBought,
    /// It was cancelled after it was bought, and a balance shows its coins.
    Returned,
}

impl Release {
    /// Where an order goes that this releases, if it can: the one function that lowers exposure.
    ///
    /// What must be true before each of them is decided is said in `docs/ledger.md`: the first two
    /// are the executor's to report, the other two are decided by
    /// [`reconcile`](super::reconcile), and an operator may settle them instead.
    pub const fn of(self, from: OrderState) -> Option<OrderState> {
        match (self, from) {
            (Self::NotSent, OrderState::Reserved | OrderState::Sent) => Some(OrderState::NotSent),
            (Self::Rejected, OrderState::Reserved | OrderState::Sent | OrderState::Unknown) => {
                Some(OrderState::Refused)
            }
            (Self::NotBought, OrderState::Unknown) => Some(OrderState::NotBought),
            (Self::Returned, OrderState::Returning) => Some(OrderState::Returned),
            _ => None,
        }
    }
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What came back for a request: an [`Outcome`] without what the ledger has no use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordedAnswer {
    /// Bought, for this much where the marketplace says so.
    Bought(Option<Amount>),
    /// The marketplace said no.
    Refused(RejectReason),
    /// It never left.
    NotSent(NotSent),
    /// Nobody can tell.
    Unknown(Unknown),
}

impl From<&Outcome> for RecordedAnswer {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Bought { price, server_time: _ } => Self::Bought(*price),
            Outcome::Refused(refusal) => Self::Refused(*refusal),
            Outcome::NotSent(why) => Self::NotSent(*why),
            Outcome::Unknown(why) => Self::Unknown(*why),
        }
    }
}

/// What was found out about an intent other than by its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// It is among our own trades and not yet delivered.
    Bought,
    /// It was delivered.
    Completed,
    /// It is among our own trades and cancelled; its coins are to come back.
    Returning,
    /// A balance shows the coins of a cancelled order.
    Returned,
    /// It is not among our own trades, and no coins are missing.
    NotBought,
    /// What version 0.1.0 recorded when the status alone said that the coins come back.
    ReturnedByStatus,
}

impl Evidence {
    /// What the status of a trade of our own says about it.
    pub const fn from_status(status: TradeStatus) -> Option<Self> {
        match status {
            TradeStatus::Joined | TradeStatus::Processing => Some(Self::Bought),
            TradeStatus::Completed | TradeStatus::CompletedProtected => Some(Self::Completed),
            TradeStatus::Cooldown | TradeStatus::Cancelled | TradeStatus::Expired => {
                Some(Self::Returning)
            }
            TradeStatus::Listed | TradeStatus::Other => None,
        }
    }

    /// The state that it proves.
    pub const fn state(self) -> OrderState {
        match self {
            Self::Bought => OrderState::Bought,
            Self::Completed => OrderState::Completed,
            Self::Returning => OrderState::Returning,
            Self::Returned | Self::ReturnedByStatus => OrderState::Returned,
            Self::NotBought => OrderState::NotBought,
        }
    }
}

/// The longest name of a person that is kept, in bytes.
pub const WHO_BYTES_MAX: usize = 32;

/// A person's name, as their system knows them. Held inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operator {
    len: u8,
    bytes: [u8; WHO_BYTES_MAX],
}

impl Operator {
    /// Takes over as much of a name as can be kept, harmless characters only.
    pub fn new(name: &str) -> Self {
        let mut who = Self { len: 0, bytes: [0; WHO_BYTES_MAX] };
        for char in name.chars().filter(|char| crate::text::is_harmless(*char)) {
            let (start, mut buffer) = (usize::from(who.len), [0; 4]);
            let encoded = char.encode_utf8(&mut buffer).as_bytes();
            let end = start.saturating_add(encoded.len());
            let Some(room) = who.bytes.get_mut(start..end) else { break };
            room.copy_from_slice(encoded);
            who.len = u8::try_from(end).unwrap_or(who.len);
        }
        who
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Who({self})")
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who found something out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvidenceSource {
    /// Reconciliation with the marketplace.
    Marketplace,
    /// A message of the feed.
    Feed,
    /// A person, at a terminal.
    Person(Operator),
}

/// Why buying stopped until a person has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HaltReason {
    /// A person said so.
    #[error("{0} stopped it")]
    Person(Operator),
    /// The balance fell by more than anything this ledger did explains.
    #[error("the balance is {actual}, but should be {expected} at least")]
    BalanceDrop {
        /// The least that can be explained.
        expected: Amount,
        /// What the marketplace says.
        actual: Amount,
    },
    /// Among our own trades there is one that this ledger never asked for.
    #[error("a purchase that nobody intended: {id}")]
    Unintended {
        /// Which.
        id: TradeId,
    },
    /// Something that was refused, never sent or given back is ours all the same.
    #[error("{id} was refused or came to nothing, and is ours all the same")]
    Contradiction {
        /// Which.
        id: TradeId,
    },
    /// It cost something other than what was approved.
    #[error("{id} cost {paid}, but {approved} was approved")]
    Price {
        /// Which.
        id: TradeId,
        /// What was approved.
        approved: Amount,
        /// What it cost.
        paid: Amount,
    },
    /// A buy whose outcome is unknown is not among our trades, yet coins are missing.
    #[error("{missing} coins are missing and no purchase explains them{}", listed_as(listed))]
    Disagreement {
        /// How many.
        missing: Amount,
        /// An order that is among our trades with a status that this version does not know.
        listed: Option<TradeId>,
    },
    /// A price that cannot be true.
    #[error("the marketplace says that {id} cost {paid}, where {approved} was approved")]
    AbsurdPrice {
        /// Which.
        id: TradeId,
        /// What was approved.
        approved: Amount,
        /// The price that it names.
        paid: Amount,
    },
    /// Too many answers in a row that say nothing.
    #[error("{count} buys in a row ended unknown")]
    Unknowns {
        /// How many.
        count: u32,
    },
    /// Too many unexpected refusals in a row.
    #[error("{count} buys in a row were refused unexpectedly")]
    Refusals {
        /// How many.
        count: u32,
    },
    /// A refusal that only a person can lift.
    #[error("{0}")]
    Refused(RejectReason),
    /// The site's answers are about another account than the ledger's.
    #[error("the site answers for another account than the one that this ledger belongs to")]
    OtherAccount,
    /// The ledger's files cannot be relied on.
    #[error("{0}")]
    Storage(StorageFault),
    /// A thread panicked or ended while the bot ran.
    #[error("the thread `{0}` panicked or ended; {task}", task = .0.task())]
    Thread(ThreadName),
}

impl HaltReason {
    /// Whether two reasons have one cause, so that they are one halt. Each purchase that was not
    /// intended is one of its own: resuming accepts those that were named.
    pub fn has_cause_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unintended { .. } | Self::Refused(_), _) => self == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// What the person must do before buying again makes sense.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Person(_) => "run `sniper resume` to go on",
            Self::BalanceDrop { .. } | Self::Disagreement { .. } => {
                "compare the site's history with `sniper ledger`, then run `sniper resume`"
            }
            Self::Unintended { .. } | Self::Contradiction { .. } => {
                "check on the site who bought it; if it was you, run `sniper resume`"
            }
            Self::Price { .. } | Self::AbsurdPrice { .. } => {
                "look the purchase up on the site, then run `sniper resume`"
            }
            Self::Unknowns { .. } => {
                "check the connection and the site, look at `sniper ledger`, then run `sniper resume`"
            }
            Self::Refusals { .. } => "check the site in your browser, then run `sniper resume`",
            Self::Refused(refusal) => match refusal.remedy() {
                Some(remedy) => remedy,
                None => "check the site in your browser, then run `sniper resume`",
            },
            Self::OtherAccount => {
                "put the session of the ledger's account into `.env`, start the bot again, then run \
                 `sniper resume`"
            }
            Self::Storage(fault) => fault.remedy(),
            Self::Thread(_) => {
                "stop the bot, report the panic message if there is one on stderr, start the bot \
                 again, then run `sniper resume`"
            }
        }
    }
}

fn listed_as(listed: &Option<TradeId>) -> String {
    listed.map_or_else(String::new, |id| {
        format!("; {id} is listed with a status that this version does not know")
    })
}

/// A boot of the machine, told from others by the first half of its boot id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BootId(pub u64);

impl BootId {
    /// The boot of which this is the id; zero for none.
    pub fn new(id: Option<&str>) -> Self {
        let digits: String = id.unwrap_or_default().chars().filter(|char| *char != '-').collect();
        // An id of another form still tells boots apart by its checksum.
        let hex = digits.get(..16).and_then(|half| u64::from_str_radix(half, 16).ok());
        Self(match (id, hex) {
            (None, _) => 0,
            (Some(_), Some(half)) => half.max(1),
            (Some(id), None) => u64::from(crc32c::crc32c(id.as_bytes())).max(1),
        })
    }
}

/// One thing that happened to the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerEvent {
    /// A buy was approved.
    Reserved {
        /// Its number.
        sequence: Sequence,
        /// The listing.
        id: TradeId,
        /// What it may cost.
        price: Amount,
        /// For which whitelist entry.
        entry: EntrySlot,
        /// Under which limits: a number that the journal explains.
        limits: u32,
    },
    /// Its request has begun to leave.
    Sent {
        /// Which.
        sequence: Sequence,
    },
    /// Its answer came, or surely will not.
    Answered {
        /// Which.
        sequence: Sequence,
        /// What it was.
        answer: RecordedAnswer,
    },
    /// Something was found out about it.
    Proved {
        /// Which.
        sequence: Sequence,
        /// What.
        proof: Evidence,
        /// What it cost, where that was found out too.
        paid: Option<Amount>,
        /// By whom.
        by: EvidenceSource,
    },
    /// A purchase that power loss made the ledger forget was found among our own trades.
    Adopted {
        /// The number it gets.
        sequence: Sequence,
        /// The listing.
        id: TradeId,
        /// What it cost.
        price: Amount,
    },
    /// A purchase that is none of this ledger's business.
    Accepted {
        /// The listing.
        id: TradeId,
    },
    /// What the account held before this ledger began is accepted, all of it.
    Baselined,
    /// Buying stopped until a person has looked, for a reason that no other event carries.
    Halted(HaltReason),
    /// A person has looked.
    Resumed {
        /// Who.
        by: Operator,
    },
    /// Buying pauses for a while.
    Paused {
        /// Until when, by our wall clock.
        until: UnixMs,
    },
    /// `total` counts from here.
    NewBudget {
        /// Who said so.
        by: Operator,
    },
    /// The marketplace said what the account holds.
    Balance {
        /// How much.
        coins: Amount,
        /// The earliest moment, by our wall clock, at which that can have been true.
        as_of: UnixMs,
    },
    /// The program started: whatever was in flight before is unknown now.
    Started {
        /// Which boot of the machine this is; zero where that cannot be told.
        boot: BootId,
    },
    /// The machine lost power: so much may have been spent of which nothing is known.
    Lost {
        /// How many coins.
        coins: Amount,
        /// How many buys.
        count: u32,
        /// Listings created up to this moment may have been requested.
        barrier: UnixMs,
    },
    /// What the account's own list says that an order cost, confirmed by a balance.
    PriceConfirmed {
        /// Which.
        sequence: Sequence,
        /// What it cost.
        price: Amount,
    },
    /// What was lost is accounted for.
    LossSettled {
        /// By whom.
        by: EvidenceSource,
    },
}
