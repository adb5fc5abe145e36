//! `sniper check`: every setting is read, and then either what is wrong or what the bot would do
//! is said. Offline; a credential is said to be there and never shown.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::{
    Budget, Config, ConfigErrors, FeedConfig, Generation, Loaded, Mode, Sources, problem::Problem,
};
use crate::{
    domain::item_name::Wear,
    domain::money::Amount,
    text::Escaped,
    whitelist::{ItemPattern, WhitelistEntry},
    ws::policy::ReconnectionLimits,
};

/// The exit code of settings that are wrong (`EX_CONFIG` of `sysexits.h`).
pub const EXIT_CONFIG: u8 = 78;

/// How many entries of the whitelist are shown.
const ENTRIES_SHOWN_MAX: usize = 20;

/// Reads every setting, says what came of it, and returns the exit code: 0 or [`EXIT_CONFIG`].
///
/// With `as_json`, `out` gets one line with one JSON object, and the words go to `err`.
///
/// # Errors
///
/// What writing says.
pub fn run(
    sources: &Sources<'_>,
    as_json: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let (words, object, code) = match Config::load(sources) {
        Ok(loaded) => (fine(&loaded), fine_json(&loaded), 0),
        Err(problems) => (wrong(&problems), wrong_json(&problems), EXIT_CONFIG),
    };
    if as_json {
        err.write_all(words.as_bytes())?;
        writeln!(out, "{object}")?;
    } else {
        out.write_all(words.as_bytes())?;
    }
    Ok(code)
}

/// What is wrong, a line for each problem.
pub fn wrong(problems: &ConfigErrors) -> String {
    let count = problems.list().len().saturating_add(problems.untold());
    let mut words = format!("{problems}\n");
    words.push_str(&warnings(problems.warnings()));
    let count = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    words.push_str(&format!("\n{count} in the settings. Nothing was started.\n"));
    words
}

/// What the bot would do.
pub fn fine(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let mut words = String::from("The settings are fine.\n\n");
    let mut line = |title: &str, text: &str| {
        words.push_str(&format!("{title:<13}{text}\n"));
    };
    line("Mode", mode(config));
    line("Feed", &feed(config));
    line("Reads, buys", &config.endpoints.http.to_string());
    line("Credential", &credential(loaded));
    line("Settings", &settings(loaded));
    line("Data", &Escaped(&config.data_dir.display().to_string()).to_string());
    line("Budget", &budget(&config.budget));
    line("Reconnection", &reconnection(config.reconnection.limits()));
    line("Whitelist", &whitelist(config));
    for (index, entry) in config.whitelist.entries().iter().take(ENTRIES_SHOWN_MAX).enumerate() {
        words.push_str(&format!("{:>12} {}\n", index.saturating_add(1), self::entry(entry)));
    }
    let more = config.whitelist.entries().len().saturating_sub(ENTRIES_SHOWN_MAX);
    if more > 0 {
        words.push_str(&format!("             … and {more} more\n"));
    }
    words.push_str(&warnings(&loaded.warnings));
    words
}

fn warnings(warnings: &[Problem]) -> String {
    let mut words = String::new();
    for (index, warning) in warnings.iter().enumerate() {
        let title = if index == 0 { "\nWorth a second look:\n" } else { "" };
        words.push_str(&format!("{title}{warning}\n"));
    }
    words
}

fn mode(config: &Config) -> &'static str {
    match config.mode {
        Mode::Dry => "dry: it watches, says what it would buy, and cannot buy",
        Mode::Live if config.endpoints.http.is_loopback() => {
            "LIVE on a market on this machine: it buys, with play money"
        }
        Mode::Live => "LIVE: it buys, and spends real money",
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
    let each = match connections {
        1 => "1 connection, replaced".to_owned(),
        count => format!("{count} connections, each replaced"),
    };
    let age = max_age.as_secs();
    let sweep = if *sweep_at_start { "; what is for sale is read at start" } else { "" };
    let filters = if *server_filters { "; the site leaves out what no entry can want" } else { "" };
    format!(
        "{}, generation {}, {each} before it is {age} s old{sweep}{filters}",
        config.endpoints.ws,
        letter(*generation)
    )
}

fn credential(loaded: &Loaded) -> String {
    match &loaded.credential_source {
        Some((name, place)) => format!("{name} ({place}), not shown"),
        None => "none: it connects as a guest and does not know your balance".to_owned(),
    }
}

