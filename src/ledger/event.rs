//! Events of a ledger, as plain values. Pure.
//!
//! A [`LedgerState`](super::state::LedgerState) is determined by its sequence of [`LedgerEvent`]s.
//! The journal stores events, recovery replays them, and `verify` compares the results. Every type
//! here is `Copy` and of fixed size, so that its record is too.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::fmt;

use crate::{
    domain::money::Amount,
    domain::outcome::{NotSent, Outcome, RejectReason, Unknown},
    domain::own_order_id::StartId,
    domain::time::UnixMs,
    domain::trade::{KeyedBy, TradeId, TradeStatus},
    text::Escaped,
    threads::ThreadName,
};

/// Number of an intent: 1, 2, 3, … in the order of approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
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

/// Number of a whitelist entry, unique over the life of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntrySlot(pub u32);

impl EntrySlot {
    /// Unknown entry: counts against every entry.
    pub const ANY: Self = Self(0);
}

/// State of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderState {
    /// Approved; its request may be on its way.
    Reserved,
    /// The transmission of its request has begun.
    Sent,
    /// Confirmed by the market: reserved there, not yet delivered.
    Bought,
    /// Rejected by the market.
    Rejected,
    /// The outcome is not known. Counts as spent.
    Unknown,
    /// No byte of its request was sent.
    NotSent,
    Completed,
    /// Cancelled after the purchase; the refund has not arrived. Counts as spent.
    Returning,
    /// Cancelled after the purchase; a balance has shown the refund.
    Returned,
    /// Unknown at first, then proven not to have been bought.
    NotBought,
}

impl OrderState {
    /// Returns `true` if an order in this state counts against the limits.
    pub const fn counts(self) -> bool {
        match self {
            Self::Reserved
            | Self::Sent
            | Self::Bought
            | Self::Unknown
            | Self::Completed
            | Self::Returning => true,
            Self::Rejected | Self::NotSent | Self::Returned | Self::NotBought => false,
        }
    }

    /// Returns `true` if a listing whose order is in this state may be ordered again at another
    /// price: it was certainly not bought.
    pub const fn permits_reorder(self) -> bool {
        matches!(self, Self::Rejected | Self::NotSent | Self::NotBought)
    }

    /// Returns `true` while it is not known whether the order was executed.
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::Reserved | Self::Sent | Self::Unknown)
    }

    /// Returns `true` while an answer is pending.
    pub const fn is_in_flight(self) -> bool {
        matches!(self, Self::Reserved | Self::Sent)
    }

    /// Returns `true` while reconciliation may still change the state.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Bought | Self::Unknown | Self::Returning)
    }

    /// Returns `true` for an outcome that is looked up again, because the market may change it.
    pub const fn is_followed_up(self) -> bool {
        self.is_charged() || matches!(self, Self::NotBought | Self::Returned)
    }

    /// Returns `true` if the market has confirmed the charge and has not refunded it.
    pub const fn is_charged(self) -> bool {
        matches!(self, Self::Bought | Self::Completed | Self::Returning)
    }

    /// Returns the word of the database, JSON and CSV.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Sent => "sent",
            Self::Bought => "bought",
            Self::Rejected => "refused",
            Self::Unknown => "unknown",
            Self::NotSent => "not_sent",
            Self::Completed => "completed",
            Self::Returning => "returning",
            Self::Returned => "returned",
            Self::NotBought => "not_bought",
        }
    }
}

/// Reason for which an order stops counting against the limits. An order never stops counting for
/// another reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// No byte of its request was handed to the system.
    NotSent,
    /// Rejected by the market in a response that certainly belongs to the request.
    Rejected,
    /// Unknown at first; a complete list does not contain it and no coins are missing.
    NotBought,
    /// Cancelled after the purchase; a balance shows the refund.
    Returned,
}

impl Release {
    /// Returns the state that this release leads to, if it applies to `from`. No other function
    /// leads to a state in which an order stops counting.
    ///
    /// `docs/ledger.md` lists the preconditions of each. The executor reports the first two,
    /// [`reconcile`](super::reconcile) decides the other two, and the operator may decide those
    /// instead.
    pub const fn of(self, from: OrderState) -> Option<OrderState> {
        match (self, from) {
            (Self::NotSent, OrderState::Reserved | OrderState::Sent) => Some(OrderState::NotSent),
            (Self::Rejected, OrderState::Reserved | OrderState::Sent | OrderState::Unknown) => {
                Some(OrderState::Rejected)
            }
            (Self::NotBought, OrderState::Unknown) => Some(OrderState::NotBought),
            (Self::Returned, OrderState::Returning) => Some(OrderState::Returned),
            _ => None,
        }
    }
}

