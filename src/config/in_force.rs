//! The plain settings of `sniper.toml` with their values in force, to show to the user. Pure.

use std::{collections::BTreeSet, fmt::Display, time::Duration};

use super::{
    Config, Generation,
    document::{ConfigDocument, ConfigNode, TableMember, Value},
    problem::SourceLocation,
};
use crate::domain::whitelist_entry::WhitelistEntry;

/// Value of a setting that is not set and has no default.
const NONE: &str = "none";

/// A setting and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingValue {
    /// Section; empty at the top level.
    pub section: &'static str,
    pub key: &'static str,
    pub value: String,
}

/// Location of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingPlace {
    /// Section; empty at the top level.
    pub section: String,
    pub key: String,
    pub place: SourceLocation,
}

/// Returns the locations of the settings at the top level and in sections.
pub(super) fn setting_places(
    root: &ConfigNode<'_>,
    document: &ConfigDocument<'_>,
) -> Vec<SettingPlace> {
    let Value::Table(members) = &root.value else { return Vec::new() };
    let place = |section: &str, member: &TableMember<'_>| SettingPlace {
        section: section.to_owned(),
        key: member.key.as_ref().to_owned(),
        place: document.place(member.at),
    };
    let in_member = |member: &TableMember<'_>| match &member.node.value {
        Value::Table(keys) => keys.iter().map(|key| place(&member.key, key)).collect(),
        _ => vec![place("", member)],
    };
    members.iter().flat_map(in_member).collect()
}

/// Returns the settings that have one value each, and the names in the lists of groups, price
/// sources and channels.
pub fn values(config: &Config) -> Vec<SettingValue> {
    let groups: BTreeSet<&str> =
        config.whitelist.iter().filter_map(WhitelistEntry::group_name).collect();
    let channels = config.alerts.channels.iter().map(|channel| channel.target.kind().name());
    let sections = [
        ("", vec![("market", config.market.name().to_owned())]),
        ("budget", budget(config)),
        ("orders", vec![("max_wait_ms", ms(config.orders.max_wait))]),
        ("feed", feed(config)),
        ("reconnection", reconnection(config)),
        ("speed", speed(config)),
        ("prices", prices(config)),
        ("alert_rules", alert_rules(config)),
        ("heartbeat", heartbeat(config)),
        ("dashboard", dashboard(config)),
        ("shared", shared(config)),
        ("alerts", vec![("kind", list(channels))]),
        ("groups", vec![("name", list(groups.into_iter()))]),
    ];
    let all = sections.into_iter().flat_map(|(section, values)| {
        values.into_iter().map(move |(key, value)| SettingValue { section, key, value })
    });
    all.collect()
}

type Values = Vec<(&'static str, String)>;

fn optional(value: Option<impl Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    optional(Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty()))
}

fn ms(time: Duration) -> String {
    time.as_millis().to_string()
}

fn budget(config: &Config) -> Values {
    let budget = &config.budget;
    vec![
        ("max_price", budget.max_price.to_string()),
        ("total", budget.total.to_string()),
        ("min_balance", budget.min_balance.to_string()),
        ("max_buys_per_minute", budget.max_buys_per_minute.to_string()),
        ("per_hour", optional(budget.per_hour)),
        ("per_day", optional(budget.per_day)),
        ("max_in_flight", budget.max_in_flight.to_string()),
    ]
}

fn feed(config: &Config) -> Values {
    let feed = &config.feed;
    let generation = match feed.generation {
        Generation::A => "A",
        Generation::B => "B",
    };
    vec![
        ("generation", generation.to_owned()),
        ("connections", feed.connections.to_string()),
        ("max_age_s", feed.max_age.as_secs().to_string()),
        ("sweep_at_start", feed.sweep_at_start.to_string()),
        ("server_filters", feed.server_filters.to_string()),
    ]
}

