//! Alerts, heartbeat and systemd from the program and from whole sessions.

use std::{
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use sniper::{
    clock,
    commands::session::{SessionStart, TradingSession},
    config::{
        Config,
        alerts::{ChannelConfig, ChannelTarget, HeartbeatConfig, HeartbeatStyle, SecretUrl},
    },
    domain::alert_kind::AlertKind,
    ledger::{HaltReason, Ledger, LedgerLocation},
    markets::csgoroll::Csgoroll,
    secret::Secret,
    sim::{Fault, SimServer, SimSettings, faults::FaultKind},
    sniper::Now,
    ws::Feed,
};

use super::receiver::{OK, Received, Receiver, Reply};
use crate::{
    feed::peer::Server,
    session::{
        AMPLE_LIMITS, TestBot,
        process::{self, Program},
        quiet, ready, redline, until, wait_for_stats,
    },
};

const DISCORD: &str = r#"
[[alerts]]
kind = "discord"
url_env = "ALERT_URL"
[heartbeat]
url_env = "BEAT_URL"
"#;

/// Returns the first lines of the messages that arrived.
fn titles(receiver: &Receiver) -> Vec<String> {
    let received = receiver.received();
    let content = received.iter().filter(|request| request.line.contains("/webhooks/"));
    content
        .filter_map(|request| {
            let json = request.json();
            Some(json["content"].as_str()?.lines().next()?.to_owned())
        })
        .collect()
}

/// Adds a webhook to the settings of a bot.
fn add_webhook(bot: &mut TestBot, receiver: &Receiver) {
    let url = SecretUrl::parse(&receiver.url("/hook")).unwrap();
    let secret = Secret::new("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let target = ChannelTarget::Webhook { url, secret };
    bot.config.alerts.channels = vec![ChannelConfig { target, loudness: Vec::new() }];
}

/// Types of the events that a webhook has received.
fn types(receiver: &Receiver) -> Vec<String> {
    let received = receiver.received();
    let hooks = received.iter().filter(|request| request.line == "POST /hook");
    hooks.map(|request| request.json()["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_live_run_reports_its_start_a_purchase_and_its_stop_and_calls_the_heartbeat() {
    let receiver = Receiver::start(&[OK]).await;
    let market = SimServer::start(quiet()).unwrap();
    let token = "/api/webhooks/1/secret-token-of-the-program-test";
    let variables = [
        ("ALERT_URL", receiver.url(token)),
        ("BEAT_URL", receiver.url("/secret-heartbeat-of-the-test")),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let policy = format!("{AMPLE_LIMITS}{DISCORD}");
    let mut program = Program::start_with((&market, &policy), &["run", "--live"], &variables);
    process::ready(&program, &market).await;
    until(|| program.out().contains("Signed in: ")).await;
    until(|| {
        market.list_items(vec![redline(1_015)]);
        program.out().contains("BOUGHT ")
    })
    .await;
    until(|| titles(&receiver).iter().any(|title| title.contains("ought"))).await;
    let is_beat = |line: &str| line == "POST /secret-heartbeat-of-the-test";
    until(|| receiver.received().iter().any(|request| is_beat(&request.line))).await;
    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
    let titles = titles(&receiver);
    assert_eq!(titles.first().map(String::as_str), Some("**Started**"), "{titles:?}");
    assert_eq!(titles.last().map(String::as_str), Some("**Stopped**"), "{titles:?}");
    let output = program.all_output();
    assert!(!output.contains("secret-token-of") && !output.contains("secret-heartbeat"));
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_order() {
    let receiver = Receiver::start(&[Reply::Hang]).await;
    let market = SimServer::start(quiet()).unwrap();
    let mut bot = TestBot::live(&market, AMPLE_LIMITS);
    add_webhook(&mut bot, &receiver);
    let summary = bot
        .run(async |sniper| {
            ready(sniper, &market).await;
            receiver.wait_for(1).await;
            for bought in 1..=20 {
                let listed = Instant::now();
                market.list_items(vec![redline(1_000)]);
                wait_for_stats(sniper, |stats| stats.bought == bought).await;
                assert!(listed.elapsed() < Duration::from_secs(5), "{:?}", listed.elapsed());
            }
        })
        .await;
    assert_eq!((summary.stats.bought, summary.stats.skipped_total()), (20, 0));
    assert_eq!(receiver.received().len(), 1, "the first one still hangs");
}

#[tokio::test]
async fn a_halt_and_its_end_are_reported_with_what_to_do() {
    let receiver = Receiver::start(&[OK]).await;
    let market = SimServer::start(quiet()).unwrap();
    let mut bot = TestBot::live(&market, AMPLE_LIMITS);
    add_webhook(&mut bot, &receiver);
    bot.run(async |sniper| {
        ready(sniper, &market).await;
        let now = Now::read().wall;
        sniper.with_engine(|engine| {
            drop(engine.ledger().halt(HaltReason::Unknowns { count: 5 }, now));
        });
        receiver.wait_for(2).await;
        sniper.with_engine(|engine| {
            engine.ledger().resume(sniper::ledger::Operator::new("test"), now);
        });
        receiver.wait_for(3).await;
    })
    .await;
    let received = receiver.received();
    assert_eq!(types(&receiver), ["started", "halted", "resumed", "stopped"]);
    let data = &received[1].json()["data"];
    assert_eq!(data["reason"], "5 orders in a row ended with an unknown outcome");
    assert!(data["text"].as_str().unwrap().contains("What to do: "), "{data}");
}

#[tokio::test]
async fn the_time_of_a_halt_is_local_in_the_text_of_its_alert_and_in_utc_in_its_data() {
    let receiver = Receiver::start(&[OK]).await;
    let market = SimServer::start(quiet()).unwrap();
    let hook = receiver.url("/hook");
    let variables = [
        ("HOOK_URL", hook.as_str()),
        ("HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("TZ", "JST-9"),
    ];
    let policy = format!(
        "{AMPLE_LIMITS}[[alerts]]\nkind = \"webhook\"\nurl_env = \"HOOK_URL\"\n\
         secret_env = \"HOOK_SECRET\"\n"
    );
    let program = Program::start_with((&market, &policy), &["run", "--live"], &variables);
    process::ready(&program, &market).await;
    run_beside(&program, &["halt"]);
    until(|| text_of(&receiver, "halted").is_some()).await;
    let text = text_of(&receiver, "halted").unwrap();
    assert!(text.contains("Halted since 20") && text.contains(" +09:00. What to do: "), "{text}");
    let received = receiver.received();
    let halted = received.iter().map(Received::json).find(|json| json["type"] == "halted");
    assert!(halted.unwrap()["data"]["since"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn an_order_that_meets_a_challenge_or_a_rejected_credential_is_reported_as_such() {
    for (fault, expected) in
        [(FaultKind::Challenge, "challenge"), (FaultKind::Unauthenticated, "credential_refused")]
    {
        let receiver = Receiver::start(&[OK]).await;
        let faults = vec![Fault::always(fault)];
        let market = SimServer::start(SimSettings { faults, ..quiet() }).unwrap();
        let mut bot = TestBot::live(&market, AMPLE_LIMITS);
        add_webhook(&mut bot, &receiver);
        bot.run(async |sniper| {
            ready(sniper, &market).await;
            market.list_items(vec![redline(1_000)]);
            until(|| types(&receiver).iter().any(|event| event == expected)).await;
        })
        .await;
    }
}

/// Returns the text of the first event of this type that a webhook has received.
fn text_of(receiver: &Receiver, event: &str) -> Option<String> {
    let received = receiver.received();
    let mut events = received.iter().filter(|request| request.line == "POST /hook");
    let found = events.find(|request| request.json()["type"] == event)?;
    Some(found.json()["data"]["text"].as_str()?.to_owned())
}

#[tokio::test]
async fn a_feed_that_is_blocked_or_down_is_reported_with_its_cause() {
    let status = async |status, header| {
        let server = Receiver::start(&[Reply::Status(status, header, "")]).await;
        format!("ws://{}/", server.address)
    };
    let forbidden = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        peer.close(4_403, "Forbidden").await;
    });
    let rejected = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        peer.send_text(r#"{"type":"connection_error","payload":{"message":"no session"}}"#).await;
        peer.read_until_close().await;
    });
    let (forbidden, rejected) = (forbidden.await, rejected.await);
    let all = [
        (
            status(403, "cf-mitigated: challenge").await,
            "challenge",
            "HTTP 403: blocked: a challenge",
        ),
        (status(401, "").await, "credential_refused", "HTTP 401: not signed in"),
        (forbidden.address.clone(), "credential_refused", "with 4403: Forbidden"),
        (rejected.address.clone(), "credential_refused", "rejected the session: "),
        (status(502, "").await, "feed_down", "HTTP 502"),
    ];
    let all = all.map(async |(ws, expected, cause)| {
        let receiver = Receiver::start(&[OK]).await;
        let market = SimServer::start(quiet()).unwrap();
        let mut bot = TestBot::new((&ws, &market.http_url()), None, AMPLE_LIMITS, false);
        bot.config.alerts.rules.feed_down_after = Duration::from_secs(3);
        add_webhook(&mut bot, &receiver);
        bot.run(async |_sniper| {
            until(|| types(&receiver).iter().any(|event| event == expected)).await;
        })
        .await;
        assert_eq!(types(&receiver), ["started", expected, "stopped"], "{cause}");
        let text = text_of(&receiver, expected).unwrap();
        assert!(text.contains(cause), "{text}");
        assert_eq!(text.contains("What to do: "), expected != "feed_down", "{text}");
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_lost_feed_is_reported_with_what_keeps_it_from_coming_back() {
    let feed = Server::play(|number, mut peer| async move {
        if number == 0 {
            peer.subscribed().await;
        } else {
            peer.read_head().await;
            peer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
        }
    })
    .await;
    let receiver = Receiver::start(&[OK]).await;
    let market = SimServer::start(quiet()).unwrap();
    let urls = (feed.address.as_str(), market.http_url());
    let mut bot = TestBot::new((urls.0, &urls.1), None, AMPLE_LIMITS, false);
    bot.config.alerts.rules.feed_down_after = Duration::from_secs(2);
    add_webhook(&mut bot, &receiver);
    let url = SecretUrl::parse(&receiver.url("/beat")).unwrap();
    let (style, every) = (HeartbeatStyle::Healthchecks, Duration::from_secs(1));
    bot.config.alerts.heartbeat = Some(HeartbeatConfig { url, style, every });
    let beat = || {
        let received = receiver.received().into_iter();
        received.filter(|request| request.line == "POST /beat/fail").map(|it| it.body).next()
    };
    bot.run(async |_sniper| {
        until(|| text_of(&receiver, "feed_down").is_some() && beat().is_some()).await;
    })
    .await;
    for text in [text_of(&receiver, "feed_down").unwrap(), beat().unwrap()] {
        assert!(text.contains("HTTP 502"), "{text}");
    }
}

/// A service manager: receives notifications on a socket.
struct Manager {
    socket: UnixDatagram,
    received: Vec<String>,
}

impl Manager {
    /// Waits until a notification begins with this text.
    async fn wait_for(&mut self, start: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut buffer = [0; 4_096];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                self.received.push(str::from_utf8(&buffer[..length]).unwrap().to_owned());
            }
            let found = self.received.iter().position(|text| text.starts_with(start));
            if let Some(at) = found {
                self.received.drain(..=at);
                return;
            }
            assert!(Instant::now() < deadline, "{start}: {:?}", self.received);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn systemd_is_notified_and_its_watchdog_fed_also_while_disconnected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut manager = Manager { socket, received: Vec::new() };
    let mut market = Some(SimServer::start(quiet()).unwrap());
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")];
    let mut program =
        Program::start_with((market.as_ref().unwrap(), AMPLE_LIMITS), &["run"], &variables);
    manager.wait_for("READY=1").await;
    manager.wait_for("WATCHDOG=1").await;
    manager.wait_for("STATUS=Dry run, feed up: 0 would be bought").await;
    drop(market.take());
    manager.wait_for("STATUS=Dry run, the feed is disconnected").await;
    for _ in 0..3 {
        manager.received.clear();
        manager.wait_for("WATCHDOG=1").await;
    }
    program.signal("-TERM");
    manager.wait_for("STOPPING=1").await;
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
}

#[tokio::test]
async fn alert_test_prints_what_came_back_and_doctor_sends_nothing() {
    let receiver = Receiver::start(&[
        OK,
        Reply::Status(400, "", r#"{"message":"Cannot send an empty message"}"#),
    ])
    .await;
    // The doctor waits for a listing.
    let market = SimServer::start(SimSettings::default()).unwrap();
    let url = receiver.url("/api/webhooks/1/secret-token-of-the-alert-test");
    let variables = [("ALERT_URL", url.as_str()), ("BEAT_URL", url.as_str())];
    let policy = format!("{AMPLE_LIMITS}{DISCORD}");
    let start = |args: &[&str]| Program::start_with((&market, &policy), args, &variables);
    let mut program = start(&["alert", "test"]);
    assert_eq!(program.ended().await, Some(1), "{}", program.err());
    let name = format!("discord ({})", receiver.address);
    let expected = format!(
        "{name}: test (loud): delivered\n\
         {name}: test (silent): HTTP 400: Cannot send an empty message\n"
    );
    assert_eq!(program.out(), expected);
    let received = receiver.received();
    let flags: Vec<_> = received.iter().map(|request| request.json()["flags"].clone()).collect();
    assert_eq!(flags, [0, 4_096]);

    let receiver = Receiver::start(&[OK]).await;
    let url = receiver.url("/api/webhooks/1/secret-token-of-the-alert-test");
    let variables = [("ALERT_URL", url.as_str()), ("BEAT_URL", url.as_str())];
    let mut program =
        Program::start_with((&market, &policy), &["alert", "test", "--json"], &variables);
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
    assert_eq!(program.summary()["messages"][1]["delivered"], true);

    let mut program = Program::start_with((&market, &policy), &["check"], &variables);
    assert_eq!(program.ended().await, Some(0), "{}", program.out());
    let line = format!("discord ({}), heartbeat every 60 s", receiver.address);
    assert!(program.out().contains(&line), "{}", program.out());

    let before = receiver.received().len();
    let mut program = Program::start_with((&market, &policy), &["doctor", "--json"], &variables);
    program.ended().await;
    let steps = program.summary()["steps"].clone();
    let step =
        steps.as_array().unwrap().iter().find(|step| step["step"] == "alerts").unwrap().clone();
    assert_eq!(step["state"], "green", "{step}");
    let later = receiver.received();
    let lines: Vec<&str> = later[before..].iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("GET /api/v10/webhooks/1/"), "{lines:?}");
    assert!(!program.all_output().contains("secret-token-of"));
}

/// Runs a command beside a program, and returns its output.
fn run_beside(program: &Program, args: &[&str]) -> String {
    let directory = program.directory.path();
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("XDG_STATE_HOME", directory.join("state"))
        .output()
        .unwrap();
    let [out, err] = [done.stdout, done.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(done.status.success(), "{out}{err}");
    out
}

/// Runs `sniper reload` beside a program that runs with these settings, and returns its output.
fn reload(program: &Program, policy: &str) -> String {
    std::fs::write(program.directory.path().join("sniper.toml"), policy).unwrap();
    run_beside(program, &["reload"])
}

#[tokio::test]
async fn a_reload_adds_and_removes_channels_and_the_heartbeat() {
    let receiver = Receiver::start(&[OK]).await;
    let market = SimServer::start(quiet()).unwrap();
    let variables = [
        ("ALERT_URL", receiver.url("/api/webhooks/1/secret-token-of-the-reload-test")),
        ("BEAT_URL", receiver.url("/secret-heartbeat-of-the-reload-test")),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let program = Program::start_with((&market, AMPLE_LIMITS), &["run", "--live"], &variables);
    process::ready(&program, &market).await;
    let buy = async || {
        let before = market.history().purchases().count();
        market.list_items(vec![redline(1_015)]);
        until(|| before < market.history().purchases().count()).await;
    };
    buy().await;
    let with_alerts = format!("{AMPLE_LIMITS}{DISCORD}[alert_rules]\nfeed_down_after_s = 90\n");
    let out = reload(&program, &with_alerts);
    for line in [
        "  Alerts: 1 channel (1 new or changed, 0 removed)",
        "  Alerts: the rules changed",
        "  Heartbeat: every 60 s",
    ] {
        assert!(out.lines().any(|found| found == line), "{line}: {out}");
    }
    let beats = || {
        let received = receiver.received();
        received.iter().filter(|request| request.line.contains("/secret-heartbeat")).count()
    };
    until(|| beats() == 1).await;
    assert_eq!(titles(&receiver), Vec::<String>::new(), "the purchase was before the reload");
    buy().await;
    until(|| titles(&receiver).iter().any(|title| title.contains("ought"))).await;
    let out = reload(&program, AMPLE_LIMITS);
    assert!(out.contains("  Alerts: 0 channels (0 new or changed, 1 removed)"), "{out}");
    assert!(out.contains("  Heartbeat: off"), "{out}");
    let before = titles(&receiver).len();
    buy().await;
    let out = reload(&program, &with_alerts);
    assert!(out.contains("(1 new or changed, 0 removed)"), "{out}");
    until(|| beats() == 2).await;
    buy().await;
    until(|| before < titles(&receiver).len()).await;
    let titles = titles(&receiver);
    assert!(titles[before..].iter().all(|title| !title.contains('2')), "{titles:?}");
}

#[tokio::test]
async fn a_feed_that_is_back_is_reported_with_the_time_that_it_was_down() {
    let receiver = Receiver::start(&[OK]).await;
    let market = SimServer::start(quiet()).unwrap();
    let listen = market.address();
    let mut bot = TestBot::live(&market, AMPLE_LIMITS);
    bot.config.alerts.rules.feed_down_after = Duration::from_secs(1);
    add_webhook(&mut bot, &receiver);
    let mut market = Some(market);
    bot.run(async |sniper| {
        ready(sniper, market.as_ref().unwrap()).await;
        drop(market.take());
        until(|| types(&receiver).iter().any(|event| event == "feed_down")).await;
        market = Some(SimServer::start(SimSettings { listen, ..quiet() }).unwrap());
        until(|| types(&receiver).iter().any(|event| event == "feed_back")).await;
    })
    .await;
    let events = types(&receiver);
    let at = |event: &str| events.iter().position(|found| found == event).unwrap();
    assert!(at("feed_down") < at("feed_back"), "{events:?}");
    let received = receiver.received();
    let back =
        received.iter().map(|request| request.json()).find(|json| json["type"] == "feed_back");
    let text = back.unwrap()["data"]["text"].as_str().unwrap().to_owned();
    assert!(text.contains(" s"), "{text}");
}

#[tokio::test]
async fn the_heartbeat_of_a_session_reports_that_its_feed_is_down_with_the_cause() {
    let receiver = Receiver::start(&[OK]).await;
    let market = SimServer::start(quiet()).unwrap();
    let mut bot = TestBot::live(&market, AMPLE_LIMITS);
    bot.config.alerts.rules.feed_down_after = Duration::from_secs(1);
    let url = SecretUrl::parse(&receiver.url("/beat")).unwrap();
    let (style, every) = (HeartbeatStyle::Healthchecks, Duration::from_secs(1));
    bot.config.alerts.heartbeat = Some(HeartbeatConfig { url, style, every });
    let mut market = Some(market);
    let calls = |line: &str| -> Vec<String> {
        let received = receiver.received().into_iter().filter(|request| request.line == line);
        received.map(|request| request.body).collect()
    };
    bot.run(async |sniper| {
        ready(sniper, market.as_ref().unwrap()).await;
        until(|| !calls("POST /beat").is_empty()).await;
        assert_eq!(calls("POST /beat/fail"), [""; 0]);
        drop(market.take());
        until(|| !calls("POST /beat/fail").is_empty()).await;
    })
    .await;
    let reason = calls("POST /beat/fail").remove(0);
    assert!(reason.starts_with("the feed has been down for ") && reason.contains(": "), "{reason}");
}

#[tokio::test]
async fn alert_test_all_sends_every_event_at_the_rate_of_the_channel() {
    let receiver = Receiver::start(&[OK]).await;
    let market = SimServer::start(quiet()).unwrap();
    let url = receiver.url("/secret-hook-of-the-test");
    let variables =
        [("HOOK_URL", url.as_str()), ("HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
    let policy = format!(
        "{AMPLE_LIMITS}[[alerts]]\nkind = \"webhook\"\nurl_env = \"HOOK_URL\"\n\
         secret_env = \"HOOK_SECRET\"\noff = [\"daily_summary\"]\n"
    );
    let mut program =
        Program::start_with((&market, &policy), &["alert", "test", "--all"], &variables);
    assert_eq!(program.ended().await, Some(0), "{}{}", program.out(), program.err());
    let received = receiver.received();
    let sent: Vec<String> = received
        .iter()
        .map(|request| request.json()["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(sent, AlertKind::ALL.map(AlertKind::name));
    let last = received.last().unwrap().json();
    assert_eq!(last["data"]["silent"], true, "it is off");
    assert!(last["data"]["example"].as_bool().unwrap());
    // The pace of a webhook is 200 ms.
    let fastest = received.windows(2).map(|pair| pair[1].at - pair[0].at).min().unwrap();
    assert!(Duration::from_millis(150) < fastest, "{fastest:?}");
}

#[tokio::test]
async fn a_start_that_fails_is_reported() {
    let receiver = Receiver::start(&[OK]).await;
    let market = SimServer::start(quiet()).unwrap();
    let mut bot = TestBot::live(&market, AMPLE_LIMITS);
    add_webhook(&mut bot, &receiver);
    // A file where the ledger's folder would be.
    let directory = tempfile::tempdir().unwrap();
    bot.config.data_dir = directory.path().join("file");
    std::fs::write(&bot.config.data_dir, "").unwrap();
    let failure = failed_start(bot.config.clone()).await;
    assert!(!failure.is_empty());
    assert_eq!(types(&receiver), ["stopped"], "{failure}");
    let text = receiver.received()[0].json()["data"]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("could not start"), "{text}");
}

/// The other bot goes on, so that an alert about a stop would be false.
#[tokio::test]
async fn a_start_beside_a_running_bot_sends_no_alert() {
    let receiver = Receiver::start(&[OK]).await;
    let market = SimServer::start(quiet()).unwrap();
    let mut bot = TestBot::live(&market, AMPLE_LIMITS);
    add_webhook(&mut bot, &receiver);
    let config = &bot.config;
    let place = LedgerLocation::new(&config.data_dir, config.endpoints.http.authority());
    let running = Ledger::open(&place, config.budget.clone(), &[], clock::now()).unwrap();
    let failure = failed_start(config.clone()).await;
    assert!(failure.contains("in use"), "{failure}");
    assert_eq!(types(&receiver), Vec::<String>::new(), "{failure}");
    drop(running);
}

/// Starts a session that cannot start, and returns its error.
async fn failed_start(config: Config) -> String {
    let start = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut feed = Feed::new(Csgoroll::new(&config), config);
            let filler = feed.fill_gaps();
            let options = SessionStart::default();
            TradingSession::start(&feed, filler, options).map(drop).unwrap_err().chain()
        })
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}
