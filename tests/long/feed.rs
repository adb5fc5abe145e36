//! The feed over hours of paused time and thousands of connections.

#[expect(dead_code, reason = "shared with the other tests of the feed")]
#[path = "../it/feed/harness.rs"]
mod harness;
#[expect(dead_code, reason = "shared with the other tests of the feed")]
#[path = "../it/feed/memory.rs"]
mod memory;
#[expect(dead_code, reason = "shared with the other tests of the feed")]
#[path = "../it/feed/peer.rs"]
mod peer;

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
    markets::csgoroll::Csgoroll,
    ws::{self, Feed},
};
use tokio::{
    sync::{Notify, broadcast},
    time::{Instant, sleep},
};

use self::{
    harness::{Log, feed_of},
    memory::{HOUR, MemoryDialer, default_config, run, without_rotation},
    peer::{Frame, batch},
};

#[tokio::test(start_paused = true)]
async fn ten_hours_without_listings_cause_no_reconnect() {
    let log = Log::capture();
    let dialer = MemoryDialer::play(|number, mut peer| async move {
        peer.subscribed().await;
        if number == 0 {
            tokio::select! {
                last = peer.read_until_close() => panic!("the client disconnected: {last:?}"),
                () = sleep(10 * HOUR) => {}
            }
            peer.close(1_001, "").await;
        } else {
            peer.read_until_close().await;
        }
    });
    let feed = feed_of(Config { feed: without_rotation(), ..default_config() });
    run(&feed, &dialer, 10 * HOUR + Duration::from_secs(10)).await;
    assert_eq!(dialer.dials(), 2);
    log.assert_contains("Stable session. Backoff reset to 1s.");
    log.assert_contains("(attempt 1)");
}

/// A market that sends each listing to every subscriber and can cut connections.
#[derive(Clone)]
struct Market {
    listings: broadcast::Sender<usize>,
    /// Cut signals of the open connections.
    cut: Arc<Mutex<Vec<Arc<Notify>>>>,
    listed: Arc<AtomicUsize>,
}

impl Market {
    fn open() -> Self {
        let (listings, _) = broadcast::channel(65_536);
        Self { listings, cut: Arc::default(), listed: Arc::default() }
    }

    fn dialer(&self) -> MemoryDialer {
        let market = self.clone();
        MemoryDialer::play(move |_, mut peer| {
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
                                peer.send_text(r#"{"type":"pong"}"#).await;
                            }
                            Frame::Close(_) | Frame::End => return,
                            _ => {}
                        },
                        listing = listings.recv() => {
                            let id = listing.unwrap().to_string();
                            peer.send_text(&batch(&ids[0], &[&id])).await;
                        }
                    }
                }
            }
        })
    }

    /// Sends one listing per `every`, for `duration`.
    async fn trade(&self, every: Duration, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let number = self.listed.fetch_add(1, Relaxed);
            // Sending fails before the first subscription.
            let _no_subscriber = self.listings.send(number);
            sleep(every).await;
        }
    }

    /// Cuts a random open connection.
    fn cut_one(&self) {
        let mut cut = self.cut.lock().unwrap();
        if !cut.is_empty() {
            let at = fastrand::usize(..cut.len());
            cut.swap_remove(at).notify_one();
        }
    }
}

/// Runs the feed until `events` completes. Returns the dialer and the delivered listings.
async fn run_with_market(
    feed: &Feed<Csgoroll>,
    market: &Market,
    events: impl Future<Output = ()>,
) -> (MemoryDialer, Vec<usize>) {
    let dialer = market.dialer();
    let ids = RefCell::new(Vec::new());
    let on_trade = |trade: Trade<'_>| ids.borrow_mut().push(trade.id.as_str().parse().unwrap());
    tokio::select! {
        gave_up = ws::run_with_dial(feed, dialer.clone(), on_trade) => panic!("gave up: {gave_up}"),
        () = events => {}
    }
    (dialer, ids.into_inner())
}

