//! Parses and validates `sniper.toml` and JSON whitelists. Pure.

mod alerts;
mod dashboard;
mod feed;
mod groups;
pub(super) mod item;
mod percent;
mod prices;
mod shared;

use std::{collections::HashMap, path::PathBuf};

use self::alerts::{
    CHANNEL_KEYS, HEARTBEAT_KEYS, ParsedAlerts, RULE_KEYS, read_channels, read_heartbeat,
    read_rules,
};
use self::dashboard::{DASHBOARD_KEYS, read_dashboard};
use self::feed::{FEED_KEYS, RECONNECTION_KEYS, check_absent, read_feed, read_reconnection};
use self::groups::{GROUP_KEYS, ParsedGroups, read_groups};
use self::item::{merge_market_name, read_item, warn_float_of_other_wear};
use self::prices::{PRICES_KEYS, ParsedPrices, SOURCE_KEYS, read_prices};
use self::shared::{ParsedShared, SHARED_KEYS, read_shared};
pub(super) use self::{groups::resolve_groups, percent::resolve};
use super::{
    Budget, DashboardConfig, FeedConfig, Market, OrdersConfig, SpeedConfig,
    document::{
        ConfigDocument, ConfigNode, ParseContext, TableFields, Value, parse_toml, read_json,
        report_syntax_errors, suggestion,
    },
    in_force::{SettingPlace, setting_places},
    problem::{Diagnostics, Problem, SourceLocation},
    reconnection::ReconnectPolicy,
};
use crate::{
    domain::item_name::Wear,
    domain::money::{Decimals, Percent},
    domain::trade::PaintWear,
    domain::whitelist_entry::{ItemPattern, WearSet, WhitelistEntry},
    text::{Escaped, is_safe_to_print},
    threads::affinity,
};

/// Sections of `sniper.toml` and their keys. `""` is the top level.
pub const SECTIONS: [(&str, &[&str]); 15] = [
    ("", &ROOT_KEYS),
    ("budget", &BUDGET_KEYS),
    ("orders", &ORDERS_KEYS),
    ("feed", &FEED_KEYS),
    ("reconnection", &RECONNECTION_KEYS),
    ("speed", &SPEED_KEYS),
    ("prices", &PRICES_KEYS),
    ("prices.source", &SOURCE_KEYS),
    ("alerts", &CHANNEL_KEYS),
    ("alert_rules", &RULE_KEYS),
    ("heartbeat", &HEARTBEAT_KEYS),
    ("dashboard", &DASHBOARD_KEYS),
    ("shared", &SHARED_KEYS),
    ("whitelist", &ENTRY_KEYS),
    ("groups.NAME", &GROUP_KEYS),
];

const ROOT_KEYS: [&str; 15] = [
    "market",
    "whitelist_file",
    "budget",
    "orders",
    "feed",
    "reconnection",
    "speed",
    "prices",
    "alerts",
    "alert_rules",
    "heartbeat",
    "dashboard",
    "shared",
    "groups",
    "whitelist",
];

const ORDERS_KEYS: [&str; 1] = ["max_wait_ms"];

const SPEED_KEYS: [&str; 3] = ["cache_warming", "spin", "pin_cpu"];

const BUDGET_KEYS: [&str; 7] = [
    "max_price",
    "total",
    "min_balance",
    "max_buys_per_minute",
    "per_hour",
    "per_day",
    "max_in_flight",
];

/// Maximum of `max_in_flight`: each concurrent order needs its own connection.
const IN_FLIGHT_MAX: u32 = 64;

/// Maximum of `max_wait_ms`: one minute. A later order would rarely be the first.
const ORDER_WAIT_MS_MAX: u32 = 60_000;

/// Content of `sniper.toml`.
#[derive(Clone, Debug, Default)]
pub(super) struct TomlSettings {
    pub(super) market: Market,
    pub(super) budget: Budget,
    pub(super) orders: OrdersConfig,
    pub(super) feed: FeedConfig,
    pub(super) reconnection: ReconnectPolicy,
    pub(super) speed: SpeedConfig,
    /// Location of `pin_cpu`, if it is set.
    pub(super) pin_cpu_at: Option<SourceLocation>,
    pub(super) prices: ParsedPrices,
    pub(super) alerts: ParsedAlerts,
    pub(super) dashboard: DashboardConfig,
    pub(super) shared: Option<ParsedShared>,
    pub(super) entries: EntryList,
    pub(super) groups: ParsedGroups,
    /// Path of the whitelist file, and the location of the setting.
    pub(super) whitelist_file: Option<(String, SourceLocation)>,
    /// Locations of the settings that are set: all except those in lists.
    pub(super) set_at: Vec<SettingPlace>,
    /// Problems of missing settings that only a live run requires.
    pub(super) missing_for_live: Vec<Problem>,
    /// Files that were read, with the checksums of their text.
    pub(super) files: Vec<(PathBuf, u32)>,
}

