//! Simulator of CSGORoll: its market, its wire formats and its server.
//!
//! - [`market`]: listings, purchases and the account as a state machine. Pure.
//! - [`listing`], [`operations`], [`feed`]: the wire formats. Pure.
//! - [`server`] with [`SimServer`](server::SimServer): answers to HTTP requests.
//!
//! Wire formats and units are written a second time here, without code of the client modules, so
//! that a misreading on one side cannot be repeated on the other. `tests/it/structure.rs` checks
//! that.

pub mod feed;
pub mod listing;
pub mod market;
pub mod operations;
pub mod server;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::{Value, json};

use crate::{
    domain::money::{Amount, Percent},
    sim::faults::{COMMON_FAULTS, FaultKind},
};

/// The faults that this market can inject.
pub const FAULTS: &[&[FaultKind]] = &[
    &COMMON_FAULTS,
    &[FaultKind::Captcha, FaultKind::DailyLimit, FaultKind::FeedComplete, FaultKind::PushLie],
];

/// Returns an id in the marketplace's format: unpadded base64 of, say, `Trade:32993472`.
fn global_id(type_name: &str, number: u64) -> String {
    STANDARD_NO_PAD.encode(format!("{type_name}:{number}"))
}

/// Returns the number of an id of this type, or `None` for any other text.
fn number_of(type_name: &str, id: &str) -> Option<u64> {
    let text = String::from_utf8(STANDARD_NO_PAD.decode(id).ok()?).ok()?;
    let number = text.strip_prefix(type_name)?.strip_prefix(':')?.parse().ok()?;
    (global_id(type_name, number) == id).then_some(number)
}

/// Returns an amount as the marketplace writes it.
fn coins(amount: Amount) -> Value {
    hundredths(amount.cents())
}

/// Returns a percentage as the marketplace writes it.
fn percent(percent: Percent) -> Value {
    hundredths(percent.hundredths())
}

/// Returns a number of hundredths without trailing zeros.
fn hundredths(value: i64) -> Value {
    if value % 100 == 0 {
        return (value / 100).into();
    }
    let sign = if value < 0 { "-" } else { "" };
    let size = value.unsigned_abs();
    decimal(&format!("{sign}{}.{:02}", size / 100, size % 100))
}

/// Returns a decimal number, which is exact with up to 15 significant digits.
fn decimal(text: &str) -> Value {
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

/// Returns the account's wallet, as queries and events contain it.
fn wallet_json(balance: Amount) -> Value {
    json!({
        "__typename": "Wallet",
        "id": global_id("Wallet", 1),
        "name": "MAIN",
        "amount": coins(balance),
    })
}

/// Returns the account, as listings contain it.
fn user_json(id: &str) -> Value {
    json!({"__typename": "User", "id": id, "name": "practice", "displayName": "practice"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_format_of_the_marketplace() {
        assert_eq!(global_id("Trade", 90_000_001), "VHJhZGU6OTAwMDAwMDE");
        assert_eq!(number_of("Trade", "VHJhZGU6OTAwMDAwMDE"), Some(90_000_001));
        for id in ["", "VHJhZGU6", "VXNlcjox", "%%%", "VHJhZGU6OTAwMDAwMDE=", "ä"] {
            assert_eq!(number_of("Trade", id), None, "{id}");
        }
    }

    #[test]
    fn numbers_are_written_without_trailing_zeros_and_exactly() {
        for (cents, expected) in
            [(1_000, "10"), (-1_010, "-10.1"), (1_015, "10.15"), (-5, "-0.05"), (0, "0")]
        {
            assert_eq!(coins(Amount::from_cents(cents)).to_string(), expected);
        }
        let float = "0.0706543211234567";
        assert_eq!(decimal(float).to_string(), float);
    }
}
