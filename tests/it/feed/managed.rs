//! The managed handle over real sockets.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sniper::{
    config::endpoint::{Endpoint, Scheme},
    protocol::{GraphqlTransportWs, GraphqlWs, PlainJson, Subscription},
    ws::{
        FeedError, FeedMetrics, HandledMessage, MessageRecorder, WriteProgress,
        handle::{
            Handle, HandleError, HandleEvent, Options, SingleConnection, StopReason,
            SubscriptionError, Target,
        },
        policy::{ReconnectPolicy, ReconnectionLimits},
        source::{EventSource, ReconnectingSource},
    },
};

use super::{
    WAIT_MAX,
    peer::{Frame, Peer, Server, frame},
    quick,
};

fn target(server: &Server) -> Target<sniper::ws::connect::TcpDial> {
    Target::tcp(Endpoint::parse(&server.address, Scheme::WebSocket).unwrap(), None).unwrap()
}

fn options(limits: ReconnectionLimits) -> Options {
    Options::builder().policy(ReconnectPolicy::new(limits).unwrap()).build()
}

async fn handle(server: &Server) -> Handle {
    Handle::connect(target(server), PlainJson::VERBATIM, options(quick())).await.unwrap()
}

/// Returns the next event, waiting at most [`WAIT_MAX`].
async fn next(handle: &Handle) -> Option<HandleEvent> {
    tokio::time::timeout(WAIT_MAX, handle.recv()).await.expect("no event came")
}

/// Returns the text of the next message and skips all other events.
async fn message(handle: &Handle) -> String {
    loop {
        match next(handle).await {
            Some(HandleEvent::Message(message)) => return message.text,
            Some(_) => {}
            None => panic!("the handle stopped"),
        }
    }
}

/// Grants the upgrade without a subprotocol, for plain JSON.
async fn upgrade(peer: &mut Peer) {
    peer.read_head().await;
    let grant = peer.grant().replace("Sec-WebSocket-Protocol: graphql-transport-ws\r\n", "");
    peer.write(grant.as_bytes()).await;
}

