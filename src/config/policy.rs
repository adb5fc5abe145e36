//! `sniper.toml` and a whitelist of JSON: a text becomes checked values or problems. Pure.

use std::time::Duration;

use super::{
    Budget, FeedConfig, Generation, SpeedConfig,
    document::{ConfigDocument, ConfigNode, Value, read_json, read_toml},
    entries::{self, ENTRY_KEYS, EntryList},
    fields::{ParseContext, TableFields, suggestion},
    problem::{Diagnostics, Problem, SourceLocation},
};
use crate::{
    text::Escaped,
    ws::{
        CONNECTIONS_MAX,
        policy::{DELAY_MIN, ReconnectPolicy as Reconnection, ReconnectionLimits, Thousandths},
    },
};

/// The sections of `sniper.toml` with their keys. `""` is the top of the file.
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

/// The youngest age at which a connection can be replaced.
const AGE_S_MIN: u32 = 60;

/// A day, in seconds.
const WAIT_S_MAX: u32 = 86_400;

/// A day: no wait of this program needs to be longer.
const WAIT_MS_MAX: u32 = 86_400_000;

/// How many buys may be under way at once, at most: each needs a connection of its own.
const IN_FLIGHT_MAX: u32 = 64;

/// What `sniper.toml` says.
#[derive(Clone, Debug, Default)]
pub(super) struct TomlSettings {
    pub(super) budget: Budget,
    pub(super) feed: FeedConfig,
    pub(super) reconnection: Reconnection,
    pub(super) speed: SpeedConfig,
    pub(super) entries: EntryList,
    /// The whitelist's file, and where it is named.
    pub(super) whitelist_file: Option<(String, SourceLocation)>,
    /// What a live run would need and is not there.
    pub(super) missing_for_live: Vec<Problem>,
}

/// Reads a `sniper.toml` that problems will call `name`.
pub(super) fn read(name: &str, text: &str, findings: &mut Diagnostics) -> TomlSettings {
    let document = ConfigDocument::new(name, text);
    let mut syntax = Diagnostics::default();
    let root = read_toml(&document, &mut syntax);
    let mut found = Diagnostics::default();
    let mut reading = ParseContext { document: &document, findings: &mut found };
    let policy = read_root(&root, &mut reading);
    // What follows from a line that is no TOML is not worth a message of its own.
    let broken: Vec<usize> = syntax.problem_lines().collect();
    found.retain_problems(|problem| match problem.place {
        SourceLocation::Column { line, .. } => !broken.contains(&line),
        _ => true,
    });
    syntax.append(found);
    findings.append(syntax);
    policy
}

/// Reads a whitelist of JSON that problems will call `name`: a list of entries, or an object that
/// holds one as `whitelist`.
pub(super) fn read_whitelist(name: &str, text: &str, findings: &mut Diagnostics) -> EntryList {
    let document = ConfigDocument::new(name, text);
    let mut found = Diagnostics::default();
    let root = read_json(&document, &mut found);
    let mut reading = ParseContext { document: &document, findings: &mut found };
    let entries = root.map(|root| read_json_root(&root, &mut reading));
    findings.append(found);
    entries.unwrap_or(EntryList { found: Vec::new(), count: 1 })
}

fn read_json_root(root: &ConfigNode<'_>, reading: &mut ParseContext<'_, '_>) -> EntryList {
    let Value::Table(_) = &root.value else {
        return entries::read(root, reading);
    };
    let fields = TableFields::new(root, "the file", &["whitelist"], reading);
    match fields.get("whitelist") {
        Some(list) => entries::read(list, reading),
        None => EntryList::default(),
    }
}

