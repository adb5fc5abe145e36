//! Parses `[feed]`. Pure.

use super::{
    super::{
        CONNECTIONS_AUTO, CONNECTIONS_MAX, FeedConfig, Generation, Market,
        document::{ConfigNode, ParseContext, TableFields, Value},
    },
    WAIT_S_MAX,
};

pub(super) const FEED_KEYS: [&str; 5] =
    ["generation", "connections", "max_age_s", "sweep_at_start", "server_filters"];

/// Minimum of `max_age_s`.
const AGE_S_MIN: u32 = 60;

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

/// Reports settings that the market does not have. A flag that is off needs nothing.
pub(super) fn check_absent(
    node: &ConfigNode<'_>,
    (absent, market): (&[&str], Market),
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
