//! Data about the account, as a market reports it. Pure.

use std::fmt;

use super::{
    money::Amount,
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
    /// Amount that may be withdrawn per day; `None` without the field.
    pub daily_withdraw_limit: Option<Amount>,
}

impl User {
    /// Returns the id to compare with that of a ledger. A ledger that was bound to the recipient
    /// stays bound to it, and a reading that states no id is no evidence of another account.
    /// No ledger is bound to a number that looks like a recipient, but an earlier one may be.
    pub fn id_for_ledger<'a>(&'a self, ledger: Option<&'a str>) -> &'a str {
        let is_number = |id: &str| id.bytes().all(|byte| byte.is_ascii_digit());
        match self.recipient.as_deref() {
            Some(_) if ledger == Some(self.id.as_str()) => &self.id,
            Some(recipient) if is_number(ledger.unwrap_or(&self.id)) => recipient,
            Some(recipient) if self.id == recipient => ledger.unwrap_or(recipient),
            _ => &self.id,
        }
    }

    /// Returns the id unless the recipient stands for it.
    pub fn stated_id(&self) -> Option<&str> {
        Some(self.id.as_str()).filter(|id| self.recipient.as_deref() != Some(*id))
    }
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
    fn a_ledger_stays_bound_to_the_id_that_it_was_bound_to() {
        let id = |id: &str, ledger| {
            let recipient = Some("4711".to_owned());
            let user = User { id: id.to_owned(), recipient, ..User::default() };
            user.id_for_ledger(ledger).to_owned()
        };
        for (stated, ledger, expected) in [
            ("account-1", None, "account-1"),
            ("account-1", Some("account-1"), "account-1"),
            ("account-2", Some("account-1"), "account-2"),
            ("account-1", Some("4711"), "4711"),
            ("account-1", Some("4712"), "4711"),
            // The market states numbers.
            ("900", None, "4711"),
            ("900", Some("900"), "900"),
            ("900", Some("4711"), "4711"),
            ("900", Some("account-1"), "900"),
            // It states none.
            ("4711", None, "4711"),
            ("4711", Some("4711"), "4711"),
            ("4711", Some("account-1"), "account-1"),
        ] {
            assert_eq!(id(stated, ledger), expected, "{stated} {ledger:?}");
        }
        let user = User { id: "900".to_owned(), ..User::default() };
        assert_eq!(user.id_for_ledger(Some("account-1")), "900", "without a recipient");
    }
}
