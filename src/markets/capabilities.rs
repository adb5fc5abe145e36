//! Properties of a marketplace, as plain data.

use std::time::Duration;

use crate::{
    domain::{money::Decimals, trade::KeyedBy, whitelist_entry::WhitelistEntry},
    net::{http_client::HostQuota, http_message::Auth},
};

/// Properties of a marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Name in commands and recordings, in lower case.
    pub name: &'static str,
    /// Number of decimals of its amounts, on input and output.
    pub decimals: Decimals,
    /// `true` if listings have a markup over a base price.
    pub has_markup: bool,
    /// `true` if listings have a float.
    pub has_float: bool,
    /// `true` if listings state the rarity of their item.
    pub has_rarity: bool,
    /// Identity of a listing: its id, or its id and its price if the price may change under one id.
    pub keyed_by: KeyedBy,
    /// `None` if orders carry no own id.
    pub own_order_ids: Option<OwnOrderIdSupport>,
    /// `true` if an order states the most that may be charged.
    pub has_price_limit: bool,
    /// `true` if the purchases of the account can be listed.
    pub has_purchases: bool,
    /// `true` if the open listings can be listed, newest first.
    pub has_open_listings: bool,
    /// Part of a request in which the credential is expected.
    pub auth: Auth,
    pub environment: EnvironmentNames,
    /// Rate of the reads over HTTP.
    pub reads: ReadRate,
    /// Time after which the list of open listings surely contains a listing; `None` if it is
    /// current.
    pub listings_lag: Option<Duration>,
    /// Maximum time from an order to its response. After it the order is unknown and its connection
    /// is closed.
    pub order_timeout: Duration,
}

/// Rate of the reads over HTTP, and of all requests together that count against the same documented
/// limit of the market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRate {
    /// Number of reads that may follow each other without a wait, after a rest.
    pub burst: u32,
    /// Time after which one more read is allowed.
    pub interval: Duration,
    /// Number of tokens of the feed, keep-warm requests and confirmations of rejections that may
    /// follow a burst without a wait; `None` without a documented limit.
    pub reserve: Option<u32>,
}

impl ReadRate {
    /// For a market without a documented limit.
    pub const UNDOCUMENTED: Self =
        Self { burst: 1, interval: Duration::from_secs(1), reserve: None };

    /// Returns the part of the host's limit that reads may use.
    pub fn read_quota(&self) -> Option<HostQuota> {
        self.reserve.map(|_reserve| self.quota(self.burst))
    }

    /// Returns the larger part that all other requests but orders may use.
    pub fn other_quota(&self) -> Option<HostQuota> {
        self.reserve.map(|reserve| self.quota(self.burst.saturating_add(reserve)))
    }

    const fn quota(&self, burst: u32) -> HostQuota {
        let ahead_max = self.interval.saturating_mul(burst.saturating_sub(1));
        HostQuota { interval: self.interval, ahead_max }
    }

    /// Creates the rate with this burst, at most `max` reads in any minute, and at most `reserve`
    /// requests more of all kinds.
    ///
    /// A burst that is not below `max` leaves one read per minute after it.
    pub const fn per_minute(max: u32, burst: u32, reserve: u32) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        // A minute may begin with a full burst.
        let interval = match MINUTE.checked_div(max.saturating_sub(burst)) {
            // Rounded up, so that no minute contains one more.
            Some(interval) => interval.saturating_add(Duration::from_nanos(1)),
            None => MINUTE,
        };
        Self { burst, interval, reserve: Some(reserve) }
    }
}

/// Own ids of orders: each order carries one, by which it can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnOrderIdSupport {
    /// Longest time until the market shows an executed order. Before it, the absence of an order is
    /// no evidence.
    pub visible_within: Duration,
    /// Number of look-ups that must have shown no order before its absence is evidence.
    pub look_ups_min: u32,
    /// Maximum number of bought orders that are looked up in one request.
    pub look_ups_per_request: usize,
}

