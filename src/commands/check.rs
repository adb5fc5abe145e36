//! `sniper check`: validates the settings offline, and shows the errors or the configuration. A
//! credential is never shown.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{AppError, CommandContext, capture::MarketSource, exit_code, known_names, report};
use crate::{
    config::{
        AlertsConfig, Budget, Config, ConfigErrors, FeedConfig, Generation, Loaded, Market, Mode,
        Problem, SpeedConfig,
        alerts::{HeartbeatConfig, TimeOfDay},
        prices::{PriceSource, PricesConfig},
        reconnection::ReconnectionLimits,
    },
    domain::item_filter::ItemFilter,
    domain::item_name::Wear,
    domain::money::Amount,
    domain::percent_rule::PercentRule,
    domain::whitelist_entry::{EntryGroup, ItemPattern, WhitelistEntry},
    execution::request_size::{OrderRequestSize, SEGMENT_BYTES},
    markets::Marketplace,
    secret::Masking,
    text::{Escaped, counted},
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper check
  sniper check --live
  sniper check --config other.toml --json";

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Also check the requirements of `run --live`
    #[arg(long)]
    pub live: bool,
}

/// Maximum number of whitelist entries to show as text.
const ENTRIES_SHOWN_MAX: usize = 20;

/// Runs `sniper check`. `check_market` is [`check_market`] for the configured market, and `market`
/// reads its recordings.
///
/// # Errors
///
/// Returns the error of `check_market`, or [`AppError::Print`] if the result cannot be printed.
pub fn run(
    context: CommandContext<'_>,
    args: &CheckArgs,
    (check_market, market): (
        impl FnOnce(&Config) -> Result<OrderRequestSize, AppError>,
        impl FnOnce(&Config) -> MarketSource,
    ),
) -> Result<ExitCode, AppError> {
    let mut loaded = context.load_for_feed(args.live);
    if let Ok(loaded) = &mut loaded {
        let recorded = known_names::recorded(&loaded.config, market);
        known_names::apply_with(loaded, &recorded);
    }
    let order = loaded.as_ref().ok().map(|loaded| check_market(&loaded.config)).transpose()?;
    let CheckResult { text, json, code } = CheckResult::of(&loaded, order.as_ref());
    if context.output.is_json() {
        // The object has the same content, so a closed standard error loses nothing.
        drop(Masking::new(io::stderr().lock()).write_all(text.as_bytes()));
        context.output.json(&json)?;
    } else {
        report::print(&report::colored(&text))?;
    }
    Ok(ExitCode::from(code))
}

/// Checks the settings for a market, and measures the request of an order.
///
/// # Errors
///
/// Returns the error of [`check_supported`], or [`AppError::Start`] if the request cannot be
/// prepared.
pub fn check_market<M: Marketplace>(
    market: &M,
    config: &Config,
) -> Result<OrderRequestSize, AppError> {
    check_supported::<M>(config)?;
    let http = &config.endpoints.http;
    let template = M::authenticated(config.credential.as_ref(), market.order_template());
    OrderRequestSize::of(&template, &http.authority(), http.is_tls())
        .map_err(|error| AppError::start("the order client", error))
}

/// Checks that the market can honor every setting of the whitelist.
///
/// # Errors
///
/// Returns [`AppError::Unsupported`] with the settings that it cannot honor.
pub fn check_supported<M: Marketplace>(config: &Config) -> Result<(), AppError> {
    let unsupported = M::CAPABILITIES.unsupported(&config.whitelist);
    if unsupported.is_empty() {
        return Ok(());
    }
    let settings = unsupported.iter().map(|(entry, setting)| format!("{setting} of {entry:?}"));
    Err(AppError::Unsupported(settings.collect::<Vec<_>>().join(", ")))
}

/// Result of the check.
#[derive(Clone, Debug)]
pub struct CheckResult {
    pub text: String,
    pub json: Value,
    /// 0 or [`exit_code::CONFIG`].
    pub code: u8,
}