/// Parses a `sniper.toml`; `name` is its name in problems. Its amounts have the decimals of its
/// market.
pub(super) fn read(
    name: &str,
    text: &str,
    decimals: fn(Market) -> Decimals,
    diagnostics: &mut Diagnostics,
) -> TomlSettings {
    let (root, errors) = parse_toml(text);
    let document = ConfigDocument::new(name, text, decimals(market_of(&root)));
    let document = &document;
    let mut syntax = Diagnostics::default();
    report_syntax_errors(document, errors, &mut syntax);
    let mut found = Diagnostics::default();
    let mut context = ParseContext { document, diagnostics: &mut found };
    let mut policy = read_root(&root, &mut context);
    policy.set_at = setting_places(&root, document);
    // Other problems on a line with a syntax error are consequences of it.
    let broken: Vec<usize> = syntax.problem_lines().collect();
    found.retain_problems(|problem| match problem.place {
        SourceLocation::Column { line, .. } => !broken.contains(&line),
        _ => true,
    });
    syntax.append(found);
    diagnostics.append(syntax);
    policy
}

/// Returns the market of a settings file whose other content may be invalid.
pub(super) fn market_in(text: &str) -> Market {
    market_of(&parse_toml(text).0)
}

/// Returns the market of a settings file; the default if it is absent or unknown.
fn market_of(root: &ConfigNode<'_>) -> Market {
    let Value::Table(members) = &root.value else { return Market::default() };
    let name = TableFields::of(members, &ROOT_KEYS).get("market");
    match name.map(|name| &name.value) {
        Some(Value::Text(name)) => Market::parse(name).unwrap_or_default(),
        _ => Market::default(),
    }
}

/// Parses a JSON whitelist: a list of entries, or an object with such a list as `whitelist`.
pub(super) fn read_whitelist(
    document: &ConfigDocument<'_>,
    diagnostics: &mut Diagnostics,
) -> EntryList {
    let mut found = Diagnostics::default();
    let root = read_json(document, &mut found);
    let mut context = ParseContext { document, diagnostics: &mut found };
    let entries = root.map(|root| read_json_root(&root, &mut context));
    diagnostics.append(found);
    entries.unwrap_or(EntryList { found: Vec::new(), count: 1 })
}

fn read_json_root(root: &ConfigNode<'_>, context: &mut ParseContext<'_, '_>) -> EntryList {
    let Value::Table(_) = &root.value else {
        return read_entries(root, context);
    };
    let fields = TableFields::new(root, "the file", &["whitelist"], context);
    match fields.get("whitelist") {
        Some(list) => read_entries(list, context),
        None => EntryList::default(),
    }
}

fn read_root(root: &ConfigNode<'_>, context: &mut ParseContext<'_, '_>) -> TomlSettings {
    let Value::Table(members) = &root.value else { return TomlSettings::default() };
    for member in members.iter().filter(|member| !ROOT_KEYS.contains(&member.key.as_ref())) {
        let key: &str = &member.key;
        let owner = SECTIONS.iter().find(|(_, keys)| keys.contains(&key));
        let remedy = match owner {
            Some((section @ ("whitelist" | "prices.source" | "alerts"), _)) => {
                format!("write it below [[{section}]]")
            }
            Some((section, _)) => format!("write it below [{section}]"),
            None => suggestion(key, &ROOT_KEYS),
        };
        context.problem(member.at, format!("unknown setting `{}`", Escaped(key)), remedy);
    }
    // Unknown keys at the top level are reported above.
    let top = TableFields::of(members, &ROOT_KEYS);
    let empty = ConfigNode { at: 0, value: Value::Table(Vec::new()) };
    let section = |key: &str| top.get(key).unwrap_or(&empty);
    // An unknown name is a problem, and the default is used to find further ones.
    let names = Market::ALL.map(Market::name);
    let mut policy = TomlSettings {
        market: top.choice("market", &names, Market::parse, context).unwrap_or_default(),
        whitelist_file: read_whitelist_file(&top, context),
        ..TomlSettings::default()
    };
    read_budget(top.get("budget"), &mut policy, context);
    read_orders(section("orders"), &mut policy.orders, context);
    read_feed(section("feed"), &mut policy.feed, context);
    let absent = policy.market.settings().feed_keys_without_effect;
    check_absent(section("feed"), absent, policy.market, context);
    read_reconnection(section("reconnection"), &mut policy.reconnection, context);
    policy.pin_cpu_at = read_speed(section("speed"), &mut policy.speed, context);
    policy.dashboard = read_dashboard(section("dashboard"), context);
    if let Some(prices) = top.get("prices") {
        policy.prices = read_prices(prices, context);
        policy.prices.config.is_in_coins = policy.market.is_priced_in_coins();
        if !policy.market.is_priced_in_coins() {
            check_absent(prices, &["coin_usd"], policy.market, context);
        }
    }
    if let Some(list) = top.get("alerts") {
        read_channels(list, &mut policy.alerts, context);
    }
    read_rules(section("alert_rules"), &mut policy.alerts, context);
    if let Some(heartbeat) = top.get("heartbeat") {
        read_heartbeat(heartbeat, &mut policy.alerts, context);
    }
    policy.shared = top.get("shared").and_then(|shared| read_shared(shared, context));
    if let Some(groups) = top.get("groups") {
        policy.groups = read_groups(groups, context);
    }
    if let Some(list) = top.get("whitelist") {
        policy.entries = read_entries(list, context);
    }
    policy
}