/// Writes the word for messages, which differs from the word of the files.
impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reserved | Self::Sent => "in flight",
            Self::Rejected => "rejected",
            Self::NotSent => "not sent",
            Self::Completed => "delivered",
            Self::NotBought => "not bought",
            Self::Bought | Self::Unknown | Self::Returning | Self::Returned => self.as_str(),
        })
    }
}

/// Response to a request: an [`Outcome`] reduced to the fields that the ledger uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordedAnswer {
    /// Bought, with the price if the response contains one.
    Bought(Option<Amount>),
    /// Rejected by the market.
    Rejected(RejectReason),
    /// No byte of the request was sent.
    NotSent(NotSent),
    /// The outcome is not known.
    Unknown(Unknown),
}

impl From<&Outcome> for RecordedAnswer {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Bought { price, server_time: _ } => Self::Bought(*price),
            Outcome::Rejected(reason) => Self::Rejected(*reason),
            Outcome::NotSent(cause) => Self::NotSent(*cause),
            Outcome::Unknown(cause) => Self::Unknown(*cause),
        }
    }
}

/// Fact about an intent from another source than its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The account's trades contain it, not yet delivered.
    Bought,
    Completed,
    Returning,
    /// A balance shows the refund of the cancelled order.
    Returned,
    /// The account's trades do not contain it, and no coins are missing.
    NotBought,
    /// Refund that version 0.1.0 recorded because of the status alone.
    ReturnedByStatus,
}

impl Evidence {
    /// Returns the evidence that the status of one of the account's trades provides.
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

    /// Returns the state that this evidence establishes.
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

/// Maximum length of a stored operator name, in bytes.
pub const OPERATOR_BYTES_MAX: usize = 32;

/// User name of an operator, stored inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operator {
    len: u8,
    bytes: [u8; OPERATOR_BYTES_MAX],
}

