//! Parses and validates `sniper.toml` and JSON whitelists. Pure.

use std::time::Duration;

use super::{
    Budget, CONNECTIONS_MAX, FeedConfig, Generation, SpeedConfig,
    document::{ConfigDocument, ConfigNode, Value, read_json, read_toml},
    entries::{self, ENTRY_KEYS, EntryList},
    fields::{ParseContext, TableFields, suggestion},
    problem::{Diagnostics, Problem, SourceLocation},
    reconnection::{DELAY_MIN, ReconnectPolicy as Reconnection, ReconnectionLimits, Thousandths},
};
use crate::text::Escaped;

/// Sections of `sniper.toml` and their keys. `""` is the top level.
pub const SECTIONS: [(&str, &[&str]); 6] = [
    ("", &ROOT_KEYS),
    ("budget", &BUDGET_KEYS),
    ("feed", &FEED_KEYS),
    ("reconnection", &RECONNECTION_KEYS),
    ("speed", &SPEED_KEYS),
    ("whitelist", &ENTRY_KEYS),
];

const ROOT_KEYS: [&str; 6] =
    ["whitelist_file", "budget", "feed", "reconnection", "speed", "whitelist"];

const SPEED_KEYS: [&str; 1] = ["spin"];

const BUDGET_KEYS: [&str; 7] = [
    "max_price",
    "total",
    "min_balance",
    "max_buys_per_minute",
    "per_hour",
    "per_day",
    "max_in_flight",
];

const FEED_KEYS: [&str; 5] =
    ["generation", "connections", "max_age_s", "sweep_at_start", "server_filters"];

const RECONNECTION_KEYS: [&str; 12] = [
    "initial_delay_ms",
    "max_delay_ms",
    "backoff_multiplier",
    "jitter",
    "max_consecutive_failures",
    "circuit_breaker_cooldown_ms",
    "stable_after_ms",
    "connect_timeout_ms",
    "ping_interval_ms",
    "pong_timeout_ms",
    "idle_timeout_ms",
    "max_retries",
];

/// Minimum of `max_age_s`.
const AGE_S_MIN: u32 = 60;

/// Maximum of `max_age_s`: one day.
const WAIT_S_MAX: u32 = 86_400;

/// Maximum of the durations in `[reconnection]`: one day.
const WAIT_MS_MAX: u32 = 86_400_000;

/// Maximum of `max_in_flight`: each concurrent order needs its own connection.
const IN_FLIGHT_MAX: u32 = 64;

/// Content of `sniper.toml`.
#[derive(Clone, Debug, Default)]
pub(super) struct TomlSettings {
    pub(super) budget: Budget,
    pub(super) feed: FeedConfig,
    pub(super) reconnection: Reconnection,
    pub(super) speed: SpeedConfig,
    pub(super) entries: EntryList,
    /// Path of the whitelist file, and the location of the setting.
    pub(super) whitelist_file: Option<(String, SourceLocation)>,
    /// Problems of missing settings that only a live run requires.
    pub(super) missing_for_live: Vec<Problem>,
}

/// Parses a `sniper.toml`.
pub(super) fn read(document: &ConfigDocument<'_>, diagnostics: &mut Diagnostics) -> TomlSettings {
    let mut syntax = Diagnostics::default();
    let root = read_toml(document, &mut syntax);
    let mut found = Diagnostics::default();
    let mut context = ParseContext { document, diagnostics: &mut found };
    let policy = read_root(&root, &mut context);
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
        return entries::read(root, context);
    };
    let fields = TableFields::new(root, "the file", &["whitelist"], context);
    match fields.get("whitelist") {
        Some(list) => entries::read(list, context),
        None => EntryList::default(),
    }
}

