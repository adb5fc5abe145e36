//! Calls the address of an external monitor at an interval: while the feed is healthy, and with the
//! reason when it is not. The monitor reports a bot that stopped calling.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{info, warn};

use super::{outbox::Delivery, response::without_response};
use crate::{
    config::alerts::{HeartbeatConfig, HeartbeatStyle},
    net::{
        deadline::timeout,
        http_client::{HttpClient, HttpError},
        http_message::{HttpRequest, Method, RequestParts as _},
        tls::Tls,
    },
};

/// Time limit of one call.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum length of the reason of a failure, in characters.
const REASON_CHARS_MAX: usize = 200;

/// Health of the bot, with the reason if it is not healthy; `None` before anything is known.
pub type Health = Option<Result<(), String>>;

/// Creates the request of one call.
pub fn request(config: &HeartbeatConfig, health: &Result<(), String>) -> HttpRequest {
    let whole = config.url.reveal().path();
    let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
    let reason = health.as_ref().err();
    let reason = reason.map(|text| text.chars().take(REASON_CHARS_MAX).collect::<String>());
    match (config.style, reason) {
        (HeartbeatStyle::Healthchecks, reason) => {
            let suffix = if reason.is_some() { "/fail" } else { "" };
            let mut path = format!("{}{suffix}", path.trim_end_matches('/'));
            if !query.is_empty() {
                path = format!("{path}?{query}");
            }
            let body = reason.unwrap_or_default().into_bytes();
            HttpRequest { method: Method::Post, body, ..HttpRequest::get(path) }
        }
        // Replaces the query: the address that Uptime Kuma shows has one with the same parameters.
        (HeartbeatStyle::Push, reason) => {
            let mut request = HttpRequest::get(path);
            let status = if reason.is_some() { "down" } else { "up" };
            request.push_query("status", status);
            request.push_query("msg", reason.as_deref().unwrap_or("OK"));
            request
        }
    }
}

/// Creates the client of the calls.
///
/// # Errors
///
/// Returns an [`HttpError`] if it cannot be created.
pub fn client(config: &HeartbeatConfig, tls: &Tls) -> Result<HttpClient, HttpError> {
    HttpClient::new(config.url.reveal(), tls)
}

/// Calls the address at each interval, and at once after the health has changed. Never returns.
///
/// # Cancel safety
///
/// Safe: only the call in progress is lost.
pub async fn run(config: HeartbeatConfig, http: HttpClient, mut health: watch::Receiver<Health>) {
    let mut is_failing = false;
    loop {
        // Counted from the start of this call, so that a slow call does not delay the next one.
        let due = Instant::now().checked_add(config.every);
        let known = health.borrow_and_update().clone();
        if let Some(known) = known {
            let sent = timeout(TIMEOUT, http.send(&request(&config, &known))).await;
            let failure = match sent {
                Ok(Ok(reply)) if (200..300).contains(&reply.response.head.status) => None,
                Ok(Ok(reply)) => Some(format!("HTTP {}", reply.response.head.status)),
                Ok(Err(error)) => match without_response(&error) {
                    Delivery::Retry { why, .. } => Some(why),
                    // It has responded; only the body could not be read.
                    _ => None,
                },
                Err(_elapsed) => Some("no response in time".to_owned()),
            };
            let was_failing = std::mem::replace(&mut is_failing, failure.is_some());
            match failure {
                Some(why) if !was_failing => {
                    let (to, every) = (config.url.origin(), config.every.as_secs());
                    warn!("Heartbeat not accepted: {to}, {why}; trying again every {every} s");
                }
                None if was_failing => info!("Heartbeat accepted again: {}", config.url.origin()),
                _ => {}
            }
        }
        let sleep = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            changed = health.changed() => if changed.is_err() { pending::<()>().await },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::alerts::SecretUrl;

    #[track_caller]
    fn check(style: HeartbeatStyle, path: &str, health: Result<(), &str>, expected: &str) {
        let url = SecretUrl::parse(&format!("http://127.0.0.1:1{path}")).unwrap();
        let config = HeartbeatConfig { url, style, every: Duration::from_secs(60) };
        let request = request(&config, &health.map_err(str::to_owned));
        let body = str::from_utf8(&request.body).unwrap();
        let line = format!("{} {} {body}", request.method.as_str(), request.path_and_query);
        assert_eq!(line.trim_end(), expected);
    }

    #[test]
    fn each_style_reports_health_and_trouble_in_its_own_way() {
        let down = Err("the feed is down & silent");
        check(HeartbeatStyle::Healthchecks, "/uuid", Ok(()), "POST /uuid");
        let expected = "POST /key/slug/fail?create=1 the feed is down & silent";
        check(HeartbeatStyle::Healthchecks, "/key/slug?create=1", down, expected);
        let path = "/api/push/token?status=up&msg=OK&ping=";
        let expected = "GET /api/push/token?status=up&msg=OK";
        check(HeartbeatStyle::Push, path, Ok(()), expected);
        let expected = "GET /api/push/token?status=down&msg=the%20feed%20is%20down%20%26%20silent";
        check(HeartbeatStyle::Push, path, down, expected);
    }
}