/// Starts a server that echoes each text with the connection's number and disconnects on "die".
async fn echo() -> Server {
    Server::play(|number, mut peer| async move {
        upgrade(&mut peer).await;
        loop {
            match peer.frame().await {
                Frame::Text(text) if text.contains("die") => return,
                Frame::Text(text) => peer.send_text(&format!(r#"{{"{number}":{text}}}"#)).await,
                Frame::Ping(payload) => peer.write(&frame(0x8A, &payload)).await,
                Frame::Close(_) | Frame::End => return,
                Frame::Pong(_) => {}
            }
        }
    })
    .await
}

#[tokio::test]
async fn subscriptions_are_replayed_once_after_a_reconnect() {
    let server = echo().await;
    let handle = handle(&server).await;
    assert_eq!(handle.subscribe("\"a\""), Ok(true));
    assert_eq!(handle.subscribe(&"\"a\"".to_owned()), Ok(false));
    assert_eq!(message(&handle).await, r#"{"0":"a"}"#);
    assert_eq!(handle.subscribe("\"b\""), Ok(true));
    assert_eq!(message(&handle).await, r#"{"0":"b"}"#);
    assert_eq!(handle.unsubscribe("\"a\""), Ok(true));
    assert_eq!(handle.unsubscribe("\"a\""), Ok(false));
    handle.send("\"die\"").unwrap();
    let Some(HandleEvent::Reconnecting { attempt, wait, .. }) = next(&handle).await else {
        panic!("no Reconnecting event")
    };
    assert_eq!((attempt, wait), (1, Duration::from_millis(250)));
    let Some(HandleEvent::Reconnected { gap }) = next(&handle).await else { panic!("no gap") };
    assert!(gap.duration >= Duration::from_millis(250) && gap.attempts == 1, "{gap:?}");
    assert_eq!(message(&handle).await, r#"{"1":"b"}"#);
    assert_eq!(handle.total_reconnects(), 1);
    let gaps = handle.connection_gaps();
    assert_eq!(gaps.len(), 1);
    assert!(gaps[0].data_at >= gaps[0].until && gaps[0].until.is_some(), "{gaps:?}");
}

#[tokio::test]
async fn only_the_final_subscriptions_are_replayed_after_an_outage() {
    let server = Server::play(|number, mut peer| async move {
        if number == 0 {
            upgrade(&mut peer).await;
            return peer.stream.set_zero_linger().unwrap();
        }
        upgrade(&mut peer).await;
        let mut received = vec![peer.text().await, peer.text().await];
        received.sort();
        peer.send_text(&format!("{received:?}")).await;
        assert!(matches!(peer.read_until_close().await, Frame::Close(Some(1_000)) | Frame::End));
    })
    .await;
    let handle = handle(&server).await;
    while !matches!(next(&handle).await, Some(HandleEvent::Reconnecting { .. })) {}
    for round in 0..500 {
        handle.subscribe(&format!("{round}")).unwrap();
        handle.unsubscribe(&format!("{round}")).unwrap();
    }
    handle.subscribe("7").unwrap();
    handle.subscribe("8").unwrap();
    assert_eq!(message(&handle).await, r#"["7", "8"]"#);
    handle.stop().await;
}

#[tokio::test]
async fn a_rejected_replay_is_reported_with_its_cause() {
    let server = Server::play(|number, mut peer| async move {
        peer.upgrade().await;
        assert!(peer.text().await.contains("connection_init"));
        peer.send_text(r#"{"type":"connection_ack"}"#).await;
        let received: serde_json::Value = serde_json::from_str(&peer.text().await).unwrap();
        let id = received["id"].as_str().unwrap().to_owned();
        if number == 0 {
            peer.send_text(&format!(r#"{{"id":"{id}","type":"next","payload":7}}"#)).await;
            return;
        }
        let rejection = r#"[{"message":"not any more"}]"#;
        peer.send_text(&format!(r#"{{"id":"{id}","type":"error","payload":{rejection}}}"#)).await;
        peer.read_until_close().await;
    })
    .await;
    let options = options(quick());
    let handle = Handle::connect(target(&server), GraphqlTransportWs, options).await.unwrap();
    handle.subscribe(r#"{"query":"q"}"#).unwrap();
    assert!(message(&handle).await.contains("7"));
    let (mut is_back, mut rejected) = (false, None);
    while rejected.is_none() {
        match next(&handle).await {
            Some(HandleEvent::Reconnected { .. }) => is_back = true,
            Some(HandleEvent::Ended { topic, cause, retry_in }) => {
                rejected = Some((topic, cause, retry_in));
            }
            Some(_) => {}
            None => panic!("the handle stopped"),
        }
    }
    let (topic, cause, retry_in) = rejected.unwrap();
    assert!(is_back);
    assert_eq!(&*topic, r#"{"query":"q"}"#);
    assert!(
        matches!(&cause, SubscriptionError::Error(words) if words.contains("not any more")),
        "{cause}"
    );
    assert!(retry_in.is_some());
    handle.stop().await;
}

#[test]
fn the_options_builder_keeps_the_other_defaults() {
    let defaults = Options::default();
    assert_eq!((defaults.channel_capacity, defaults.command_capacity), (10_000, 256));
    assert_eq!(defaults.policy, ReconnectPolicy::default());
    let built = Options::builder().channel_capacity(3).build();
    assert_eq!((built.channel_capacity, built.command_capacity), (3, 256));
}

#[tokio::test]
async fn a_paced_replay_waits_between_subscriptions() {
    let server = Server::play(|_, mut peer| async move {
        upgrade(&mut peer).await;
        let mut texts = Vec::new();
        for _ in 0..4 {
            texts.push(peer.text().await);
        }
        peer.send_text(&format!("{}", texts.join(",").len())).await;
        peer.read_until_close().await;
    })
    .await;
    let pace = Duration::from_millis(60);
    let options = Options { replay_pace: pace, ..options(quick()) };
    let handle = Handle::connect(target(&server), PlainJson::VERBATIM, options).await.unwrap();
    let started = Instant::now();
    for topic in 0..4 {
        handle.subscribe(&topic.to_string()).unwrap();
    }
    message(&handle).await;
    assert!(started.elapsed() >= 3 * pace, "{:?}", started.elapsed());
}

#[tokio::test]
async fn both_graphql_protocols_work_with_the_handle() {
    let server = Server::play(|number, mut peer| async move {
        peer.read_head().await;
        let protocol = peer.header("Sec-WebSocket-Protocol").unwrap();
        let grant = peer.grant().replace("graphql-transport-ws", &protocol);
        peer.write(grant.as_bytes()).await;
        assert!(peer.text().await.contains("connection_init"));
        peer.send_text(r#"{"type":"connection_ack"}"#).await;
        let (ask, data) = if number == 0 { ("subscribe", "next") } else { ("start", "data") };
        let text = peer.text().await;
        assert_eq!(text, format!(r#"{{"id":"1","type":"{ask}","payload":{{"query":"q"}}}}"#));
        peer.send_text(&format!(r#"{{"id":"1","type":"{data}","payload":7}}"#)).await;
        peer.send_text(r#"{"id":"1","type":"error","payload":[{"message":"no\u001b"}]}"#).await;
        peer.read_until_close().await;
    })
    .await;
    async fn check(handle: Handle, expected: &str) {
        handle.subscribe_as(r#"{"query":"q"}"#, 42).unwrap();
        let Some(HandleEvent::Message(message)) = next(&handle).await else { panic!("no message") };
        assert_eq!(message.text, expected);
        assert_eq!(message.topic.as_deref(), Some(r#"{"query":"q"}"#));
        assert_eq!((message.request_id, message.connection), (Some(42), 1));
        let Some(HandleEvent::Ended { cause: SubscriptionError::Error(words), retry_in, .. }) =
            next(&handle).await
        else {
            panic!("the rejection was not reported")
        };
        assert!(words.contains("no") && retry_in.is_some(), "{words}");
        handle.stop().await;
    }
    let new = Handle::connect(target(&server), GraphqlTransportWs, options(quick())).await;
    check(new.unwrap(), r#"{"id":"1","type":"next","payload":7}"#).await;
    let old = Handle::connect(target(&server), GraphqlWs, options(quick())).await;
    check(old.unwrap(), r#"{"id":"1","type":"data","payload":7}"#).await;
}

#[tokio::test]
async fn a_slow_receiver_gets_the_exact_number_of_dropped_messages() {
    let server = Server::play(|_, mut peer| async move {
        upgrade(&mut peer).await;
        for number in 0..1_000 {
            peer.send_text(&number.to_string()).await;
        }
        peer.write(&frame(0x89, b"alive")).await;
        assert_eq!(peer.frame().await, Frame::Pong(b"alive".to_vec()));
        peer.send_text("\"last\"").await;
        peer.read_until_close().await;
    })
    .await;
    let options = Options { channel_capacity: 10, ..options(quick()) };
    let handle = Handle::connect(target(&server), PlainJson::SILENT, options).await.unwrap();
    while handle.metrics().frames.load(std::sync::atomic::Ordering::Relaxed) < 1_001 {
        tokio::task::yield_now().await;
    }
    let log = super::Log::capture();
    let Some(HandleEvent::Lagged(count)) = next(&handle).await else { panic!("no lag") };
    assert_eq!(count, 991);
    log.assert_contains("Fell behind by 991 messages");
    let mut rest = Vec::new();
    for _ in 0..10 {
        rest.push(message(&handle).await);
    }
    assert_eq!(rest[0], "991");
    assert_eq!(rest[9], "\"last\"");
}

#[tokio::test]
async fn an_uncertain_write_is_reported_and_never_resent() {
    let server = Server::play(|number, mut peer| async move {
        upgrade(&mut peer).await;
        if number == 0 {
            // The server reads nothing, so writes block. Then it resets the connection.
            tokio::time::sleep(Duration::from_millis(300)).await;
            return peer.stream.set_zero_linger().unwrap();
        }
        peer.send_text("\"up\"").await;
        if let Frame::Text(text) = peer.frame().await {
            panic!("the message was resent: {} bytes", text.len());
        }
    })
    .await;
    let handle = handle(&server).await;
    let large = |number: usize| format!("\"{number}{}\"", "x".repeat(900_000));
    for number in 0..20 {
        handle.send(large(number)).unwrap();
    }
    let (mut perhaps, mut nothing) = (0, 0);
    loop {
        match next(&handle).await.unwrap() {
            HandleEvent::NotSent { written: WriteProgress::Unknown, .. } => {
                assert_eq!(nothing, 0, "in order");
                perhaps += 1;
            }
            HandleEvent::NotSent { text, written: WriteProgress::Nothing } => {
                nothing += 1;
                assert!(text.len() > 900_000);
            }
            HandleEvent::Message(message) => {
                assert_eq!(message.text, "\"up\"");
                break;
            }
            _ => {}
        }
    }
    assert!(perhaps >= 1 && nothing >= 5 && perhaps + nothing <= 20, "{perhaps} + {nothing}");
}

#[tokio::test]
async fn the_send_queue_is_bounded() {
    let server = Server::play(|_, mut peer| async move {
        upgrade(&mut peer).await;
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let limits = ReconnectionLimits { initial_delay: WAIT_MAX, max_delay: WAIT_MAX, ..quick() };
    let handle =
        Handle::connect(target(&server), PlainJson::VERBATIM, options(limits)).await.unwrap();
    while !matches!(next(&handle).await, Some(HandleEvent::Reconnecting { .. })) {}
    for number in 0..256 {
        handle.send(number.to_string()).unwrap();
    }
    assert_eq!(handle.send("one more"), Err(HandleError::Busy));
    handle.stop().await;
    assert_eq!(handle.send("after"), Err(HandleError::Stopped));
    assert_eq!(handle.subscribe("after"), Err(HandleError::Stopped));
    assert!(handle.recv().await.is_none());
}

#[tokio::test]
async fn connect_returns_the_first_failure_and_connect_retrying_does_not() {
    let server = Server::play(|number, mut peer| async move {
        if number < 3 {
            return peer.stream.set_zero_linger().unwrap();
        }
        upgrade(&mut peer).await;
        peer.send_text("1").await;
        peer.read_until_close().await;
    })
    .await;
    let first = Handle::connect(target(&server), PlainJson::SILENT, options(quick())).await;
    assert!(matches!(first, Err(FeedError::Broken { .. })), "{first:?}");
    let handle = Handle::connect_retrying(target(&server), PlainJson::SILENT, options(quick()))
        .await
        .unwrap();
    assert_eq!(server.dials(), 4);
    assert_eq!(message(&handle).await, "1");
}

#[tokio::test]
async fn exhausted_retries_stop_the_handle_with_the_reason() {
    let server = Server::play(|_, peer| async move {
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let limits = ReconnectionLimits { max_retries: Some(1), ..quick() };
    let gave_up =
        Handle::connect_retrying(target(&server), PlainJson::SILENT, options(limits)).await;
    assert!(gave_up.is_err_and(|gave_up| gave_up.attempts == 2));
    let server = Server::play(|number, mut peer| async move {
        if number == 0 {
            upgrade(&mut peer).await;
        }
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let handle =
        Handle::connect(target(&server), PlainJson::SILENT, options(limits)).await.unwrap();
    let reason = loop {
        let event = next(&handle).await.expect("no reason was given");
        if let HandleEvent::Disconnected(reason) = event {
            break reason;
        }
    };
    assert!(matches!(reason, StopReason::GaveUp(_)), "{reason:?}");
    assert!(next(&handle).await.is_none());
    assert_eq!(handle.send("x"), Err(HandleError::Stopped));
}

#[tokio::test]
async fn stop_is_immediate_in_every_state() {
    let server = Server::play(|number, mut peer| async move {
        match number {
            // The upgrade is never answered.
            0 => peer.read_head().await,
            1 => {
                upgrade(&mut peer).await;
                assert_eq!(peer.read_until_close().await, Frame::Close(Some(1_000)));
                return;
            }
            _ => return peer.stream.set_zero_linger().unwrap(),
        }
        std::future::pending::<()>().await;
    })
    .await;
    let limits = ReconnectionLimits { connect_timeout: WAIT_MAX, ..quick() };
    let start = || Handle::start_retrying(target(&server), PlainJson::SILENT, options(limits));
    for (dials, state) in [(1, "connecting"), (2, "live"), (4, "waiting")] {
        let handle = start();
        server.wait_for_dials(dials).await;
        if state == "live" {
            while !handle.metrics().is_up.load(std::sync::atomic::Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
        }
        let started = Instant::now();
        handle.stop().await;
        assert!(started.elapsed() < WAIT_MAX / 2, "{state}: {:?}", started.elapsed());
        assert!(handle.recv().await.is_none(), "{state}");
        handle.stop().await;
    }
}

#[tokio::test]
async fn dropping_the_handle_closes_the_connection() {
    let (gone, seen) = tokio::sync::oneshot::channel();
    let gone = Arc::new(Mutex::new(Some(gone)));
    let server = Server::play(move |_, mut peer| {
        let gone = Arc::clone(&gone);
        async move {
            upgrade(&mut peer).await;
            let last = peer.read_until_close().await;
            gone.lock().unwrap().take().unwrap().send(last).unwrap();
        }
    })
    .await;
    drop(handle(&server).await);
    let last = tokio::time::timeout(Duration::from_secs(1), seen).await.unwrap().unwrap();
    assert_eq!(last, Frame::Close(Some(1_000)));
}

#[tokio::test]
async fn stop_wakes_a_waiting_receiver() {
    let server = echo().await;
    let handle = Arc::new(handle(&server).await);
    let reader = tokio::spawn({
        let handle = Arc::clone(&handle);
        async move { handle.recv().await.is_none() }
    });
    tokio::task::yield_now().await;
    handle.stop().await;
    assert!(tokio::time::timeout(WAIT_MAX, reader).await.unwrap().unwrap());
}

/// Collects messages through the trait only.
async fn collect(mut source: impl EventSource, count: usize) -> Vec<String> {
    source.connect().await.unwrap();
    source.subscribe("\"hello\"").unwrap();
    let mut texts = Vec::new();
    while texts.len() < count {
        match tokio::time::timeout(WAIT_MAX, source.next_event()).await.unwrap() {
            Some(HandleEvent::Message(message)) => texts.push(message.text),
            Some(_) => {}
            None => break,
        }
    }
    texts
}

/// Starts a server that echoes the first message of each connection and then closes it.
async fn one_message_each() -> Server {
    Server::play(|number, mut peer| async move {
        upgrade(&mut peer).await;
        let text = peer.text().await;
        peer.send_text(&format!(r#"{{"{number}":{text}}}"#)).await;
        peer.close(1_000, "").await;
    })
    .await
}

#[tokio::test]
async fn a_single_connection_ends_and_a_reconnecting_source_continues() {
    let server = one_message_each().await;
    let single = SingleConnection::new(target(&server), PlainJson::VERBATIM, options(quick()));
    assert_eq!(collect(single, 3).await, [r#"{"0":"hello"}"#]);

    let server = one_message_each().await;
    let single = SingleConnection::new(target(&server), PlainJson::VERBATIM, options(quick()));
    let policy = ReconnectPolicy::new(quick()).unwrap();
    let host = sniper::ws::Hosts::default().host(&server.address, &policy);
    let reconnecting = ReconnectingSource::new(single, policy, host);
    let expected = [r#"{"0":"hello"}"#, r#"{"1":"hello"}"#, r#"{"2":"hello"}"#];
    assert_eq!(collect(reconnecting, 3).await, expected);

    let server = one_message_each().await;
    assert_eq!(collect(handle(&server).await, 3).await, expected);
}

/// Records what a recorder is called with.
#[derive(Debug, Default)]
struct Calls(Mutex<Vec<String>>);

impl Calls {
    fn push(&self, call: String) {
        self.0.lock().unwrap().push(call);
    }
}

impl MessageRecorder for Calls {
    fn on_message(&self, connection: u32, text: &str, handled: HandledMessage) {
        self.push(format!("{connection} {} {text}", handled.is_data));
    }

    fn on_binary(&self) {
        self.push("binary".to_owned());
    }

    fn on_oversized(&self) {}

    fn on_dial(&self) {}

    fn on_connected(&self) {}

    fn on_disconnected(&self, _alive: Instant, cause: &str) {
        self.push(cause.to_owned());
    }

    fn on_backfilled(&self) {}
}

#[tokio::test]
async fn a_recorder_gets_every_message_and_only_essential_ends_are_gaps() {
    let server = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        peer.text().await;
        peer.send_text(r#"{"type":"connection_ack"}"#).await;
        peer.text().await;
        peer.text().await;
        peer.send_text(r#"{"id":"2","type":"next","payload":2}"#).await;
        peer.send_text(r#"{"id":"2","type":"complete"}"#).await;
        peer.write(&frame(0x82, b"x")).await;
        peer.send_text(r#"{"id":"1","type":"next","payload":1}"#).await;
        peer.send_text(r#"{"id":"1","type":"complete"}"#).await;
        peer.read_until_close().await;
    })
    .await;
    let calls = Arc::new(Calls::default());
    let topic = |topic: &str, is_optional| Subscription { topic: topic.to_owned(), is_optional };
    let options = Options {
        channel_capacity: 0,
        topics: vec![topic(r#"{"query":"a"}"#, false), topic(r#"{"query":"b"}"#, true)],
        metrics: Arc::new(FeedMetrics::recorded(Arc::<Calls>::clone(&calls))),
        ..options(quick())
    };
    let handle = Handle::start_retrying(target(&server), GraphqlTransportWs, options);
    for _ in 0..2 {
        let event = next(&handle).await;
        assert!(matches!(event, Some(HandleEvent::Ended { .. })), "{event:?}");
    }
    handle.stop().await;
    assert_eq!(
        *calls.0.lock().unwrap(),
        [
            r#"1 false {"id":"2","type":"next","payload":2}"#,
            r#"1 false {"id":"2","type":"complete"}"#,
            "binary",
            r#"1 true {"id":"1","type":"next","payload":1}"#,
            "the subscription ended: completed by the server",
            r#"1 false {"id":"1","type":"complete"}"#,
        ]
    );
}

#[tokio::test]
async fn a_panic_of_the_task_ends_the_events() {
    let server = echo().await;
    let protocol =
        PlainJson { subscribe: Some(|_id, _topic| panic!("on purpose")), ..PlainJson::SILENT };
    let handle = Handle::start_retrying(target(&server), protocol, options(quick()));
    handle.subscribe("1").unwrap();
    assert!(next(&handle).await.is_none());
}
