//! Messages between a member and the database. Every contact is one [`Exchange`]: one transaction
//! that reports what the member has used, changes its slices, and renews its role.
//!
//! # Invariants
//!
//! 1. An exchange with a lower `version` than the member's row changes no slice, order or role, and
//!    every other exchange raises the version. So a delayed or repeated exchange has no effect. A
//!    higher version proves that the database was restored.
//! 2. A member lowers what it may use before it sends an exchange that lowers a slice, and raises
//!    it only after a reply.

use std::{collections::BTreeMap, fmt};

use crate::{domain::money::Amount, domain::trade::TradeKey, ledger::OrderState};

/// Maximum number of shared limits of a member: `total`, the windows, and named entries and groups
/// with limits.
pub const LIMITS_MAX: usize = 1_024;
/// Maximum number of orders that one exchange reports.
pub const REPORTS_MAX: usize = 256;
/// Maximum number of members of a group, without released ones.
pub const MEMBERS_MAX: usize = 1_000;

/// Shared limit. Amounts are thousandths of the group's unit, rounded against the member;
/// quantities are numbers of orders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    Total,
    PerHour,
    PerDay,
    /// `max_quantity` of the entries with this name.
    EntryQuantity(String),
    /// `max_total` of the entries with this name.
    EntryTotal(String),
    GroupQuantity(String),
    GroupTotal(String),
}

impl Limit {
    /// Reads the stored form, which is that of [`Display`](fmt::Display).
    pub fn from_text(text: &str) -> Option<Self> {
        let (kind, name) =
            text.split_once(' ').map_or((text, None), |(kind, name)| (kind, Some(name)));
        match (kind, name) {
            ("total", None) => Some(Self::Total),
            ("per_hour", None) => Some(Self::PerHour),
            ("per_day", None) => Some(Self::PerDay),
            ("entry_quantity", Some(name)) => Some(Self::EntryQuantity(name.to_owned())),
            ("entry_total", Some(name)) => Some(Self::EntryTotal(name.to_owned())),
            ("group_quantity", Some(name)) => Some(Self::GroupQuantity(name.to_owned())),
            ("group_total", Some(name)) => Some(Self::GroupTotal(name.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total => f.write_str("total"),
            Self::PerHour => f.write_str("per_hour"),
            Self::PerDay => f.write_str("per_day"),
            Self::EntryQuantity(name) => write!(f, "entry_quantity {name}"),
            Self::EntryTotal(name) => write!(f, "entry_total {name}"),
            Self::GroupQuantity(name) => write!(f, "group_quantity {name}"),
            Self::GroupTotal(name) => write!(f, "group_total {name}"),
        }
    }
}

/// Usage of one limit by a member, and the slice that it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demand {
    /// Sum that the member's ledger counts against the limit: reserved, spent, unknown and
    /// returning.
    pub used: i64,
    /// The slice that the member wants. If it is less than its slice, the member gives back the
    /// difference.
    pub wanted: i64,
    /// The limit in the member's settings, or `used` if the member wants no share of it. The
    /// database compares only slices of other limits than [`Limit::Total`] with it, whose limit it
    /// stores itself.
    pub max: i64,
    /// An order was rejected lately because it was beyond the member's slice.
    pub is_denied: bool,
}

/// Name of a member, unique in its group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberName(pub String);

/// Order that a member reports, so that a standby knows it after a takeover.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReportedOrder {
    /// Number of the order in the member's ledger.
    pub sequence: u32,
    pub key: TradeKey,
    pub state: OrderState,
    /// In the market's unit.
    pub price: Amount,
}

/// Request of a member about its role among standbys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleRequest {
    /// The member has no standbys.
    None,
    /// Reads the role without a change.
    Watch,
    /// Keeps the role for another term. Has no effect if the epoch is another one.
    Renew { epoch: u64 },
    /// Takes over the role if it is still as observed, and if it was resigned or its term has ended
    /// by the database's clock. Both numbers are 0 if there is no active member yet.
    TakeOver { epoch: u64, renewals: u64 },
    /// Gives the role up before its term ends.
    Resign { epoch: u64 },
}

