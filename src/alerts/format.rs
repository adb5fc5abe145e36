//! Requests of each kind of channel, with its own escaping and limits. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use serde_json::{Value, json};

use super::outbox::AlertMessage;
use crate::{
    config::{alerts::ChannelTarget, endpoint::Endpoint},
    domain::time::UnixMs,
    net::http_message::HttpRequest,
    secret::Secret,
    text::{counted, truncated},
};

/// Version of the Discord API, whose waits are in seconds. Addresses that Discord shows have no
/// version, which means version 6, whose waits are in milliseconds.
const DISCORD_VERSION: &str = "v10";

/// User agent in the form that Discord requires of bots. The program has no public address.
const DISCORD_AGENT: &str =
    concat!("DiscordBot (https://sniper.invalid, ", env!("CARGO_PKG_VERSION"), ")");

/// Flag of a Discord message without a notification sound.
const DISCORD_SILENT: u32 = 4_096;

/// Maximum length of a Discord message, in characters. Discord rejects more than 2000.
const DISCORD_CHARS_MAX: usize = 1_900;

/// Maximum length of a Telegram message, in characters. Telegram rejects more than 4096.
const TELEGRAM_CHARS_MAX: usize = 3_500;

/// Maximum length of the text of an ntfy message or a webhook, in bytes. ntfy turns more than 4096
/// into an attachment.
const TEXT_BYTES_MAX: usize = 3_500;

/// Priority of a loud ntfy message, with sound and a pop-up.
const NTFY_LOUD: u8 = 4;

/// Priority of a silent ntfy message.
const NTFY_SILENT: u8 = 2;

/// Creates the request of one message. `id` is the same for every try of it. `chat_id` overrides
/// the configured one after a Telegram group has moved.
pub fn request(
    target: &ChannelTarget,
    message: &AlertMessage,
    id: &str,
    chat_id: Option<&str>,
    now: UnixMs,
) -> HttpRequest {
    match target {
        ChannelTarget::Discord { url } => discord(url.reveal(), message),
        ChannelTarget::Telegram { api, token, chat_id: set } => {
            let path = format!("{}/bot{}/sendMessage", base_path(api), token.reveal());
            HttpRequest::post_json(path, telegram(chat_id.unwrap_or(set), message).to_string())
        }
        ChannelTarget::Ntfy { url, token } => {
            let (root, topic) = ntfy_topic(url.reveal());
            let request = HttpRequest::post_json(root, ntfy(topic, message).to_string());
            authorized(request, token.as_ref())
        }
        ChannelTarget::Webhook { url, secret } => {
            let body = webhook(message).to_string();
            let seconds = (now.0 / 1_000).to_string();
            let signature = webhook_signature(secret.reveal(), id, &seconds, &body);
            HttpRequest::post_json(url.reveal().path(), body)
                .with_header("webhook-id", id)
                .with_header("webhook-timestamp", seconds)
                .with_header("webhook-signature", signature)
        }
    }
}

/// Creates the request that checks the address and the token without sending a message; `None` for
/// a webhook, whose receiver would treat any request as an alert.
pub fn check_request(target: &ChannelTarget) -> Option<HttpRequest> {
    match target {
        ChannelTarget::Discord { url } => {
            let request = HttpRequest::get(discord_path(url.reveal()));
            Some(request.with_header("User-Agent", DISCORD_AGENT))
        }
        ChannelTarget::Telegram { api, token, chat_id } => {
            let path = format!("{}/bot{}/getChat", base_path(api), token.reveal());
            Some(HttpRequest::get(path).with_query("chat_id", chat_id))
        }
        ChannelTarget::Ntfy { url, token } => {
            let request = HttpRequest::get(format!("{}/auth", base_path(url.reveal())));
            Some(authorized(request, token.as_ref()))
        }
        ChannelTarget::Webhook { .. } => None,
    }
}

/// Adds the token of an ntfy topic, if it has one.
fn authorized(request: HttpRequest, token: Option<&Secret>) -> HttpRequest {
    match token {
        Some(token) => request.with_header("Authorization", format!("Bearer {}", token.reveal())),
        None => request,
    }
}