impl Operator {
    /// Stores as much of the name as fits, without control and other unsafe characters.
    pub fn new(name: &str) -> Self {
        let mut operator = Self { len: 0, bytes: [0; OPERATOR_BYTES_MAX] };
        for char in name.chars().filter(|char| crate::text::is_safe_to_print(*char)) {
            let (start, mut buffer) = (usize::from(operator.len), [0; 4]);
            let encoded = char.encode_utf8(&mut buffer).as_bytes();
            let end = start.saturating_add(encoded.len());
            let Some(room) = operator.bytes.get_mut(start..end) else { break };
            room.copy_from_slice(encoded);
            operator.len = u8::try_from(end).unwrap_or(operator.len);
        }
        operator
    }

    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operator({self})")
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Source of an [`Evidence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvidenceSource {
    /// Reconciliation with the market.
    Marketplace,
    /// A message of the feed.
    Feed,
    /// The operator, at a terminal.
    Operator(Operator),
}

/// Reason for which ordering is halted until the operator resumes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HaltReason {
    /// Halted by the operator.
    #[error("requested by {0}")]
    Operator(Operator),
    /// The balance fell by more than the recorded orders explain.
    #[error(
        "the balance is {actual}, {} less than the {expected} expected at least",
        expected.saturating_sub(*actual)
    )]
    BalanceDrop {
        /// Lowest balance that the recorded orders explain.
        expected: Amount,
        /// Balance that the market reported.
        actual: Amount,
    },
    /// The account's trades contain a purchase that this ledger did not request.
    #[error("the account has a purchase that the bot did not request: {id}")]
    UnexpectedPurchase {
        id: TradeId,
        /// Listed price, if it is known; always positive. `None` once it has explained a drop of
        /// the balance.
        price: Option<Amount>,
    },
    /// An order that was rejected, not sent or released is among the account's purchases.
    #[error("the account bought {id}, although its order was rejected or not sent")]
    Contradiction { id: TradeId },
    /// The price is higher than the approved one.
    #[error(
        "{id} cost {paid}, but only {approved} was approved ({} too much)",
        paid.saturating_sub(*approved)
    )]
    Price { id: TradeId, approved: Amount, paid: Amount },
    /// An order of unknown outcome is not among the account's trades, yet coins are missing.
    #[error("the balance is {missing} lower than the recorded orders explain{}", listed_as(listed))]
    Disagreement {
        missing: Amount,
        /// Unknown order that is listed with a status unknown to this version.
        listed: Option<TradeId>,
    },
    /// The reported price is implausible.
    #[error("the market reports an implausible price for {id}: {paid}, approved {approved}")]
    ImplausiblePrice {
        id: TradeId,
        approved: Amount,
        /// Price that the market reported.
        paid: Amount,
    },
    /// Too many consecutive orders ended with an unknown outcome.
    #[error("{count} orders in a row ended with an unknown outcome")]
    Unknowns { count: u32 },
    /// Too many consecutive rejections with a pause.
    #[error("the market paused ordering {count} times in a row")]
    Rejections { count: u32 },
    /// A rejection that requires action by the operator.
    #[error("{0}")]
    Rejected(RejectReason),
    /// The credential belongs to another account than the ledger.
    #[error("the credential belongs to another account than this ledger")]
    OtherAccount,
    #[error("{0}")]
    Storage(StorageFault),
    /// A thread panicked or ended while the bot ran.
    #[error("a part of the bot failed: {task} (thread `{0}`)", task = .0.task())]
    Thread(ThreadName),
}

impl HaltReason {
    /// Returns `true` if both reasons have the same cause and count as one halt.
    pub fn has_same_cause(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rejected(_) | Self::Storage(_) | Self::Thread(_), _) => self == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Returns the listing that the reason is about, if it is about one.
    pub const fn listing(&self) -> Option<TradeId> {
        match self {
            Self::UnexpectedPurchase { id, .. }
            | Self::Contradiction { id }
            | Self::Price { id, .. }
            | Self::ImplausiblePrice { id, .. } => Some(*id),
            Self::Disagreement { listed, .. } => *listed,
            _ => None,
        }
    }

    /// Describes the reason with the name of the item in place of the listing's id, if it is known.
    pub fn with_item(&self, name: Option<&str>) -> String {
        let text = self.to_string();
        let item = name.map(|name| format!("\"{}\"", Escaped(name)));
        match self.listing().zip(item) {
            Some((id, item)) => text.replacen(id.as_str(), &item, 1),
            None => text,
        }
    }

    /// Returns the action that the operator must take before resuming.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Operator(_) => "run `sniper resume` to continue",
            Self::BalanceDrop { .. } | Self::Disagreement { .. } => {
                "compare the market's history with `sniper ledger`, then run `sniper resume`"
            }
            Self::UnexpectedPurchase { .. } | Self::Contradiction { .. } => {
                "check the purchase at the market; if it was yours, run `sniper resume`"
            }
            Self::Price { .. } | Self::ImplausiblePrice { .. } => {
                "check the purchase at the market, then run `sniper resume`"
            }
            Self::Unknowns { .. } => {
                "check the connection, the market and `sniper ledger`, then run `sniper resume`"
            }
            Self::Rejections { .. } => {
                "wait some minutes and check that the market permits buying; after HTTP 429, lower \
                 max_buys_per_minute; then run `sniper resume`"
            }
            Self::Rejected(reason) => match reason.remedy() {
                Some(remedy) => remedy,
                None => "check the market in your browser, then run `sniper resume`",
            },
            Self::OtherAccount => {
                "put the credential of the ledger's account into `.env`, restart the bot, then run \
                 `sniper resume`"
            }
            Self::Storage(fault) => fault.remedy(),
            Self::Thread(_) => {
                "restart the bot, then run `sniper resume`; report the panic message on stderr, if \
                 there is one"
            }
        }
    }
}

fn listed_as(listed: &Option<TradeId>) -> String {
    listed.map_or_else(String::new, |id| {
        format!("; {id} is listed with a status that this version does not know")
    })
}

/// Identifies a boot of the machine by the first half of its boot id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BootId(pub u64);

impl BootId {
    /// Converts a boot id. Without one, the result is zero.
    pub fn new(id: Option<&str>) -> Self {
        let Some(id) = id else { return Self::default() };
        let digits: String = id.chars().filter(|char| *char != '-').collect();
        let half = digits.get(..16).and_then(|half| u64::from_str_radix(half, 16).ok());
        // An id of another format is identified by its checksum.
        Self(half.unwrap_or_else(|| crc32c::crc32c(id.as_bytes()).into()).max(1))
    }
}

/// One change of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerEvent {
    /// An order was approved.
    Reserved {
        sequence: Sequence,
        id: TradeId,
        /// What identifies the listing: the id, or the id and this price.
        keyed_by: KeyedBy,
        /// Maximum price.
        price: Amount,
        /// Whitelist entry that matched.
        entry: EntrySlot,
        /// Number of the limits in force, as recorded in the database.
        limits: u32,
        /// Number in the own id of the order: its sequence at that time. Zero if it has no own id,
        /// or one that an earlier version derived.
        own_number: u32,
    },
    /// The transmission of the request has begun.
    Sent { sequence: Sequence },
    /// The response arrived, or it is certain that it will not arrive.
    Answered { sequence: Sequence, answer: RecordedAnswer },
    /// Another source than the response established the state of an order.
    Proved {
        sequence: Sequence,
        evidence: Evidence,
        /// Price, if it was established too; for a returned order, the commission that the market
        /// kept.
        paid: Option<Amount>,
        by: EvidenceSource,
        /// Earliest time of a cancellation; zero if not known.
        since: UnixMs,
    },
    /// A purchase that a power loss removed from the record was found among the account's trades.
    Adopted {
        sequence: Sequence,
        id: TradeId,
        price: Amount,
        /// `true` if it may be an order of an earlier power loss: the present loss then stays, and
        /// ordering is halted.
        keeps_loss: bool,
    },
    /// A purchase that this ledger did not request was accepted.
    Accepted { id: TradeId },
    /// Every purchase made before this ledger began is accepted.
    Baselined,
    /// Ordering is halted, for a reason that no other event records.
    Halted(HaltReason),
    /// The operator resumed ordering.
    Resumed { by: Operator },
    Paused {
        /// End of the pause, by the local wall clock.
        until: UnixMs,
    },
    /// `total` starts again at zero.
    NewBudget {
        /// Operator who requested it.
        by: Operator,
    },
    /// The market reported the balance.
    Balance {
        coins: Amount,
        /// Time of the request, by the local wall clock.
        as_of: UnixMs,
    },
    /// The program started: orders in flight before are unknown now.
    Started {
        /// Boot of the machine; zero if not known.
        boot: BootId,
        /// Random bits in the own ids of the orders of this start. Earlier versions had none.
        start: Option<StartId>,
    },
    /// The machine lost power: this much may have been spent without being recorded. Without an
    /// order, it corrects the barrier of an earlier one by the server's clock.
    Lost {
        coins: Amount,
        count: u32,
        /// Listings created up to this moment may have been requested.
        barrier: UnixMs,
    },
    /// A balance confirmed the price in the account's list, or the list shows an unknown order
    /// under an unknown status with this price.
    PriceConfirmed {
        sequence: Sequence,
        /// Price in the account's list.
        price: Amount,
    },
    /// The coins reserved for lost orders are released.
    LossCleared { by: EvidenceSource },
    /// The ledger shares the budget of a group from now on.
    Joined { group: u64 },
    /// Another bot may spend from the account from now on, or none may any longer.
    AccountShared { is_shared: bool },
}

impl LedgerEvent {
    /// Returns the number of the intent that the event is about.
    pub fn sequence(&self) -> Option<Sequence> {
        let mut event = *self;
        event.sequence_mut().copied()
    }

    pub(super) const fn sequence_mut(&mut self) -> Option<&mut Sequence> {
        match self {
            Self::Reserved { sequence, .. }
            | Self::Sent { sequence }
            | Self::Answered { sequence, .. }
            | Self::Proved { sequence, .. }
            | Self::PriceConfirmed { sequence, .. }
            | Self::Adopted { sequence, .. } => Some(sequence),
            _ => None,
        }
    }
}

/// Reason for which the ledger must not be used: its files are unreliable, or another bot uses the
/// account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StorageFault {
    #[error("the ledger's files were deleted or moved while the bot ran")]
    Gone,
    /// The path names another file.
    #[error("the ledger's files were replaced while the bot ran")]
    Replaced,
    /// The file does not contain the bytes written last.
    #[error("another program wrote to the ledger's files, or restored an older copy of them")]
    Changed,
    /// The directory rejects writes.
    #[error("the ledger's folder is no longer writable")]
    Unwritable,
    /// SQLite's write-ahead log cannot be checkpointed.
    #[error("the ledger's log file is full, because another program keeps reading ledger.db")]
    LogFull,
    /// Another bot holds the lock of this account.
    #[error("another bot took over this account's lock, because the lock file was deleted")]
    AccountTaken,
}

impl StorageFault {
    /// All faults, causes before their consequences.
    pub const ALL: [Self; 6] = [
        Self::Gone,
        Self::Replaced,
        Self::Changed,
        Self::Unwritable,
        Self::LogFull,
        Self::AccountTaken,
    ];

    /// Returns the action that the operator must take.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Gone | Self::Replaced => {
                "move the original files back and run `sniper resume`; if they are lost, stop the \
                 bot and start it with --new-ledger"
            }
            Self::Changed => "restart the bot; if it does not start, follow its error message",
            Self::Unwritable => "make SNIPER_DATA writable for this user, then run `sniper resume`",
            Self::LogFull => {
                "stop the program that reads ledger.db (`fuser ledger.db` shows it), then run \
                 `sniper resume`"
            }
            Self::AccountTaken => {
                "stop one of the two bots, then `sniper resume` or restart this one"
            }
        }
    }

    /// Returns the number used in records and alarms, from 1.
    pub const fn code(self) -> u32 {
        match self {
            Self::Gone => 1,
            Self::Replaced => 2,
            Self::Changed => 3,
            Self::Unwritable => 4,
            Self::LogFull => 5,
            Self::AccountTaken => 6,
        }
    }

    /// Returns the fault with this number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.code() == code)
    }

    /// Returns the alarm bit of the fault.
    pub(super) const fn bit(self) -> u32 {
        1 << self.code()
    }

    /// Iterates over the faults whose bits are set.
    pub(super) fn among(bits: u32) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |fault| bits & fault.bit() != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_state_in_text_is_not_that_of_the_files() {
        let words = [
            (OrderState::Sent, "sent", "in flight"),
            (OrderState::Rejected, "refused", "rejected"),
            (OrderState::NotSent, "not_sent", "not sent"),
            (OrderState::Completed, "completed", "delivered"),
            (OrderState::NotBought, "not_bought", "not bought"),
            (OrderState::Unknown, "unknown", "unknown"),
        ];
        for (state, word, text) in words {
            assert_eq!((state.as_str(), &*state.to_string()), (word, text));
        }
    }

    #[test]
    fn every_fault_has_a_unique_code_and_bit() {
        for fault in StorageFault::ALL {
            assert_eq!(StorageFault::from_code(fault.code()), Some(fault));
            assert_eq!(StorageFault::among(fault.bit()).collect::<Vec<_>>(), [fault]);
            assert!((1..16).contains(&fault.code()), "the other bits are taken");
        }
        assert_eq!(StorageFault::from_code(0), None);
    }

    #[test]
    fn a_halt_names_its_item_and_the_difference() {
        let id = TradeId::new("VHJhZGU6OQ").unwrap();
        let [approved, paid] = [857, 957].map(Amount::from_cents);
        let price = HaltReason::Price { id, approved, paid };
        let expected = "\"Glove Case\" cost 9.57, but only 8.57 was approved (1.00 too much)";
        assert_eq!(price.with_item(Some("Glove Case")), expected);
        assert_eq!(price.with_item(None), price.to_string());
        for reason in [
            HaltReason::UnexpectedPurchase { id, price: None },
            HaltReason::Contradiction { id },
            HaltReason::ImplausiblePrice { id, approved, paid },
            HaltReason::Disagreement { missing: paid, listed: Some(id) },
        ] {
            let text = reason.with_item(Some("a\u{1b}b"));
            assert!(!text.contains(id.as_str()) && !text.contains('\u{1b}'), "{text}");
        }
        let (expected, actual) = (Amount::from_cents(48_939), Amount::from_cents(46_091));
        let text = HaltReason::BalanceDrop { expected, actual }.with_item(Some("x"));
        assert_eq!(text, "the balance is 460.91, 28.48 less than the 489.39 expected at least");
    }
}