fn read_whitelist_file(
    top: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<(String, SourceLocation)> {
    let file = top.text("whitelist_file", context)?;
    let at = top.at("whitelist_file");
    if file.trim().is_empty() || file.contains('\0') {
        let message = "`whitelist_file` is not a path".to_owned();
        context.problem(at, message, "write a path, such as \"whitelist.json\", or remove the key");
        return None;
    }
    Some((file.to_owned(), context.document.place(at)))
}

fn read_budget(
    section: Option<&ConfigNode<'_>>,
    policy: &mut TomlSettings,
    context: &mut ParseContext<'_, '_>,
) {
    let empty = ConfigNode { at: 0, value: Value::Table(Vec::new()) };
    let fields = TableFields::new(section.unwrap_or(&empty), "[budget]", &BUDGET_KEYS, context);
    let defaults = Budget::default();
    let max_price = fields.limit("max_price", context);
    let total = fields.limit("total", context);
    for (key, example) in [("max_price", "50.00"), ("total", "200.00")] {
        if fields.get(key).is_none() {
            let place = match section {
                None => context.document.whole(),
                Some(section) => context.document.place(section.at),
            };
            let message = format!("[budget] has no `{key}`, which live mode requires");
            let remedy = format!("add it below [budget], such as {key} = {example}");
            policy.missing_for_live.push(Problem::new(place, message, remedy));
        }
    }
    let per_minute = fields.whole("max_buys_per_minute", (1, u32::MAX), context);
    let in_flight = fields.whole("max_in_flight", (1, IN_FLIGHT_MAX), context);
    let (per_hour, per_day) = (fields.limit("per_hour", context), fields.limit("per_day", context));
    for (key, limit) in [("total", total), ("per_day", per_day), ("per_hour", per_hour)] {
        fields.warn_above(("max_price", max_price), (key, limit), context);
    }
    fields.warn_above(("per_hour", per_hour), ("per_day", per_day), context);
    policy.budget = Budget {
        max_price: max_price.unwrap_or(defaults.max_price),
        total: total.unwrap_or(defaults.total),
        min_balance: fields.coins("min_balance", context).unwrap_or(defaults.min_balance),
        max_buys_per_minute: per_minute.unwrap_or(defaults.max_buys_per_minute),
        per_hour,
        per_day,
        max_in_flight: in_flight.unwrap_or(defaults.max_in_flight),
    };
}

fn read_orders(
    node: &ConfigNode<'_>,
    orders: &mut OrdersConfig,
    context: &mut ParseContext<'_, '_>,
) {
    let fields = TableFields::new(node, "[orders]", &ORDERS_KEYS, context);
    if let Some(max_wait) = fields.milliseconds("max_wait_ms", (0, ORDER_WAIT_MS_MAX), context) {
        orders.max_wait = max_wait;
    }
}

/// Returns the location of `pin_cpu`, if it is set.
fn read_speed(
    node: &ConfigNode<'_>,
    speed: &mut SpeedConfig,
    context: &mut ParseContext<'_, '_>,
) -> Option<SourceLocation> {
    let fields = TableFields::new(node, "[speed]", &SPEED_KEYS, context);
    speed.cache_warming = fields.flag("cache_warming", context).unwrap_or(speed.cache_warming);
    speed.spin = fields.flag("spin", context).unwrap_or(speed.spin);
    speed.pin_cpu = fields.whole("pin_cpu", (0, affinity::CPU_MAX), context);
    speed.pin_cpu.map(|_cpu| context.document.place(fields.at("pin_cpu")))
}

/// Keys of an entry.
pub const ENTRY_KEYS: [&str; 22] = [
    "name",
    "item",
    "wear",
    "stattrak",
    "souvenir",
    "float_min",
    "float_max",
    "min_price",
    "max_price",
    "max_markup_percent",
    "max_quantity",
    "max_total",
    "max_age_s",
    "max_percent",
    "reference",
    "reference_rule",
    "min_count",
    "min_reference",
    "category",
    "rarity",
    "exclude",
    "group",
];

/// Maximum length of the name of an item or entry, in bytes. Market names are shorter than 120.
const NAME_BYTES_MAX: usize = 400;

/// Maximum of `max_age_s`: ten years, which is no limit in practice.
const AGE_S_MAX: u32 = 315_360_000;

/// Accepted names of wears.
const WEAR_WORDS: [&str; 10] = [
    "Factory New",
    "Minimal Wear",
    "Field-Tested",
    "Well-Worn",
    "Battle-Scarred",
    "FN",
    "MW",
    "FT",
    "WW",
    "BS",
];

/// An entry and its location.
#[derive(Clone, Debug)]
pub(super) struct ParsedEntry {
    pub(super) entry: WhitelistEntry,
    pub(super) place: SourceLocation,
    /// Location of the percent rule, if there is one.
    pub(super) percent_at: Option<SourceLocation>,
    /// Name and location of its group, which is resolved later.
    pub(super) group: Option<(String, SourceLocation)>,
    /// `false` if the bound on the markup is the default.
    pub(super) is_markup_set: bool,
}

/// Entries of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct EntryList {
    pub(super) found: Vec<ParsedEntry>,
    /// Number of entries, including invalid ones.
    pub(super) count: usize,
}