/// Returns the path of an address without a slash at its end.
fn base_path(endpoint: &Endpoint) -> &str {
    endpoint.path().trim_end_matches('/')
}

fn discord(endpoint: &Endpoint, message: &AlertMessage) -> HttpRequest {
    let AlertMessage { title, text, is_silent, .. } = message;
    let content = format!("**{}**\n{}", escape_markdown(title), escape_markdown(text));
    let body = json!({
        "content": shortened(&content, DISCORD_CHARS_MAX, |_char| 1),
        "username": "sniper",
        "allowed_mentions": {"parse": []},
        "flags": if *is_silent { DISCORD_SILENT } else { 0 },
    });
    HttpRequest::post_json(discord_path(endpoint), body.to_string())
        .with_query("wait", "true")
        .with_header("User-Agent", DISCORD_AGENT)
}

/// Returns the path of a Discord webhook with the version of the API.
fn discord_path(endpoint: &Endpoint) -> String {
    let path = endpoint.path();
    let Some((before, after)) = path.split_once("/api/") else { return path.to_owned() };
    let after = match after.split_once('/') {
        Some((version, rest))
            if version.strip_prefix('v').is_some_and(|number| number.parse::<u8>().is_ok()) =>
        {
            rest
        }
        _ => after,
    };
    format!("{before}/api/{DISCORD_VERSION}/{after}")
}

/// Puts a backslash before the punctuation that Markdown, mentions, links or emojis of Discord can
/// contain.
fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_ascii_punctuation() && !matches!(char, '.' | ',' | '%' | ';' | '\'' | '"') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

/// Returns the body for Telegram: plain text, in which nothing needs escaping, because `parse_mode`
/// is absent. An entity makes the title bold.
fn telegram(chat_id: &str, message: &AlertMessage) -> Value {
    let AlertMessage { title, text, is_silent, .. } = message;
    let chat_id = chat_id.parse::<i64>().map_or_else(|_name| json!(chat_id), |id| json!(id));
    let text = format!("{title}\n{text}");
    json!({
        "chat_id": chat_id,
        "text": shortened(text.trim_end(), TELEGRAM_CHARS_MAX, |_char| 1),
        "entities": [{"type": "bold", "offset": 0, "length": title.encode_utf16().count()}],
        "disable_notification": is_silent,
        "link_preview_options": {"is_disabled": true},
    })
}

/// Splits the address of a topic. JSON is posted to the root, because a header could not carry
/// characters such as ★.
fn ntfy_topic(endpoint: &Endpoint) -> (&str, &str) {
    let path = base_path(endpoint);
    let at = path.rfind('/').map_or(0, |at| at.saturating_add(1));
    path.split_at_checked(at).unwrap_or(("/", path))
}

fn ntfy(topic: &str, message: &AlertMessage) -> Value {
    let AlertMessage { title, text, is_silent, .. } = message;
    // An empty message would be shown as "triggered".
    let text = if text.is_empty() { title } else { text };
    json!({
        "topic": topic,
        "title": title,
        "message": shortened(text, TEXT_BYTES_MAX, char::len_utf8),
        "priority": if *is_silent { NTFY_SILENT } else { NTFY_LOUD },
    })
}

fn webhook(message: &AlertMessage) -> Value {
    let AlertMessage { kind, at, is_silent, data, .. } = message;
    let mut data = data.clone();
    if let Some(Value::String(text)) = data.get_mut("text") {
        text.truncate(truncated(text, TEXT_BYTES_MAX).len());
    }
    data.insert("silent".to_owned(), json!(is_silent));
    json!({"type": kind, "timestamp": at.to_string(), "data": data})
}

