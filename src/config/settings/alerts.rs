//! Parses `[[alerts]]`, `[alert_rules]` and `[heartbeat]`, and reads their secrets from the
//! environment.

use std::time::Duration;

use super::super::{
    alerts::{
        AlertRules, AlertsConfig, ChannelConfig, ChannelKind, ChannelTarget, HeartbeatConfig,
        HeartbeatStyle, QuietHours, SecretUrl, TELEGRAM_API,
    },
    document::{ConfigNode, ParseContext, TableFields, Value, suggestion},
    endpoint::{Endpoint, Scheme},
    environment::{REMOVE_QUOTES, Variables},
    problem::{Diagnostics, Problem, SourceLocation},
};
use crate::{
    domain::alert_kind::{AlertKind, Loudness},
    secret::{self, Secret},
    text::{Escaped, is_quoted},
};

pub(super) const CHANNEL_KEYS: [&str; 8] =
    ["kind", "url_env", "token_env", "secret_env", "chat_id", "api_url", "silent", "off"];

pub(super) const RULE_KEYS: [&str; 4] =
    ["feed_down_after_s", "silent_after_s", "daily_summary_at", "quiet_hours"];

pub(super) const HEARTBEAT_KEYS: [&str; 3] = ["url_env", "style", "every_s"];

/// Maximum number of channels.
const CHANNELS_MAX: usize = 16;

/// Bounds of `feed_down_after_s` and `silent_after_s`: up to one day.
const FEED_DOWN_S: (u32, u32) = (5, 86_400);

/// Bounds of `every_s`. healthchecks.io drops more than five a minute.
const EVERY_S: (u32, u32) = (15, 3_600);

/// Default of `every_s`.
const EVERY: Duration = Duration::from_secs(60);

/// Maximum length of `chat_id`.
const CHAT_ID_BYTES_MAX: usize = 64;

/// Prefix of a secret of Standard Webhooks.
const SECRET_PREFIX: &str = "whsec_";

/// Length of the secret of a webhook without its prefix and decoded, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Name of a variable, and the place that names it.
pub(super) type NamedVariable = (String, SourceLocation);

/// Content of the sections, without the values of the variables.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct ParsedAlerts {
    channels: Vec<ParsedChannel>,
    rules: AlertRules,
    heartbeat: Option<(NamedVariable, HeartbeatStyle, Duration)>,
}

#[derive(Clone, Debug)]
struct ParsedChannel {
    target: ParsedTarget,
    loudness: Vec<(AlertKind, Loudness)>,
}

#[derive(Clone, Debug)]
enum ParsedTarget {
    Discord { url: NamedVariable },
    Telegram { api: Endpoint, token: NamedVariable, chat_id: String },
    Ntfy { url: NamedVariable, token: Option<NamedVariable> },
    Webhook { url: NamedVariable, secret: NamedVariable },
}

pub(super) fn read_channels(
    node: &ConfigNode<'_>,
    parsed: &mut ParsedAlerts,
    context: &mut ParseContext<'_, '_>,
) {
    let list = match &node.value {
        Value::List(list) if list.len() <= CHANNELS_MAX => list,
        Value::List(_) => {
            let message = format!("there are more than {CHANNELS_MAX} [[alerts]]");
            context.problem(node.at, message, "remove some");
            return;
        }
        other => {
            let message = format!("`alerts` must be a list of tables, not {}", other.kind());
            context.problem(node.at, message, "begin each channel with [[alerts]]");
            return;
        }
    };
    parsed.channels = list.iter().filter_map(|node| read_channel(node, context)).collect();
}