/// Parses a list of entries.
fn read_entries(node: &ConfigNode<'_>, context: &mut ParseContext<'_, '_>) -> EntryList {
    let Value::List(list) = &node.value else {
        let message = format!("the whitelist must be a list, not {}", node.value.kind());
        context.problem(node.at, message, "begin each entry with [[whitelist]]");
        return EntryList { found: Vec::new(), count: 1 };
    };
    let mut found = Vec::with_capacity(list.len());
    for node in list {
        found.extend(read_entry(node, context));
    }
    EntryList { found, count: list.len() }
}

/// Reports duplicate entries: the ledger identifies an entry by its name, or without a name by its
/// conditions.
pub(super) fn check_distinct(found: &[ParsedEntry], diagnostics: &mut Diagnostics) {
    let mut names = HashMap::new();
    let mut conditions = HashMap::new();
    for ParsedEntry { entry, place, .. } in found {
        let (first, message, remedy) = match &entry.name {
            Some(name) => (
                *names.entry(name.as_str()).or_insert(place),
                format!("duplicate name \"{}\"", Escaped(name)),
                "give each entry its own name",
            ),
            None => (
                *conditions.entry(entry).or_insert(place),
                "duplicate entry".to_owned(),
                "remove one and raise `max_quantity` of the other",
            ),
        };
        if !std::ptr::eq(first, place) {
            let message = format!("{message}, also defined at {first}");
            diagnostics.problem(Problem::new(place.clone(), message, remedy));
        }
    }
}

