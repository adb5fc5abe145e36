//! The markets, with the facts that the configuration needs about each: names, addresses,
//! environment variables. The features of a market are in `Capabilities` of `markets`.

/// The marketplace to trade on: the setting `market`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Market {
    #[default]
    Csgoroll,
    LisSkins,
    Waxpeer,
}

/// Facts about a market that the configuration needs.
#[derive(Debug, PartialEq, Eq)]
pub struct MarketSettings {
    /// Name in `sniper.toml`, on the command line, and of its data directory.
    pub name: &'static str,
    /// Name for display.
    pub title: &'static str,
    /// Unit of its amounts, for display.
    pub unit: &'static str,
    /// `true` if the unit is a coin, whose value in dollars the user states.
    pub is_priced_in_coins: bool,
    /// Address of its feed.
    pub feed: AddressVariable,
    /// Address for account reads and orders.
    pub http: AddressVariable,
    pub credential: CredentialVariables,
    /// `true` if the feed needs the credential, so that a dry run needs it too.
    pub feed_needs_credential: bool,
    /// `true` if an order names the Steam account that receives the item: `STEAM_TRADE_URL`.
    pub needs_trade_url: bool,
    /// Variable with the number of the account, on a market whose API does not state it.
    pub account_id: Option<&'static str>,
    /// Headers of a browser, on a market without an official API.
    pub browser_headers: Option<BrowserHeaders>,
    /// Limit of the market on the orders in a minute, if it states one.
    pub orders_per_minute_max: Option<u32>,
    /// `true` if listings have a markup over a base price. An entry that sets no bound on it then
    /// accepts no markup.
    pub has_markup: bool,
    /// Keys of `[feed]` that this market does not have.
    pub feed_keys_without_effect: &'static [&'static str],
}

/// Environment variable with an address.
#[derive(Debug, PartialEq, Eq)]
pub struct AddressVariable {
    pub name: &'static str,
    pub default: &'static str,
}

/// Environment variables with the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialVariables {
    /// Value of the session cookie, or a whole `Cookie` header, which has precedence.
    Cookie { session: &'static str, header: &'static str },
    /// An API key.
    Key(&'static str),
}

/// Environment variables with headers.
#[derive(Debug, PartialEq, Eq)]
pub struct BrowserHeaders {
    pub origin: &'static str,
    pub user_agent: &'static str,
}

/// Environment variable with the trade URL of the Steam account that receives the items.
pub const TRADE_URL: &str = "STEAM_TRADE_URL";

/// Sources: client code of December 2025.
const CSGOROLL: MarketSettings = MarketSettings {
    name: "csgoroll",
    title: "CSGORoll",
    unit: "coins",
    is_priced_in_coins: true,
    feed: AddressVariable { name: "CSGOROLL_WS_URL", default: "wss://router.csgoroll.com/ws" },
    http: AddressVariable {
        name: "CSGOROLL_HTTP_URL",
        default: "https://router.csgoroll.com/graphql",
    },
    credential: CredentialVariables::Cookie {
        session: "CSGOROLL_SESSION",
        header: "CSGOROLL_COOKIE",
    },
    feed_needs_credential: false,
    needs_trade_url: false,
    account_id: None,
    browser_headers: Some(BrowserHeaders {
        origin: "CSGOROLL_ORIGIN",
        user_agent: "CSGOROLL_USER_AGENT",
    }),
    orders_per_minute_max: None,
    has_markup: true,
    feed_keys_without_effect: &[],
};

