//! Delivery to each kind of channel, with each kind of response.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sniper::{
    alerts::{AlertEvent, AlertOrder, AlertService, channel::AlertChannel, service::FLUSH_MAX},
    clock,
    config::{
        AlertsConfig, Config, Endpoints,
        alerts::{AlertRules, ChannelConfig, ChannelTarget, QuietHours, SecretUrl},
        endpoint::{Endpoint, Scheme},
    },
    domain::money::Amount,
    ledger::HaltReason,
    net::tls::Tls,
    secret::Secret,
    ws::FeedMetrics,
};

use super::receiver::{OK, Received, Receiver, Reply};

/// Key of the webhook, in base64.
const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn url(receiver: &Receiver, path: &str) -> SecretUrl {
    SecretUrl::parse(&receiver.url(path)).unwrap()
}

fn discord(receiver: &Receiver) -> ChannelTarget {
    ChannelTarget::Discord { url: url(receiver, "/api/webhooks/1/token") }
}

fn telegram(receiver: &Receiver) -> ChannelTarget {
    ChannelTarget::Telegram {
        api: Endpoint::parse(&receiver.url(""), Scheme::Http).unwrap(),
        token: Secret::new("1:telegram"),
        chat_id: "42".to_owned(),
    }
}

fn ntfy(receiver: &Receiver) -> ChannelTarget {
    ChannelTarget::Ntfy { url: url(receiver, "/topic"), token: None }
}

fn webhook(receiver: &Receiver) -> ChannelTarget {
    ChannelTarget::Webhook { url: url(receiver, "/hook"), secret: Secret::new(KEY) }
}

/// Creates a channel of one kind.
type Kind = fn(&Receiver) -> ChannelTarget;

const KINDS: [Kind; 4] = [discord, telegram, ntfy, webhook];

/// Starts the thread with these channels, without a session.
pub(super) fn start(targets: Vec<ChannelTarget>) -> AlertService {
    start_with(targets, AlertRules::default())
}

fn start_with(targets: Vec<ChannelTarget>, rules: AlertRules) -> AlertService {
    let directory = std::env::temp_dir();
    let endpoints = Endpoints::new("ws://127.0.0.1:1/", "http://127.0.0.1:1/").unwrap();
    let channel = |target| ChannelConfig { target, loudness: Vec::new() };
    let channels = targets.into_iter().map(channel).collect();
    let alerts = AlertsConfig { channels, rules, ..AlertsConfig::default() };
    let config = Config { alerts, ..Config::new(endpoints, directory) };
    let metrics = Arc::new(FeedMetrics::default());
    AlertService::start(&config, &metrics, &Tls::new().unwrap()).unwrap()
}

fn emit(service: &AlertService, event: &AlertEvent) {
    service.sender().emit(|| event.clone());
}

fn bought(cents: i64) -> AlertEvent {
    let item = Some("AK-47 | <@1> @everyone".to_owned());
    let order = AlertOrder { item, price: Amount::from_cents(cents) };
    AlertEvent::Bought { order, left: None }
}

fn halted() -> AlertEvent {
    let (since, reason) = (clock::local(clock::wall()), HaltReason::OtherAccount);
    AlertEvent::Halted { since, reason, text: reason.to_string() }
}

#[tokio::test]
async fn every_kind_of_channel_receives_an_event_as_its_service_expects_it() {
    let receiver = Receiver::start(&[OK]).await;
    let service = start(KINDS.map(|kind| kind(&receiver)).into());
    emit(&service, &AlertEvent::Resumed);
    let received = receiver.wait_for(4).await;
    let of = |line: &str| -> &Received {
        let found = received.iter().find(|request| request.line == line);
        found.unwrap_or_else(|| panic!("{line}: {received:#?}"))
    };
    let request = of("POST /api/v10/webhooks/1/token?wait=true");
    assert!(request.json()["content"].as_str().unwrap().starts_with("**Ordering resumed**\n"));
    assert!(request.header("user-agent").starts_with("DiscordBot ("), "{request:?}");
    let request = of("POST /bot1:telegram/sendMessage");
    assert_eq!(request.json()["text"], "Ordering resumed\nOrders are sent again.");
    assert_eq!(request.json()["disable_notification"], true);
    assert_eq!(of("POST /").json()["topic"], "topic");
    let request = of("POST /hook");
    assert_eq!(request.json()["type"], "resumed");
    assert!(request.header("webhook-signature").starts_with("v1,"), "{request:?}");
    service.finish().await;
    assert_eq!(receiver.received().len(), 4);
}