fn read_channel(
    node: &ConfigNode<'_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<ParsedChannel> {
    let fields = TableFields::new(node, "[[alerts]]", &CHANNEL_KEYS, context);
    if !matches!(node.value, Value::Table(_)) {
        return None;
    }
    let mut loudness = Vec::new();
    for (key, value) in [("silent", Loudness::Silent), ("off", Loudness::Off)] {
        read_kinds(&fields, key, value, &mut loudness, context);
    }
    if fields.get("kind").is_none() {
        fields.missing("kind", "\"discord\"", context);
    }
    let kinds = ChannelKind::ALL.map(ChannelKind::name);
    let kind = fields.choice("kind", &kinds, ChannelKind::parse, context)?;
    reject_foreign(&fields, kind, context);
    let target = match kind {
        ChannelKind::Discord => ParsedTarget::Discord {
            url: required(&fields, "url_env", "DISCORD_WEBHOOK_URL", context)?,
        },
        ChannelKind::Telegram => read_telegram(&fields, context)?,
        ChannelKind::Ntfy => {
            let token = match fields.get("token_env") {
                Some(_) => Some(variable(&fields, "token_env", "NTFY_TOKEN", context)?),
                None => None,
            };
            ParsedTarget::Ntfy { url: required(&fields, "url_env", "NTFY_URL", context)?, token }
        }
        ChannelKind::Webhook => {
            let url = required(&fields, "url_env", "WEBHOOK_URL", context);
            let secret = required(&fields, "secret_env", "WEBHOOK_SECRET", context);
            ParsedTarget::Webhook { url: url?, secret: secret? }
        }
    };
    Some(ParsedChannel { target, loudness })
}

fn read_telegram(
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<ParsedTarget> {
    let token = required(fields, "token_env", "TELEGRAM_TOKEN", context);
    let chat_id = read_chat_id(fields, context);
    let url = match fields.get("api_url") {
        Some(_) => fields.text("api_url", context)?,
        None => TELEGRAM_API,
    };
    let api = match Endpoint::parse(url.trim_end_matches('/'), Scheme::Http) {
        Ok(api) => api,
        Err(error) => {
            let remedy = format!("write an address such as {TELEGRAM_API}, or remove the key");
            context.problem(fields.at("api_url"), format!("`api_url` {error}"), remedy);
            return None;
        }
    };
    Some(ParsedTarget::Telegram { api, token: token?, chat_id: chat_id? })
}

/// Reads a number, which is negative for a group, or `@channel`.
fn read_chat_id(
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<String> {
    let Some(node) = fields.get("chat_id") else {
        fields.missing("chat_id", "123456789", context);
        return None;
    };
    let text = match &node.value {
        Value::Number(text) | Value::Text(text) => text.trim(),
        _ => "",
    };
    let is_channel = text.starts_with('@') && text.len() > 1 && text.is_ascii();
    if CHAT_ID_BYTES_MAX < text.len() || !(text.parse::<i64>().is_ok() || is_channel) {
        let message = "`chat_id` is not a chat".to_owned();
        let remedy = "write the number of the chat, or \"@\" and the name of a public channel";
        context.problem(node.at, message, remedy);
        return None;
    }
    Some(text.to_owned())
}

/// Reports keys that belong to other kinds of channels.
fn reject_foreign(
    fields: &TableFields<'_, '_>,
    kind: ChannelKind,
    context: &mut ParseContext<'_, '_>,
) {
    let own: &[&str] = match kind {
        ChannelKind::Discord => &["url_env"],
        ChannelKind::Telegram => &["token_env", "chat_id", "api_url"],
        ChannelKind::Ntfy => &["url_env", "token_env"],
        ChannelKind::Webhook => &["url_env", "secret_env"],
    };
    for key in ["url_env", "token_env", "secret_env", "chat_id", "api_url"] {
        if fields.get(key).is_some() && !own.contains(&key) {
            let message = format!("`{key}` does not belong to kind \"{}\"", kind.name());
            context.problem(
                fields.at(key),
                message,
                format!("remove it; it uses {}", own.join(", ")),
            );
        }
    }
}

fn read_kinds(
    fields: &TableFields<'_, '_>,
    key: &str,
    loudness: Loudness,
    into: &mut Vec<(AlertKind, Loudness)>,
    context: &mut ParseContext<'_, '_>,
) {
    let Some(node) = fields.get(key) else { return };
    let Value::List(list) = &node.value else {
        let message = format!("`{key}` must be a list, not {}", node.value.kind());
        context.problem(node.at, message, format!("write {key} = [\"bought\"]"));
        return;
    };
    for node in list {
        let Value::Text(name) = &node.value else {
            let message = format!("`{key}` contains {}", node.value.kind());
            context.problem(node.at, message, "write the name of an event in double quotes");
            continue;
        };
        match AlertKind::parse(name) {
            Some(kind) if into.iter().any(|(of, _)| *of == kind) => {
                let message = format!("`{name}` is listed twice in one channel");
                context.problem(node.at, message, "keep it in one of `silent` and `off`");
            }
            Some(kind) => into.push((kind, loudness)),
            None => {
                let known = AlertKind::ALL.map(AlertKind::name);
                let message = format!("unknown event \"{}\"", Escaped(name));
                context.problem(node.at, message, suggestion(name, &known));
            }
        }
    }
}

pub(super) fn read_rules(
    node: &ConfigNode<'_>,
    parsed: &mut ParsedAlerts,
    context: &mut ParseContext<'_, '_>,
) {
    let fields = TableFields::new(node, "[alert_rules]", &RULE_KEYS, context);
    if let Some(after) = fields.seconds("feed_down_after_s", FEED_DOWN_S, context) {
        parsed.rules.feed_down_after = after;
    }
    if let Some(after) = fields.seconds("silent_after_s", FEED_DOWN_S, context) {
        parsed.rules.silent_after = after;
    }
    if let Some(text) = fields.text("daily_summary_at", context) {
        match minute_of_day(text) {
            Some(minute) => parsed.rules.daily_summary_at = minute,
            None => {
                let message = "`daily_summary_at` is not a time of day".to_owned();
                let remedy = "write hours and minutes, such as \"08:00\"";
                context.problem(fields.at("daily_summary_at"), message, remedy);
            }
        }
    }
    if let Some(text) = fields.text("quiet_hours", context) {
        let hours = text.split_once('-').and_then(|(from, until)| {
            Some(QuietHours { from: minute_of_day(from)?, until: minute_of_day(until)? })
        });
        parsed.rules.quiet_hours = hours.filter(|hours| hours.from != hours.until);
        if parsed.rules.quiet_hours.is_none() {
            let message = "`quiet_hours` is not a range of times".to_owned();
            let remedy = "write two times, such as \"23:00-07:00\", or remove the key";
            context.problem(fields.at("quiet_hours"), message, remedy);
        }
    }
}

/// Parses `08:00`.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str, max: u16| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| is_plain && *number <= max)
    };
    Some(number(hours, 23)?.saturating_mul(60).saturating_add(number(minutes, 59)?))
}

