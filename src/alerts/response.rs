//! Classifies the response of a channel: delivered, to be retried, rejected, or disabled. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::outbox::Delivery;
use crate::{
    config::alerts::ChannelKind,
    net::{
        http_client::{HttpError, RequestObstacle},
        http_message::HttpResponse,
    },
    text::Escaped,
};

/// Wait after status 429 without a stated wait, such as that of Cloudflare.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(60);

/// Wait after a rejection whose cause only the user can remove, at the service.
const REJECTED_WAIT: Duration = Duration::from_secs(3_600);

/// Interval in which ntfy permits one more request.
const NTFY_REQUEST_WAIT: Duration = Duration::from_secs(5);

/// Fields of the error bodies of all channels.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    /// Discord, ntfy.
    code: Option<u64>,
    /// Discord.
    message: Option<String>,
    /// Discord, in seconds.
    retry_after: Option<f64>,
    /// Telegram.
    description: Option<String>,
    /// Telegram.
    parameters: TelegramParameters,
    /// ntfy.
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TelegramParameters {
    /// In seconds.
    retry_after: Option<u64>,
    /// The group has become a supergroup with this id.
    migrate_to_chat_id: Option<i64>,
}

/// Returns the meaning of a response.
pub fn delivery(kind: ChannelKind, response: &HttpResponse) -> Delivery {
    let status = response.head.status;
    if (200..300).contains(&status) {
        return Delivery::Delivered;
    }
    let body: ErrorBody = serde_json::from_slice(&response.body).unwrap_or_default();
    let error = body.message.as_deref().or(body.description.as_deref()).or(body.error.as_deref());
    let error = error.map_or_else(String::new, |error| format!(": {}", Escaped(error)));
    let why = match status {
        300..=399 => format!("HTTP {status}: a redirect, which is not followed"),
        _ => format!("HTTP {status}{error}"),
    };
    let discord = body.retry_after.and_then(|wait| Duration::try_from_secs_f64(wait).ok());
    let stated = discord.or(body.parameters.retry_after.map(Duration::from_secs));
    let requested = stated.filter(|_| status == 429).or(response.head.retry_after);
    let retry = |otherwise| {
        let (after, is_requested) = (requested.or(otherwise), requested.is_some());
        Delivery::Retry { after, is_requested, why: why.clone() }
    };
    match (kind, status) {
        (ChannelKind::Ntfy, 429) => retry(Some(match body.code {
            Some(42_901) => NTFY_REQUEST_WAIT,
            Some(42_908) => REJECTED_WAIT,
            _ => RATE_LIMIT_WAIT,
        })),
        (_, 429) => retry(Some(RATE_LIMIT_WAIT)),
        (ChannelKind::Discord, 401 | 404) if matches!(body.code, Some(10_015 | 50_027)) => {
            Delivery::Disabled { why }
        }
        // The path contains the token, so 404 means a token of a wrong form.
        (ChannelKind::Telegram, 401 | 404) => Delivery::Disabled { why },
        (ChannelKind::Webhook, 410) => Delivery::Disabled { why },
        // The receiver may have no use for this event, and wait for the next one.
        (ChannelKind::Webhook, 400 | 413 | 415 | 422) => Delivery::PossiblyRejected { why },
        (ChannelKind::Webhook, _) => retry(None),
        (_, 401 | 403 | 404) => retry(Some(REJECTED_WAIT)),
        (_, 400..=499) if status != 408 && status != 425 => Delivery::Rejected { why },
        _ => retry(None),
    }
}

/// Returns the new id of a Telegram group that has become a supergroup.
pub fn moved_chat(response: &HttpResponse) -> Option<i64> {
    let body: ErrorBody = serde_json::from_slice(&response.body).ok()?;
    body.parameters.migrate_to_chat_id.filter(|_id| response.head.status == 400)
}

