//! Crash tests: the binary runs against the simulated market and is killed at every step of an
//! order and at random times, while orders, feed and reads are faulty. The market's history is the
//! reference.
//!
//! `SNIPER_TEST_KILLS` sets the number of random kills (default: 5). From [`LONG_RUN_KILLS`] on, or
//! with `SNIPER_TEST_HONEST=1`, each thread ends with an honest phase without faults, after which
//! ledger and history must agree. `SNIPER_TEST_SEED` sets the first seed and `SNIPER_TEST_RIGS` the
//! number of parallel rigs.

mod audit;
mod rig;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use sniper::{
    config::Market,
    domain::money::Amount,
    sim::{
        Fault,
        random::{self, Rng, RngExt as _},
    },
};

use self::{
    audit::Limits,
    rig::{Rig, seconds},
};

/// Order faults, most of which leave an order unknown.
const ORDER_FAULTS: [&str; 10] = [
    "cut-before-commit:4%",
    "cut-after-commit:4%",
    "hang:2%",
    "5xx-after-commit:4%",
    "5xx-before-commit:4%",
    "half-body:4%",
    "doubled:4%",
    "late-rejection:8%",
    "slow:4%",
    "empty:4%",
];

/// Faults in every channel. Feed faults have a high probability, since they are tried only once a
/// second and most runs last a few seconds at most. Faults that halt a bot for the rest of its run
/// are rare.
const FAULTS: [&str; 39] = [
    "cut-before-commit:3%",
    "cut-after-commit:3%",
    "hang:2%",
    "hang-before-commit:1%",
    "5xx-after-commit:3%",
    "5xx-before-commit:3%",
    "429:0.5%",
    "challenge:0.5%",
    "captcha:0.5%",
    "unauthenticated:0.5%",
    "daily-limit:0.5%",
    "unknown-error:2%",
    "half-body:3%",
    "slow:2%",
    "doubled:3%",
    "late-rejection:8%",
    "empty:3%",
    "foreign:3%",
    "wrong-price:1%",
    "price-low:3%",
    "price-zero:1%",
    "price-high:1%",
    "feed-cut:3%",
    "feed-silence:1%",
    "feed-error:3%",
    "feed-complete:3%",
    "feed-close:3%",
    "feed-lie:40%",
    "push-lie:10%",
    "feed-relist:40%",
    "feed-unlist:20%",
    "list-stale:8%",
    "list-short:8%",
    "list-unknown-status:5%",
    "list-null:2%",
    "balance-stale:8%",
    "read-5xx:2%",
    "read-cut:2%",
    "read-slow:2%",
];

/// Faults on markets with own order ids, most of which leave an order unknown. A look-up that
/// leaves out a purchase for longer than the market's own delay cannot be told from a true one
/// there.
const REPRICING_FAULTS: [&str; 29] = [
    "doubled:3%",
    "late-rejection:8%",
    "cut-before-commit:5%",
    "cut-after-commit:8%",
    "hang:2%",
    "hang-before-commit:1%",
    "5xx-after-commit:4%",
    "5xx-before-commit:4%",
    "408:3%",
    "html-200:3%",
    "half-body:4%",
    "slow:2%",
    "empty:3%",
    "price-moves:4%",
    "unknown-error:1%",
    "feed-cut:3%",
    "feed-silence:1%",
    "feed-error:3%",
    "feed-close:3%",
    "feed-disconnect:3%",
    "feed-lie:20%",
    "feed-relist:40%",
    "feed-unlist:20%",
    "list-stale:8%",
    "list-null:2%",
    "balance-stale:8%",
    "read-5xx:2%",
    "read-cut:2%",
    "read-html:2%",
];

/// Minimum and maximum number of kills per market and ledger. Within that many, an order can become
/// unknown, be cancelled and be released.
const KILLS_PER_RIG: (u64, u64) = (50, 150);
/// Minimum number of kills per thread, if the total is large enough.
const KILLS_PER_THREAD: u32 = 50;
/// Maximum number of parallel rigs. A rig is idle most of the time.
const RIGS_MAX: u32 = 12;
/// Distance between the first seeds of two threads. It prevents overlaps and varies the limits.
const SEEDS_APART: u64 = 1_001;
/// Number of kills from which each thread ends with an honest phase.
const LONG_RUN_KILLS: u32 = 1_000;
/// Maximum wait for the first order of a bot.
const WAIT_MAX: Duration = Duration::from_secs(4);
/// The same on LIS-SKINS, whose limit of requests holds across restarts: a bot that exceeds it
/// waits before it has read the account.
const WAIT_MAX_LIS_SKINS: Duration = Duration::from_secs(20);
/// Maximum time between the first order of a bot and its kill.
const RUN_MAX: Duration = Duration::from_secs(8);

