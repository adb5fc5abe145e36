//! Data about the account, as a market reports it. Pure.

use std::fmt;

use super::{
    money::Amount,
    own_order_id::OwnOrderId,
    time::UnixMs,
    trade::{TradeId, TradeStatus},
};

/// Maximum length of a page cursor, in bytes.
pub const PAGE_CURSOR_BYTES_MAX: usize = 1_024;

/// Maximum length of an unknown status, in characters.
pub const STATUS_CHARS_MAX: usize = 40;

/// Maximum length of the name of an item, in characters.
pub const ITEM_NAME_CHARS_MAX: usize = 200;

/// Maximum length of the name of an account, in characters.
pub const USER_NAME_CHARS_MAX: usize = 40;

/// Account of the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub id: String,
    /// Number of the Steam account that receives the items, if it is the id of an account whose id
    /// the market does not always state.
    pub recipient: Option<String>,
    /// Name for display, if the market has one: untrusted, at most [`USER_NAME_CHARS_MAX`] long.
    pub name: Option<String>,
    /// Balance from which orders are paid, rounded down; `None` if it is missing or unreadable.
    pub balance: Option<Amount>,
    /// Set if `balance` is `None`.
    pub balance_error: Option<BalanceError>,
    /// `true` if the market has flagged the account, so that listings open later for it; `None`
    /// without the field.
    pub is_flagged: Option<bool>,
}

impl User {
    /// Returns the ids by which a ledger recognizes the account.
    pub fn ids(&self) -> AccountIds<'_> {
        let recipient = self.recipient.as_deref();
        AccountIds { stated: Some(&*self.id).filter(|id| recipient != Some(*id)), recipient }
    }
}

/// Ids in one reading of an account. Several accounts may have one recipient, and an account may
/// change its recipient, so that the recipient identifies an account only until an id is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountIds<'a> {
    /// Id that the market states.
    pub stated: Option<&'a str>,
    pub recipient: Option<&'a str>,
}

impl<'a> From<&'a str> for AccountIds<'a> {
    fn from(stated: &'a str) -> Self {
        Self { stated: Some(stated), recipient: None }
    }
}

impl AccountIds<'_> {
    /// Returns the account of a ledger after this reading. A ledger that is bound to the recipient
    /// takes the first id that is stated, and a reading that states none is no evidence of another
    /// account.
    ///
    /// # Errors
    ///
    /// Returns the id in the reading if the ledger belongs to another account.
    pub fn of_ledger(self, bound: Option<&LedgerAccount>) -> Result<LedgerAccount, String> {
        let requested = self.stated.or(self.recipient).unwrap_or_default();
        let read = LedgerAccount { id: requested.to_owned(), is_stated: self.stated.is_some() };
        let Some(bound) = bound.filter(|bound| bound.id != requested) else { return Ok(read) };
        let is_recipient = !bound.is_stated && self.recipient == Some(&*bound.id);
        match self.stated {
            Some(_) if is_recipient => Ok(read),
            None if bound.is_stated => Ok(bound.clone()),
            _ => Err(read.id),
        }
    }
}

/// Account to which a ledger is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerAccount {
    pub id: String,
    /// `false` if the id is that of the recipient, because the market has stated none.
    pub is_stated: bool,
}

/// Reason why a readable response has no balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceError {
    /// Identifies the cause; the same for texts that differ only in figures.
    key: String,
    text: String,
}

/// One page of listings or purchases.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// Entries in the order of the page.
    pub nodes: Vec<T>,
    /// Number of entries that could not be read.
    pub unreadable: u32,
    pub next: NextPage,
    /// Message of the first error beside the list, which is untrusted text.
    pub error: Option<String>,
}

/// Position of the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPage {
    /// The page is the last one.
    End,
    /// The next page begins after this cursor.
    After(String),
    /// The page does not show whether it is the last one, or its cursor is missing or longer than
    /// [`PAGE_CURSOR_BYTES_MAX`].
    Unclear,
}

/// Entry of the account's list of purchases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPurchase {
    pub id: TradeId,
    /// Market name of the item: untrusted text of at most [`ITEM_NAME_CHARS_MAX`] characters;
    /// `None` if the market does not state it.
    pub name: Option<Box<str>>,
    pub status: TradeStatus,
    /// Status on the wire that no purchase is known to have: untrusted text of at most
    /// [`STATUS_CHARS_MAX`] characters.
    pub unknown_status: Option<Box<str>>,
    /// `None` if the price cannot be read.
    pub price: Option<Amount>,
    /// Server time at which the listing was created.
    pub created_at: Option<UnixMs>,
    /// Server time of the last change.
    pub updated_at: Option<UnixMs>,
    /// Server time of the purchase.
    pub joined_at: Option<UnixMs>,
    /// Part of the price that the market keeps of a cancelled purchase, rounded up.
    pub commission: Option<Amount>,
    /// Own id of its order; `None` if the record states none.
    pub own_id: Option<OwnOrderId>,
}

#[cfg(test)]
impl OwnPurchase {
    /// Returns an entry that states only its status.
    pub(crate) const fn bare(id: TradeId, status: TradeStatus) -> Self {
        Self {
            id,
            name: None,
            status,
            unknown_status: None,
            price: None,
            created_at: None,
            updated_at: None,
            joined_at: None,
            commission: None,
            own_id: None,
        }
    }
}

impl BalanceError {
    pub fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { key: key.into(), text: text.into() }
    }

    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for BalanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for BalanceError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_bound_to_the_stated_id_or_to_the_recipient_until_one_is_stated() {
        let account = |id: &str, is_stated| LedgerAccount { id: id.to_owned(), is_stated };
        let read = |id: &str, bound: Option<(&str, bool)>| {
            let recipient = Some("4711".to_owned());
            let user = User { id: id.to_owned(), recipient, ..User::default() };
            let bound = bound.map(|(id, is_stated)| account(id, is_stated));
            user.ids().of_ledger(bound.as_ref())
        };
        for (stated, bound, expected) in [
            ("900", None, Some(("900", true))),
            ("900", Some(("900", true)), Some(("900", true))),
            ("900", Some(("901", true)), None),
            ("900", Some(("account-1", true)), None),
            // Ledgers of earlier versions may be bound to any number.
            ("900", Some(("900", false)), Some(("900", true))),
            ("900", Some(("4711", false)), Some(("900", true))),
            ("900", Some(("4711", true)), None),
            ("900", Some(("4712", false)), None),
            // No id is stated.
            ("4711", None, Some(("4711", false))),
            ("4711", Some(("4711", false)), Some(("4711", false))),
            ("4711", Some(("4712", false)), None),
            ("4711", Some(("900", true)), Some(("900", true))),
        ] {
            let expected = expected.map(|(id, is_stated)| account(id, is_stated));
            assert_eq!(read(stated, bound).ok(), expected, "{stated} {bound:?}");
        }
        let user = User { id: "900".to_owned(), ..User::default() };
        let other = user.ids().of_ledger(Some(&account("account-1", true)));
        assert_eq!(other, Err("900".to_owned()), "without a recipient");
    }
}