/// Returns the meaning of a request without a response. The address is not in the text.
pub fn without_response(error: &HttpError) -> Delivery {
    let why = match error {
        // Only responses of status 200 have these errors: the body could not be read.
        HttpError::TooLong | HttpError::Encoding(_) => return Delivery::Delivered,
        HttpError::Timeout => "no response in time".to_owned(),
        HttpError::ConnectTimeout => "no connection in time".to_owned(),
        HttpError::Unreachable { cause: RequestObstacle::Other(cause), .. } => {
            format!("not reachable: {}", Escaped(cause))
        }
        HttpError::Unreachable { cause, .. } => cause.to_string(),
        HttpError::SetUp(_) => "the HTTP client could not be set up".to_owned(),
        HttpError::Header(invalid) => invalid.to_string(),
    };
    Delivery::Retry { after: None, is_requested: false, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http_head::ResponseHead;

    fn response(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        HttpResponse { head: ResponseHead::parse(status, headers), body: body.into() }
    }

    #[track_caller]
    fn check_wait(kind: ChannelKind, response: &HttpResponse, wait: Option<f64>) {
        let Delivery::Retry { after, why, .. } = delivery(kind, response) else {
            panic!("{:?}", delivery(kind, response));
        };
        assert_eq!(after, wait.map(Duration::from_secs_f64), "{why}");
        assert!(!why.contains('<'), "{why}");
    }

    #[test]
    fn each_channel_states_its_wait_in_its_own_field() {
        use ChannelKind::{Discord, Ntfy, Telegram, Webhook};
        let header = [("Retry-After", "65")];
        let discord = r#"{"message":"slow","retry_after":64.57,"global":false}"#;
        check_wait(Discord, &response(429, &header, discord), Some(64.57));
        check_wait(Discord, &response(429, &header, "{}"), Some(65.0));
        let html = "<!DOCTYPE html><title>blocked</title>";
        check_wait(Discord, &response(429, &[], html), Some(60.0));
        let cloudflare = r#"{"code":0,"message":"You are being blocked from accessing"}"#;
        check_wait(Discord, &response(429, &[], cloudflare), Some(60.0));
        let telegram = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 7","parameters":{"retry_after":7}}"#;
        check_wait(Telegram, &response(429, &[], telegram), Some(7.0));
        let requests = r#"{"code":42901,"http":429,"error":"limit reached"}"#;
        check_wait(Ntfy, &response(429, &[], requests), Some(5.0));
        let quota = r#"{"code":42908,"http":429,"error":"daily quota"}"#;
        check_wait(Ntfy, &response(429, &[], quota), Some(3_600.0));
        check_wait(Webhook, &response(429, &header, "invalid_payload"), Some(65.0));
        check_wait(Webhook, &response(503, &header, ""), Some(65.0));
        check_wait(Webhook, &response(302, &[], ""), None);
        for kind in ChannelKind::ALL {
            check_wait(kind, &response(502, &[], html), None);
        }
    }

    #[test]
    fn what_never_heals_is_not_tried_again() {
        let stops = |kind, status, body| {
            let result = delivery(kind, &response(status, &[], body));
            matches!(result, Delivery::Disabled { .. })
        };
        assert!(stops(ChannelKind::Discord, 404, r#"{"code":10015,"message":"Unknown Webhook"}"#));
        assert!(stops(ChannelKind::Discord, 401, r#"{"code":50027,"message":"Invalid Token"}"#));
        assert!(stops(ChannelKind::Telegram, 401, r#"{"description":"Unauthorized"}"#));
        assert!(stops(ChannelKind::Webhook, 410, ""));
        assert!(!stops(ChannelKind::Discord, 403, "<html>"));
        assert!(!stops(ChannelKind::Webhook, 404, ""));
    }

    #[test]
    fn a_message_that_is_not_accepted_is_dropped_and_a_moved_group_is_followed() {
        let moved = r#"{"ok":false,"description":"group chat was upgraded","parameters":{"migrate_to_chat_id":-1001}}"#;
        assert_eq!(moved_chat(&response(400, &[], moved)), Some(-1_001));
        let entities = r#"{"ok":false,"description":"Bad Request: can't parse entities"}"#;
        let rejected = response(400, &[], entities);
        assert_eq!(moved_chat(&rejected), None);
        let why = "HTTP 400: Bad Request: can't parse entities".to_owned();
        assert_eq!(delivery(ChannelKind::Telegram, &rejected), Delivery::Rejected { why });
        let blocked = r#"{"description":"Forbidden: bot was blocked by the user"}"#;
        check_wait(ChannelKind::Telegram, &response(403, &[], blocked), Some(3_600.0));
        let delivered = delivery(ChannelKind::Discord, &response(204, &[], ""));
        assert_eq!(delivered, Delivery::Delivered);
    }
}