fn faults(texts: &[&str]) -> Vec<Fault> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Prints the progress and the violations of a long run immediately.
#[expect(clippy::print_stderr, reason = "a violation is reported when it is found")]
pub(crate) fn report(text: &str) {
    eprintln!("{text}");
}

pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Results of a series of kills.
#[derive(Debug, Default)]
struct KillStats {
    kills: u32,
    /// Kills of a bot that had ordered something since its start.
    while_buying: u32,
    requests: usize,
    purchases: usize,
    spent: Amount,
    overspent: usize,
    doubled: usize,
    forgotten: usize,
    /// Ledgers that could not be read or verified, or that disagreed with the history in the end.
    wrong: usize,
    honest_phases: usize,
    halted: usize,
    /// Number of orders per final state.
    states: BTreeMap<&'static str, usize>,
}

impl KillStats {
    fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.while_buying += other.while_buying;
        self.requests += other.requests;
        self.purchases += other.purchases;
        self.spent = self.spent.saturating_add(other.spent);
        self.overspent += other.overspent;
        self.doubled += other.doubled;
        self.forgotten += other.forgotten;
        self.wrong += other.wrong;
        self.honest_phases += other.honest_phases;
        self.halted += other.halted;
        for (state, count) in &other.states {
            *self.states.entry(state).or_default() += count;
        }
    }

    const fn violations(&self) -> usize {
        self.overspent + self.doubled + self.forgotten + self.wrong
    }

    /// Adds the final figures of a rig.
    fn add_rig(&mut self, rig: &Rig) {
        rig.market.with_history(|history| {
            self.requests += history.orders().count();
            self.purchases += history.purchases().count();
            self.spent = self.spent.saturating_add(history.spent());
        });
        self.halted += rig.log().matches("Ordering halted: ").count();
        rig.states(|state| *self.states.entry(state.as_str()).or_default() += 1);
    }

    /// Checks a rig, counts the violations, and prints them with the location of the evidence.
    fn check_rig(&mut self, rig: &mut Rig, kill: u32) {
        let violations = rig.check();
        if violations.is_empty() {
            return;
        }
        let folder = rig.keep();
        let mut text = format!("seed {}, kill {kill}, evidence in {}:", rig.seed, folder.display());
        violations.iter().for_each(|violation| text.push_str(&format!("\n  {violation}")));
        report(&text);
        let count = |kind| violations.iter().filter(|violation| violation.kind == kind).count();
        self.overspent += count(audit::Kind::Overspent);
        self.doubled += count(audit::Kind::Doubled);
        self.forgotten += count(audit::Kind::Forgotten);
        self.wrong += count(audit::Kind::Wrong);
    }
}

impl fmt::Display for KillStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, {} of them while buying, {} halts: {} requests, {} purchases, {} spent; \
             overspent {}, doubled {}, forgotten {}, ledgers wrong {}; {} honest phases; orders: \
             {:?}",
            self.kills,
            self.while_buying,
            self.halted,
            self.requests,
            self.purchases,
            self.spent,
            self.overspent,
            self.doubled,
            self.forgotten,
            self.wrong,
            self.honest_phases,
            self.states,
        )
    }
}

/// Runs consecutive rigs in one thread, each with its own seed, market, ledger and limits.
fn kill(market: Market, seeds: impl Iterator<Item = u64>, kills: u32, is_long: bool) -> KillStats {
    let texts: &[&str] = if market == Market::Csgoroll { &FAULTS } else { &REPRICING_FAULTS };
    let mut stats = KillStats::default();
    for seed in seeds {
        let mut rng = random::stream(seed, 90);
        let (min, max) = KILLS_PER_RIG;
        let own = u32::try_from(rng.u64(min..=max)).unwrap().min(kills - stats.kills);
        let limits = Limits::of(seed, own * orders_per_kill(market));
        let mut rig = Rig::new(market, seed, limits, faults(texts));
        let max = stats.kills + own;
        while stats.kills < max && stats.violations() == 0 {
            let has_ordered = kill_once(&rig, &mut rng, wait_max(market));
            stats.kills += 1;
            stats.while_buying += u32::from(has_ordered);
            let kill = stats.kills;
            stats.check_rig(&mut rig, kill);
        }
        if stats.kills >= kills && stats.violations() == 0 {
            rig.market.set_faults(&[]);
            if is_long {
                stats.honest_phases += 1;
                if let Some(difference) = rig.find_disagreement() {
                    stats.wrong += 1;
                    report(&format!(
                        "seed {seed}: {difference}; evidence in {}",
                        rig.keep().display()
                    ));
                }
            } else {
                rig.assert_clean_run();
            }
            stats.check_rig(&mut rig, kills);
        }
        stats.add_rig(&rig);
        if is_long {
            report(&format!("seed {seed} is done, with those before it: {stats}"));
        }
        if stats.kills >= kills || stats.violations() > 0 {
            break;
        }
    }
    stats
}

