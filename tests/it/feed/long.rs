//! What takes hours: the feed over connections in memory, on a clock that jumps.

use std::{
    cell::RefCell,
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use sniper::{
    config::{Config, FeedConfig},
    domain::trade::Trade,
    ws::{
        self, FeedError,
        connect::{ConnectProgress, Dial},
        policy::{ReconnectionLimits, Thousandths},
    },
};
use tokio::{
    io::DuplexStream,
    sync::{Notify, broadcast},
    time::{Instant, sleep},
};

use super::{
    Log, config,
    peer::{Frame, Peer, batch, frame},
};

const HOUR: Duration = Duration::from_secs(3_600);
const BUFFER: usize = 256 * 1024;

type Script = Arc<
    dyn Fn(usize, Peer<DuplexStream>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
        + Send
        + Sync,
>;

/// Plays a script at the other end of each connection, in memory.
#[derive(Clone)]
struct Memory {
    script: Script,
    dials: Arc<AtomicUsize>,
}

impl Memory {
    fn play<F, Fut>(script: F) -> Self
    where
        F: Fn(usize, Peer<DuplexStream>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let script: Script = Arc::new(move |number, peer| Box::pin(script(number, peer)));
        Self { script, dials: Arc::default() }
    }

    fn dials(&self) -> usize {
        self.dials.load(Relaxed)
    }
}

impl Dial for Memory {
    type Stream = DuplexStream;

    async fn dial(&self, _progress: &ConnectProgress) -> Result<DuplexStream, FeedError> {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        tokio::spawn((self.script)(self.dials.fetch_add(1, Relaxed), Peer::new(theirs)));
        Ok(ours)
    }

    fn host(&self) -> String {
        "memory".to_owned()
    }
}

fn default_config() -> Config {
    let limits = ReconnectionLimits { jitter: Thousandths(0), ..ReconnectionLimits::DEFAULT };
    config("ws://127.0.0.1:9/ws", limits)
}

/// Keeps the feed up over this for so long; the ids of what was delivered.
async fn run(config: &Config, memory: &Memory, lasting: Duration) -> Vec<String> {
    let ids = RefCell::new(Vec::new());
    let on_trade = |trade: Trade<'_>| ids.borrow_mut().push(trade.id.to_string());
    tokio::select! {
        gave_up = ws::run_over(config, memory.clone(), on_trade) => panic!("gave up: {gave_up}"),
        () = sleep(lasting) => {}
    }
    ids.into_inner()
}

#[tokio::test(start_paused = true)]
async fn ten_quiet_hours_cost_no_reconnect_and_no_penalty() {
    let log = Log::capture();
    let memory = Memory::play(|number, mut peer| async move {
        peer.subscribed().await;
        if number == 0 {
            tokio::select! {
                last = peer.drained() => panic!("it left: {last:?}"),
                () = sleep(10 * HOUR) => {}
            }
            peer.close(1_001, "").await;
        } else {
            peer.drained().await;
        }
    });
    let config = Config { feed: patient(), ..default_config() };
    run(&config, &memory, 10 * HOUR + Duration::from_secs(10)).await;
    assert_eq!(memory.dials(), 2);
    log.has("Stable session. Backoff reset to 1s.");
    log.has("(attempt 1: closed by the server with 1001)");
}

/// Connections that are never too old.
fn patient() -> FeedConfig {
    FeedConfig { max_age: 1_000 * HOUR, ..FeedConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn a_silent_socket_is_found_within_ten_seconds() {
    let memory = Memory::play(|_, mut peer| async move {
        peer.subscribed().await;
        std::future::pending::<()>().await;
    });
    let config = default_config();
    run(&config, &memory, Duration::from_millis(10_100)).await;
    assert_eq!(memory.dials(), 2);
    let gaps = config.taps.gap_list();
    assert!(gaps[0].cause.contains("silent for 9s"), "{gaps:?}");
    assert!(gaps[0].lasted >= Duration::from_secs(9), "counted from the last proof of life");
}

#[tokio::test(start_paused = true)]
async fn a_zombie_that_answers_the_pings_of_the_websocket_only_is_found_too() {
    let memory = Memory::play(|_, mut peer| async move {
        peer.subscribed().await;
        loop {
            match peer.frame().await {
                Frame::Ping(payload) => peer.write(&frame(0x8A, &payload)).await,
                Frame::End => return,
                _ => {}
            }
        }
    });
    run(&default_config(), &memory, Duration::from_millis(10_100)).await;
    assert_eq!(memory.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_zombie_that_answers_every_ping_and_delivers_nothing_is_renewed_and_replaced() {
    let log = Log::capture();
    let memory = Memory::play(|number, mut peer| async move {
        let ids = peer.subscribed().await;
        for round in 0..100 {
            peer.say(&batch(&ids[0], &[&format!("{number}-{round}")])).await;
            sleep(Duration::from_secs(1)).await;
        }
        let mut renewed = 0;
        loop {
            match peer.frame().await {
                Frame::Text(text) if text.contains(r#""ping""#) => {
                    peer.say(r#"{"type":"pong"}"#).await;
                }
                Frame::Text(text) if text.contains("subscribe") => renewed += 1,
                Frame::End => break,
                _ => {}
            }
        }
        assert_eq!(renewed, 3, "a fresh subscription comes before a fresh connection");
    });
    let lasting = Duration::from_secs(100 + 60);
    let config = default_config();
    let ids = run(&config, &memory, lasting).await;
    assert!(memory.dials() == 2 && ids.contains(&"1-0".to_owned()), "{}", memory.dials());
    let gaps = config.taps.gap_list();
    assert_eq!(gaps.len(), 1);
    // The server answered pings all the time; the last listing came 30 s before it was left.
    assert!(gaps[0].lasted >= Duration::from_secs(30), "counted from the last listing: {gaps:?}");
    log.has("subscribing again");
    log.has("Connection error: no data for 30");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_never_yields_is_asked_for_again_and_the_link_stays() {
    let subscriptions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&subscriptions);
    let memory = Memory::play(move |_, mut peer| {
        let counted = Arc::clone(&counted);
        async move {
            peer.subscribed().await;
            loop {
                match peer.frame().await {
                    Frame::Text(text) if text.contains(r#""ping""#) => {
                        peer.say(r#"{"type":"pong"}"#).await;
                    }
                    Frame::Text(text) if text.contains("OnCreateTrades") => {
                        counted.fetch_add(1, Relaxed);
                    }
                    Frame::End => return,
                    _ => {}
                }
            }
        }
    });
    run(&Config { feed: patient(), ..default_config() }, &memory, HOUR).await;
    assert_eq!(memory.dials(), 1);
    let renewed = subscriptions.load(Relaxed);
    assert!((3..10).contains(&renewed), "{renewed}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_five_seconds_that_heals_costs_no_reconnect() {
    let memory = Memory::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        for round in 0..1_000 {
            peer.say(&batch(&ids[0], &[&format!("t{round}")])).await;
            let pause = if round % 10 == 9 { 5_000 } else { 500 };
            sleep(Duration::from_millis(pause)).await;
        }
        peer.drained().await;
    });
    let ids = run(&default_config(), &memory, Duration::from_secs(900)).await;
    assert_eq!((memory.dials(), ids.len()), (1, 950));
}

#[tokio::test(start_paused = true)]
async fn what_only_the_server_cannot_hear_costs_no_reconnect_while_listings_flow() {
    let memory = Memory::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        for round in 0..1_000 {
            peer.say(&batch(&ids[0], &[&format!("t{round}")])).await;
            sleep(Duration::from_secs(1)).await;
        }
    });
    let ids = run(&default_config(), &memory, Duration::from_secs(900)).await;
    assert_eq!((memory.dials(), ids.len()), (1, 900));
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_accepting_and_closing_holds_few_dials() {
    for listings in [0, 1] {
        let memory = Memory::play(move |number, mut peer| async move {
            let ids = peer.subscribed().await;
            for _ in 0..listings {
                peer.say(&batch(&ids[0], &[&format!("t{number}")])).await;
            }
            peer.close(1_001, "").await;
        });
        run(&default_config(), &memory, HOUR).await;
        let dials = memory.dials();
        println!("an hour of accept and close, {listings} listings each: {dials} dials");
        assert!((5..90).contains(&dials), "{dials} dials with {listings} listings each");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_feed_dials_no_sooner_in_a_whole_day() {
    let memory = Memory::play(|_, mut peer| async move {
        peer.read_head().await;
        peer.write(b"HTTP/1.1 403 Forbidden\r\ncf-mitigated: challenge\r\n\r\n").await;
    });
    let config = default_config();
    run(&config, &memory, 24 * HOUR).await;
    assert!(memory.dials() <= 24 * 12 + 1, "{}", memory.dials());
    assert!(memory.dials() >= 100, "it never stops trying: {}", memory.dials());
    assert!(config.taps.is_blocked.load(Relaxed));
}

/// A market that tells every subscriber of each listing, and can cut connections.
#[derive(Clone)]
struct Market {
    listings: broadcast::Sender<usize>,
    /// Cuts the connection that was made last, or any other one, by turns.
    cut: Arc<Mutex<Vec<Arc<Notify>>>>,
    said: Arc<AtomicUsize>,
}

impl Market {
    fn open() -> Self {
        let (listings, _) = broadcast::channel(65_536);
        Self { listings, cut: Arc::default(), said: Arc::default() }
    }

    fn memory(&self) -> Memory {
        let market = self.clone();
        Memory::play(move |_, mut peer| {
            let market = market.clone();
            async move {
                let ids = peer.subscribed().await;
                let mut listings = market.listings.subscribe();
                let cut = Arc::new(Notify::new());
                market.cut.lock().unwrap().push(Arc::clone(&cut));
                loop {
                    tokio::select! {
                        biased;
                        () = cut.notified() => return,
                        frame = peer.frame() => match frame {
                            Frame::Text(text) if text.contains(r#""ping""#) => {
                                peer.say(r#"{"type":"pong"}"#).await;
                            }
                            Frame::Close(_) | Frame::End => return,
                            _ => {}
                        },
                        listing = listings.recv() => {
                            let id = listing.unwrap().to_string();
                            peer.say(&batch(&ids[0], &[&id])).await;
                        }
                    }
                }
            }
        })
    }

    /// Lists something every so often, for so long.
    async fn trade(&self, every: Duration, lasting: Duration) {
        let end = Instant::now() + lasting;
        while Instant::now() < end {
            let number = self.said.fetch_add(1, Relaxed);
            // Before the first subscriber nobody listens.
            let _nobody = self.listings.send(number);
            sleep(every).await;
        }
    }

    /// Cuts one of the connections that live.
    fn cut_one(&self) {
        let mut cut = self.cut.lock().unwrap();
        if !cut.is_empty() {
            let at = fastrand::usize(..cut.len());
            cut.swap_remove(at).notify_one();
        }
    }
}

/// Runs the feed beside a market; what was delivered.
async fn beside(
    config: &Config,
    market: &Market,
    events: impl Future<Output = ()>,
) -> (Memory, Vec<usize>) {
    let memory = market.memory();
    let ids = RefCell::new(Vec::new());
    let on_trade = |trade: Trade<'_>| ids.borrow_mut().push(trade.id.as_str().parse().unwrap());
    tokio::select! {
        gave_up = ws::run_over(config, memory.clone(), on_trade) => panic!("gave up: {gave_up}"),
        () = events => {}
    }
    (memory, ids.into_inner())
}

#[tokio::test(start_paused = true)]
async fn connections_are_replaced_before_they_are_old_and_nothing_falls_between() {
    let market = Market::open();
    let feed = FeedConfig { max_age: Duration::from_secs(60), ..FeedConfig::default() };
    let config = Config { feed, ..default_config() };
    let events = async {
        sleep(Duration::from_secs(1)).await;
        market.trade(Duration::from_millis(50), Duration::from_secs(1_200)).await;
        sleep(Duration::from_secs(1)).await;
    };
    let (memory, ids) = beside(&config, &market, events).await;
    let expected: Vec<usize> = (0..market.said.load(Relaxed)).collect();
    assert_eq!(ids, expected, "each once, in order");
    let rotations = config.taps.rotations.load(Relaxed);
    assert!((20..30).contains(&rotations), "{rotations}");
    assert_eq!(memory.dials(), usize::try_from(rotations).unwrap() + 1);
    assert_eq!(config.taps.gaps.load(Relaxed), 0);
}

/// The old connection is kept, and its host is left in peace.
#[tokio::test(start_paused = true)]
async fn a_successor_that_is_refused_is_tried_no_sooner_than_the_server_asks() {
    for (answer, dials) in [
        ("HTTP/1.1 429 Slow\r\nRetry-After: 600\r\n\r\n", 2),
        ("HTTP/1.1 403 No\r\nRetry-After: 600\r\n\r\n", 2),
        ("HTTP/1.1 403 No\r\n\r\n", 3),
        ("HTTP/1.1 502 Bad\r\n\r\n", 30),
    ] {
        let memory = Memory::play(move |number, mut peer| async move {
            if number == 0 {
                peer.subscribed().await;
                peer.drained().await;
            } else {
                peer.read_head().await;
                peer.write(answer.as_bytes()).await;
            }
        });
        let feed = FeedConfig { max_age: Duration::from_secs(60), ..FeedConfig::default() };
        let limits =
            ReconnectionLimits { max_consecutive_failures: 0, ..ReconnectionLimits::DEFAULT };
        let config = Config { feed, ..config("ws://127.0.0.1:9/ws", limits) };
        run(&config, &memory, Duration::from_secs(500)).await;
        let dialled = memory.dials();
        assert!(dialled.abs_diff(dials) <= dials / 10, "{answer}: {dialled}");
        assert_eq!(config.taps.gaps.load(Relaxed), 0, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_connections_the_first_copy_wins_and_while_one_lives_there_is_no_gap() {
    let market = Market::open();
    let feed = FeedConfig { connections: 3, ..patient() };
    let config = Config { feed, ..default_config() };
    let events = async {
        sleep(Duration::from_secs(1)).await;
        market.trade(Duration::from_millis(50), Duration::from_secs(30)).await;
        market.cut_one();
        market.trade(Duration::from_millis(50), Duration::from_secs(30)).await;
    };
    let (memory, ids) = beside(&config, &market, events).await;
    let said = market.said.load(Relaxed);
    assert!(ids.len() + 1 >= said, "{} of {said}", ids.len());
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "each once");
    assert_eq!(memory.dials(), 4);
    let taps = &config.taps;
    assert_eq!(taps.gaps.load(Relaxed), 0);
    let wins: u64 = taps.connections.iter().map(|tap| tap.wins.load(Relaxed)).sum();
    let late: u64 = taps.connections.iter().map(|tap| tap.late.load(Relaxed)).sum();
    assert_eq!(wins, u64::try_from(ids.len()).unwrap());
    assert_eq!(late, taps.duplicates.load(Relaxed));
    assert!(late > wins, "two of three are late");
}

/// Cuts connections at random instants; how many listings never arrived, and the gaps that were
/// counted.
async fn after_cuts(connections: usize, cuts: u32) -> (usize, u64, Duration) {
    let market = Market::open();
    let feed = FeedConfig { connections, ..patient() };
    let config = Config { feed, ..default_config() };
    let events = async {
        sleep(Duration::from_secs(1)).await;
        let trading = market.trade(Duration::from_millis(100), Duration::from_secs(46) * cuts);
        let cutting = async {
            for _ in 0..cuts {
                sleep(Duration::from_millis(fastrand::u64(31_000..59_000))).await;
                market.cut_one();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = trading => {}
            () = cutting => {}
        }
        sleep(Duration::from_secs(1)).await;
    };
    let (_, ids) = beside(&config, &market, events).await;
    let lost = market.said.load(Relaxed) - ids.len();
    let gaps = config.taps.gap_list();
    (lost, config.taps.gaps.load(Relaxed), gaps.iter().map(|gap| gap.lasted).sum())
}

#[tokio::test(start_paused = true)]
async fn gaps_account_for_everything_that_cuts_have_cost_and_two_connections_cost_nothing() {
    let (lost, gaps, lasted) = after_cuts(1, 100).await;
    println!("100 cuts, one connection: {lost} listings lost in {gaps} gaps of {lasted:?} in all");
    assert!((80..=101).contains(&gaps), "{gaps}");
    // One listing every 100 ms: what was lost fits into the gaps, an edge on either side.
    let hidden = usize::try_from(lasted.as_millis() / 100).unwrap() + 2 * 101;
    assert!(lost > 0 && lost <= hidden, "{lost} lost, {hidden} hidden by {lasted:?}");
    let (lost, gaps, _) = after_cuts(2, 100).await;
    println!("100 cuts, two connections: {lost} listings lost in {gaps} gaps");
    assert_eq!((lost, gaps), (0, 0));
}

#[cfg(target_os = "linux")]
fn resident_and_open() -> (usize, usize) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (pages * 4_096, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

/// Set in the process that [`ten_thousand_reconnects_leave_memory_and_descriptors_as_they_were`] has
/// for itself: what other tests hold must not be counted.
#[cfg(target_os = "linux")]
const ALONE: &str = "SNIPER_TEST_ALONE";

#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_reconnects_leave_memory_and_descriptors_as_they_were() {
    const NAME: &str =
        "feed::long::ten_thousand_reconnects_leave_memory_and_descriptors_as_they_were";
    if std::env::var_os(ALONE).is_none() {
        let program = std::env::current_exe().unwrap();
        let done = std::process::Command::new(program)
            .args(["--exact", NAME])
            .env(ALONE, "1")
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let ((resident_before, open_before), (resident, open)) = runtime.block_on(reconnecting());
    println!("{resident_before} → {resident} bytes, {open_before} → {open} descriptors");
    assert!(resident < resident_before + 2 * 1024 * 1024, "{resident_before} → {resident} bytes");
    assert_eq!(open_before, open, "descriptors");
}

/// Memory and descriptors after 1,000 reconnects, and after 10,000.
#[cfg(target_os = "linux")]
async fn reconnecting() -> ((usize, usize), (usize, usize)) {
    let memory = Memory::play(|number, mut peer| async move {
        let ids = peer.subscribed().await;
        peer.say(&batch(&ids[0], &[&format!("t{number}")])).await;
        // Long enough to be healthy; then it is gone without a word.
        tokio::select! {
            _left = peer.drained() => {}
            () = sleep(Duration::from_secs(31)) => {}
        }
    });
    let config = Config { feed: patient(), ..default_config() };
    let mut before = None;
    let reconnects = || config.taps.reconnects.load(Relaxed);
    tokio::select! {
        gave_up = ws::run_over(&config, memory.clone(), |_| {}) => panic!("{gave_up}"),
        () = async {
            while reconnects() < 1_000 {
                sleep(Duration::from_secs(10)).await;
            }
            before = Some(resident_and_open());
            while reconnects() < 10_000 {
                sleep(Duration::from_secs(10)).await;
            }
        } => {}
    }
    (before.unwrap(), resident_and_open())
}
