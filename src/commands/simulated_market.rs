//! The simulated markets behind one type, for `sniper demo` and `sniper sim`.

use std::net::SocketAddr;

use crate::{
    config::Market,
    sim::{
        LisSkinsSim, MarketHistory, ServerStats, SimServer, SimServerError, SimSettings,
        WaxpeerSim, csgoroll, demo, faults, lis_skins, waxpeer,
    },
};

/// A running simulated market.
pub enum AnySimulator {
    Csgoroll(SimServer),
    LisSkins(LisSkinsSim),
    Waxpeer(WaxpeerSim),
}

/// Evaluates an expression with the server of any market.
macro_rules! with_server {
    ($market:expr, $server:ident => $run:expr) => {
        match $market {
            AnySimulator::Csgoroll($server) => $run,
            AnySimulator::LisSkins($server) => $run,
            AnySimulator::Waxpeer($server) => $run,
        }
    };
}

impl AnySimulator {
    /// Starts the simulator of a market on its own thread.
    ///
    /// # Errors
    ///
    /// Returns a [`SimServerError`] if it cannot be started, or the market does not have one of the
    /// faults of the settings.
    pub fn start(market: Market, settings: SimSettings) -> Result<Self, SimServerError> {
        Ok(match market {
            Market::Csgoroll => Self::Csgoroll(SimServer::start(settings)?),
            Market::LisSkins => Self::LisSkins(LisSkinsSim::start(settings)?),
            Market::Waxpeer => Self::Waxpeer(WaxpeerSim::start(settings)?),
        })
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        with_server!(self, server => server.address())
    }

    /// Returns the environment variables that connect a bot to it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        with_server!(self, server => server.environment().into_iter().collect())
    }

    /// Returns a copy of the history up to now.
    pub fn history(&self) -> MarketHistory {
        with_server!(self, server => server.history())
    }

    /// Reads the history without copying it. The market is locked meanwhile.
    pub fn with_history<T>(&self, read: impl FnOnce(&MarketHistory) -> T) -> T {
        with_server!(self, server => server.with_history(read))
    }

    /// Returns the counts of connections and requests.
    pub fn stats(&self) -> ServerStats {
        with_server!(self, server => server.stats())
    }

    /// Returns the sales with buyer, price and own id, as text; `None` on a market
    /// without own order ids.
    pub fn books(&self) -> Option<String> {
        match self {
            Self::Csgoroll(_) => None,
            Self::LisSkins(server) => Some(server.books().to_string()),
            Self::Waxpeer(server) => Some(server.books().to_string()),
        }
    }
}

/// Returns the table of the faults that a market can inject.
pub fn fault_table(market: Market) -> String {
    let kinds = match market {
        Market::Csgoroll => csgoroll::FAULTS,
        Market::LisSkins => lis_skins::FAULTS,
        Market::Waxpeer => waxpeer::FAULTS,
    };
    faults::table(&kinds.concat())
}

/// Returns a `sniper.toml` whose whitelist matches listings of this simulated market.
pub fn settings_file(market: Market) -> String {
    let whitelist = if market.settings().has_markup {
        demo::WHITELIST.to_owned()
    } else {
        demo::without_markup()
    };
    // The demo's limit is above that of some markets.
    let whitelist = match market.settings().orders_per_minute_max {
        Some(limit) => whitelist.replace(
            "max_buys_per_minute = 600",
            &format!("max_buys_per_minute = {}", limit.min(600)),
        ),
        None => whitelist,
    };
    format!("{}{whitelist}", market_line(market))
}

/// Returns the line of `sniper.toml` that names the market, unless it is the default.
fn market_line(market: Market) -> String {
    if market == Market::default() {
        String::new()
    } else {
        format!("market = \"{}\"\n\n", market.name())
    }
}

/// Parses the name of a market.
///
/// # Errors
///
/// Returns the known names.
pub fn parse_market(name: &str) -> Result<Market, String> {
    Market::parse(name)
        .ok_or_else(|| format!("must be one of {}", Market::ALL.map(Market::name).join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_file_of_a_market_names_it_and_has_only_what_it_supports() {
        assert_eq!(settings_file(Market::Csgoroll), demo::WHITELIST);
        let waxpeer = settings_file(Market::Waxpeer);
        assert!(waxpeer.starts_with("market = \"waxpeer\"\n"), "{waxpeer}");
        assert!(!waxpeer.contains("max_markup_percent"), "{waxpeer}");
    }

    #[test]
    fn each_market_lists_its_own_faults() {
        assert!(!fault_table(Market::Csgoroll).contains("address-not-bound"));
        assert!(fault_table(Market::Waxpeer).contains("ms-before-next"));
        assert!(fault_table(Market::LisSkins).contains("feed-token"));
    }
}
