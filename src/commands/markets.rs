//! `sniper markets`: the markets, with what each of them supports. Reads no settings.

use std::{fmt, process::ExitCode};

use serde_json::{Value, json};

use super::{AppError, CommandContext, report::print};
use crate::{
    config::{Market, market::MarketSettings},
    domain::trade::KeyedBy,
    markets::{Capabilities, OwnOrderIdSupport},
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper markets
  sniper markets --json";

/// What a market supports.
#[derive(Clone, Copy, Debug)]
pub struct MarketRow {
    pub market: Market,
    pub capabilities: Capabilities,
}

/// The markets, in the order of the configuration.
#[derive(Clone, Debug)]
pub struct MarketTable(pub Vec<MarketRow>);

/// Prints every market.
///
/// # Errors
///
/// Returns [`AppError::Print`] if the output cannot be written.
pub fn run(
    context: CommandContext<'_>,
    capabilities: fn(Market) -> Capabilities,
) -> Result<ExitCode, AppError> {
    let row = |market| MarketRow { market, capabilities: capabilities(market) };
    let table = MarketTable(Market::ALL.map(row).to_vec());
    if context.output.is_json() {
        context.output.json(&table.to_json())?;
    } else {
        print(&table.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

impl MarketTable {
    fn to_json(&self) -> Value {
        let rows = self.0.iter().copied().map(MarketRow::to_json);
        json!({ "mode": "markets", "markets": rows.collect::<Vec<_>>() })
    }
}

impl MarketRow {
    fn to_json(self) -> Value {
        let MarketSettings { title, unit, needs_trade_url, feed_needs_credential, .. } =
            self.market.settings();
        let Capabilities { has_markup, has_float, keyed_by, own_order_ids, environment, .. } =
            self.capabilities;
        json!({
            "market": self.market.name(),
            "title": title,
            "unit": unit,
            "decimals": self.capabilities.decimals.count(),
            "credential": environment.credential,
            "dry_run_needs_credential": feed_needs_credential,
            "needs_trade_url": needs_trade_url,
            "markup": has_markup,
            "float": has_float,
            "price_changes_under_one_id": keyed_by == KeyedBy::IdAndPrice,
            "own_order_ids": own_order_ids.is_some(),
            "absent_after_s": own_order_ids.map(|support| support.visible_within.as_secs()),
            "settings_without_meaning": self.without_meaning(),
        })
    }

    /// Returns the settings that the market cannot honor.
    fn without_meaning(self) -> Vec<&'static str> {
        let settings = self.market.settings();
        let markup = (!self.capabilities.has_markup).then_some("max_markup_percent");
        let float = (!self.capabilities.has_float).then_some("float_min and float_max");
        let coin = (!settings.is_priced_in_coins).then_some("coin_usd");
        let feed = settings.feed_keys_without_effect.iter().copied();
        markup.into_iter().chain(float).chain(coin).chain(feed).collect()
    }

    /// Returns one line for each property, with its title.
    fn lines(self) -> Vec<(&'static str, String)> {
        let MarketSettings { unit, needs_trade_url, feed_needs_credential, .. } =
            self.market.settings();
        let Capabilities { keyed_by, own_order_ids, environment, decimals, .. } = self.capabilities;
        let when = match feed_needs_credential {
            true => "for every run",
            false => "for --live",
        };
        let mut lines = vec![
            ("Amounts", format!("{unit}, {decimals}")),
            ("Credential", format!("{} {when}", environment.credential)),
        ];
        if *needs_trade_url {
            lines.push(("Recipient", "STEAM_TRADE_URL for --live".to_owned()));
        }
        lines.push((
            "Listings",
            match keyed_by {
                KeyedBy::Id => "a new price has a new id",
                KeyedBy::IdAndPrice => {
                    "the price may change under one id; each price is a new chance"
                }
            }
            .to_owned(),
        ));
        lines.push((
            "Lost answers",
            match own_order_ids {
                Some(OwnOrderIdSupport { visible_within, .. }) => format!(
                    "looked up by own id; not bought if absent after {} s",
                    visible_within.as_secs()
                ),
                None => "resolved by the list of purchases".to_owned(),
            },
        ));
        let without = self.without_meaning();
        if !without.is_empty() {
            lines.push(("Not possible", without.join(", ")));
        }
        lines
    }
}

impl fmt::Display for MarketTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, row) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let default = if row.market == Market::default() { ", the default" } else { "" };
            let (title, name) = (row.market.title(), row.market.name());
            writeln!(f, "{separator}{title} (market = \"{name}\"{default})")?;
            for (title, value) in row.lines() {
                writeln!(f, "  {title:<14}{value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::markets::{MarketApi as _, csgoroll::Csgoroll, waxpeer::Waxpeer};

    fn table() -> MarketTable {
        MarketTable(vec![
            MarketRow { market: Market::Csgoroll, capabilities: Csgoroll::CAPABILITIES },
            MarketRow { market: Market::Waxpeer, capabilities: Waxpeer::CAPABILITIES },
        ])
    }

    #[test]
    fn each_market_is_shown_with_what_it_supports() {
        let text = table().to_string();
        for expected in [
            "CSGORoll (market = \"csgoroll\", the default)\n",
            "  Amounts       coins, two decimals\n",
            "  Credential    CSGOROLL_SESSION for --live\n",
            "\n\nWaxpeer (market = \"waxpeer\")\n",
            "  Amounts       USD, three decimals\n",
            "  Recipient     STEAM_TRADE_URL for --live\n",
            "not bought if absent after 60 s\n",
            "  Not possible  max_markup_percent, coin_usd, generation, server_filters, \
             sweep_at_start\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing: {text}");
        }
    }

    #[test]
    fn the_json_object_has_a_row_for_each_market() {
        let json = table().to_json();
        assert_eq!(json["markets"][0]["decimals"], 2);
        assert_eq!(json["markets"][1]["market"], "waxpeer");
        assert_eq!(json["markets"][1]["own_order_ids"], true);
    }
}
