//! A market that repeats the credential in everything it sends. The program must not print, log,
//! store, export or record it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::session::until;

/// Part of the credential that is the same in every encoding.
const CORE: &str = "PLANTED-3b9f.secret_77c1";
/// The credential as configured.
const CREDENTIAL: &str = "s%3APLANTED-3b9f.secret_77c1%2Fa%2Bb%3D";
/// The credential as configured, decoded, escaped for JSON, and encoded once more.
const SPELLINGS: [&str; 4] = [
    CREDENTIAL,
    "s:PLANTED-3b9f.secret_77c1/a+b=",
    r"s:PLANTED-3b9f.secret_77c1\/a\u002bb=",
    "s%253APLANTED-3b9f.secret_77c1%252Fa%252Bb%253D",
];

const POLICY: &str = r#"
[budget]
max_price = 50
total = 1000
min_balance = 0
max_buys_per_minute = 1000

[[whitelist]]
item = "*"
max_price = 50
max_quantity = 1000
"#;

/// API key of the markets that have one, and a token of the feed. Both begin like [`CORE`].
const KEY: &str = "PLANTED-3b9f.key_of_the_account";
const TOKEN: &str = "PLANTED-3b9f.token_of_the_feed";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Csgoroll,
    LisSkins,
    Waxpeer,
}

impl Kind {
    /// Returns the credential in all spellings, in a form that is valid inside a JSON string.
    fn echo(self) -> String {
        match self {
            Self::Csgoroll => SPELLINGS.map(|spelling| format!("session={spelling}")).join(" "),
            Self::LisSkins => format!("session={KEY} {TOKEN}"),
            Self::Waxpeer => format!("session={KEY}"),
        }
    }

    fn environment(self, address: &str) -> Vec<(&'static str, String)> {
        let (ws, http) = (format!("ws://{address}/ws"), format!("http://{address}/v1"));
        let url = "https://steamcommunity.com/tradeoffer/new/?partner=123456789&token=AbCdEf12";
        let trade_url = ("STEAM_TRADE_URL", url.to_owned());
        match self {
            Self::Csgoroll => vec![
                ("CSGOROLL_WS_URL", ws),
                ("CSGOROLL_HTTP_URL", format!("http://{address}/graphql")),
                ("CSGOROLL_SESSION", CREDENTIAL.to_owned()),
            ],
            Self::LisSkins => vec![
                ("LIS_SKINS_WS_URL", ws),
                ("LIS_SKINS_HTTP_URL", http),
                ("LIS_SKINS_KEY", KEY.to_owned()),
                ("LIS_SKINS_USER_ID", "4711".to_owned()),
                trade_url,
            ],
            Self::Waxpeer => vec![
                ("WAXPEER_WS_URL", ws),
                ("WAXPEER_HTTP_URL", http),
                ("WAXPEER_KEY", KEY.to_owned()),
                trade_url,
            ],
        }
    }

    fn policy(self) -> String {
        let market = match self {
            Self::Csgoroll => "csgoroll",
            Self::LisSkins => "lis-skins",
            Self::Waxpeer => "waxpeer",
        };
        format!("market = \"{market}\"\n{POLICY}")
    }
}

/// Counters and switches of the market.
#[derive(Default)]
struct State {
    orders: AtomicUsize,
    upgrades: AtomicUsize,
    /// If set, account reads are answered with an error.
    rejects_reads: AtomicBool,
    /// If set, the feed is closed with a reason that contains the credential.
    closes: AtomicBool,
}

/// A market on a free port, stopped on drop.
struct Market {
    kind: Kind,
    address: String,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

impl Market {
    async fn open(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        let theirs = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _from)) = listener.accept().await {
                let state = Arc::clone(&theirs);
                // An I/O error ends the connection.
                tokio::spawn(async move { drop(serve(stream, kind, &state).await) });
            }
        });
        Self { kind, address, state, accepting }
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, kind: Kind, state: &State) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
                break String::from_utf8(bytes.drain(..at + 4).collect()).unwrap();
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        if let Some(key) = header("Sec-WebSocket-Key") {
            return feed(stream, &key, (kind, state)).await;
        }
        let length = header("Content-Length").map_or(0, |length| length.parse().unwrap());
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
        let body = String::from_utf8(bytes.drain(..length).collect()).unwrap();
        let (status, answer) = match kind {
            Kind::Csgoroll => (200, answer(&body, state)),
            _ => answer_with_key(&head, kind, state),
        };
        let (echo, len) = (kind.echo(), answer.len());
        let head = format!(
            "HTTP/1.1 {status} {echo}\r\nX-Echo: {echo}\r\nSet-Cookie: {echo}\r\n\
             Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
        );
        stream.write_all(format!("{head}{answer}").as_bytes()).await?;
    }
}

