//! Messages that arrive together: wanted listings first, nothing lost, and the same in a replay.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use sniper::{
    commands::replay::{ReplayRules, replay},
    config::{Budget, Config, Endpoints, Generation},
    domain::{
        money::Amount,
        trade::TradeStatus,
        wanted_items::WantedItems,
        whitelist_entry::{ItemPattern, WhitelistEntry},
    },
    markets::{csgoroll::Csgoroll, waxpeer::Waxpeer},
    recording::{
        ActiveRecording, RealDisk, Recording, RecordingConfig, RecordingEnd, SourceRecorder,
        StreamSource,
    },
    whitelist::{Decision, Whitelist},
    ws,
};
use tempfile::TempDir;
use tokio::sync::Notify;

use super::{
    WAIT_MAX, config, feed_of,
    peer::{Frame, Server, batch, frame, listing, text},
    quick,
};

fn wanting(item: &str) -> Arc<[WhitelistEntry]> {
    Arc::new([WhitelistEntry {
        item: ItemPattern::Named(item.to_owned()),
        max_price: Amount::from_cents(2_000),
        max_quantity: 1,
        ..WhitelistEntry::default()
    }])
}

/// Returns a message with one listing of an unwanted item.
fn unwanted(subscription: &str, id: &str) -> String {
    batch(subscription, &[id]).replace("AK-47 | Redline", "Fracture Case")
}

fn update(subscription: &str, id: &str, status: &str) -> String {
    let trade = listing(id).replace("LISTED", status);
    format!(
        r#"{{"id":"{subscription}","type":"next","payload":{{"data":{{"updateTrade":{{"trade":{trade}}}}}}}}}"#
    )
}