fn read_root(root: &ConfigNode<'_>, reading: &mut ParseContext<'_, '_>) -> TomlSettings {
    let Value::Table(members) = &root.value else { return TomlSettings::default() };
    for member in members.iter().filter(|member| !ROOT_KEYS.contains(&member.key.as_ref())) {
        let key: &str = &member.key;
        let owner = SECTIONS.iter().find(|(_, keys)| keys.contains(&key));
        let remedy = match owner {
            Some((section @ "whitelist", _)) => format!("write it below [[{section}]]"),
            Some((section, _)) => format!("write it below [{section}]"),
            None => suggestion(key, &ROOT_KEYS),
        };
        reading.problem(member.at, format!("`{}` is no setting", Escaped(key)), remedy);
    }
    // The sections' own checks have said what is wrong at the top already.
    let top = TableFields::of(members, &ROOT_KEYS);
    let empty = ConfigNode { at: 0, value: Value::Table(Vec::new()) };
    let section = |key: &str| top.get(key).unwrap_or(&empty);
    let mut policy = TomlSettings {
        whitelist_file: read_whitelist_file(&top, reading),
        ..TomlSettings::default()
    };
    read_budget(top.get("budget"), &mut policy, reading);
    read_feed(section("feed"), &mut policy.feed, reading);
    read_reconnection(section("reconnection"), &mut policy.reconnection, reading);
    read_speed(section("speed"), &mut policy.speed, reading);
    if let Some(list) = top.get("whitelist") {
        policy.entries = entries::read(list, reading);
    }
    policy
}

fn read_whitelist_file(
    top: &TableFields<'_, '_>,
    reading: &mut ParseContext<'_, '_>,
) -> Option<(String, SourceLocation)> {
    let file = top.text("whitelist_file", reading)?;
    let at = top.at("whitelist_file");
    if file.trim().is_empty() || file.contains('\0') {
        let message = "`whitelist_file` names no file".to_owned();
        reading.problem(at, message, "write its path, such as \"whitelist.json\", or leave it out");
        return None;
    }
    Some((file.to_owned(), reading.document.place(at)))
}

fn read_budget(
    section: Option<&ConfigNode<'_>>,
    policy: &mut TomlSettings,
    reading: &mut ParseContext<'_, '_>,
) {
    let empty = ConfigNode { at: 0, value: Value::Table(Vec::new()) };
    let fields = TableFields::new(section.unwrap_or(&empty), "[budget]", &BUDGET_KEYS, reading);
    let defaults = Budget::default();
    let max_price = fields.limit("max_price", reading);
    let total = fields.limit("total", reading);
    for (key, example) in [("max_price", "50.00"), ("total", "200.00")] {
        if fields.get(key).is_none() {
            let place = match section {
                None => reading.document.whole(),
                Some(section) => reading.document.place(section.at),
            };
            let message = format!("[budget] has no `{key}`, without which nothing is bought live");
            let remedy = format!("write it below [budget], such as {key} = {example}");
            policy.missing_for_live.push(Problem::new(place, message, remedy));
        }
    }
    let per_minute = fields.whole("max_buys_per_minute", (1, u32::MAX), reading);
    let in_flight = fields.whole("max_in_flight", (1, IN_FLIGHT_MAX), reading);
    let (per_hour, per_day) = (fields.limit("per_hour", reading), fields.limit("per_day", reading));
    for (key, limit) in [("total", total), ("per_day", per_day), ("per_hour", per_hour)] {
        fields.warn_above(("max_price", max_price), (key, limit), reading);
    }
    fields.warn_above(("per_hour", per_hour), ("per_day", per_day), reading);
    policy.budget = Budget {
        max_price: max_price.unwrap_or(defaults.max_price),
        total: total.unwrap_or(defaults.total),
        min_balance: fields.coins("min_balance", reading).unwrap_or(defaults.min_balance),
        max_buys_per_minute: per_minute.unwrap_or(defaults.max_buys_per_minute),
        per_hour,
        per_day,
        max_in_flight: in_flight.unwrap_or(defaults.max_in_flight),
    };
}