/// Names of the environment variables of a marketplace, for advice to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvironmentNames {
    /// Address of the feed.
    pub feed: &'static str,
    /// Address for account reads and orders.
    pub http: &'static str,
    pub credential: &'static str,
    /// Whole `Cookie` header; `None` if the credential is a key.
    pub cookie: Option<&'static str>,
}

impl Capabilities {
    /// Returns the longest time until the account's list of purchases contains an order; `None` if
    /// its purchases cannot be listed.
    pub fn listed_within(&self) -> Option<Duration> {
        let visible_within = self.own_order_ids.map(|support| support.visible_within);
        self.has_purchases.then_some(visible_within.unwrap_or_default())
    }

    /// Returns the settings of whitelist entries that the marketplace cannot honor, each with the
    /// label of its entry.
    pub fn unsupported<'e>(&self, entries: &'e [WhitelistEntry]) -> Vec<(&'e str, &'static str)> {
        let unsupported = |entry: &'e WhitelistEntry| {
            let has_float = entry.float_min.is_some() || entry.float_max.is_some();
            let markup = entry.max_markup.is_some() && !self.has_markup;
            let float = has_float && !self.has_float;
            let has_rarity = entry.filter.as_ref().is_some_and(|kind| !kind.rarities.is_empty());
            let rarity = has_rarity && !self.has_rarity;
            // It bounds the age of a back-filled listing.
            let age = entry.max_age.is_some() && !self.has_open_listings;
            let settings = [
                (markup, "max_markup_percent"),
                (float, "float_min and float_max"),
                (rarity, "rarity"),
                (age, "max_age_s"),
            ];
            let settings = settings.into_iter().filter(|(is_unsupported, _)| *is_unsupported);
            settings.map(|(_, setting)| (entry.label(), setting))
        };
        entries.iter().flat_map(unsupported).collect()
    }
}

impl EnvironmentNames {
    /// Words that replace the names where no marketplace is known.
    pub const UNKNOWN: Self = Self {
        feed: "the address of the feed",
        http: "the address of the API",
        credential: "the credential",
        cookie: None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            item_filter::ItemFilter,
            money::Percent,
            trade::{PaintWear, RarityWord},
        },
        whitelist::tests::entry,
    };

    #[test]
    fn a_bound_on_a_value_that_the_market_does_not_state_is_unsupported() {
        let capabilities = |has_all| Capabilities {
            name: "other",
            has_markup: has_all,
            has_float: has_all,
            has_rarity: has_all,
            decimals: Decimals::Two,
            keyed_by: KeyedBy::IdAndPrice,
            own_order_ids: None,
            has_price_limit: false,
            has_purchases: true,
            has_open_listings: has_all,
            auth: Auth::Cookie,
            environment: EnvironmentNames::UNKNOWN,
            reads: ReadRate::UNDOCUMENTED,
            listings_lag: None,
            order_timeout: Duration::from_secs(10),
        };
        let markup = WhitelistEntry { max_markup: Some(Percent::default()), ..entry() };
        let float = WhitelistEntry {
            max_markup: None,
            float_min: PaintWear::parse("0.1"),
            name: Some("b".to_owned()),
            ..entry()
        };
        let rarities = vec![RarityWord::new("covert").unwrap()];
        let rare = WhitelistEntry {
            filter: Some(Box::new(ItemFilter { rarities, ..ItemFilter::default() })),
            name: Some("c".to_owned()),
            max_markup: None,
            ..entry()
        };
        let recent = WhitelistEntry {
            max_age: Some(Duration::from_secs(60)),
            name: Some("d".to_owned()),
            max_markup: None,
            ..entry()
        };
        let markup = WhitelistEntry { name: Some("a".to_owned()), ..markup };
        let entries = [markup, float, rare, recent];
        assert_eq!(capabilities(true).unsupported(&entries), []);
        let unsupported = capabilities(false).unsupported(&entries);
        let expected = [
            ("a", "max_markup_percent"),
            ("b", "float_min and float_max"),
            ("c", "rarity"),
            ("d", "max_age_s"),
        ];
        assert_eq!(unsupported, expected);
    }
}