impl CheckResult {
    /// Formats the result, with the size of an order if it was measured.
    pub fn of(loaded: &Result<Loaded, ConfigErrors>, order: Option<&OrderRequestSize>) -> Self {
        let (text, json, code) = match loaded {
            Ok(loaded) => (format_summary(loaded, order), summary_json(loaded, order), 0),
            Err(problems) => (format_errors(problems), errors_json(problems), exit_code::CONFIG),
        };
        Self { text, json, code }
    }
}

/// Formats the errors, one per line, the warnings and the number of errors.
pub fn format_errors(problems: &ConfigErrors) -> String {
    let count = problems.list().len().saturating_add(problems.suppressed());
    let mut text = format!("{problems}\n");
    text.push_str(&warnings(problems.warnings()));
    let count = counted(count, "error", "errors");
    text.push_str(&format!("\n{count} in the settings\n"));
    text
}

/// Formats the loaded configuration, and the size of an order.
pub fn format_summary(loaded: &Loaded, order: Option<&OrderRequestSize>) -> String {
    let config = &loaded.config;
    let mut text = String::from("The settings are valid.\n\n");
    let mut line = |title: &str, value: &str| {
        text.push_str(&format!("{title:<13}{value}\n"));
    };
    line("Market", config.market.title());
    line("Mode", mode(config));
    line("Feed", &feed(config));
    line("Account", &format!("{} (reads and orders)", config.endpoints.http));
    if config.speed != SpeedConfig::default() {
        line("Speed", &speed(config.speed));
    }
    if let Some(listen) = config.dashboard.listen {
        line("Dashboard", &format!("http://{listen}"));
    }
    line("Credential", &credential(loaded));
    line("Settings", &settings(loaded));
    line("Data", &Escaped(&config.data_dir.display().to_string()).to_string());
    if let Some(order) = order {
        line("Order size", &order.describe());
    }
    line("Reconnects", &reconnection(config.reconnection.limits()));
    if let Some(prices) = prices(&config.prices) {
        line("Prices", &prices);
    }
    if config.alerts.is_used() {
        line("Alerts", &alerts(&config.alerts));
    }
    text.push_str("\nBudget\n");
    for (name, value) in budget(&config.budget) {
        text.push_str(&format!("  {name:<20}{value:>12}\n"));
    }
    let entries = &*config.whitelist;
    text.push_str(&format!("\nWhitelist    {}\n", whitelist(entries.len())));
    text.push_str(&entry_table(entries.get(..ENTRIES_SHOWN_MAX).unwrap_or(entries)));
    let more = entries.len().saturating_sub(ENTRIES_SHOWN_MAX);
    if more > 0 {
        text.push_str(&format!("  … and {more} more; --json shows all\n"));
    }
    let groups = groups(entries);
    if !groups.is_empty() {
        text.push_str("\nGroups\n");
    }
    for group in groups {
        let name = Escaped(&group.name).to_string();
        text.push_str(&format!("  {name:<20}{}\n", group_limits(group)));
    }
    text.push_str(&warnings(&loaded.warnings));
    text
}

/// Returns the groups that entries are in, by name.
fn groups(entries: &[WhitelistEntry]) -> Vec<&EntryGroup> {
    let groups = entries.iter().filter_map(|entry| entry.group.as_deref());
    let by_name: BTreeMap<&str, &EntryGroup> = groups.map(|group| (&*group.name, group)).collect();
    by_name.into_values().collect()
}

fn group_limits(group: &EntryGroup) -> String {
    let total = group.max_total.map(|total| format!("total {total}"));
    let quantity = group.max_quantity.map(|quantity| format!("quantity {quantity}"));
    let limits: Vec<String> = total.into_iter().chain(quantity).collect();
    if limits.is_empty() { "no limits".to_owned() } else { limits.join(", ") }
}