/// Sources: the market's documentation, and client code of 2023 to 2026.
const LIS_SKINS: MarketSettings = MarketSettings {
    name: "lis-skins",
    title: "LIS-SKINS",
    unit: "USD",
    is_priced_in_coins: false,
    feed: AddressVariable {
        name: "LIS_SKINS_WS_URL",
        default: "wss://ws.lis-skins.com/connection/websocket",
    },
    http: AddressVariable { name: "LIS_SKINS_HTTP_URL", default: "https://api.lis-skins.com/v1" },
    credential: CredentialVariables::Key("LIS_SKINS_KEY"),
    // Its token is read with the key.
    feed_needs_credential: true,
    needs_trade_url: true,
    account_id: Some("LIS_SKINS_USER_ID"),
    browser_headers: None,
    orders_per_minute_max: Some(500),
    has_markup: false,
    feed_keys_without_effect: &["generation", "server_filters"],
};

/// Sources: the market's documentation, and recordings of 2026.
const WAXPEER: MarketSettings = MarketSettings {
    name: "waxpeer",
    title: "Waxpeer",
    unit: "USD",
    is_priced_in_coins: false,
    feed: AddressVariable {
        name: "WAXPEER_WS_URL",
        default: "wss://waxpeer.com/socket.io/?EIO=4&transport=websocket",
    },
    http: AddressVariable { name: "WAXPEER_HTTP_URL", default: "https://api.waxpeer.com/v1" },
    credential: CredentialVariables::Key("WAXPEER_KEY"),
    feed_needs_credential: false,
    needs_trade_url: true,
    account_id: None,
    browser_headers: None,
    orders_per_minute_max: None,
    has_markup: false,
    // It lists no open listings, only searches within a limit of 20 requests a minute.
    feed_keys_without_effect: &["generation", "server_filters", "sweep_at_start"],
};

impl MarketSettings {
    /// Returns `true` if this key of `[feed]` has a meaning on the market.
    pub fn has_feed_key(&self, key: &str) -> bool {
        !self.feed_keys_without_effect.contains(&key)
    }
}

impl CredentialVariables {
    /// Returns the variable that messages advise to set.
    pub const fn main(self) -> &'static str {
        match self {
            Self::Cookie { session, .. } => session,
            Self::Key(key) => key,
        }
    }
}

impl Market {
    pub const ALL: [Self; 3] = [Self::Csgoroll, Self::LisSkins, Self::Waxpeer];

    pub const fn settings(self) -> &'static MarketSettings {
        match self {
            Self::Csgoroll => &CSGOROLL,
            Self::LisSkins => &LIS_SKINS,
            Self::Waxpeer => &WAXPEER,
        }
    }

    /// Returns the name in `sniper.toml` and on the command line.
    pub const fn name(self) -> &'static str {
        self.settings().name
    }

    /// Returns the name for display.
    pub const fn title(self) -> &'static str {
        self.settings().title
    }

    /// Returns the environment variable with the address of its feed.
    pub const fn feed_variable(self) -> &'static str {
        self.settings().feed.name
    }

    /// Returns `true` if its prices are in coins, whose value in dollars the user states.
    pub const fn is_priced_in_coins(self) -> bool {
        self.settings().is_priced_in_coins
    }

    /// Returns the market with this [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|market| market.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::{Endpoint, Scheme};

    #[test]
    fn the_default_addresses_are_encrypted_and_have_the_paths_of_their_apis() {
        for market in Market::ALL {
            let MarketSettings { feed, http, .. } = market.settings();
            let feed = Endpoint::parse(feed.default, Scheme::WebSocket).unwrap();
            let http = Endpoint::parse(http.default, Scheme::Http).unwrap();
            assert!(feed.is_tls() && http.is_tls(), "{market:?}");
            let paths = match market {
                Market::Csgoroll => ("/ws", "/graphql"),
                Market::LisSkins => ("/connection/websocket", "/v1"),
                Market::Waxpeer => ("/socket.io/?EIO=4&transport=websocket", "/v1"),
            };
            assert_eq!((feed.path(), http.path()), paths);
        }
    }

    #[test]
    fn a_market_is_found_by_its_name_only() {
        for market in Market::ALL {
            assert_eq!(Market::parse(market.name()), Some(market));
            assert_eq!(Market::parse(market.title()), None);
        }
    }
}