fn read_root(root: &ConfigNode<'_>, context: &mut ParseContext<'_, '_>) -> TomlSettings {
    let Value::Table(members) = &root.value else { return TomlSettings::default() };
    for member in members.iter().filter(|member| !ROOT_KEYS.contains(&member.key.as_ref())) {
        let key: &str = &member.key;
        let owner = SECTIONS.iter().find(|(_, keys)| keys.contains(&key));
        let remedy = match owner {
            Some((section @ "whitelist", _)) => format!("write it below [[{section}]]"),
            Some((section, _)) => format!("write it below [{section}]"),
            None => suggestion(key, &ROOT_KEYS),
        };
        context.problem(member.at, format!("unknown setting `{}`", Escaped(key)), remedy);
    }
    // Unknown keys at the top level are reported above.
    let top = TableFields::of(members, &ROOT_KEYS);
    let empty = ConfigNode { at: 0, value: Value::Table(Vec::new()) };
    let section = |key: &str| top.get(key).unwrap_or(&empty);
    let mut policy = TomlSettings {
        whitelist_file: read_whitelist_file(&top, context),
        ..TomlSettings::default()
    };
    read_budget(top.get("budget"), &mut policy, context);
    read_feed(section("feed"), &mut policy.feed, context);
    read_reconnection(section("reconnection"), &mut policy.reconnection, context);
    read_speed(section("speed"), &mut policy.speed, context);
    if let Some(list) = top.get("whitelist") {
        policy.entries = entries::read(list, context);
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

fn read_speed(node: &ConfigNode<'_>, speed: &mut SpeedConfig, context: &mut ParseContext<'_, '_>) {
    let fields = TableFields::new(node, "[speed]", &SPEED_KEYS, context);
    if let Some(spin) = fields.flag("spin", context) {
        speed.spin = spin;
    }
}

fn read_feed(node: &ConfigNode<'_>, feed: &mut FeedConfig, context: &mut ParseContext<'_, '_>) {
    let fields = TableFields::new(node, "[feed]", &FEED_KEYS, context);
    let generation = |word: &str| match word {
        "A" | "a" => Some(Generation::A),
        "B" | "b" => Some(Generation::B),
        _ => None,
    };
    if let Some(generation) = fields.choice("generation", &["A", "B"], generation, context) {
        feed.generation = generation;
    }
    let connections_max = u32::try_from(CONNECTIONS_MAX).unwrap_or(1);
    if let Some(connections) = fields.whole("connections", (1, connections_max), context) {
        feed.connections = usize::try_from(connections).unwrap_or(1);
    }
    if let Some(max_age) = fields.seconds("max_age_s", (AGE_S_MIN, WAIT_S_MAX), context) {
        feed.max_age = max_age;
    }
    if let Some(sweep) = fields.flag("sweep_at_start", context) {
        feed.sweep_at_start = sweep;
    }
    if let Some(filters) = fields.flag("server_filters", context) {
        feed.server_filters = filters;
        if filters && feed.generation == Generation::A {
            let message = "`server_filters` has no effect for generation A".to_owned();
            let remedy = "remove it, or set generation = \"B\"";
            context.warning(fields.at("server_filters"), message, remedy);
        }
    }
}

fn read_reconnection(
    node: &ConfigNode<'_>,
    into: &mut Reconnection,
    context: &mut ParseContext<'_, '_>,
) {
    let fields = TableFields::new(node, "[reconnection]", &RECONNECTION_KEYS, context);
    let mut limits = *into.limits();
    let mut wait = |key: &str, min: u32, into: &mut Duration| {
        if let Some(wait) = fields.milliseconds(key, (min, WAIT_MS_MAX), context) {
            *into = wait;
        }
    };
    wait("initial_delay_ms", 1, &mut limits.initial_delay);
    wait("max_delay_ms", 1, &mut limits.max_delay);
    wait("circuit_breaker_cooldown_ms", 1_000, &mut limits.circuit_breaker_cooldown);
    wait("stable_after_ms", 1, &mut limits.stable_after);
    wait("connect_timeout_ms", 100, &mut limits.connect_timeout);
    wait("ping_interval_ms", 100, &mut limits.ping_interval);
    wait("pong_timeout_ms", 100, &mut limits.pong_timeout);
    wait("idle_timeout_ms", 0, &mut limits.idle_timeout);
    let thousandths = |hundredths: u32| Thousandths(hundredths.saturating_mul(10));
    if let Some(multiplier) = fields.decimal("backoff_multiplier", (100, 10_000), context) {
        limits.backoff_multiplier = thousandths(multiplier);
    }
    if let Some(jitter) = fields.decimal("jitter", (0, 100), context) {
        limits.jitter = thousandths(jitter);
    }
    if let Some(failures) = fields.whole("max_consecutive_failures", (0, u32::MAX), context) {
        limits.max_consecutive_failures = failures;
    }
    limits.max_retries = fields.whole("max_retries", (0, u32::MAX), context);
    if !check_delays(&mut limits, &fields, context) {
        return;
    }
    match Reconnection::new(limits) {
        Ok(policy) => *into = policy,
        Err(error) => {
            context.problem(fields.at(error.key()), error.to_string(), "change this value");
        }
    }
}

/// Returns `false` if the two delays contradict each other. Warns about a delay below the minimum.
fn check_delays(
    limits: &mut ReconnectionLimits,
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> bool {
    let (initial, max) = (limits.initial_delay.as_millis(), limits.max_delay.as_millis());
    if initial > max {
        let message = format!("`initial_delay_ms` {initial} is above `max_delay_ms` {max}");
        context.problem(fields.at("initial_delay_ms"), message, "swap them, or fix one");
        return false;
    }
    let min = DELAY_MIN.as_millis();
    for (key, delay) in [("initial_delay_ms", initial), ("max_delay_ms", max)] {
        if delay < min {
            let message = format!("`{key}` {delay} is below {min}");
            let remedy = format!("{min} ms is used, the minimum");
            context.warning(fields.at(key), message, remedy);
        }
    }
    limits.max_delay = limits.max_delay.max(DELAY_MIN);
    true
}

#[cfg(test)]
mod tests;
