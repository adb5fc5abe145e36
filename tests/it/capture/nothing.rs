//! Captures without messages: the cause is logged while they run, and the exit code reports it.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    command::{err, out, start},
    *,
};

/// Output of a capture: exit code, log, JSON summary and manifest.
struct CaptureOutput {
    code: Option<i32>,
    log: String,
    object: Value,
    manifest: Value,
}

/// Runs a capture with these arguments for 6 s, longer than the delay of the warning.
async fn capture(args: &[&str]) -> CaptureOutput {
    let directory = TempDir::new().unwrap();
    let args = [&["--out", "rec", "--for", "6s", "--json"], args].concat();
    let output = start(&directory, &args).ended().await;
    let object = serde_json::from_str(out(&output).lines().last().unwrap()).unwrap();
    let session = sessions(&directory.path().join("rec")).pop().unwrap();
    let manifest = manifest(&session).unwrap();
    CaptureOutput { code: output.status.code(), log: err(&output), object, manifest }
}

/// Runs a capture of a Binance spot stream from this address.
async fn capture_spot(url: &str) -> CaptureOutput {
    capture(&["--binance-spot", url, "binance-spot:BTCUSTD@bookTicker"]).await
}

#[track_caller]
fn check(captured: &CaptureOutput, cause: &str, advice: &str) {
    assert_eq!(captured.code, Some(69), "{}", captured.log);
    let warnings: Vec<&str> = captured
        .log
        .lines()
        .filter(|line| line.contains(" WARN Nothing recorded in 5s: "))
        .collect();
    assert_eq!(warnings.len(), 1, "{}", captured.log);
    assert!(warnings[0].contains(cause) && warnings[0].contains(advice), "{warnings:?}");
    assert!(captured.log.contains("ERROR Nothing was recorded: "), "{}", captured.log);
    assert_eq!(
        (&captured.object["complete"], &captured.manifest["complete"]),
        (&false.into(), &false.into())
    );
    assert_eq!(captured.object["empty"].as_array().unwrap().len(), 1);
    let because = captured.manifest["ended_because"].as_str().unwrap();
    assert!(because.ends_with("nothing was recorded"), "{because}");
    if !captured.log.contains("csgoroll") {
        assert!(
            !captured.log.contains("CSGOROLL") && !captured.log.contains("cookie"),
            "{}",
            captured.log
        );
    }
}

/// Starts a server that answers every request with `answer`.
async fn answering(answer: &'static str) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _head = stream.read(&mut [0; 4_096]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, task)
}