/// A wait of one second, in each channel's own field.
#[tokio::test]
async fn a_rate_limit_is_obeyed_by_the_field_of_each_channel() {
    let cases: [(Kind, Reply, f64); 4] = [
        (discord, Reply::Status(429, "Retry-After: 60", r#"{"retry_after":1.5}"#), 1.5),
        (telegram, Reply::Status(429, "", r#"{"parameters":{"retry_after":1}}"#), 1.0),
        (ntfy, Reply::Status(429, "", r#"{"code":42901,"http":429,"error":"limit"}"#), 5.0),
        (webhook, Reply::Status(429, "Retry-After: 1", "slow down"), 1.0),
    ];
    let all = cases.map(async |(kind, limited, wait)| {
        let receiver = Receiver::start(&[limited, OK]).await;
        let service = start(vec![kind(&receiver)]);
        emit(&service, &AlertEvent::Resumed);
        let received = receiver.wait_for(2).await;
        let waited = received[1].at - received[0].at;
        let wait = Duration::from_secs_f64(wait);
        assert!((wait..wait + Duration::from_secs(4)).contains(&waited), "{limited:?}: {waited:?}");
        assert_eq!(received[0].body, received[1].body);
        let id = received[0].header("webhook-id");
        assert_eq!(id, received[1].header("webhook-id"), "the same message");
        service.finish().await;
        assert_eq!(receiver.received().len(), 2);
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_web_page_or_a_fault_is_tried_again_and_a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(&[OK]).await;
    let location: &'static str =
        Box::leak(format!("Location: {}", elsewhere.url("/stolen")).into_boxed_str());
    for fault in [
        Reply::Status(502, "Content-Type: text/html", "<html>bad gateway</html>"),
        Reply::Status(307, location, ""),
    ] {
        let receiver = Receiver::start(&[fault, OK]).await;
        let service = start(vec![webhook(&receiver)]);
        emit(&service, &AlertEvent::Resumed);
        receiver.wait_for(2).await;
        service.finish().await;
    }
    assert_eq!(elsewhere.received().len(), 0);
}

#[tokio::test]
async fn a_channel_that_never_accepts_a_message_gets_no_further_one() {
    let gone = Reply::Status(404, "", r#"{"code":10015,"message":"Unknown Webhook"}"#);
    let receiver = Receiver::start(&[gone]).await;
    let service = start(vec![discord(&receiver)]);
    emit(&service, &AlertEvent::Resumed);
    receiver.wait_for(1).await;
    for _ in 0..3 {
        emit(&service, &AlertEvent::Resumed);
    }
    service.finish().await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_flood_of_purchases_is_one_digest() {
    let receiver = Receiver::start(&[OK]).await;
    let service = start(vec![discord(&receiver)]);
    for _ in 0..12 {
        emit(&service, &bought(803));
    }
    let received = receiver.wait_for(1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(receiver.received().len(), 1);
    let body = received[0].json();
    let content = body["content"].as_str().unwrap();
    assert!(content.starts_with("**12 bought, 96.36 coins**\n"), "{content}");
    assert!(content.contains("and 2 more") && !content.contains("<@1>"), "{content}");
    assert_eq!(body["flags"], 4_096, "a purchase is silent");
    service.finish().await;
}

#[tokio::test]
async fn a_channel_that_hangs_delays_no_other_and_the_stop_by_five_seconds_at_most() {
    let hanging = Receiver::start(&[Reply::Hang]).await;
    let receiver = Receiver::start(&[OK]).await;
    let service = start(vec![webhook(&hanging), webhook(&receiver)]);
    let sender = service.sender();
    emit(&service, &AlertEvent::Resumed);
    hanging.wait_for(1).await;
    receiver.wait_for(1).await;
    let stopped = AlertEvent::Stopped { reason: "SIGTERM".to_owned(), is_failure: false };
    emit(&service, &stopped);
    let begun = Instant::now();
    service.finish().await;
    assert!(begun.elapsed() < FLUSH_MAX + Duration::from_secs(2), "{:?}", begun.elapsed());
    let received = receiver.received();
    assert_eq!(received.len(), 2, "{received:#?}");
    assert_eq!(received[1].json()["type"], "stopped");
    assert_eq!(sender.delivery().undelivered, 2, "both alerts of the other channel");
}

/// Each channel keeps a pace, ntfy one of five seconds, which the stop cannot wait for.
#[tokio::test]
async fn what_waits_is_sent_when_the_bot_stops() {
    let all = KINDS.map(async |kind| {
        let receiver = Receiver::start(&[OK]).await;
        let service = start(vec![kind(&receiver)]);
        emit(&service, &AlertEvent::Resumed);
        receiver.wait_for(1).await;
        emit(&service, &bought(500));
        emit(&service, &bought(700));
        let reason = "SIGTERM".to_owned();
        emit(&service, &AlertEvent::Stopped { reason, is_failure: false });
        let begun = Instant::now();
        service.finish().await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let bodies = receiver.received().into_iter().skip(1).map(|request| request.body);
        let bodies = bodies.collect::<String>();
        for part in ["2 bought, 12.00 coins", "Stopped", "SIGTERM"] {
            assert!(bodies.contains(part), "{part}: {bodies}");
        }
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_message_that_a_webhook_rejects_does_not_hold_back_a_halt() {
    let rejected = Reply::Status(422, "", "unknown type");
    let receiver = Receiver::start(&[rejected, rejected, rejected, OK]).await;
    let service = start(vec![webhook(&receiver)]);
    emit(&service, &AlertEvent::Resumed);
    receiver.wait_for(1).await;
    emit(&service, &halted());
    let received = receiver.wait_for(4).await;
    let types: Vec<_> = received.iter().map(|request| request.json()["type"].clone()).collect();
    assert_eq!(types, ["resumed", "resumed", "resumed", "halted"]);
    assert_eq!(received[0].header("webhook-id"), received[2].header("webhook-id"));
    service.finish().await;
}

#[tokio::test]
async fn the_last_message_of_a_window_is_followed_by_the_wait_that_discord_states() {
    let last = "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset-After: 3.5";
    let receiver = Receiver::start(&[Reply::Status(200, last, "{}"), OK]).await;
    let service = start(vec![discord(&receiver)]);
    emit(&service, &AlertEvent::Resumed);
    receiver.wait_for(1).await;
    emit(&service, &AlertEvent::Resumed);
    let received = receiver.wait_for(2).await;
    let waited = received[1].at - received[0].at;
    // Without the header it would be two seconds.
    assert!(Duration::from_millis(3_400) < waited, "{waited:?}");
    service.finish().await;
}

#[tokio::test]
async fn a_halt_behind_hundreds_of_events_arrives_and_all_of_them_are_counted() {
    let receiver = Receiver::start(&[OK]).await;
    let service = start(vec![webhook(&receiver)]);
    for _ in 0..200 {
        emit(&service, &bought(100));
    }
    emit(&service, &halted());
    let received = receiver.wait_for(2).await;
    assert_eq!(received[0].json()["type"], "halted");
    assert_eq!(received[1].json()["data"]["counts"][0]["count"], 200);
    service.finish().await;
}

#[tokio::test]
async fn in_the_quiet_hours_nothing_is_sent_until_the_stop_and_then_silently() {
    let receiver = Receiver::start(&[OK]).await;
    let offset = i64::from(clock::utc_offset_s(clock::wall())) * 1_000;
    let minute = u16::try_from((clock::wall().0 + offset).rem_euclid(86_400_000) / 60_000).unwrap();
    let (from, until) = ((minute + 1_439) % 1_440, (minute + 30) % 1_440);
    let quiet_hours = Some(QuietHours { from, until });
    let rules = AlertRules { quiet_hours, ..AlertRules::default() };
    let service = start_with(vec![webhook(&receiver)], rules);
    emit(&service, &halted());
    emit(&service, &bought(100));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(receiver.received().len(), 0);
    assert_eq!(service.sender().delivery().undelivered, 0, "they still wait");
    service.finish().await;
    let received = receiver.received();
    assert_eq!(received.len(), 1, "{received:#?}");
    let json = received[0].json();
    assert_eq!((&json["type"], &json["data"]["silent"]), (&"digest".into(), &true.into()));
    let title = json["data"]["title"].as_str().unwrap();
    assert!(title.starts_with("During the quiet hours "), "{title}");
}

#[tokio::test]
async fn a_service_that_is_dropped_reports_that_the_session_did_not_start() {
    let receiver = Receiver::start(&[OK]).await;
    let service = start(vec![webhook(&receiver)]);
    tokio::task::spawn_blocking(move || drop(service)).await.unwrap();
    let received = receiver.received();
    assert_eq!(received.len(), 1, "{received:#?}");
    let json = received[0].json();
    assert_eq!(
        (&json["type"], &json["data"]["title"]),
        (&"stopped".into(), &"Stopped by a failure".into())
    );
}

#[tokio::test]
async fn the_check_of_an_ntfy_topic_uses_its_token() {
    for (reply, expected) in [
        (OK, Ok("reachable and accepted")),
        (Reply::Status(403, "", r#"{"code":40301,"error":"forbidden"}"#), Ok("cannot be read")),
        (Reply::Status(401, "", r#"{"code":40101,"error":"unauthorized"}"#), Err("unauthorized")),
    ] {
        let receiver = Receiver::start(&[reply]).await;
        let token = Some(Secret::new("tk_of_the_check"));
        let target = ChannelTarget::Ntfy { url: url(&receiver, "/topic"), token };
        let config = ChannelConfig { target, loudness: Vec::new() };
        let channel = AlertChannel::new(&config, &Tls::new().unwrap()).unwrap();
        match (channel.check().await, expected) {
            (Ok(found), Ok(part)) => assert!(found.contains(part), "{found}"),
            (Err(failure), Err(part)) => assert!(failure.why.contains(part), "{failure:?}"),
            (found, _) => panic!("{reply:?}: {found:?}"),
        }
        let received = receiver.received();
        assert_eq!(received.len(), 1, "nothing is sent");
        assert_eq!(received[0].line, "GET /topic/auth");
        assert_eq!(received[0].header("authorization"), "Bearer tk_of_the_check");
    }
}