pub(super) fn read_heartbeat(
    node: &ConfigNode<'_>,
    parsed: &mut ParsedAlerts,
    context: &mut ParseContext<'_, '_>,
) {
    let fields = TableFields::new(node, "[heartbeat]", &HEARTBEAT_KEYS, context);
    let styles = HeartbeatStyle::ALL.map(HeartbeatStyle::name);
    let style = fields.choice("style", &styles, HeartbeatStyle::parse, context);
    let every = fields.seconds("every_s", EVERY_S, context).unwrap_or(EVERY);
    let url = required(&fields, "url_env", "HEARTBEAT_URL", context);
    parsed.heartbeat = url.map(|url| (url, style.unwrap_or_default(), every));
}

/// Reads the name of a variable, and reports it if it is missing.
fn required(
    fields: &TableFields<'_, '_>,
    key: &str,
    example: &str,
    context: &mut ParseContext<'_, '_>,
) -> Option<NamedVariable> {
    if fields.get(key).is_none() {
        fields.missing(key, &format!("\"{example}\", a variable in .env"), context);
        return None;
    }
    variable(fields, key, example, context)
}

/// Reads the name of a variable. A value in its place is not repeated in the problem, because it
/// would be a secret.
pub(super) fn variable(
    fields: &TableFields<'_, '_>,
    key: &str,
    example: &str,
    context: &mut ParseContext<'_, '_>,
) -> Option<NamedVariable> {
    let name = fields.text(key, context)?;
    // Tokens such as `tk_…` and `whsec_…` would be names if these had lower-case letters.
    let is_plain = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
    if name.is_empty() || !name.bytes().all(is_plain) {
        secret::register(name);
        let message = format!("`{key}` is not the name of a variable in upper case");
        let remedy = format!("write the value into .env, and here its name, such as \"{example}\"");
        context.problem(fields.at(key), message, remedy);
        return None;
    }
    Some((name.to_owned(), context.document.place(fields.at(key))))
}