/// Formats the channels with their servers only: the rest of an address is a secret.
fn alerts(alerts: &AlertsConfig) -> String {
    let AlertsConfig { channels, rules, heartbeat } = alerts;
    let mut parts: Vec<String> = channels
        .iter()
        .map(|channel| {
            let target = &channel.target;
            format!("{} ({})", target.kind().name(), target.endpoint().authority())
        })
        .collect();
    if let Some(HeartbeatConfig { url, every, .. }) = heartbeat {
        parts.push(format!("heartbeat every {} to {}", whole_units(*every), url.origin()));
    }
    parts.push(format!("summary at {}", TimeOfDay(rules.daily_summary_at)));
    parts.extend(rules.quiet_hours.map(|quiet| format!("quiet {quiet}")));
    parts.join(", ")
}

fn warnings(warnings: &[Problem]) -> String {
    let mut text = String::new();
    for (index, warning) in warnings.iter().enumerate() {
        let title = if index == 0 { "\nWarnings:\n" } else { "" };
        text.push_str(&format!("{title}{warning}\n"));
    }
    text
}

fn mode(config: &Config) -> &'static str {
    match config.mode {
        Mode::Dry => "DRY RUN: logs what it would buy, sends no orders",
        Mode::Live if config.endpoints.http.is_loopback() => "LIVE: local market, play money",
        Mode::Live => "LIVE: spends real money",
    }
}

const fn letter(generation: Generation) -> &'static str {
    match generation {
        Generation::A => "A",
        Generation::B => "B",
    }
}

fn feed(config: &Config) -> String {
    let FeedConfig { generation, connections, max_age, sweep_at_start, server_filters } =
        &config.feed;
    let count = match connections {
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    };
    let sweep = if *sweep_at_start { ", reads the open listings at startup" } else { "" };
    let filters = if *server_filters { ", filtered by the market" } else { "" };
    let generation = if config.market.settings().has_feed_key("generation") {
        format!(", generation {}", letter(*generation))
    } else {
        String::new()
    };
    format!(
        "{}{generation}, {count}, renewed every {}{sweep}{filters}",
        config.endpoints.ws,
        whole_units(*max_age)
    )
}

fn speed(speed: SpeedConfig) -> String {
    let SpeedConfig { cache_warming, spin, pin_cpu } = speed;
    let cold = (!cache_warming).then(|| "no cache warming".to_owned());
    let spin = spin.then(|| "busy-polls the feed, which takes one core".to_owned());
    let pin = pin_cpu.map(|cpu| format!("the feed's thread runs on CPU {cpu} only"));
    spin.into_iter().chain(pin).chain(cold).collect::<Vec<_>>().join(", ")
}

fn credential(loaded: &Loaded) -> String {
    match &loaded.credential_source {
        Some((name, place)) => format!("{name} ({place}), not shown"),
        None => "none: connects as a guest, balance unknown".to_owned(),
    }
}

fn settings(loaded: &Loaded) -> String {
    match &loaded.config_file {
        Some(path) => Escaped(&path.display().to_string()).to_string(),
        None => "no sniper.toml, using the defaults".to_owned(),
    }
}

fn whitelist(count: usize) -> String {
    match count {
        0 => "empty: logs every listing. To begin, copy sniper.example.toml to sniper.toml".into(),
        count => counted(count, "entry", "entries"),
    }
}

/// Returns the limits as names and values.
fn budget(budget: &Budget) -> Vec<(&'static str, String)> {
    let Budget { max_price, total, min_balance, per_hour, per_day, .. } = budget;
    let mut rows = vec![
        ("price per item", max_price.to_string()),
        ("total", total.to_string()),
        ("minimum balance", min_balance.to_string()),
        ("orders per minute", budget.max_buys_per_minute.to_string()),
        ("orders in flight", budget.max_in_flight.to_string()),
    ];
    for (name, limit) in [("total per hour", per_hour), ("total per day", per_day)] {
        rows.extend(limit.map(|limit| (name, limit.to_string())));
    }
    rows
}