#[tokio::test(start_paused = true)]
async fn connections_are_replaced_before_max_age_without_losing_a_listing() {
    let market = Market::open();
    let feed = FeedConfig { max_age: Duration::from_secs(60), ..FeedConfig::default() };
    let feed = feed_of(Config { feed, ..default_config() });
    let events = async {
        sleep(Duration::from_secs(1)).await;
        market.trade(Duration::from_millis(50), Duration::from_secs(1_200)).await;
        sleep(Duration::from_secs(1)).await;
    };
    let (dialer, ids) = run_with_market(&feed, &market, events).await;
    let expected: Vec<usize> = (0..market.listed.load(Relaxed)).collect();
    assert_eq!(ids, expected, "each once, in order");
    let rotations = feed.metrics.rotations.load(Relaxed);
    assert!((20..30).contains(&rotations), "{rotations}");
    // The last renewal may not have ended.
    let ended = usize::try_from(rotations).unwrap() + 1;
    assert!((ended..=ended + 1).contains(&dialer.dials()), "{rotations}");
    assert_eq!(feed.metrics.gaps.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn of_several_connections_the_first_copy_wins_and_one_loss_is_no_gap() {
    let market = Market::open();
    let feed = FeedConfig { connections: 3, ..without_rotation() };
    let feed = feed_of(Config { feed, ..default_config() });
    let events = async {
        sleep(Duration::from_secs(1)).await;
        market.trade(Duration::from_millis(50), Duration::from_secs(30)).await;
        market.cut_one();
        market.trade(Duration::from_millis(50), Duration::from_secs(30)).await;
    };
    let (dialer, ids) = run_with_market(&feed, &market, events).await;
    let listed = market.listed.load(Relaxed);
    assert!(ids.len() + 1 >= listed, "{} of {listed}", ids.len());
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "each once");
    assert_eq!(dialer.dials(), 4);
    let metrics = &feed.metrics;
    assert_eq!(metrics.gaps.load(Relaxed), 0);
    let wins: u64 = metrics.connections.iter().map(|tap| tap.wins.load(Relaxed)).sum();
    let late: u64 = metrics.connections.iter().map(|tap| tap.late.load(Relaxed)).sum();
    assert_eq!(wins, u64::try_from(ids.len()).unwrap());
    assert_eq!(late, metrics.duplicates.load(Relaxed));
    assert!(late > wins, "two of three are late");
}

/// Cuts connections at random times. Returns the number of lost listings, the number of gaps and
/// their total duration.
async fn after_cuts(connections: usize, cuts: u32) -> (usize, u64, Duration) {
    let market = Market::open();
    let feed = FeedConfig { connections, ..without_rotation() };
    let feed = feed_of(Config { feed, ..default_config() });
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
    let (_, ids) = run_with_market(&feed, &market, events).await;
    let lost = market.listed.load(Relaxed) - ids.len();
    let gaps = feed.metrics.gap_list();
    (lost, feed.metrics.gaps.load(Relaxed), gaps.iter().map(|gap| gap.duration).sum())
}

#[tokio::test(start_paused = true)]
async fn gaps_cover_all_lost_listings_and_two_connections_lose_none() {
    let (lost, gaps, lasted) = after_cuts(1, 100).await;
    println!("100 cuts, one connection: {lost} listings lost in {gaps} gaps of {lasted:?} in all");
    assert!((80..=101).contains(&gaps), "{gaps}");
    // One listing per 100 ms: all lost listings lie within the gaps, plus one at either edge.
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

/// Set in the child process that runs one test alone, so that the resources of other tests are not
/// counted.
#[cfg(target_os = "linux")]
const ALONE: &str = "SNIPER_TEST_ALONE";

#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_reconnects_leak_neither_memory_nor_descriptors() {
    const NAME: &str = "feed::ten_thousand_reconnects_leak_neither_memory_nor_descriptors";
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

/// Returns the resident memory and the number of open descriptors after 1,000 and after 10,000
/// reconnects.
#[cfg(target_os = "linux")]
async fn reconnecting() -> ((usize, usize), (usize, usize)) {
    let dialer = MemoryDialer::play(|number, mut peer| async move {
        let ids = peer.subscribed().await;
        peer.send_text(&batch(&ids[0], &[&format!("t{number}")])).await;
        // The connection lives long enough to be healthy, then ends without a close frame.
        tokio::select! {
            _left = peer.read_until_close() => {}
            () = sleep(Duration::from_secs(31)) => {}
        }
    });
    let feed = feed_of(Config { feed: without_rotation(), ..default_config() });
    let mut before = None;
    let reconnects = || feed.metrics.reconnects.load(Relaxed);
    tokio::select! {
        gave_up = ws::run_with_dial(&feed, dialer.clone(), |_| {}) => panic!("{gave_up}"),
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