/// Returns the body of the answer to an HTTP request.
fn answer(body: &str, state: &State) -> String {
    let request: Value = serde_json::from_str(body).unwrap();
    let echo = Kind::Csgoroll.echo();
    let rejected =
        |words: &str| format!(r#"{{"data":null,"errors":[{{"message":"{words} {echo}"}}]}}"#);
    match request["operationName"].as_str().unwrap() {
        "JoinTrades" => {
            state.orders.fetch_add(1, Ordering::SeqCst);
            // The stored text is truncated in the middle of a spelling.
            rejected(&"unheard-of ".repeat(38))
        }
        _ if state.rejects_reads.load(Ordering::SeqCst) => rejected("not today"),
        "CurrentUser" => format!(
            r#"{{"data":{{"currentUser":{{"id":"VXNlcjox","name":"{echo}","suspectedTrader":false,
                "wallets":[{{"id":"1","name":"MAIN","amount":1000}}]}}}},"echo":"{echo}"}}"#
        ),
        _ => {
            r#"{"data":{"trades":{"edges":[],"pageInfo":{"hasNextPage":false,"endCursor":null}}}}"#
                .to_owned()
        }
    }
}

/// Returns the status and the body of the answer of a market with a key.
fn answer_with_key(head: &str, kind: Kind, state: &State) -> (u16, String) {
    let echo = kind.echo();
    let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap();
    if ["/v1/market/buy", "/v1/buy-one-p2p"].contains(&path) {
        state.orders.fetch_add(1, Ordering::SeqCst);
        let words = format!("{}{echo}", "unheard-of ".repeat(38));
        return match kind {
            Kind::Waxpeer => (200, format!(r#"{{"success":false,"msg":"{words}"}}"#)),
            _ => (400, format!(r#"{{"error":"{words}"}}"#)),
        };
    }
    let is_rejected = state.rejects_reads.load(Ordering::SeqCst);
    let body = match path {
        "/v1/user/get-ws-token" => format!(r#"{{"data":{{"token":"{TOKEN}"}},"echo":"{echo}"}}"#),
        _ if is_rejected && kind == Kind::Waxpeer => {
            format!(r#"{{"success":false,"msg":"not today {echo}"}}"#)
        }
        _ if is_rejected => format!(r#"{{"error":"not today {echo}"}}"#),
        "/v1/user/balance" => format!(r#"{{"data":{{"balance":1000,"echo":"{echo}"}}}}"#),
        "/v1/user" => {
            format!(r#"{{"success":true,"user":{{"wallet":1000000,"id":"u1","name":"{echo}"}}}}"#)
        }
        "/v1/check-many-project-id" => r#"{"success":true,"trades":[]}"#.to_owned(),
        "/v1/market/history" => r#"{"data":[],"meta":{"current_page":1,"last_page":1}}"#.to_owned(),
        _ => format!(r#"{{"data":[],"meta":{{"next_cursor":null}},"echo":"{echo}"}}"#),
    };
    (200, body)
}

/// Returns what a feed of a market with a key sends at first, and then again and again.
fn messages_with_key(kind: Kind, number: u32) -> Vec<String> {
    let echo = kind.echo();
    let name = format!("Glock-18 | {echo} (Field-Tested)");
    let id = 900_000_000 + number;
    match (kind, number) {
        (Kind::Waxpeer, 0) => vec![
            r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#.to_owned(),
            format!(r#"40{{"sid":"{echo}"}}"#),
            format!(r#"42["handshake",{{"id":"{echo}"}}]"#),
            format!(r#"42["subscribed",{{"name":"{echo}"}}]"#),
        ],
        (Kind::Waxpeer, _) => vec![
            format!(
                r#"42["new",{{"item_id":"{id}","name":"{name}","price":10000,"game":"csgo","float":0.2,"phase":""}}]"#
            ),
            format!(r#"42["new",{{"item_id":"{echo}","name":"{name}","price":10000}}]"#),
            format!(r#"42["{echo}",{{"x":"{echo}"}}]"#),
            format!(r#"42["rubbish":"{echo}""#),
            format!("9{echo}"),
        ],
        (_, 0) => vec![format!(
            r#"{{"id":1,"connect":{{"client":"{echo}","version":"5.4.0","ping":25,"pong":true}}}}"#
        )],
        (_, 3) => vec![
            r#"{"id":2,"subscribe":{}}"#.to_owned(),
            format!(r#"{{"id":3,"error":{{"code":103,"message":"{echo}"}}}}"#),
        ],
        (_, ..3) => Vec::new(),
        _ => {
            let event = |data: &str| {
                format!(
                    r#"{{"push":{{"channel":"public:obtained-skins","pub":{{"data":{data}}}}}}}"#
                )
            };
            vec![
                event(&format!(
                    r#"{{"id":{id},"name":"{name}","price":10,"unlock_at":null,"created_at":"2026-03-01T10:00:00.000000Z","item_float":"0.2","event":"obtained_skin_added"}}"#
                )),
                event(&format!(r#"{{"id":"{echo}","name":"{name}","event":"{echo}"}}"#)),
                format!(r#"{{"push":{{"channel":"{echo}","pub":{{"data":{{"x":"{echo}"}}}}}}}}"#),
                format!(r#"{{"id":9,"error":{{"code":103,"message":"{echo}"}}}}"#),
                format!(r#"{{"rubbish":"{echo}""#),
            ]
        }
    }
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(len @ 0..126) => frame.push(len),
        _ => {
            frame.push(126);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// Returns a listing that matches the whitelist.
fn listing(id: &str, name: &str) -> String {
    format!(
        r#"{{"id":"{id}","status":"LISTED","markupPercent":0,"totalValue":10,"canJoin":true,
            "canJoinAfter":null,"suspectedTraderCanJoinAfter":null,"createdAt":"2026-03-01T10:00:00.300Z",
            "expiresAt":"2999-03-03T10:00:00.301Z","depositor":null,"avgPaintWear":0.2,
            "tradeItems":[{{"marketName":"{name}","value":10,"itemVariant":{{"value":10}}}}]}}"#
    )
}

async fn feed(
    mut stream: TcpStream,
    key: &str,
    (kind, state): (Kind, &State),
) -> std::io::Result<()> {
    state.upgrades.fetch_add(1, Ordering::SeqCst);
    let (accept, echo) = (derive_accept_key(key.as_bytes()), kind.echo());
    let protocol = match kind {
        Kind::Csgoroll => "Sec-WebSocket-Protocol: graphql-transport-ws\r\n",
        _ => "",
    };
    let head = format!(
        "HTTP/1.1 101 {echo}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Echo: {echo}\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if kind == Kind::Csgoroll {
        let ack = format!(r#"{{"type":"connection_ack","payload":{{"cookie":"{echo}"}}}}"#);
        stream.write_all(&frame(1, ack.as_bytes())).await?;
    }
    let (mut reader, mut writer) = stream.into_split();
    // Client messages are ignored: the listings are always its first subscription.
    let reading = tokio::spawn(async move {
        let mut bytes = [0; 4_096];
        while reader.read(&mut bytes).await.is_ok_and(|count| count != 0) {}
    });
    let mut interval = tokio::time::interval(Duration::from_millis(100));
    for number in 0_u32.. {
        interval.tick().await;
        if reading.is_finished() {
            return Ok(());
        }
        if state.closes.load(Ordering::SeqCst) {
            let credential = if kind == Kind::Csgoroll { CREDENTIAL } else { KEY };
            let reason = format!("session={credential} and cut: {credential}");
            let cut = reason.len() - 13;
            let reason = [&4_499_u16.to_be_bytes()[..], &reason.as_bytes()[..cut]].concat();
            writer.write_all(&frame(8, &reason)).await?;
            return Ok(());
        }
        if kind != Kind::Csgoroll {
            for message in messages_with_key(kind, number) {
                writer.write_all(&frame(1, message.as_bytes())).await?;
            }
            continue;
        }
        let next = |payload: &str| format!(r#"{{"id":"1","type":"next","payload":{payload}}}"#);
        let trades = |listing: &str| {
            next(&format!(r#"{{"data":{{"createTrades":{{"trades":[{listing}]}}}}}}"#))
        };
        // Four characters after the prefix are a whole base64 group, so each id is in normal form.
        let id = format!("VHJhZGU6{number:04}");
        for message in [
            trades(&listing(&id, &format!("Glock-18 | {echo}"))),
            trades(&listing(CREDENTIAL, "Glock-18 | Own Goal")),
            next(&format!(r#"{{"data":null,"errors":[{{"message":"{echo}"}}]}}"#)),
            next(&format!(r#"{{"data":{{"updateTrade":{{"trade":{{"id":"{CREDENTIAL}"}}}}}}}}"#)),
            format!(r#"{{"type":"{CREDENTIAL}"}}"#),
            format!(r#"{{"type":"next","{echo}":"{echo}"}}"#),
            format!(r#"{{"id":"3","type":"error","payload":[{{"message":"{echo}"}}]}}"#),
            format!(r#"{{"rubbish":"{echo}""#),
            format!("{} {echo}", "x".repeat(170)),
        ] {
            writer.write_all(&frame(1, message.as_bytes())).await?;
        }
    }
    Ok(())
}

/// A working directory for the program.
struct Workspace {
    directory: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Workspace {
    fn new(market: &Market) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("sniper.toml"), market.kind.policy()).unwrap();
        Self { directory, environment: market.kind.environment(&market.address) }
    }

    /// Runs the program until it exits, or stops it once `is_done` holds for its output. Returns
    /// the output and keeps it in `<name>.out` and `<name>.err`.
    async fn run(&self, name: &str, words: &[&str], is_done: impl Fn(&str) -> bool) -> String {
        let path = |extension: &str| self.directory.path().join(format!("{name}.{extension}"));
        let file = |extension: &str| Stdio::from(File::create(path(extension)).unwrap());
        let mut child = Command::new(env!("CARGO_BIN_EXE_sniper"))
            .args(words)
            .current_dir(self.directory.path())
            .env_clear()
            .env("HOME", self.directory.path())
            .env("RUST_LOG", "trace")
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        let printed = || {
            let text = |extension| fs::read(path(extension)).unwrap();
            String::from_utf8([text("out"), text("err")].concat()).expect("it prints UTF-8")
        };
        until(|| is_done(&printed()) || child.try_wait().unwrap().is_some()).await;
        if child.try_wait().unwrap().is_none() {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        }
        until(|| child.try_wait().unwrap().is_some()).await;
        printed()
    }

    /// Runs the program until it exits.
    async fn run_to_end(&self, name: &str, words: &[&str]) -> String {
        self.run(name, words, |_printed| false).await
    }

    /// Returns path and content of every file in the directory.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        fn walk(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else if path.is_file() {
                    found.push((path.display().to_string(), fs::read(&path).unwrap()));
                }
            }
        }
        let mut found = Vec::new();
        walk(self.directory.path(), &mut found);
        found
    }
}

/// Asserts that no file contains the credential, including the files with the program's output.
#[track_caller]
fn assert_no_leak(workspace: &Workspace) {
    let files = workspace.files();
    for (path, bytes) in &files {
        let leak = bytes.windows(8).position(|piece| piece == &CORE.as_bytes()[..8]);
        let around = leak.map(|at| {
            let around = &bytes[at.saturating_sub(100)..bytes.len().min(at + 100)];
            String::from_utf8_lossy(around).into_owned()
        });
        assert_eq!(around, None, "{path} holds the credential");
    }
}

fn has(printed: &str, words: &str) -> bool {
    printed.contains(words)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_repeated_by_the_market_is_neither_printed_nor_stored() {
    let market = Market::open(Kind::Csgoroll).await;
    let workspace = Workspace::new(&market);
    let stars = "*".repeat(CREDENTIAL.len());
    let state = &market.state;
    let log = workspace
        .run("run", &["run", "--live", "--record"], |log| {
            let orders = state.orders.load(Ordering::SeqCst);
            let is_recorded = has(log, "its id contains a credential") && orders > 0;
            state.rejects_reads.store(is_recorded, Ordering::SeqCst);
            state.closes.store(is_recorded && has(log, "UNKNOWN"), Ordering::SeqCst);
            has(log, "closed by the server (4499")
        })
        .await;
    // The masked texts prove that the market did send the credential.
    for words in [
        &format!("Glock-18 | session={stars}")[..],
        "Message of an unknown type dropped",
        "Malformed message dropped",
        "Error reported by the feed",
        &format!("4499, session={stars}"),
    ] {
        assert!(has(&log, words), "{words}: {log}");
    }
    let exported = workspace.run_to_end("csv", &["ledger", "export"]).await;
    assert!(has(&exported, "unheard-of") && has(&exported, "session=****"), "{exported}");
    let order = exported.lines().nth(1).expect("it ordered");
    let id = order.split(',').nth(1).unwrap();
    let shown = workspace.run_to_end("show", &["ledger", "show", id]).await;
    // `ledger show` prints the first 200 characters.
    assert!(has(&shown, "unheard-of"), "{shown}");
    let json = workspace.run_to_end("json", &["ledger", "export", "--json"]).await;
    let json: Value = serde_json::from_str(json.trim()).unwrap();
    assert!(has(json["intents"][0]["words"].as_str().unwrap(), "session=****"), "{json}");
    workspace.run_to_end("status", &["status"]).await;
    workspace.run_to_end("status-json", &["status", "--json"]).await;
    let recording =
        workspace.files().into_iter().find(|(path, _)| path.ends_with("listings.jsonl"));
    let recording = String::from_utf8(recording.expect("it recorded").1).unwrap();
    assert!(has(&recording, &format!("session={stars}")), "{recording}");
    assert!(recording.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    assert_no_leak(&workspace);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_repeated_by_a_market_is_neither_printed_nor_stored() {
    for kind in [Kind::LisSkins, Kind::Waxpeer] {
        let market = Market::open(kind).await;
        let workspace = Workspace::new(&market);
        let stars = "*".repeat(KEY.len());
        let state = &market.state;
        let log = workspace
            .run("run", &["run", "--live", "--record"], |log| {
                let is_ordered = has(log, "UNKNOWN") && state.orders.load(Ordering::SeqCst) > 0;
                state.rejects_reads.store(is_ordered, Ordering::SeqCst);
                state.closes.store(is_ordered && has(log, "not today"), Ordering::SeqCst);
                has(log, "closed by the server (4499")
            })
            .await;
        for words in [
            &format!("Glock-18 | session={stars}")[..],
            "unheard-of",
            &format!("not today session={stars}"),
            &format!("4499, session={stars}"),
        ] {
            assert!(has(&log, words), "{kind:?} {words}: {log}");
        }
        let exported = workspace.run_to_end("csv", &["ledger", "export"]).await;
        assert!(has(&exported, "unheard-of") && has(&exported, "session=****"), "{exported}");
        workspace.run_to_end("status-json", &["status", "--json"]).await;
        let report = workspace.run_to_end("doctor", &["doctor"]).await;
        assert!(has(&report, "not today session=****"), "{report}");
        assert_no_leak(&workspace);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_and_capture_do_not_print_a_repeated_credential() {
    let market = Market::open(Kind::Csgoroll).await;
    let workspace = Workspace::new(&market);
    let report = workspace.run_to_end("doctor", &["doctor"]).await;
    assert!(has(&report, "first listing"), "{report}");
    let words = ["capture", "csgoroll", "--out", "captured"];
    let captured = workspace
        .run("capture", &words, |log| {
            market.state.closes.store(has(log, "Recording to"), Ordering::SeqCst);
            has(log, "closed by the server (4499")
        })
        .await;
    assert!(has(&captured, "4499, session=****"), "{captured}");
    market.state.rejects_reads.store(true, Ordering::SeqCst);
    let report = workspace.run_to_end("doctor-rejected", &["doctor"]).await;
    assert!(has(&report, "not today session=****"), "{report}");
    let report = workspace.run_to_end("doctor-json", &["doctor", "--json"]).await;
    let last: Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    assert_eq!(last["ok"], false, "{last}");
    assert_no_leak(&workspace);
}
