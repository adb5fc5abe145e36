//! `sniper markets`: the markets, with what each of them supports. Reads no settings.

use std::{fmt, process::ExitCode};

use serde_json::{Value, json};

use super::{AppError, CommandContext};
use crate::{
    config::{Market, market::MarketSettings},
    domain::trade::KeyedBy,
    markets::{Capabilities, OwnOrderIdSupport, ReadRate},
    text::counted,
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper markets
  sniper markets --json";

/// Features of a market.
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
    context.output.print(&table, || table.to_json())?;
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
        let (settings, it) = (self.market.settings(), self.capabilities);
        json!({
            "market": self.market.name(),
            "title": settings.title,
            "unit": settings.unit,
            "decimals": it.decimals.count(),
            "credential": it.environment.credential,
            "dry_run_needs_credential": settings.feed_needs_credential,
            "needs_trade_url": settings.needs_trade_url,
            "markup": it.has_markup,
            "float": it.has_float,
            "rarity": it.has_rarity,
            "price_changes_under_one_id": it.keyed_by == KeyedBy::IdAndPrice,
            "own_order_ids": it.own_order_ids.is_some(),
            "absent_after_s": it.own_order_ids.map(|support| support.visible_within.as_secs()),
            "price_limit": it.has_price_limit,
            "purchases": it.has_purchases,
            "open_listings": it.has_open_listings,
            "listings_lag_s": it.listings_lag.map(|lag| lag.as_secs()),
            "reads_at_once": it.reads.burst,
            "read_interval_ms": u64::try_from(it.reads.interval.as_millis()).unwrap_or(u64::MAX),
            "orders_per_minute_max": settings.orders_per_minute_max,
            "settings_without_meaning": self.unsupported_settings(),
        })
    }

    /// Returns the settings that the market cannot honor.
    fn unsupported_settings(self) -> Vec<&'static str> {
        let settings = self.market.settings();
        let markup = (!self.capabilities.has_markup).then_some("max_markup_percent");
        let float = (!self.capabilities.has_float).then_some("float_min and float_max");
        let rarity = (!self.capabilities.has_rarity).then_some("rarity");
        let age = (!self.capabilities.has_open_listings).then_some("max_age_s of an entry");
        let coin = (!settings.is_priced_in_coins).then_some("coin_usd");
        let feed = settings.feed_keys_without_effect.iter().copied();
        let entries = markup.into_iter().chain(float).chain(rarity).chain(age);
        entries.chain(coin).chain(feed).collect()
    }

    /// Returns the lines about the price limit, the lists and the limits of requests.
    fn limits_and_lists(self) -> Vec<(&'static str, String)> {
        let Capabilities { has_price_limit, has_purchases, has_open_listings, .. } =
            self.capabilities;
        let Capabilities { listings_lag, reads: ReadRate { burst, interval, .. }, .. } =
            self.capabilities;
        let price_limit = if has_price_limit {
            "stated by each order"
        } else {
            "none; the id of a listing has one price"
        };
        let purchases = if has_purchases {
            "listed, also those made without the bot"
        } else {
            "no list; only the orders of the bot are looked up"
        };
        let gaps = match (has_open_listings, listings_lag) {
            (false, _) => "stay gaps: open listings cannot be listed".to_owned(),
            (true, None) => "open listings are read".to_owned(),
            (true, Some(lag)) => format!(
                "open listings are read at once and, being late, again after {} s",
                lag.as_secs()
            ),
        };
        let reads = counted(burst, "read", "reads");
        let orders = self.market.settings().orders_per_minute_max;
        let orders = orders.map(|max| format!("; {max} orders in a minute")).unwrap_or_default();
        let requests = format!("{reads} at once, then one per {} ms{orders}", interval.as_millis());
        vec![
            ("Price limit", price_limit.to_owned()),
            ("Purchases", purchases.to_owned()),
            ("Gaps", gaps),
            ("Requests", requests),
        ]
    }

    /// Returns one line for each property, with its title.
    fn lines(self) -> Vec<(&'static str, String)> {
        let MarketSettings { unit, needs_trade_url, feed_needs_credential, .. } =
            self.market.settings();
        let Capabilities { keyed_by, own_order_ids, environment, decimals, .. } = self.capabilities;
        let when = if *feed_needs_credential { "for every run" } else { "for --live" };
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
                    "the price may change under one id; each price counts as a listing"
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
        lines.extend(self.limits_and_lists());
        let without = self.unsupported_settings();
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
    use crate::{
        config::market::CredentialVariables,
        config::{Config, Endpoints},
        markets::{
            AccountQuery, AccountQueryError, MarketApi, csgoroll::Csgoroll, lis_skins::LisSkins,
            waxpeer::Waxpeer,
        },
    };

    fn table() -> MarketTable {
        MarketTable(vec![
            MarketRow { market: Market::Csgoroll, capabilities: Csgoroll::CAPABILITIES },
            MarketRow { market: Market::Waxpeer, capabilities: Waxpeer::CAPABILITIES },
            MarketRow { market: Market::LisSkins, capabilities: LisSkins::CAPABILITIES },
        ])
    }

    /// The settings are read before a market is chosen, so they state some properties again.
    #[test]
    fn the_settings_of_a_market_agree_with_its_capabilities() {
        for MarketRow { market, capabilities } in table().0 {
            let settings = market.settings();
            assert_eq!(settings.name, capabilities.name);
            assert_eq!(settings.has_markup, capabilities.has_markup, "{market:?}");
            let (main, cookie) = match settings.credential {
                CredentialVariables::Cookie { session, header } => (session, Some(header)),
                CredentialVariables::Key(key) => (key, None),
            };
            let environment = capabilities.environment;
            assert_eq!((environment.credential, environment.cookie), (main, cookie));
            let addresses = (settings.feed.name, settings.http.name);
            assert_eq!((environment.feed, environment.http), addresses);
            let has_sweep = settings.has_feed_key("sweep_at_start");
            assert_eq!(has_sweep, capabilities.has_open_listings, "{market:?}");
        }
    }

    fn check_reads(market: &impl MarketApi, capabilities: Capabilities) {
        let is_offered = |query: AccountQuery<'_>| {
            market.account_request(&query) != Err(AccountQueryError::Unsupported)
        };
        let purchases = AccountQuery::Purchases { user: "VXNlcjox", after: None };
        assert_eq!(is_offered(purchases), capabilities.has_purchases, "{market:?}");
        let open_listings = AccountQuery::OpenListings { after: None };
        assert_eq!(is_offered(open_listings), capabilities.has_open_listings, "{market:?}");
    }

    #[test]
    fn a_market_offers_the_reads_that_its_capabilities_state() {
        let endpoints = Endpoints::new("ws://127.0.0.1:1/ws", "http://127.0.0.1:1/v1").unwrap();
        let config = Config::new(endpoints, "unused");
        check_reads(&Csgoroll::new(&config), Csgoroll::CAPABILITIES);
        check_reads(&LisSkins::new(&config), LisSkins::CAPABILITIES);
        check_reads(&Waxpeer::new(&config), Waxpeer::CAPABILITIES);
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
            "  Price limit   stated by each order\n",
            "  Purchases     no list; only the orders of the bot are looked up\n",
            "  Gaps          stay gaps: open listings cannot be listed\n",
            "  Gaps          open listings are read at once and, being late, again after 300 s\n",
            "  Requests      30 reads at once, then one per 500 ms; 500 orders in a minute\n",
            "  Not possible  max_markup_percent, rarity, max_age_s of an entry, coin_usd, \
             generation, server_filters, sweep_at_start\n",
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
        assert_eq!(json["markets"][1]["price_limit"], true);
        assert_eq!(json["markets"][1]["purchases"], false);
        assert_eq!(json["markets"][2]["listings_lag_s"], 300);
        assert_eq!(json["markets"][2]["orders_per_minute_max"], 500);
    }
}