/// Sends the frames that `frames` returns for the ids of the subscriptions in one write, and closes
/// the connection. Returns the delivered listings, updates included.
async fn delivered(
    frames: impl Fn(&[String]) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> Vec<(String, TradeStatus)> {
    recorded(frames, None).await
}

/// Same as [`delivered`], with a recorder.
async fn recorded(
    frames: impl Fn(&[String]) -> Vec<Vec<u8>> + Send + Sync + 'static,
    recorder: Option<SourceRecorder>,
) -> Vec<(String, TradeStatus)> {
    let frames = Arc::new(frames);
    let server = Server::play(move |_, mut peer| {
        let frames = Arc::clone(&frames);
        async move {
            let ids = peer.subscribed().await;
            let mut bytes = frames(&ids).concat();
            bytes.extend(frame(0x88, &1_000_u16.to_be_bytes()));
            peer.write(&bytes).await;
            assert!(matches!(peer.read_until_close().await, Frame::Close(_)));
        }
    })
    .await;
    let config =
        Config { whitelist: wanting("AK-47 | Redline"), ..config(&server.address, quick()) };
    let feed = feed_of(config);
    if let Some(recorder) = recorder {
        assert!(feed.metrics.set_recorder(Arc::new(recorder)));
    }
    let mut trades = Vec::new();
    let session =
        ws::connect_once(&feed, |trade| trades.push((trade.id.to_string(), trade.status)));
    tokio::time::timeout(WAIT_MAX, session).await.unwrap().unwrap();
    trades
}

fn ids(trades: &[(String, TradeStatus)]) -> Vec<&str> {
    trades.iter().map(|(id, _)| id.as_str()).collect()
}

#[tokio::test]
async fn a_wanted_listing_precedes_the_unwanted_ones_that_arrived_with_it() {
    let trades = delivered(|of| {
        let mut messages: Vec<_> =
            (0..20).map(|number| text(&unwanted(&of[0], &format!("u{number}")))).collect();
        messages.insert(15, text(&batch(&of[0], &["wanted"])));
        messages
    })
    .await;
    let expected = (0..20).map(|number| format!("u{number}"));
    let expected: Vec<_> = ["wanted".to_owned()].into_iter().chain(expected).collect();
    assert_eq!(ids(&trades), expected);
}

#[tokio::test]
async fn a_listing_above_its_maximum_price_is_handled_after_those_below_it() {
    let trades = delivered(|of| {
        let dear =
            |number: usize| batch(&of[0], &[&format!("d{number}")]).replace("10.15", "20.01");
        let mut messages: Vec<_> = (0..20).map(|number| text(&dear(number))).collect();
        let equal = batch(&of[0], &["equal"]).replace("10.15", "20.00");
        messages.insert(15, text(&equal));
        messages
    })
    .await;
    let expected = (0..20).map(|number| format!("d{number}"));
    let expected: Vec<_> = ["equal".to_owned()].into_iter().chain(expected).collect();
    assert_eq!(ids(&trades), expected);
}

#[tokio::test]
async fn new_maximum_prices_apply_from_the_next_message_on() {
    let is_handled = Arc::new(Notify::new());
    let first = Arc::clone(&is_handled);
    let server = Server::play(move |_, mut peer| {
        let first = Arc::clone(&first);
        async move {
            let of = peer.subscribed().await;
            let burst = |first: &str| {
                let case = text(&unwanted(&of[0], &format!("{first}-case")));
                [case, text(&batch(&of[0], &[&format!("{first}-redline")]))].concat()
            };
            peer.write(&burst("old")).await;
            first.notified().await;
            let mut bytes = [text(&batch(&of[0], &["new-redline"])), burst("last")].concat();
            bytes.extend(frame(0x88, &1_000_u16.to_be_bytes()));
            peer.write(&bytes).await;
            assert!(matches!(peer.read_until_close().await, Frame::Close(_)));
        }
    })
    .await;
    let config =
        Config { whitelist: wanting("AK-47 | Redline"), ..config(&server.address, quick()) };
    let feed = feed_of(config);
    let mut order = Vec::new();
    let session = ws::connect_once(&feed, |trade| {
        order.push(trade.id.to_string());
        if trade.id.as_str() == "old-case" {
            let wanted = WantedItems::of(&wanting("Fracture Case"));
            feed.wanted.send_replace(Arc::new(wanted));
            is_handled.notify_one();
        }
    });
    tokio::time::timeout(WAIT_MAX, session).await.unwrap().unwrap();
    assert_eq!(order, ["old-redline", "old-case", "last-case", "new-redline", "last-redline"]);
}

#[tokio::test]
async fn wanted_listings_of_a_batch_precede_the_others_and_arrive_once() {
    let trades = delivered(|of| {
        let names: Vec<String> = (0..40).map(|number| format!("t{number}")).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let message = batch(&of[0], &all).replace("AK-47 | Redline", "Fracture Case");
        let wanted = listing("t30");
        vec![text(&message.replace(&wanted.replace("AK-47 | Redline", "Fracture Case"), &wanted))]
    })
    .await;
    assert_eq!(trades.len(), 40);
    assert_eq!(ids(&trades)[..2], ["t30", "t0"]);
    assert_eq!(ids(&trades).iter().filter(|id| **id == "t30").count(), 1);
}

/// Encodes a text in frames of at most 100 bytes.
fn fragments(message: &str) -> Vec<u8> {
    let parts: Vec<&[u8]> = message.as_bytes().chunks(100).collect();
    let (last, before) = parts.split_last().unwrap();
    let opcode = |place| u8::from(place == 0);
    let before = before.iter().enumerate();
    let end = 0x80 | opcode(before.len());
    before.flat_map(|(place, part)| frame(opcode(place), part)).chain(frame(end, last)).collect()
}

#[tokio::test]
async fn a_removal_behind_its_listing_in_the_same_read_prevents_the_order() {
    type Encode = fn(&str) -> Vec<u8>;
    let [whole, parts]: [(&str, Encode); 2] = [("one frame", text), ("fragments", fragments)];
    for ((listed, list), (removed, remove), between) in [
        (whole, whole, 0),
        (whole, whole, 300),
        (whole, parts, 0),
        (whole, parts, 30),
        (parts, whole, 0),
    ] {
        let trades = delivered(move |of| {
            let mut messages =
                vec![list(&batch(&of[0], &["taken"])), list(&batch(&of[0], &["free"]))];
            messages.extend((0..between).map(|_| remove(r#"{"type":"pong"}"#)));
            messages.push(remove(&update(&of[1], "free", "LISTED")));
            messages.push(remove(&update(&of[1], "taken", "JOINED")));
            messages
        })
        .await;
        let status = |id: &str| trades.iter().find(|(of, _)| of == id).map(|(_, status)| *status);
        let case = format!("listed in {listed}, removed in {removed}, {between} between");
        assert_eq!(status("taken"), Some(TradeStatus::Joined), "{case}");
        assert_eq!(status("free"), Some(TradeStatus::Listed), "{case}");
    }
}

#[tokio::test]
async fn a_protocol_message_is_handled_after_the_listings_before_it() {
    let trades = delivered(|of| {
        vec![
            text(&unwanted(&of[0], "before")),
            text(&format!(r#"{{"id":"{}","type":"complete"}}"#, of[0])),
            text(&unwanted(&of[0], "after")),
        ]
    })
    .await;
    assert_eq!(ids(&trades), ["before"]);
}

#[tokio::test]
async fn more_messages_than_the_buffer_holds_arrive_once_and_wanted_ones_in_order() {
    let trades = delivered(|of| {
        (0..1_500)
            .map(|number| match number % 100 {
                99 => text(&batch(&of[0], &[&format!("w{number}")])),
                _ => text(&unwanted(&of[0], &format!("u{number}"))),
            })
            .collect()
    })
    .await;
    assert_eq!(trades.len(), 1_500);
    for kind in ["u", "w"] {
        let numbers: Vec<u32> =
            ids(&trades).iter().filter_map(|id| id.strip_prefix(kind)?.parse().ok()).collect();
        assert!(numbers.is_sorted() && !numbers.is_empty(), "{numbers:?}");
    }
}

/// Returns the number of messages, and the listings in the order in which a replay decides about
/// them, with `true` for those that it would order.
fn replayed(directory: &Path) -> (u64, Vec<(String, bool)>) {
    let wanted = wanting("AK-47 | Redline");
    let entries = wanted.iter().cloned();
    let entries = entries.map(|entry| WhitelistEntry { max_quantity: 9, ..entry });
    let whitelist = Arc::new(Whitelist::new(entries.collect()));
    let coins = Amount::from_cents(100_000);
    let budget = Budget { max_price: coins, total: coins, ..Budget::default() };
    let endpoints = Endpoints::new("ws://127.0.0.1:9", "http://127.0.0.1:9/graphql").unwrap();
    let market = Csgoroll::at(&endpoints, Generation::B);
    let recording = Recording::open(directory).unwrap();
    let mut decided = Vec::new();
    let rules = ReplayRules::new(whitelist, budget);
    let result = replay(&market, &recording, &rules, |decision| {
        let is_listed = decision.trade.status == TradeStatus::Listed;
        let is_ordered = matches!(decision.verdict, Decision::Matched(_)) && is_listed;
        decided.push((decision.trade.id.to_string(), is_ordered));
        ControlFlow::Continue(())
    })
    .unwrap();
    (result.messages, decided)
}

fn ordered(directory: &Path) -> Vec<String> {
    let (messages, decided) = replayed(directory);
    assert_eq!(messages, 24);
    decided.into_iter().filter(|(_, is_ordered)| *is_ordered).map(|(id, _)| id).collect()
}

/// Starts a recording of the feed in a folder.
pub(super) fn start_recording(folder: &TempDir) -> ActiveRecording {
    let of = |what: &str| what.to_owned();
    let source = StreamSource {
        name: of("bursts"),
        address: of("ws://127.0.0.1"),
        symbol: of("all"),
        stream: of("trades"),
    };
    let setup = RecordingConfig::new(folder.path().to_owned(), vec![source]);
    ActiveRecording::start(setup, RealDisk).unwrap()
}

pub(super) fn finish(recording: ActiveRecording) {
    let end = RecordingEnd { reason: "done".to_owned(), is_success: true };
    recording.finish(end).unwrap();
}

/// Records the messages of one read. Returns the directory of the recording, and the listings in
/// the order in which the session delivered them.
async fn record(
    folder: &TempDir,
    frames: impl Fn(&[String]) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> (PathBuf, Vec<String>) {
    let recording = start_recording(folder);
    let directory = recording.directory().to_owned();
    let trades = recorded(frames, Some(recording.recorder(0))).await;
    finish(recording);
    (directory, trades.into_iter().map(|(id, _)| id).collect())
}

#[tokio::test]
async fn a_message_that_is_no_event_comes_after_everything_before_it_also_in_a_replay() {
    let folder = TempDir::new().unwrap();
    let frames = |of: &[String]| {
        let pong = text(r#"{"type":"pong"}"#);
        let listing = |id| text(&batch(&of[0], &[id]));
        let unwanted = |id| text(&unwanted(&of[0], id));
        vec![unwanted("u0"), listing("a"), unwanted("u1"), pong, unwanted("u2"), listing("b")]
    };
    let (directory, live) = record(&folder, frames).await;
    assert_eq!(live, ["a", "u0", "u1", "b", "u2"]);
    let (_messages, decided) = replayed(&directory);
    assert_eq!(decided.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), live);
}

#[tokio::test]
async fn a_recording_marks_the_reads_and_a_replay_uses_the_marks() {
    let folder = TempDir::new().unwrap();
    let complete = |message: String| {
        let key = "\"canJoinAfter\":null";
        message.replace(key, &format!("{key},\"suspectedTraderCanJoinAfter\":null"))
    };
    let frames = move |of: &[String]| {
        let unwanted = (0..20).map(|number| text(&unwanted(&of[0], &format!("u{number}"))));
        let wanted = [
            text(&complete(batch(&of[0], &["taken"]))),
            text(&complete(batch(&of[0], &["free"]))),
            text(&update(&of[1], "taken", "JOINED")),
            text(&update(&of[1], "free", "LISTED")),
        ];
        unwanted.chain(wanted).collect()
    };
    let (directory, _live) = record(&folder, frames).await;
    let file = directory.join("all/trades.jsonl");
    let lines = fs::read_to_string(&file).unwrap();
    let ids: Vec<&str> = lines
        .lines()
        .filter_map(|line| line.split("trades\\\":[{\\\"id\\\":\\\"").nth(1))
        .collect();
    assert!(
        ids[0].starts_with("u0") && ids[20].starts_with("taken"),
        "not in the order of arrival"
    );
    assert_eq!(ordered(&directory), ["free"]);
    fs::write(&file, lines.replace(r#""more":true,"#, "")).unwrap();
    assert_eq!(ordered(&directory), ["taken", "free"]);
}

#[test]
fn a_listing_that_returns_after_its_removal_is_no_duplicate_in_a_replay() {
    let folder = TempDir::new().unwrap();
    let recording = start_recording(&folder);
    let directory = recording.directory().to_owned();
    finish(recording);
    let lot = r#""item_id":"7","name":"AK-47 | Redline (Field-Tested)","price":9000,"game":"csgo""#;
    let events = ["new", "new", "removed", "new"].map(|event| format!("42[\"{event}\",{{{lot}}}]"));
    let opening =
        [r#"0{"sid":"Qx","pingInterval":25000,"pingTimeout":20000}"#, r#"40{"sid":"Lk"}"#];
    let messages = opening.map(str::to_owned).into_iter().chain(events).enumerate();
    let lines: String = messages
        .map(|(number, raw)| {
            let ns = 1_772_359_200_000_000_000 + 1_000_000_000 * u64::try_from(number).unwrap();
            format!("{}\n", serde_json::json!({ "ns": ns, "conn": 1, "raw": raw }))
        })
        .collect();
    fs::write(directory.join("all/trades.jsonl"), lines).unwrap();
    let recording = Recording::open(&directory).unwrap();
    let whitelist = Arc::new(Whitelist::new(wanting("AK-47 | Redline").to_vec()));
    let rules = ReplayRules::new(whitelist, Budget::default());
    let market = Waxpeer::new(&config("ws://127.0.0.1:9", quick()));
    let played = replay(&market, &recording, &rules, |_decision| ControlFlow::Continue(()));
    assert_eq!(played.unwrap().duplicates, 1);
}
