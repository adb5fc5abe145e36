//! The item of an order, as its listing showed it, and the reference price that decided.
//!
//! Informational: no limit, state or sum depends on it. It is not part of the record of an order,
//! is stored after the order, and may be missing.

use std::fmt;

use crate::{
    domain::item_name::Wear,
    domain::money::{Amount, Percent},
    domain::percent_rule::{CoinUsd, PriceCurrency},
    prices::{RefPrice, Reference},
    secret,
    text::{Escaped, truncated},
};

/// Maximum length of a stored text, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;

/// Item of an order. All text is untrusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderedItem {
    /// Full market name.
    pub name: String,
    pub wear: Option<Wear>,
    /// Exact float, or its range: `0.15 to 0.38`.
    pub float: Option<String>,
    /// Label of the whitelist entry at the time of the order.
    pub entry: String,
    /// The reference that the percent rule of the entry compared.
    pub reference: Option<OrderedReference>,
    /// Margin expected from selling the item.
    pub margin: Option<Percent>,
}

/// Reference price at the time of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedReference {
    /// Source and side: `buff.bid`.
    pub name: String,
    /// Price in the currency of the source.
    pub price: RefPrice,
    pub currency: PriceCurrency,
    /// Value of a coin in the currency of the source.
    pub coin: CoinUsd,
    /// Share of the reference that the listing cost.
    pub percent: Percent,
}

/// Formats the share and the reference in coins, rounded as in the log line of the order:
/// `84.1 % of buff.bid 2.74`.
impl fmt::Display for OrderedReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coins = Reference::new(self.price, self.coin).in_coins();
        let (percent, name) = (self.percent.rounded_up(), Escaped(&self.name));
        write!(f, "{percent} % of {name} {}", Amount::from_cents(coins.cents()))
    }
}

impl OrderedItem {
    /// Masks credentials in all text, and cuts it to [`TEXT_BYTES_MAX`].
    #[must_use]
    pub(super) fn bounded(self) -> Self {
        let reference = |reference: OrderedReference| OrderedReference {
            name: bounded(&reference.name),
            ..reference
        };
        Self {
            name: bounded(&self.name),
            float: self.float.as_deref().map(bounded),
            entry: bounded(&self.entry),
            reference: self.reference.map(reference),
            ..self
        }
    }
}

/// Masks credentials, and then cuts the text: the mask might not find a credential that was cut.
fn bounded(text: &str) -> String {
    let masked = secret::mask(text);
    truncated(&masked, TEXT_BYTES_MAX).to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn item(name: &str) -> OrderedItem {
        OrderedItem {
            name: name.to_owned(),
            wear: Some(Wear::FieldTested),
            float: Some("0.215".to_owned()),
            entry: "redline".to_owned(),
            reference: Some(OrderedReference {
                name: "buff.bid".to_owned(),
                price: RefPrice::from_micros(1_785_500).unwrap(),
                currency: PriceCurrency::Usd,
                coin: CoinUsd::from_ten_thousandths(6_500).unwrap(),
                percent: Percent::from_hundredths(8_410),
            }),
            margin: Some(Percent::from_hundredths(-250)),
        }
    }

    #[test]
    fn text_is_masked_and_bounded() {
        secret::register("session-of-the-test-of-items");
        let long = format!("{}session-of-the-test-of-items", "ä".repeat(120));
        let stored = OrderedItem { entry: long.clone(), ..item(&long) }.bounded();
        for text in [&stored.name, &stored.entry] {
            assert!(text.starts_with(&"ä".repeat(120)) && text.len() <= TEXT_BYTES_MAX, "{text}");
            assert!(!text.contains("session"), "{text}");
        }
        assert_eq!(item("AK-47 | Redline").bounded(), item("AK-47 | Redline"));
    }
}