fn settings(loaded: &Loaded) -> String {
    match &loaded.config_file {
        Some(path) => Escaped(&path.display().to_string()).to_string(),
        None => "no sniper.toml: every setting has its default".to_owned(),
    }
}

fn whitelist(config: &Config) -> String {
    match config.whitelist.entries().len() {
        0 => {
            "none: it shows every listing. To begin, copy sniper.example.toml to sniper.toml".into()
        }
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    }
}

/// The limits, in one line.
pub fn budget(budget: &Budget) -> String {
    let Budget { max_price, total, min_balance, max_buys_per_minute, per_hour, per_day, .. } =
        budget;
    let mut text = format!(
        "at most {max_price} for one and {total} in all, balance not below {min_balance}, \
         {max_buys_per_minute} buys a minute, {} at once",
        budget.max_in_flight
    );
    for (limit, what) in [(per_hour, "an hour"), (per_day, "a day")] {
        if let Some(limit) = limit {
            text.push_str(&format!(", {limit} {what}"));
        }
    }
    text
}

fn reconnection(limits: &ReconnectionLimits) -> String {
    let ReconnectionLimits { initial_delay, max_delay, connect_timeout, max_retries, .. } = limits;
    let retries = match max_retries {
        Some(retries) => format!("{retries} times"),
        None => "for ever".to_owned(),
    };
    format!(
        "after {} ms up to {} ms, {retries}; {} ms for each try",
        initial_delay.as_millis(),
        max_delay.as_millis(),
        connect_timeout.as_millis()
    )
}

/// An entry of the whitelist, in one line.
pub fn entry(entry: &WhitelistEntry) -> String {
    let mut words: Vec<String> = Vec::new();
    if let Some(name) = &entry.name {
        words.push(format!("{}:", Escaped(name)));
    }
    for (is, word) in [(entry.stattrak, "StatTrak™"), (entry.souvenir, "Souvenir")] {
        if is {
            words.push(word.to_owned());
        }
    }
    words.push(match &entry.item {
        ItemPattern::Any => "every item".to_owned(),
        ItemPattern::Named(item) => Escaped(item).to_string(),
    });
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
    words.push(format!("for {min_price} to {max_price}, markup up to {max_markup} %,"));
    words.push(format!("{max_quantity} at most"));
    if let Some(total) = entry.max_total {
        words.push(format!("and for {total} in all"));
    }
    if let Some(age) = entry.max_age {
        words.push(format!("if not older than {} s", age.as_secs()));
    }
    words.join(" ")
}

/// What the bot would do as one JSON object.
///
/// Like the two below, it has the keys of a session's summary too, so that whoever reads the last
/// line of any command finds the same ones.
pub fn fine_json(loaded: &Loaded) -> Value {
    let mode = match loaded.config.mode {
        Mode::Dry => "dry",
        Mode::Live => "live",
    };
    let mut object = no_session(mode, true);
    object.insert("problems".into(), json!([]));
    object.insert("warnings".into(), list_json(&loaded.warnings));
    object.insert("settings".into(), settings_json(loaded));
    object.into()
}

/// What is wrong as one JSON object.
pub fn wrong_json(problems: &ConfigErrors) -> Value {
    let mut object = no_session("none", false);
    object.insert("error".into(), "the settings are wrong".into());
    object.insert("problems".into(), list_json(problems.list()));
    object.insert("problems_untold".into(), problems.untold().into());
    object.insert("warnings".into(), list_json(problems.warnings()));
    object.into()
}

/// Anything else that kept a session from beginning, as one JSON object.
pub fn failed_json(error: &str) -> Value {
    let mut object = no_session("none", false);
    object.insert("error".into(), error.into());
    object.into()
}

/// The keys of a session's summary, of a session that never began.
fn no_session(mode: &str, ok: bool) -> Map<String, Value> {
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

fn settings_json(loaded: &Loaded) -> Value {
    let config = &loaded.config;
    let budget = &config.budget;
    let entries = config.whitelist.entries();
    json!({
        "ws_url": config.endpoints.ws.to_string(),
        "http_url": config.endpoints.http.to_string(),
        "generation": letter(config.feed.generation),
        "connections": config.feed.connections,
        "max_age_s": config.feed.max_age.as_secs(),
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
        "whitelist_entries": entries.len(),
        "whitelist": entries.iter().take(ENTRIES_SHOWN_MAX).map(entry).collect::<Vec<_>>(),
    })
}
