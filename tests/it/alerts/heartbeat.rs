//! The heartbeat in both styles.

use std::time::Duration;

use sniper::{
    alerts::heartbeat,
    config::alerts::{HeartbeatConfig, HeartbeatStyle, SecretUrl},
    net::tls::Tls,
};
use tokio::sync::watch;

use super::receiver::{OK, Receiver, Reply};

const EVERY: Duration = Duration::from_millis(300);

/// Returns the first requests of a heartbeat that is healthy for two calls, and then in trouble.
async fn requests(style: HeartbeatStyle, script: &[Reply]) -> Vec<String> {
    let receiver = Receiver::start(script).await;
    let url = SecretUrl::parse(&receiver.url("/uuid")).unwrap();
    let config = HeartbeatConfig { url, style, every: EVERY };
    let (health, heard) = watch::channel(None);
    let http = heartbeat::client(&config, &Tls::new().unwrap()).unwrap();
    let beat = tokio::spawn(heartbeat::run(config, http, heard));
    tokio::time::sleep(EVERY * 2).await;
    assert_eq!(receiver.received().len(), 0, "nothing is known yet");
    health.send(Some(Ok(()))).unwrap();
    let received = receiver.wait_for(2).await;
    let interval = received[1].at - received[0].at;
    assert!(EVERY / 2 < interval, "{interval:?}");
    health.send(Some(Err("the feed is down".to_owned()))).unwrap();
    let received = receiver.wait_for(3).await;
    beat.abort();
    received.iter().take(3).map(|request| format!("{} {}", request.line, request.body)).collect()
}

#[tokio::test]
async fn a_heartbeat_reports_health_at_its_interval_and_trouble_at_once() {
    let received = requests(HeartbeatStyle::Healthchecks, &[OK]).await;
    assert_eq!(received, ["POST /uuid ", "POST /uuid ", "POST /uuid/fail the feed is down"]);
    let received = requests(HeartbeatStyle::Push, &[OK]).await;
    let up = "GET /uuid?status=up&msg=OK ";
    assert_eq!(received, [up, up, "GET /uuid?status=down&msg=the%20feed%20is%20down "]);
}

#[tokio::test]
async fn a_failing_heartbeat_goes_on() {
    let script = [Reply::Status(500, "", ""), Reply::Status(302, "Location: /x", ""), OK];
    let received = requests(HeartbeatStyle::Healthchecks, &script).await;
    assert_eq!(received.len(), 3);
}