fn read_entry(node: &ConfigNode<'_>, context: &mut ParseContext<'_, '_>) -> Option<ParsedEntry> {
    let fields = TableFields::new(node, "[[whitelist]]", &ENTRY_KEYS, context);
    if !matches!(node.value, Value::Table(_)) {
        return None;
    }
    let name = read_name(&fields, context);
    let item = read_item(&fields, context);
    let wears = read_wears(&fields, context);
    let float_min = read_float(&fields, "float_min", context);
    let float_max = read_float(&fields, "float_max", context);
    check_order(&fields, ("float_min", float_min), ("float_max", float_max), context);
    let min_price = fields.coins("min_price", context);
    let max_price = fields.limit("max_price", context);
    check_order(&fields, ("min_price", min_price), ("max_price", max_price), context);
    if fields.get("max_price").is_none() {
        let message = "missing `max_price`".to_owned();
        context.problem(fields.at, message, "add the maximum price: max_price = 12.50");
    }
    let percent = percent::read_rule(&fields, context);
    let filter = percent::read_filter(&fields, context);
    // A reference replaces the base price of the market, with which the markup compares.
    let default_markup = percent.is_none().then(Percent::default);
    let set_markup = fields.percent("max_markup_percent", context);
    let (max_markup, is_markup_set) = (set_markup.or(default_markup), set_markup.is_some());
    let max_quantity = fields.whole("max_quantity", (1, u32::MAX), context);
    let max_total = fields.limit("max_total", context);
    fields.warn_above(("max_price", max_price), ("max_total", max_total), context);
    let max_age = fields.seconds("max_age_s", (0, AGE_S_MAX), context);
    let (item, item_text) = item?;
    if percent.is_some() && item == ItemPattern::Any && fields.get("max_quantity").is_none() {
        let message = "missing `max_quantity`, which `max_percent` needs with `item` = \"*\"";
        let remedy = "add the maximum number of items bought in all: max_quantity = 10";
        context.problem(fields.at, message.to_owned(), remedy);
    }
    let (stattrak, souvenir, wears) = merge_market_name(&fields, &item_text, wears, context);
    warn_float_of_other_wear(&fields, wears, float_min, float_max, context);
    let entry = WhitelistEntry {
        name,
        item,
        wears,
        stattrak,
        souvenir,
        float_min,
        float_max,
        min_price: min_price.unwrap_or_default(),
        max_price: max_price?,
        max_markup,
        max_quantity: max_quantity.unwrap_or(1),
        max_total,
        max_age,
        percent,
        filter,
        group: None,
    };
    let place = context.document.place(node.at);
    let percent_at = percent::place(&fields, context);
    let group = fields.text("group", context).map(str::to_owned);
    let group = group.map(|name| (name, context.document.place(fields.at("group"))));
    Some(ParsedEntry { entry, place, percent_at, group, is_markup_set })
}

fn read_name(fields: &TableFields<'_, '_>, context: &mut ParseContext<'_, '_>) -> Option<String> {
    let name = fields.text("name", context)?;
    if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_safe_to_print)
    {
        let message = "`name` is empty, too long or contains invisible characters".to_owned();
        let remedy =
            format!("write plain text of at most {NAME_BYTES_MAX} bytes, or remove the key");
        context.problem(fields.at("name"), message, remedy);
        return None;
    }
    Some(name.to_owned())
}

fn read_wears(fields: &TableFields<'_, '_>, context: &mut ParseContext<'_, '_>) -> Option<WearSet> {
    const REMEDY: &str =
        "write a list, such as wear = [\"FN\", \"MW\"], or remove the key for any wear";
    let node = fields.get("wear")?;
    let list = match &node.value {
        Value::List(list) if list.is_empty() => {
            context.problem(node.at, "`wear` is an empty list".to_owned(), REMEDY);
            return None;
        }
        Value::List(list) => list,
        other => {
            context.problem(
                node.at,
                format!("`wear` must be a list, not {}", other.kind()),
                REMEDY,
            );
            return None;
        }
    };
    let mut wears = WearSet::ANY;
    for word in list {
        let Value::Text(text) = &word.value else {
            let message = format!("`wear` must contain texts, not {}", word.value.kind());
            context.problem(word.at, message, REMEDY);
            continue;
        };
        match Wear::parse_user_input(text) {
            Some(wear) => wears = wears.with(wear),
            None => {
                let message = format!("unknown wear \"{}\"", Escaped(text));
                context.problem(word.at, message, suggestion(text, &WEAR_WORDS));
            }
        }
    }
    Some(wears)
}

fn read_float(
    fields: &TableFields<'_, '_>,
    key: &str,
    context: &mut ParseContext<'_, '_>,
) -> Option<PaintWear> {
    let (at, text) = fields.number(key, context)?;
    let float = PaintWear::parse(text);
    if float.is_none() {
        let message = format!("`{key}` is not a float value");
        context.problem(at, message, "write a number from 0 to 1, such as 0.15");
    }
    float
}

fn check_order<T: PartialOrd + std::fmt::Display>(
    fields: &TableFields<'_, '_>,
    (min_key, min): (&str, Option<T>),
    (max_key, max): (&str, Option<T>),
    context: &mut ParseContext<'_, '_>,
) {
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let message = format!("`{min_key}` {min} is above `{max_key}` {max}");
        context.problem(fields.at(min_key), message, "swap them, or fix one");
    }
}

#[cfg(test)]
mod tests;