/// Request of a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exchange {
    pub member: MemberName,
    /// Id of the member's ledger. A member's row belongs to one ledger.
    pub ledger: String,
    pub market: String,
    /// Hash of the account; empty if there is none.
    pub account: String,
    /// Name that the member shares with its standbys. If it is `None`, `role` is
    /// [`RoleRequest::None`].
    pub standby: Option<String>,
    /// Number of the exchange in its process, by which the member recognizes a late reply. The
    /// database ignores it.
    pub attempt: u64,
    /// Version of the member's row that the request is based on.
    pub version: u64,
    /// Highest sequence number of the group that the member has seen. A database that is behind it
    /// was restored from a backup.
    pub seen: u64,
    /// The member orders listings at the moment. Others order those of one that does not.
    pub can_order: bool,
    /// Hash of its whitelist. Only members with equal ones split the listings.
    pub whitelist: u64,
    /// Number of orders that the ledger has approved, with those that a power loss may have
    /// destroyed. Only an older copy of the ledger has fewer than the member's row.
    pub approved: u64,
    pub demands: BTreeMap<Limit, Demand>,
    /// At most [`REPORTS_MAX`].
    pub orders: Vec<ReportedOrder>,
    pub role: RoleRequest,
}

/// Active member among those with the same `standby` name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Role {
    pub active: MemberName,
    /// Rises with every takeover.
    pub epoch: u64,
    /// Rises with every renewal of an epoch.
    pub renewals: u64,
    /// Wall clock of the database at the takeover, in Unix milliseconds. Display only.
    pub since_ms: i64,
    /// `true` if the active member gave the role up.
    pub is_resigned: bool,
}

/// Another member, as of the last exchange.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub name: MemberName,
    pub market: String,
    /// Hash of the account, by which members with the same account are found.
    pub account: String,
    pub standby: Option<String>,
    /// Number of exchanges of this member so far. If it does not change, the member is not live.
    pub version: u64,
    /// As it said in its last exchange.
    pub can_order: bool,
    pub whitelist: u64,
    /// Time since its last exchange by the clock of the database. Display only.
    pub silent_ms: i64,
    /// Slice of the total, and its reported usage. Display only.
    pub slice: i64,
    pub used: i64,
}

/// Other live members that share a limit because they have it with a rest, as of their last
/// exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OtherMembers {
    pub count: i64,
    /// One of them was denied an order, and got less than it wants.
    pub is_short: bool,
}

/// State of the database after an exchange, as far as it concerns the member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Confirmed {
    pub version: u64,
    /// Sequence number of the group, which every exchange raises.
    pub sequence: u64,
    /// Slice of each limit.
    pub slices: BTreeMap<Limit, i64>,
    /// Other members of each limit in the exchange, if there are any.
    pub others: BTreeMap<Limit, OtherMembers>,
    /// Part of the group's `total` that is in no slice. Negative after `total` was lowered, or if a
    /// member used more than its slice.
    pub free: i64,
    /// Role of the member's standby name. `None` if it has none, or if there was no active member
    /// yet.
    pub role: Option<Role>,
    /// Term of every role, which is the same for all members of the group and never changes.
    pub term_ms: i64,
    pub peers: Vec<Peer>,
}

/// Answer of the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// The exchange was carried out.
    Done(Confirmed),
    /// The exchange had a lower version than the row, so it was not carried out. Contains the
    /// current state.
    Stale(Confirmed),
    Rejected(MemberRejection),
}

/// Reason for which a member may not order until its user acts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MemberRejection {
    /// The group does not exist; `sniper shared init` creates it.
    NoGroup,
    /// The tables are of a version before that of the program; `sniper shared init` changes them.
    OlderTables,
    /// A member has noticed that the database was restored from a backup, so that slices that were
    /// given since may be lost. `sniper shared set --restored` ends this after all members have
    /// reported.
    Restored,
    /// The member's row belongs to another ledger.
    OtherLedger,
    /// A member has reported more orders of the ledger than it has, so the ledger is an older copy.
    OlderLedger,
    /// The user has released the member.
    Released,
    /// The group has [`MEMBERS_MAX`] members that are not released.
    Full,
    /// Another process changes the member's row, such as one with a copy of its data directory. The
    /// member detects this, not the database.
    OtherProcess,
}