#[tokio::test]
async fn an_empty_capture_warns_while_it_runs_and_exits_with_69() {
    let silent =
        Server::start(|mut peer: Peer| async move { peer.wait_for_disconnect().await }).await;
    let error = Server::start(|mut peer: Peer| async move {
        peer.send_text(r#"{"error":{"code":2,"msg":"Invalid request: unknown stream"},"id":null}"#)
            .await;
        peer.wait_for_disconnect().await;
    })
    .await;
    let binary = Server::start(|mut peer: Peer| async move {
        peer.send_binary(b"\x1f\x8b").await;
        peer.send_binary(b"\x1f\x8b").await;
        peer.wait_for_disconnect().await;
    })
    .await;
    let (legal, _legal) = answering("HTTP/1.1 451 No\r\nContent-Length: 0\r\n\r\n").await;
    let (banned, _banned) =
        answering("HTTP/1.1 418 I'm a teapot\r\nRetry-After: 7200\r\n\r\n").await;
    let (gone, _gone) = answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let (silent_url, error_url, binary_url) =
        (silent.url("/ws"), error.url("/ws"), binary.url("/ws"));
    let binary_words = ["--url", binary_url.as_str()];
    let (silent, error, binary, legal, banned, gone) = tokio::join!(
        capture_spot(&silent_url),
        capture_spot(&error_url),
        capture(&binary_words),
        capture_spot(&legal),
        capture_spot(&banned),
        capture_spot(&gone),
    );
    check(&silent, "connected, but the server sent no message", "--binance-spot");
    check(&error, "the server returned an error: ", "the spelling of the symbol");
    assert!(error.log.contains("unknown stream"), "{}", error.log);
    assert_eq!(error.object["messages"], 1, "the error itself is recorded");
    check(&binary, "only binary messages arrived (2)", "--url");
    assert_eq!((&binary.object["binary_skipped"], &binary.object["lost"]), (&2.into(), &0.into()));
    assert_eq!(binary.manifest["sources"][0]["binary_skipped"], 2);
    check(&legal, "HTTP 451: unavailable for legal reasons", "Check --binance-spot");
    check(&banned, "HTTP 418: this IP address is banned", "Check --binance-spot");
    assert!(
        banned.log.contains("Retry-After of 7200s obeyed: no attempt before "),
        "{}",
        banned.log
    );
    check(&gone, "HTTP 404: there is no feed at this address", "Check --binance-spot");
    assert!(gone.log.contains("; check --binance-spot"), "{}", gone.log);
}

#[tokio::test]
async fn a_silent_source_is_named_and_the_capture_of_the_others_is_complete() {
    let server = Server::start(|mut peer: Peer| async move {
        if peer.path.contains("quiet") {
            peer.wait_for_disconnect().await;
        }
        peer.send_text("{}").await;
        peer.wait_for_disconnect().await;
    })
    .await;
    let directory = TempDir::new().unwrap();
    let sources = [own(&server.url("/here")), own(&server.url("/quiet"))].concat();
    let outcome = until(plan(sources, quick(), &directory), &directory, |manifest| {
        manifest["sources"][0]["messages"] == 1
    })
    .await;
    assert_eq!((outcome.exit_code(), outcome.is_complete, outcome.is_empty), (0, true, false));
    assert_eq!(outcome.empty.len(), 1);
    assert!(outcome.empty[0].0.ends_with("/quiet"), "{:?}", outcome.empty);
    assert!(outcome.to_string().contains("  empty       ws://127.0.0.1:"), "{outcome}");
}

#[tokio::test]
async fn a_message_over_the_limit_is_counted_in_the_summary_and_in_the_manifest() {
    let server = Server::start(|mut peer: Peer| async move {
        peer.send_text("{}").await;
        if peer.number == 1 {
            let long = "x".repeat(sniper::ws::MESSAGE_BYTES_MAX + 1);
            peer.send_text(&format!("\"{long}\"")).await;
        }
        peer.wait_for_disconnect().await;
    })
    .await;
    let directory = TempDir::new().unwrap();
    let plan = plan(own(&server.url("/x")), quick(), &directory);
    let outcome = until(plan, &directory, |manifest| manifest["sources"][0]["messages"] == 2).await;
    assert_eq!(outcome.status.too_long, 1);
    assert_eq!(outcome.to_json()["too_long"], 1);
    assert!(outcome.to_string().contains("  skipped     1 (0 binary, 1 too long)\n"), "{outcome}");
    let manifest = manifest(&outcome.directory).unwrap();
    assert_eq!(manifest["sources"][0]["too_long"], 1);
}

/// The market ends the subscription on an open connection, so the time until its renewal is a
/// gap.
#[tokio::test]
async fn an_ended_subscription_is_a_gap_of_the_recording() {
    use crate::feed::peer::{self, batch};

    let server = peer::Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        peer.text().await;
        peer.send_text(r#"{"type":"connection_ack"}"#).await;
        let (id, _) = peer.subscription().await;
        peer.subscription().await;
        peer.send_text(&batch(&id, &["a"])).await;
        peer.send_text(&format!(r#"{{"id":"{id}","type":"complete"}}"#)).await;
        let (again, _) = peer.subscription().await;
        peer.send_text(&batch(&again, &["b"])).await;
        peer.read_until_close().await;
    })
    .await;
    let endpoints =
        sniper::config::Endpoints::new(&server.address, "http://127.0.0.1:9/graphql").unwrap();
    let directory = TempDir::new().unwrap();
    let plan = CapturePlan {
        marketplace: Some(market_source(&Config::new(endpoints, "unused"))),
        ..plan(vec![CaptureSource::marketplace(Market::Csgoroll)], quick(), &directory)
    };
    let outcome = until(plan, &directory, |manifest| manifest["sources"][0]["messages"] == 3).await;
    let manifest = manifest(&outcome.directory).unwrap();
    let gaps = manifest["connection_gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0]["cause"].as_str().unwrap().contains("completed by the server"), "{gaps:?}");
    assert_eq!((&gaps[0]["open"], &gaps[0]["attempts"]), (&false.into(), &0.into()));
    // The subscription is renewed 250 ms after its end arrived; the gap begins when that is
    // processed.
    assert!(gaps[0]["duration_ms"].as_u64() >= Some(50), "{gaps:?}");
    assert_eq!(manifest["total_reconnects"], 0);
}