fn read_speed(node: &ConfigNode<'_>, speed: &mut SpeedConfig, reading: &mut ParseContext<'_, '_>) {
    let fields = TableFields::new(node, "[speed]", &SPEED_KEYS, reading);
    if let Some(spin) = fields.flag("spin", reading) {
        speed.spin = spin;
    }
}

fn read_feed(node: &ConfigNode<'_>, feed: &mut FeedConfig, reading: &mut ParseContext<'_, '_>) {
    let fields = TableFields::new(node, "[feed]", &FEED_KEYS, reading);
    let generation = |word: &str| match word {
        "A" | "a" => Some(Generation::A),
        "B" | "b" => Some(Generation::B),
        _ => None,
    };
    if let Some(generation) = fields.choice("generation", &["A", "B"], generation, reading) {
        feed.generation = generation;
    }
    let connections_max = u32::try_from(CONNECTIONS_MAX).unwrap_or(1);
    if let Some(connections) = fields.whole("connections", (1, connections_max), reading) {
        feed.connections = usize::try_from(connections).unwrap_or(1);
    }
    if let Some(max_age) = fields.seconds("max_age_s", (AGE_S_MIN, WAIT_S_MAX), reading) {
        feed.max_age = max_age;
    }
    if let Some(sweep) = fields.flag("sweep_at_start", reading) {
        feed.sweep_at_start = sweep;
    }
    if let Some(filters) = fields.flag("server_filters", reading) {
        feed.server_filters = filters;
        if filters && feed.generation == Generation::A {
            let message = "`server_filters` does nothing for generation A".to_owned();
            let remedy = "leave it out, or ask for generation \"B\"";
            reading.warning(fields.at("server_filters"), message, remedy);
        }
    }
}

fn read_reconnection(
    node: &ConfigNode<'_>,
    into: &mut Reconnection,
    reading: &mut ParseContext<'_, '_>,
) {
    let fields = TableFields::new(node, "[reconnection]", &RECONNECTION_KEYS, reading);
    let mut limits = *into.limits();
    let mut wait = |key: &str, least: u32, into: &mut Duration| {
        if let Some(wait) = fields.milliseconds(key, (least, WAIT_MS_MAX), reading) {
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
    if let Some(multiplier) = fields.decimal("backoff_multiplier", (100, 10_000), reading) {
        limits.backoff_multiplier = thousandths(multiplier);
    }
    if let Some(jitter) = fields.decimal("jitter", (0, 100), reading) {
        limits.jitter = thousandths(jitter);
    }
    if let Some(failures) = fields.whole("max_consecutive_failures", (0, u32::MAX), reading) {
        limits.max_consecutive_failures = failures;
    }
    limits.max_retries = fields.whole("max_retries", (0, u32::MAX), reading);
    if !check_delays(&mut limits, &fields, reading) {
        return;
    }
    match Reconnection::new(limits) {
        Ok(policy) => *into = policy,
        Err(error) => reading.problem(fields.at(error.key()), error.to_string(), "change it"),
    }
}

/// Whether the two delays fit together. One that is too short is lengthened, with a warning.
fn check_delays(
    limits: &mut ReconnectionLimits,
    fields: &TableFields<'_, '_>,
    reading: &mut ParseContext<'_, '_>,
) -> bool {
    let (initial, max) = (limits.initial_delay.as_millis(), limits.max_delay.as_millis());
    if initial > max {
        let message = format!("`initial_delay_ms` {initial} is above `max_delay_ms` {max}");
        reading.problem(fields.at("initial_delay_ms"), message, "exchange or change them");
        return false;
    }
    let least = DELAY_MIN.as_millis();
    for (key, delay) in [("initial_delay_ms", initial), ("max_delay_ms", max)] {
        if delay < least {
            let message = format!("`{key}` {delay} is below {least}");
            let remedy = format!("no wait is shorter than {least} ms, whatever is set");
            reading.warning(fields.at(key), message, remedy);
        }
    }
    limits.max_delay = limits.max_delay.max(DELAY_MIN);
    true
}

#[cfg(test)]
mod tests;