impl ParsedAlerts {
    /// Reads the variables that the settings name.
    pub(in crate::config) fn resolve(
        self,
        variables: &Variables<'_>,
        diagnostics: &mut Diagnostics,
    ) -> AlertsConfig {
        let mut read = SecretReader { variables, diagnostics };
        let channels = self.channels.into_iter().filter_map(|channel| {
            let target = read.target(channel.target)?;
            Some(ChannelConfig { target, loudness: channel.loudness })
        });
        let channels = channels.collect();
        let heartbeat = self.heartbeat.and_then(|(url, style, every)| {
            Some(HeartbeatConfig { url: read.url(&url)?, style, every })
        });
        AlertsConfig { channels, rules: self.rules, heartbeat }
    }
}

/// Reads secrets, and reports those that are missing or invalid without their values.
struct SecretReader<'r, 'v> {
    variables: &'r Variables<'v>,
    diagnostics: &'r mut Diagnostics,
}

impl SecretReader<'_, '_> {
    fn target(&mut self, target: ParsedTarget) -> Option<ChannelTarget> {
        Some(match target {
            ParsedTarget::Discord { url } => ChannelTarget::Discord { url: self.url(&url)? },
            ParsedTarget::Telegram { api, token, chat_id } => {
                ChannelTarget::Telegram { api, token: self.word(&token)?, chat_id }
            }
            ParsedTarget::Ntfy { url, token } => {
                let url = self.topic(&url)?;
                let token = match token {
                    Some(token) => Some(self.word(&token)?),
                    None => None,
                };
                ChannelTarget::Ntfy { url, token }
            }
            ParsedTarget::Webhook { url, secret } => {
                let (url, secret) = (self.url(&url), self.webhook_secret(&secret));
                ChannelTarget::Webhook { url: url?, secret: secret? }
            }
        })
    }

    fn value(&mut self, variable: &NamedVariable) -> Option<String> {
        match self.variables.value(&variable.0, self.diagnostics) {
            Some(value) if is_quoted(&value) => {
                self.report(variable, "is in quotes", REMOVE_QUOTES);
                None
            }
            Some(value) => Some(value.trim().to_owned()),
            None => {
                let remedy = format!("write it into .env as {}=…", variable.0);
                self.report(variable, "is not set", &remedy);
                None
            }
        }
    }

    fn report(&mut self, (name, place): &NamedVariable, what: &str, remedy: &str) {
        self.diagnostics.problem(Problem::new(place.clone(), format!("{name} {what}"), remedy));
    }

    fn url(&mut self, variable: &NamedVariable) -> Option<SecretUrl> {
        let value = self.value(variable)?;
        match SecretUrl::parse(&value) {
            Ok(url) => {
                let keys = secret::query_keys(&value);
                self.diagnostics.register_secrets(&variable.1, &variable.0, keys);
                Some(url)
            }
            Err(error) => {
                secret::register(&value);
                let remedy = "copy the whole address, which begins with https://, into .env";
                self.report(variable, &error.to_string(), remedy);
                None
            }
        }
    }

    fn topic(&mut self, variable: &NamedVariable) -> Option<SecretUrl> {
        let url = self.url(variable)?;
        if !url.is_topic() {
            let remedy = "write the address of the topic, such as https://ntfy.sh/your-topic";
            self.report(variable, "names no topic", remedy);
            return None;
        }
        Some(url)
    }

    /// Reads a token of visible ASCII characters.
    fn word(&mut self, variable: &NamedVariable) -> Option<Secret> {
        let value = self.value(variable)?;
        self.diagnostics.register_secrets(&variable.1, &variable.0, [&*value]);
        let is_plain =
            |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'%');
        if !value.bytes().all(is_plain) {
            let remedy = "copy the token again, as one word";
            self.report(variable, "is not a token", remedy);
            return None;
        }
        Some(Secret::new(value))
    }

    fn webhook_secret(&mut self, variable: &NamedVariable) -> Option<Secret> {
        let value = self.value(variable)?;
        secret::register(&value);
        let key = value.strip_prefix(SECRET_PREFIX).unwrap_or(&value);
        secret::register(key);
        let length = decoded_length(key);
        if !length.is_some_and(|length| KEY_BYTES.contains(&length)) {
            let remedy = "write whsec_ and base64 of 24 to 64 bytes, as the receiver shows it";
            self.report(variable, "is not a secret of Standard Webhooks", remedy);
            return None;
        }
        Some(Secret::new(key))
    }
}

/// Returns the number of bytes of a base64 text.
fn decoded_length(text: &str) -> Option<usize> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.decode(text).ok().map(|bytes| bytes.len())
}