fn reconnection(limits: &ReconnectionLimits) -> String {
    let ReconnectionLimits { initial_delay, max_delay, connect_timeout, max_retries, .. } = limits;
    let retries = match max_retries {
        Some(retries) => format!("at most {retries} retries"),
        None => "no retry limit".to_owned(),
    };
    format!(
        "after {} to {}, {retries}, {} timeout",
        whole_units(*initial_delay),
        whole_units(*max_delay),
        whole_units(*connect_timeout)
    )
}

/// Formats a duration in its largest whole unit, such as `50 min` or `1500 ms`.
fn whole_units(duration: Duration) -> String {
    match duration.as_millis() {
        ms if !ms.is_multiple_of(1_000) => format!("{ms} ms"),
        ms if ms >= 120_000 && ms.is_multiple_of(60_000) => format!("{} min", ms / 60_000),
        ms => format!("{} s", ms / 1_000),
    }
}

/// Formats whitelist entries as an aligned table.
fn entry_table(entries: &[WhitelistEntry]) -> String {
    const HEADER: [&str; 8] =
        ["name", "item", "wear", "float", "max price", "markup", "quantity", "other limits"];
    /// Columns that are aligned to the right.
    const NUMBERS: std::ops::Range<usize> = 4..7;
    if entries.is_empty() {
        return String::new();
    }
    let header = HEADER.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header).chain(entries.iter().map(entry_row)).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in &rows {
        let mut line = String::from(" ");
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            line.push_str(&if NUMBERS.contains(&column) {
                format!(" {cell:>width$} ")
            } else {
                format!(" {cell:<width$} ")
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns the cells of an entry in the whitelist table.
fn entry_row(entry: &WhitelistEntry) -> [String; 8] {
    let WhitelistEntry { max_price, max_markup, max_quantity, min_price, .. } = entry;
    let wears: Vec<&str> = entry.wears.iter().map(Wear::short).collect();
    let float = match (entry.float_min, entry.float_max) {
        (None, None) => "any".to_owned(),
        (Some(min), None) => format!("from {min}"),
        (None, Some(max)) => format!("to {max}"),
        (Some(min), Some(max)) => format!("{min} to {max}"),
    };
    let mut other = Vec::new();
    if *min_price != Amount::ZERO {
        other.push(format!("min price {min_price}"));
    }
    other.extend(entry.max_total.map(|total| format!("total {total}")));
    other.extend(entry.max_age.map(|age| format!("age {}", whole_units(age))));
    other.extend(entry.percent.as_ref().map(percent_rule));
    other.extend(entry.filter.as_deref().map(item_filter));
    other.extend(entry.group_name().map(|name| format!("group {}", Escaped(name))));
    [
        entry.name.as_deref().map_or_else(|| "-".to_owned(), |name| Escaped(name).to_string()),
        item(entry),
        if wears.is_empty() { "any".to_owned() } else { wears.join("/") },
        float,
        max_price.to_string(),
        max_markup.map_or_else(|| "any".to_owned(), |max| format!("{max} %")),
        max_quantity.to_string(),
        other.join(", "),
    ]
}

/// Formats the item of an entry, with StatTrak™ or Souvenir.
fn item(entry: &WhitelistEntry) -> String {
    let name = match &entry.item {
        ItemPattern::Any => None,
        ItemPattern::Named(item) => Some(Escaped(item)),
    };
    match (name, entry.stattrak, entry.souvenir) {
        (None, true, _) => "every StatTrak™ item".to_owned(),
        (None, _, true) => "every Souvenir item".to_owned(),
        (None, ..) => "every item but StatTrak™ and Souvenir".to_owned(),
        (Some(name), true, _) => format!("StatTrak™ {name}"),
        (Some(name), _, true) => format!("Souvenir {name}"),
        (Some(name), ..) => name.to_string(),
    }
}

/// Formats a whitelist entry in one line, for the JSON object.
fn entry(entry: &WhitelistEntry, market: Market) -> String {
    let mut words: Vec<String> = Vec::new();
    if let Some(name) = &entry.name {
        words.push(format!("{}:", Escaped(name)));
    }
    words.push(item(entry));
    let wears: Vec<&str> = entry.wears.iter().map(Wear::short).collect();
    if !wears.is_empty() {
        words.push(wears.join("/"));
    }
    match (entry.float_min, entry.float_max) {
        (None, None) => {}
        (Some(min), None) => words.push(format!("float from {min}")),
        (None, Some(max)) => words.push(format!("float up to {max}")),
        (Some(min), Some(max)) => words.push(format!("float {min} to {max}")),
    }
    let WhitelistEntry { min_price, max_price, max_markup, max_quantity, .. } = entry;
    words.push(match max_markup {
        Some(max) => format!("for {min_price} to {max_price}, markup up to {max} %,"),
        None if market.settings().has_markup => {
            format!("for {min_price} to {max_price}, any markup,")
        }
        None => format!("for {min_price} to {max_price},"),
    });
    words.push(format!("{max_quantity} at most"));
    if let Some(total) = entry.max_total {
        words.push(format!("and for {total} in all"));
    }
    if let Some(age) = entry.max_age {
        words.push(format!("if not older than {} s", age.as_secs()));
    }
    if let Some(rule) = &entry.percent {
        words.push(format!("at {}", percent_rule(rule)));
    }
    words.extend(entry.filter.as_deref().map(item_filter));
    words.extend(entry.group_name().map(|name| format!("in the group {}", Escaped(name))));
    words.join(" ")
}

/// Formats a percent rule: `88.00 % of buff.bid`.
fn percent_rule(rule: &PercentRule) -> String {
    let references: Vec<String> = rule.references.iter().map(ToString::to_string).collect();
    let which = match references.len() {
        0 | 1 => String::new(),
        _ => format!("the {} of ", rule.rule.as_str()),
    };
    let mut text = format!("{} % of {which}{}", rule.max_percent, references.join(", "));
    if let Some(count) = rule.min_count {
        text.push_str(&format!(", {count} offers or more"));
    }
    if let Some(min) = rule.min_reference {
        text.push_str(&format!(", reference {min} or more"));
    }
    text
}

fn item_filter(filter: &ItemFilter) -> String {
    let mut parts: Vec<String> =
        filter.categories.iter().map(|category| category.as_str().to_owned()).collect();
    parts.extend(filter.rarities.iter().map(ToString::to_string));
    let excluded = filter.exclude.iter();
    parts.extend(excluded.map(|pattern| format!("not {}", Escaped(pattern.as_str()))));
    parts.join(", ")
}

/// Formats the sources of reference prices.
fn prices(prices: &PricesConfig) -> Option<String> {
    let source = |source: &PriceSource| {
        let interval = whole_units(prices.interval(source));
        let max_age = whole_units(source.max_age);
        format!("{} ({}, every {interval}, up to {max_age} old)", source.name, source.kind.name())
    };
    let sources: Vec<String> = prices.sources.iter().map(source).collect();
    if sources.is_empty() {
        return None;
    }
    let coin = prices.coin_usd.map(|coin| format!("; a coin is {coin} USD")).unwrap_or_default();
    Some(format!("{}{coin}", sources.join(", ")))
}

/// Returns the loaded configuration as JSON.
///
/// Like the two functions below, the object also has the keys of a session summary, so that the
/// last line of every command has the same keys.
fn summary_json(loaded: &Loaded, order: Option<&OrderRequestSize>) -> Value {
    let mut object = empty_summary(loaded.config.mode.name(), true);
    object.insert("problems".into(), json!([]));
    object.insert("warnings".into(), list_json(&loaded.warnings));
    object.insert("settings".into(), settings_json(loaded));
    object.insert("order_request".into(), order.map_or(Value::Null, order_json));
    object.into()
}

/// Returns the errors and warnings as JSON.
pub fn errors_json(problems: &ConfigErrors) -> Value {
    let mut object = empty_summary("none", false);
    object.insert("error".into(), "the settings are wrong".into());
    object.insert("problems".into(), list_json(problems.list()));
    object.insert("problems_untold".into(), problems.suppressed().into());
    object.insert("warnings".into(), list_json(problems.warnings()));
    object.into()
}

/// Returns any other error that prevented a session as JSON.
pub fn failure_json(error: &str) -> Value {
    let mut object = empty_summary("none", false);
    object.insert("error".into(), error.into());
    object.into()
}

/// Returns the keys of a session summary for a command without a session.
fn empty_summary(mode: &str, ok: bool) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("ok".into(), ok.into());
    object.insert("mode".into(), mode.into());
    for count in
        ["listings", "matched", "bought", "refused", "unknown", "skipped", "reconnects", "gaps"]
    {
        object.insert(count.into(), 0.into());
    }
    object.insert("seconds".into(), 0.into());
    object.insert("errors".into(), 0.into());
    object.insert("spent".into(), Amount::ZERO.to_string().into());
    object.insert("balance".into(), Value::Null);
    let latency = json!({"count": 0, "p50": 0, "p90": 0, "p99": 0, "max": 0});
    object.insert("latency_us".into(), latency);
    object
}

fn list_json(problems: &[Problem]) -> Value {
    problems.iter().map(problem_json).collect::<Vec<_>>().into()
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "place": problem.place.to_string(),
        "message": problem.message,
        "remedy": problem.remedy,
    })
}

