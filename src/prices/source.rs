//! The kinds of price sources, as plain data: address, unit, sides, age.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
/// Default maximum age of sources that are rebuilt every hour to every day.
const SLOW_MAX_AGE: Duration = Duration::from_secs(360 * 60);
/// Default maximum age of sources that show their current listings.
const QUICK_MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// Kind of a price source: setting `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A local JSON or CSV file.
    File,
    /// One of the provider files of csgotrader.app.
    CsgoTrader(CsgoTraderFile),
    Skinport,
    Pricempire,
    CsFloat,
    Waxpeer,
    MarketCsgo,
    LisSkins,
}

/// Provider files of csgotrader.app. The file of the Steam market is not among them: its prices are
/// manipulated and contain a fee of 15 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CsgoTraderFile {
    Buff163,
    CsFloat,
    CsMoney,
    CsgoTrader,
    CsTrade,
    LisSkins,
    Skinport,
    BitSkins,
    LootFarm,
    CsgoTm,
    CsgoEmpire,
    SwapGg,
    Youpin,
}

impl SourceKind {
    /// All kinds with their names in `sniper.toml`.
    pub const ALL: [(Self, &'static str); 20] = [
        (Self::File, "file"),
        (Self::CsgoTrader(CsgoTraderFile::Buff163), "csgotrader-buff163"),
        (Self::CsgoTrader(CsgoTraderFile::CsFloat), "csgotrader-csfloat"),
        (Self::CsgoTrader(CsgoTraderFile::CsMoney), "csgotrader-csmoney"),
        (Self::CsgoTrader(CsgoTraderFile::CsgoTrader), "csgotrader-csgotrader"),
        (Self::CsgoTrader(CsgoTraderFile::CsTrade), "csgotrader-cstrade"),
        (Self::CsgoTrader(CsgoTraderFile::LisSkins), "csgotrader-lisskins"),
        (Self::CsgoTrader(CsgoTraderFile::Skinport), "csgotrader-skinport"),
        (Self::CsgoTrader(CsgoTraderFile::BitSkins), "csgotrader-bitskins"),
        (Self::CsgoTrader(CsgoTraderFile::LootFarm), "csgotrader-lootfarm"),
        (Self::CsgoTrader(CsgoTraderFile::CsgoTm), "csgotrader-csgotm"),
        (Self::CsgoTrader(CsgoTraderFile::CsgoEmpire), "csgotrader-csgoempire"),
        (Self::CsgoTrader(CsgoTraderFile::SwapGg), "csgotrader-swapgg"),
        (Self::CsgoTrader(CsgoTraderFile::Youpin), "csgotrader-youpin"),
        (Self::Skinport, "skinport"),
        (Self::Pricempire, "pricempire"),
        (Self::CsFloat, "csfloat"),
        (Self::Waxpeer, "waxpeer"),
        (Self::MarketCsgo, "market-csgo"),
        (Self::LisSkins, "lis-skins"),
    ];

    /// Returns the name in `sniper.toml`.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// Returns the kind with this [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(kind, _)| kind)
    }

    /// Returns the default address; `None` for a local file.
    pub fn url(self) -> Option<String> {
        Some(match self {
            Self::File => return None,
            Self::CsgoTrader(_) => {
                let name = self.name();
                let file = name.strip_prefix("csgotrader-").unwrap_or(name);
                format!("https://prices.csgotrader.app/latest/{file}.json")
            }
            Self::Skinport => {
                "https://api.skinport.com/v1/items?app_id=730&currency=USD".to_owned()
            }
            Self::Pricempire => "https://api.pricempire.com/v4/paid/items/prices?app_id=730\
                 &currency=USD&sources=buff163,buff163_buy&avg=false&median=false\
                 &inflation_threshold=-1"
                .to_owned(),
            Self::CsFloat => "https://csfloat.com/api/v1/listings/price-list".to_owned(),
            Self::Waxpeer => "https://api.waxpeer.com/v1/prices?game=csgo&minified=1".to_owned(),
            Self::MarketCsgo => "https://market.csgo.com/api/v2/prices/USD.json".to_owned(),
            Self::LisSkins => "https://lis-skins.com/market_export_json/csgo.json".to_owned(),
        })
    }

    /// Returns the default of `max_age_minutes`.
    pub const fn max_age(self) -> Duration {
        match self {
            Self::CsgoTrader(_) | Self::Pricempire => SLOW_MAX_AGE,
            // The user decides how long an own file is valid.
            Self::File => Duration::from_secs(7 * 24 * 3_600),
            Self::Skinport | Self::CsFloat | Self::Waxpeer | Self::MarketCsgo | Self::LisSkins => {
                QUICK_MAX_AGE
            }
        }
    }

    /// Returns the shortest interval of downloads that the site allows.
    pub const fn interval_min(self) -> Duration {
        match self {
            Self::File => Duration::from_secs(1),
            // Answers are cached for five minutes there, and eight requests are allowed in that
            // time.
            Self::Skinport => Duration::from_secs(5 * 60),
            _ => MINUTE,
        }
    }

    /// Returns `true` if the source has bids. A file may or may not have them.
    pub const fn has_bids(self) -> bool {
        matches!(
            self,
            Self::File
                | Self::CsgoTrader(CsgoTraderFile::Buff163 | CsgoTraderFile::BitSkins)
                | Self::Pricempire
        )
    }

    /// Returns `true` if the source counts the offers behind a price. A file may or may not.
    pub const fn has_counts(self) -> bool {
        matches!(
            self,
            Self::File
                | Self::Skinport
                | Self::Pricempire
                | Self::CsFloat
                | Self::Waxpeer
                | Self::LisSkins
        )
    }

    /// Returns `true` if a request needs a key of the user.
    pub const fn needs_key(self) -> bool {
        matches!(self, Self::Pricempire)
    }

    /// Returns the value of `Accept-Encoding`. One site rejects requests that do not accept Brotli.
    pub const fn accept_encoding(self) -> &'static str {
        match self {
            Self::Skinport => "br",
            Self::CsgoTrader(_) => "gzip",
            _ => "gzip, br",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_name_and_address() {
        for (index, (kind, name)) in SourceKind::ALL.into_iter().enumerate() {
            assert_eq!((SourceKind::parse(name), kind.name()), (Some(kind), name));
            assert!(SourceKind::ALL[..index].iter().all(|(other, _)| other.url() != kind.url()));
            assert_eq!(kind.url().is_none(), kind == SourceKind::File);
        }
        let buff = SourceKind::CsgoTrader(CsgoTraderFile::Buff163).url();
        assert_eq!(buff.as_deref(), Some("https://prices.csgotrader.app/latest/buff163.json"));
        let own = SourceKind::CsgoTrader(CsgoTraderFile::CsgoTrader).url();
        assert_eq!(own.as_deref(), Some("https://prices.csgotrader.app/latest/csgotrader.json"));
    }

    #[test]
    fn the_steam_market_is_no_source() {
        assert_eq!(SourceKind::parse("csgotrader-steam"), None);
    }
}