/// Returns the signature of Standard Webhooks. `key` is base64; it was checked with the settings.
fn webhook_signature(key: &str, id: &str, seconds: &str, body: &str) -> String {
    let key = STANDARD.decode(key).unwrap_or_default();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

/// Truncates a text without leaving a backslash at its end, and appends the number of lines that
/// are missing. `size` is the length of a character.
fn shortened(text: &str, max: usize, size: fn(char) -> usize) -> String {
    let mut length = 0_usize;
    let end = text.find(|char| {
        length = length.saturating_add(size(char));
        max < length
    });
    let Some((kept, rest)) = end.and_then(|end| text.split_at_checked(end)) else {
        return text.to_owned();
    };
    let more = match rest.lines().count().saturating_sub(1) {
        0 => String::new(),
        lines => format!("\nand {}", counted(lines, "more line", "more lines")),
    };
    format!("{}…{more}", kept.trim_end_matches('\\'))
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::{
        alerts::event::market_text,
        config::{alerts::SecretUrl, endpoint::Scheme},
    };

    const HOSTILE: &str =
        "@everyone <@123> **[x](http://evil.example)** ||y|| `z` <b>&amp;</b> /stop :smile: a_b";

    fn message(text: &str) -> AlertMessage {
        AlertMessage {
            kind: "bought",
            at: UnixMs(1_700_000_000_123),
            title: "Bought ★".to_owned(),
            text: text.to_owned(),
            is_silent: true,
            data: Map::new(),
            events: 1,
        }
    }

    fn url(path: &str) -> SecretUrl {
        SecretUrl::parse(&format!("http://127.0.0.1:1{path}")).unwrap()
    }

    fn body(request: &HttpRequest) -> Value {
        serde_json::from_slice(&request.body).unwrap()
    }

    fn sent(target: &ChannelTarget, message: &AlertMessage) -> HttpRequest {
        request(target, message, "msg_1", None, UnixMs(1_700_000_001_500))
    }

    /// Text as Discord shows it.
    fn unescaped(content: &str) -> String {
        let mut shown = String::new();
        let mut chars = content.chars();
        while let Some(char) = chars.next() {
            shown.extend(if char == '\\' { chars.next() } else { Some(char) });
        }
        shown
    }

    #[test]
    fn discord_shows_a_hostile_name_as_text_without_mentions() {
        let target = ChannelTarget::Discord { url: url("/api/webhooks/1/token?thread_id=7") };
        let request = sent(&target, &message(&market_text(HOSTILE)));
        assert_eq!(request.path_and_query, "/api/v10/webhooks/1/token?thread_id=7&wait=true");
        let body = body(&request);
        assert_eq!(body["allowed_mentions"], json!({"parse": []}));
        assert_eq!(body["flags"], 4_096);
        let content = body["content"].as_str().unwrap();
        let (title, text) = content.split_once('\n').unwrap();
        assert_eq!(title, "**Bought ★**");
        for active in ["@", "<", ">", "*", "[", "]", "(", "|", "`", ":", "/", "_", "#"] {
            let bare = text.match_indices(active).filter(|(at, _)| !text[..*at].ends_with('\\'));
            assert_eq!(bare.count(), 0, "{active} is not escaped in {text}");
        }
        assert_eq!(unescaped(text), market_text(HOSTILE));
    }

    #[test]
    fn the_version_of_the_discord_api_is_set_in_every_address() {
        for path in ["/api/webhooks/1/t", "/api/v6/webhooks/1/t", "/api/v10/webhooks/1/t"] {
            assert_eq!(discord_path(url(path).reveal()), "/api/v10/webhooks/1/t");
        }
        assert_eq!(discord_path(url("/elsewhere/1").reveal()), "/elsewhere/1");
    }

    #[test]
    fn telegram_gets_plain_text_without_a_parse_mode() {
        let target = ChannelTarget::Telegram {
            api: Endpoint::parse("http://127.0.0.1:1", Scheme::Http).unwrap(),
            token: Secret::new("1:telegram-token"),
            chat_id: "-1001234567890".to_owned(),
        };
        let hostile = market_text(HOSTILE);
        let request = sent(&target, &message(&hostile));
        assert_eq!(request.path_and_query, "/bot1:telegram-token/sendMessage");
        let body = body(&request);
        assert_eq!(body["chat_id"], -1_001_234_567_890_i64);
        assert_eq!(body["text"], format!("Bought ★\n{hostile}"));
        assert!(body.get("parse_mode").is_none());
        assert_eq!(body["entities"][0]["length"], 8, "UTF-16 units");
        assert_eq!(body["disable_notification"], true);
        assert_eq!(body["link_preview_options"]["is_disabled"], true);
        let text = body["text"].as_str().unwrap();
        assert!(!text.contains("@everyone") && !text.contains("://") && !text.contains(" /stop"));
    }

    #[test]
    fn ntfy_gets_json_at_its_root_with_a_priority() {
        let token = Some(Secret::new("tk_x"));
        let target = ChannelTarget::Ntfy { url: url("/base/my-topic"), token };
        let mut loud = message("★ text");
        loud.is_silent = false;
        let request = sent(&target, &loud);
        assert_eq!(request.path_and_query, "/base/");
        assert!(request.headers.contains(&("Authorization", "Bearer tk_x".to_owned())));
        let expected = json!({
            "topic": "my-topic", "title": "Bought ★", "message": "★ text", "priority": 4
        });
        assert_eq!(body(&request), expected);
        assert_eq!(body(&sent(&target, &message("x")))["priority"], 2);
        let check = check_request(&target).unwrap();
        assert_eq!(check.path_and_query, "/base/my-topic/auth");
        assert!(check.headers.contains(&("Authorization", "Bearer tk_x".to_owned())));
    }

    #[test]
    fn discord_is_told_the_program_by_its_address_and_version() {
        let target = ChannelTarget::Discord { url: url("/api/webhooks/1/t") };
        for request in [check_request(&target).unwrap(), sent(&target, &message("x"))] {
            let agent = request.headers.iter().find(|(name, _)| *name == "User-Agent").unwrap();
            let (address, version) =
                agent.1.strip_prefix("DiscordBot (").unwrap().split_once(", ").unwrap();
            assert!(address.starts_with("https://"), "{agent:?}");
            assert_eq!(version, format!("{})", env!("CARGO_PKG_VERSION")));
        }
    }

    #[test]
    fn a_webhook_is_signed_as_in_the_example_of_the_specification() {
        let signature = webhook_signature(
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_webhook_signs_the_bytes_that_it_sends_and_keeps_its_id() {
        let key = STANDARD.encode([7; 32]);
        let target = ChannelTarget::Webhook { url: url("/hook"), secret: Secret::new(&*key) };
        let mut data = message("x");
        data.data.insert("item".to_owned(), "</script>\"\n".into());
        let request = sent(&target, &data);
        let sent = str::from_utf8(&request.body).unwrap();
        let signature = webhook_signature(&key, "msg_1", "1700000001", sent);
        let header = |name| request.headers.iter().find(|(of, _)| *of == name).unwrap().1.clone();
        assert_eq!(header("webhook-id"), "msg_1");
        assert_eq!(header("webhook-timestamp"), "1700000001");
        assert_eq!(header("webhook-signature"), signature);
        let expected = json!({
            "type": "bought",
            "timestamp": "2023-11-14T22:13:20.123Z",
            "data": {"item": "</script>\"\n", "silent": true},
        });
        assert_eq!(body(&request), expected);
    }

    #[test]
    fn a_long_text_fits_into_every_channel() {
        let long = message(&"*★@".repeat(4_000));
        let discord = ChannelTarget::Discord { url: url("/api/webhooks/1/t") };
        let content = body(&sent(&discord, &long))["content"].as_str().unwrap().to_owned();
        assert!(content.chars().count() <= 2_000 && !content.ends_with("\\…"), "{content}");
        let ntfy = ChannelTarget::Ntfy { url: url("/topic"), token: None };
        let request = sent(&ntfy, &long);
        assert!(body(&request)["message"].as_str().unwrap().len() <= 4_096);
        assert!(request.body.len() <= 8_192);
        let telegram = ChannelTarget::Telegram {
            api: Endpoint::parse("http://127.0.0.1:1", Scheme::Http).unwrap(),
            token: Secret::new("t"),
            chat_id: "@channel".to_owned(),
        };
        let body = body(&sent(&telegram, &long));
        assert_eq!(body["chat_id"], "@channel");
        assert!(body["text"].as_str().unwrap().encode_utf16().count() <= 4_096);
    }
}