fn order_json(order: &OrderRequestSize) -> Value {
    let parts = order.parts.iter().map(|(part, bytes)| json!({ "part": part, "bytes": bytes }));
    json!({
        "bytes": order.bytes,
        "tls": order.is_tls,
        "segment_bytes": SEGMENT_BYTES,
        "excess_bytes": order.excess(),
        "parts": parts.collect::<Vec<_>>(),
    })
}

fn group_json(group: &EntryGroup) -> Value {
    json!({
        "name": &*group.name,
        "max_total": group.max_total.map(|total| total.to_string()),
        "max_quantity": group.max_quantity,
    })
}

fn settings_json(loaded: &Loaded) -> Value {
    let config = &loaded.config;
    let budget = &config.budget;
    let entries = &*config.whitelist;
    json!({
        "market": config.market.name(),
        "ws_url": config.endpoints.ws.to_string(),
        "http_url": config.endpoints.http.to_string(),
        "generation": letter(config.feed.generation),
        "connections": config.feed.connections,
        "max_age_s": config.feed.max_age.as_secs(),
        "cache_warming": config.speed.cache_warming,
        "spin": config.speed.spin,
        "pin_cpu": config.speed.pin_cpu,
        "dashboard": config.dashboard.listen.map(|listen| listen.to_string()),
        "credential": loaded.credential_source.as_ref().map(|(name, _place)| name),
        "config_file": loaded.config_file.as_ref().map(|path| path.display().to_string()),
        "data": config.data_dir.display().to_string(),
        "budget": {
            "max_price": budget.max_price.to_string(),
            "total": budget.total.to_string(),
            "min_balance": budget.min_balance.to_string(),
            "max_buys_per_minute": budget.max_buys_per_minute,
            "per_hour": budget.per_hour.map(|limit| limit.to_string()),
            "per_day": budget.per_day.map(|limit| limit.to_string()),
            "max_in_flight": budget.max_in_flight,
        },
        "prices": prices(&config.prices),
        "groups": groups(entries).into_iter().map(group_json).collect::<Vec<_>>(),
        "whitelist_entries": entries.len(),
        "whitelist": entries.iter().map(|it| entry(it, config.market)).collect::<Vec<_>>(),
    })
}