fn reconnection(config: &Config) -> Values {
    let limits = config.reconnection.limits();
    vec![
        ("initial_delay_ms", ms(limits.initial_delay)),
        ("max_delay_ms", ms(limits.max_delay)),
        ("backoff_multiplier", limits.backoff_multiplier.to_string()),
        ("jitter", limits.jitter.to_string()),
        ("max_consecutive_failures", limits.max_consecutive_failures.to_string()),
        ("circuit_breaker_cooldown_ms", ms(limits.circuit_breaker_cooldown)),
        ("stable_after_ms", ms(limits.stable_after)),
        ("connect_timeout_ms", ms(limits.connect_timeout)),
        ("ping_interval_ms", ms(limits.ping_interval)),
        ("pong_timeout_ms", ms(limits.pong_timeout)),
        ("idle_timeout_ms", ms(limits.idle_timeout)),
        ("max_retries", optional(limits.max_retries)),
    ]
}

fn speed(config: &Config) -> Values {
    let speed = config.speed;
    vec![
        ("cache_warming", speed.cache_warming.to_string()),
        ("spin", speed.spin.to_string()),
        ("pin_cpu", optional(speed.pin_cpu)),
    ]
}

fn prices(config: &Config) -> Values {
    let prices = &config.prices;
    let sold_on = prices.sell_on.and_then(|source| prices.sources.get(source));
    vec![
        ("coin_usd", optional(prices.coin_usd)),
        ("refresh_minutes", (prices.refresh.as_secs() / 60).to_string()),
        ("sell_fee_percent", optional(prices.sell_fee)),
        ("sell_on", optional(sold_on.map(|source| &source.name))),
        ("source", list(prices.sources.iter().map(|source| source.name.as_str()))),
    ]
}

fn alert_rules(config: &Config) -> Values {
    let rules = &config.alerts.rules;
    vec![
        ("feed_down_after_s", rules.feed_down_after.as_secs().to_string()),
        ("silent_after_s", rules.silent_after.as_secs().to_string()),
        ("daily_summary_at", super::alerts::TimeOfDay(rules.daily_summary_at).to_string()),
        ("quiet_hours", optional(rules.quiet_hours)),
    ]
}

fn heartbeat(config: &Config) -> Values {
    let every = config.alerts.heartbeat.as_ref().map(|heartbeat| heartbeat.every.as_secs());
    vec![("every_s", optional(every))]
}

fn dashboard(config: &Config) -> Values {
    let dashboard = &config.dashboard;
    vec![
        ("listen", optional(dashboard.listen)),
        ("allow_remote", dashboard.allow_remote.to_string()),
        ("allowed_hosts", list(dashboard.allowed_hosts.iter().map(String::as_str))),
    ]
}

fn shared(config: &Config) -> Values {
    let shared = config.shared.as_ref();
    vec![
        ("group", optional(shared.map(|shared| &shared.group))),
        ("total", optional(shared.map(|shared| shared.total))),
        ("unit", optional(shared.map(|shared| shared.unit.name()))),
        ("standby", optional(shared.and_then(|shared| shared.standby.as_ref()))),
        ("member", optional(shared.map(|shared| &shared.member))),
        ("term_s", optional(shared.map(|shared| shared.term.as_secs()))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Endpoints, settings::SECTIONS};

    /// Settings that are lists, that name a variable or a file, or that need a kind.
    const NOT_SHOWN: [(&str, &str); 5] = [
        ("", "groups"),
        ("", "whitelist_file"),
        ("heartbeat", "url_env"),
        ("heartbeat", "style"),
        ("shared", "url_env"),
    ];

    #[test]
    fn every_setting_with_one_value_is_shown() {
        let endpoints = Endpoints::new("ws://127.0.0.1:1/ws", "http://127.0.0.1:1/graphql");
        let values = values(&Config::new(endpoints.unwrap(), "data"));
        let is_section = |key: &&str| SECTIONS.iter().any(|(section, _)| **section == **key);
        let lists = ["prices.source", "alerts", "groups.NAME", "whitelist"];
        for (section, keys) in SECTIONS.iter().filter(|(section, _)| !lists.contains(section)) {
            for key in keys.iter().filter(|key| !(section.is_empty() && is_section(key))) {
                let shown =
                    values.iter().any(|value| (value.section, value.key) == (section, *key));
                assert_ne!(shown, NOT_SHOWN.contains(&(section, key)), "{section}.{key}");
            }
        }
    }
}