/// Starts a bot and kills it after its first order, usually within 300 ms. Returns `true` if it had
/// sent an order.
fn kill_once(rig: &Rig, rng: &mut Rng, wait_max: Duration) -> bool {
    let mut bot = rig.start("", "60s");
    let before = rig.requests();
    let (began, mut has_resumed) = (Instant::now(), false);
    while rig.requests() == before && began.elapsed() < wait_max {
        std::thread::park_timeout(Duration::from_millis(2));
        if !has_resumed && began.elapsed() > wait_max * 3 / 4 {
            has_resumed = true;
            rig.resume_if_halted();
        }
    }
    let max = match rng.u64(..100) {
        0..80 => Duration::from_millis(300),
        80..96 => Duration::from_secs(2),
        _ => RUN_MAX,
    };
    std::thread::park_timeout(rng.duration((Duration::ZERO, max)));
    bot.kill();
    rig.requests() > before
}

#[test]
fn killed_at_each_step_of_an_order_the_bot_never_overspends_duplicates_or_loses_an_order() {
    let steps = [
        "decided",
        "recorded",
        "left",
        "left-recorded",
        "answered",
        "answered-recorded",
        "staged",
        "committed",
    ];
    let rig = Rig::new(Market::Csgoroll, 11, Limits::ample(), faults(&ORDER_FAULTS));
    for (round, step) in steps.iter().enumerate() {
        let mut bot = rig.start(&format!("{step}:{}", 1 + round % 3), "30s");
        let ended = bot.ended().unwrap_or_else(|| panic!("{step}: {}", rig.log()));
        // The fail point aborts the process, which on Unix ends it with a signal.
        assert_ne!(ended, Some(0), "{step}: {}", rig.log());
        let violations = rig.check();
        assert!(violations.is_empty(), "{step}: {violations:#?} {}", rig.log());
    }
    rig.market.set_faults(&[]);
    rig.assert_clean_run();
    let violations = rig.check();
    assert!(violations.is_empty(), "{violations:#?} {}", rig.log());
}

#[test]
fn killed_at_any_instant_the_bot_never_overspends_duplicates_or_loses_an_order() {
    kill_at_any_instant(Market::Csgoroll);
}

#[test]
fn killed_at_any_instant_on_lis_skins_the_bot_never_overspends_duplicates_or_loses_an_order() {
    kill_at_any_instant(Market::LisSkins);
}

#[test]
fn killed_at_any_instant_on_waxpeer_the_bot_never_overspends_duplicates_or_loses_an_order() {
    kill_at_any_instant(Market::Waxpeer);
}

const fn wait_max(market: Market) -> Duration {
    match market {
        Market::LisSkins => WAIT_MAX_LIS_SKINS,
        Market::Csgoroll | Market::Waxpeer => WAIT_MAX,
    }
}

/// Returns how many orders a killed bot has sent, compared with CSGORoll: where a price cut is a
/// new chance, and open listings are searched at the start, it sends more.
const fn orders_per_kill(market: Market) -> u32 {
    match market {
        Market::Csgoroll => 1,
        // Its sales are numerous, and its absent orders count for ten minutes.
        Market::LisSkins => 12,
        Market::Waxpeer => 3,
    }
}

#[expect(clippy::print_stdout, reason = "the counts are the result of a long run")]
fn kill_at_any_instant(market: Market) {
    let kills: u32 = setting("SNIPER_TEST_KILLS").map_or(5, |kills| kills.try_into().unwrap());
    let first_seed = setting("SNIPER_TEST_SEED").unwrap_or(12);
    let threads = setting("SNIPER_TEST_RIGS").map_or_else(
        || (kills / KILLS_PER_THREAD).clamp(1, RIGS_MAX),
        |rigs| rigs.try_into().unwrap(),
    );
    let is_long = kills >= LONG_RUN_KILLS || setting("SNIPER_TEST_HONEST") == Some(1);
    let began = Instant::now();
    let share = |thread: u32| kills / threads + u32::from(thread < kills % threads);
    let all_stats: Vec<(u64, KillStats)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let seed = first_seed + u64::from(thread) * SEEDS_APART;
                (seed, scope.spawn(move || kill(market, seed.., share(thread), is_long)))
            })
            .collect();
        running.into_iter().map(|(seed, thread)| (seed, thread.join().unwrap())).collect()
    });
    let mut sum = KillStats::default();
    for (seed, stats) in &all_stats {
        println!("seeds from {seed}: {stats}");
        sum.add(stats);
    }
    println!(
        "{market:?}, seed {first_seed}, {threads} rigs at once, {} s: {sum}",
        seconds(began.elapsed())
    );
    assert_eq!(sum.violations(), 0, "{sum}");
    assert_eq!(sum.kills, kills);
    assert!(sum.purchases > 0, "nothing was bought");
    assert!(sum.while_buying * 2 > kills, "most kills met a bot that had ordered nothing: {sum}");
}
