//! Parses `[feed]` and `[reconnection]`. Pure.

use std::time::Duration;

use super::super::{
    CONNECTIONS_AUTO, CONNECTIONS_MAX, FeedConfig, Generation, Market,
    document::{ConfigNode, ParseContext, TableFields, Value},
    reconnection::{DELAY_MIN, ReconnectPolicy, ReconnectionLimits, Thousandths},
};

pub(super) const FEED_KEYS: [&str; 5] =
    ["generation", "connections", "max_age_s", "sweep_at_start", "server_filters"];

pub(super) const RECONNECTION_KEYS: [&str; 12] = [
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
const AGE_S_MAX: u32 = 86_400;

/// Maximum of the durations in `[reconnection]`: one day.
const WAIT_MS_MAX: u32 = 86_400_000;

pub(super) fn read_feed(
    node: &ConfigNode<'_>,
    feed: &mut FeedConfig,
    context: &mut ParseContext<'_, '_>,
) {
    let fields = TableFields::new(node, "[feed]", &FEED_KEYS, context);
    let generation = |word: &str| match word {
        "A" | "a" => Some(Generation::A),
        "B" | "b" => Some(Generation::B),
        _ => None,
    };
    if let Some(generation) = fields.choice("generation", &["A", "B"], generation, context) {
        feed.generation = generation;
    }
    if let Some(connections) = read_connections(&fields, context) {
        feed.connections = connections;
    }
    if let Some(max_age) = fields.seconds("max_age_s", (AGE_S_MIN, AGE_S_MAX), context) {
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

/// Reads a number of connections, or `"auto"`.
fn read_connections(
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<usize> {
    let node = fields.get("connections")?;
    match &node.value {
        Value::Text(text) if text == "auto" => Some(CONNECTIONS_AUTO),
        Value::Text(_) => {
            let message = "`connections` is neither a number nor \"auto\"".to_owned();
            let remedy = format!("write a number from 1 to {CONNECTIONS_MAX}, or \"auto\"");
            context.problem(node.at, message, remedy);
            None
        }
        _ => {
            let max = u32::try_from(CONNECTIONS_MAX).unwrap_or(1);
            usize::try_from(fields.whole("connections", (1, max), context)?).ok()
        }
    }
}

pub(super) fn read_reconnection(
    node: &ConfigNode<'_>,
    into: &mut ReconnectPolicy,
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
    match ReconnectPolicy::new(limits) {
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

/// Reports settings that the market does not have, unless their value is `false`.
pub(super) fn check_absent(
    node: &ConfigNode<'_>,
    absent: &[&str],
    market: Market,
    context: &mut ParseContext<'_, '_>,
) {
    let Value::Table(members) = &node.value else { return };
    for member in members.iter().filter(|member| absent.contains(&member.key.as_ref())) {
        if !matches!(member.node.value, Value::Flag(false)) {
            let message = format!("`{}` has no meaning on {}", member.key, market.title());
            context.problem(member.at, message, "remove it");
        }
    }
}
