//! The binary on a feed of Waxpeer at its measured volume: 430 events a second, with bursts of
//! 2,800 a second. `SNIPER_TEST_SOAK_SECONDS` sets the duration (default: 20).

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

/// Number of events in a second without a burst.
const RATE: usize = 430;
/// Number of events in a second with a burst.
const BURST: usize = 2_800;
/// One second in this many has a burst.
const BURST_EVERY: u64 = 10;
/// Writes to the socket per second.
const WRITES: usize = 20;
/// Number of open listings.
const LISTINGS: usize = 50_000;
/// Listings of the item that an entry names: one in this many.
const NAMED_EVERY: usize = 500;
/// Maximum growth of the resident memory after the first quarter of the run.
const GROWTH_MAX_KIB: u64 = 8 * 1024;
/// Maximum time of a write. The buffers of a connection hold about a second of a burst.
const WRITE_MAX: Duration = Duration::from_secs(2);
/// Maximum time from a ping to its answer, on a busy machine.
const PONG_MAX: Duration = Duration::from_secs(2);

const SETTINGS: &str = "market = \"waxpeer\"\n[budget]\nmax_price = 1000\ntotal = 1000\n\
    min_balance = 0\n[[whitelist]]\nitem = \"AK-47 | Redline\"\nmax_price = 0.10\n\
    max_quantity = 1\n";

/// Returns the event with this number, and whether it is about a listing for sale.
fn event(number: usize) -> (String, bool) {
    let listing = number * 7_919 % LISTINGS;
    let (id, price) = (40_000_000_000 + listing, 500 + number * 7_907 % 900_000);
    let name = match listing % NAMED_EVERY {
        0 => "AK-47 | Redline (Field-Tested)".to_owned(),
        item => format!("M4A1-S | Item {item} (Minimal Wear)"),
    };
    let kind = match number % 20 {
        0..4 => {
            let text = format!(
                r#"42["removed",{{"game":"csgo","item_id":"{id}","name":"{name}","price":{price}}}]"#
            );
            return (text, false);
        }
        4 => "new",
        _ => "update",
    };
    let float = number * 7_368_787 % 1_000_000_000;
    let text = format!(
        r#"42["{kind}",{{"item_id":"{id}","name":"{name}","price":{price},"game":"csgo","auto":true,"float":0.{float:09},"paint_index":{},"phase":"","sticker_names":["Sticker | Example (Foil)","Sticker | Example"],"classid":310776560,"instance_id":302028390,"steam_id":"76561198000000000","steam_price":{}}}]"#,
        number % 1_000,
        price + 90_000,
    );
    (text, true)
}

/// Accepts the bot and its subscription.
fn accept(listener: &TcpListener) -> WebSocket<TcpStream> {
    let (stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    let mut socket = tokio_tungstenite::tungstenite::accept(stream).unwrap();
    let open = r#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
    socket.send(Message::text(open)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("40"));
    socket.send(Message::text(r#"40{"sid":"b"}"#)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text(r#"42["sub",{"name":"csgo"}]"#));
    socket.send(Message::text(r#"42["subscribed",{"name":"csgo"}]"#)).unwrap();
    socket
}

/// Measurements of a run.
#[derive(Default)]
struct Sent {
    /// Events that were sent.
    events: usize,
    /// Events about a listing for sale.
    listings: u64,
    slowest_write: Duration,
    /// Longest time from a ping behind all events to its answer.
    slowest_pong: Duration,
    /// Resident memory at the end of the first quarter of the run.
    early_kib: u64,
    /// Maximum of the resident memory from then on.
    most_kib: u64,
    /// Resident memory at the end of the run.
    last_kib: u64,
}

fn resident_kib(bot: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", bot.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends events for this many seconds.
fn send(socket: &mut WebSocket<TcpStream>, bot: &Child, seconds: u64) -> Sent {
    let (mut sent, start) = (Sent::default(), Instant::now());
    let slot = Duration::from_secs(1) / u32::try_from(WRITES).unwrap();
    let mut next = start;
    for second in 0..seconds {
        if second % 10 == 0 {
            let began = Instant::now();
            socket.send(Message::text("2")).unwrap();
            assert_eq!(socket.read().unwrap(), Message::text("3"));
            sent.slowest_pong = sent.slowest_pong.max(began.elapsed());
        }
        let rate = if second % BURST_EVERY == BURST_EVERY - 1 { BURST } else { RATE };
        for write in 0..WRITES {
            std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            next += slot;
            let count = rate * (write + 1) / WRITES - rate * write / WRITES;
            let began = Instant::now();
            for _ in 0..count {
                let (text, is_listing) = event(sent.events);
                socket.write(Message::text(text)).unwrap();
                sent.events += 1;
                sent.listings += u64::from(is_listing);
            }
            socket.flush().unwrap();
            sent.slowest_write = sent.slowest_write.max(began.elapsed());
        }
        sent.last_kib = resident_kib(bot);
        if second < seconds / 4 {
            (sent.early_kib, sent.most_kib) = (sent.last_kib, sent.last_kib);
        }
        sent.most_kib = sent.most_kib.max(sent.last_kib);
    }
    sent
}

/// Returns the user and system time of a process in ticks of a hundredth of a second.
fn cpu_ticks(bot: &Child) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", bot.id())).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn the_volume_of_waxpeer_is_handled_without_delay_and_in_constant_memory() {
    let seconds: u64 = std::env::var("SNIPER_TEST_SOAK_SECONDS")
        .map_or(20, |text| text.parse().expect("a number of seconds"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sniper.toml"), SETTINGS).unwrap();
    let bot = Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(["run", "--json"])
        .current_dir(folder.path())
        .env_clear()
        .env("WAXPEER_WS_URL", format!("ws://{address}/socket.io/?EIO=4&transport=websocket"))
        .env("WAXPEER_HTTP_URL", format!("http://{address}/v1"))
        .env("XDG_STATE_HOME", folder.path().join("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut socket = accept(&listener);
    let sent = send(&mut socket, &bot, seconds);
    // The last events are handled within a second.
    std::thread::park_timeout(Duration::from_secs(1));
    let ticks = cpu_ticks(&bot);
    let id = rustix::process::Pid::from_child(&bot);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let output = bot.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let summary: Value = serde_json::from_str(&text).unwrap();
    let Sent { events, slowest_write, slowest_pong, early_kib, most_kib, last_kib, .. } = sent;
    let cpu_us = ticks * 10_000 / u64::try_from(events).unwrap();
    println!(
        "{events} events in {seconds} s: slowest write {slowest_write:?}, slowest pong \
         {slowest_pong:?}, resident {early_kib} KiB early, {most_kib} at most, {last_kib} at the \
         end, CPU time {cpu_us} us per event"
    );
    assert_eq!(summary["reconnects"], 0, "{summary}");
    assert_eq!(summary["errors"], 0, "{summary}");
    assert_eq!(summary["listings"], sent.listings, "{summary}");
    assert!(slowest_pong < PONG_MAX, "the bot has fallen behind: {slowest_pong:?}");
    assert!(slowest_write < WRITE_MAX, "the bot has fallen behind: {slowest_write:?}");
    assert!(most_kib <= early_kib + GROWTH_MAX_KIB, "{early_kib} KiB grew to {most_kib}");
}
