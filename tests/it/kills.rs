//! The real program against the simulated market, killed at every step of an order and at any
//! instant, while orders, feed and reads all lie. The market's own books are the truth.
//!
//! `SNIPER_TEST_KILLS` sets how many random kills there are; a few, unless it is set. From
//! [`LONG_RUN_KILLS`] on, or with `SNIPER_TEST_HONEST=1`, each thread ends with an honest phase,
//! after which ledger and books must agree. `SNIPER_TEST_SEED` sets the first seed and
//! `SNIPER_TEST_RIGS` how many rigs run at once.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up fails")]

mod audit;
mod rig;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use sniper::{
    domain::money::Amount,
    sim::{Fault, dice::Dice},
};

use self::{
    audit::Limits,
    rig::{Rig, seconds},
};

/// Faults of orders that leave an order unknown, and more.
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

/// Everything that a market can do wrong, in every channel. Those of the feed are tried once a
/// second, and most runs are shorter than a few seconds. Those that stop a bot for the rest of its
/// run are rarer.
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

/// How many kills one market and one ledger go through at least and at most; then come new ones.
/// In so many, an order can become unknown, be cancelled, and be released.
const KILLS_PER_RIG: (u64, u64) = (50, 150);
/// How many kills one thread does at least, where there are as many.
const KILLS_PER_THREAD: u32 = 50;
/// How many rigs run at once: each mostly waits.
const RIGS_MAX: u32 = 12;
/// How far the first seeds of two threads are apart: far enough, and so that their limits differ.
const SEEDS_APART: u64 = 1_001;
/// From so many kills on, each thread ends with an honest phase.
const LONG_RUN_KILLS: u32 = 1_000;
/// How long a bot may take until it orders something, in all, where it still may.
const PATIENCE: Duration = Duration::from_secs(4);
/// The longest run of a bot that is killed, from its first order.
const RUN_MAX: Duration = Duration::from_secs(8);

fn faults(texts: &[&str]) -> Vec<Fault> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Reports what a long run cannot keep to itself until it ends.
#[expect(clippy::print_stderr, reason = "a violation is reported when it is found")]
fn report(text: &str) {
    eprintln!("{text}");
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What the kills came to.
#[derive(Debug, Default)]
struct Tally {
    kills: u32,
    /// Kills of a bot that had ordered something since its start.
    while_buying: u32,
    requests: usize,
    purchases: usize,
    spent: Amount,
    overspent: usize,
    doubled: usize,
    forgotten: usize,
    /// Ledgers that could not be read or verified, and that did not agree in the end.
    wrong: usize,
    honest_phases: usize,
    halted: usize,
    /// Where the orders stood in the end.
    states: BTreeMap<&'static str, usize>,
}

impl Tally {
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

    /// Takes over what a rig's books show in its end.
    fn close(&mut self, rig: &Rig) {
        rig.market.look(|books| {
            self.requests += books.requests().count();
            self.purchases += books.purchases().count();
            self.spent = self.spent.saturating_add(books.spent());
        });
        self.halted += rig.log().matches("BUYING STOPPED").count();
        rig.states(|state| *self.states.entry(state.as_str()).or_default() += 1);
    }

    /// Counts what a check has found, and shows it with what is needed to look into it.
    fn find(&mut self, rig: &mut Rig, kill: u32) {
        let found = rig.check();
        if found.is_empty() {
            return;
        }
        let folder = rig.keep();
        let mut text = format!("seed {}, kill {kill}, evidence in {}:", rig.seed, folder.display());
        found.iter().for_each(|violation| text.push_str(&format!("\n  {violation}")));
        report(&text);
        let count = |kind| found.iter().filter(|violation| violation.kind == kind).count();
        self.overspent += count(audit::Kind::Overspent);
        self.doubled += count(audit::Kind::Doubled);
        self.forgotten += count(audit::Kind::Forgotten);
        self.wrong += count(audit::Kind::Wrong);
    }
}

impl fmt::Display for Tally {
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

/// One thread: rigs one after another, each with its own seed, market, ledger and limits.
fn kill(seeds: impl Iterator<Item = u64>, kills: u32, is_long: bool) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let mut dice = Dice::aside(seed, 90);
        let (least, most) = KILLS_PER_RIG;
        let own = u32::try_from(dice.between(least, most)).unwrap().min(kills - tally.kills);
        let mut rig = Rig::new(seed, Limits::of(seed, own), faults(&FAULTS));
        let most = tally.kills + own;
        while tally.kills < most && tally.violations() == 0 {
            let has_bought = kill_once(&rig, &mut dice);
            tally.kills += 1;
            tally.while_buying += u32::from(has_bought);
            let kill = tally.kills;
            tally.find(&mut rig, kill);
        }
        if tally.kills >= kills && tally.violations() == 0 {
            rig.market.set_faults(&[]);
            if is_long {
                tally.honest_phases += 1;
                if let Some(found) = rig.agrees() {
                    tally.wrong += 1;
                    report(&format!("seed {seed}: {found}; evidence in {}", rig.keep().display()));
                }
            } else {
                rig.ends_well();
            }
            tally.find(&mut rig, kills);
        }
        tally.close(&rig);
        if is_long {
            report(&format!("seed {seed} is done, with those before it: {tally}"));
        }
        if tally.kills >= kills || tally.violations() > 0 {
            break;
        }
    }
    tally
}

/// Starts a bot and kills it: some time after its first order, most often within a third of a
/// second. Returns whether it had ordered anything.
fn kill_once(rig: &Rig, dice: &mut Dice) -> bool {
    let mut bot = rig.start("", "60s");
    let before = rig.requests();
    let (began, mut has_resumed) = (Instant::now(), false);
    while rig.requests() == before && began.elapsed() < PATIENCE {
        std::thread::park_timeout(Duration::from_millis(2));
        if !has_resumed && began.elapsed() > PATIENCE * 3 / 4 {
            has_resumed = true;
            rig.resume_if_halted();
        }
    }
    let most = match dice.below(100) {
        0..80 => Duration::from_millis(300),
        80..96 => Duration::from_secs(2),
        _ => RUN_MAX,
    };
    std::thread::park_timeout(dice.wait(Duration::ZERO, most));
    bot.kill();
    rig.requests() > before
}

#[test]
fn killed_at_each_step_of_a_buy_it_never_overspends_doubles_or_forgets() {
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
    let rig = Rig::new(11, Limits::loose(), faults(&ORDER_FAULTS));
    for (round, step) in steps.iter().enumerate() {
        let mut bot = rig.start(&format!("{step}:{}", 1 + round % 3), "30s");
        let ended = bot.ended().unwrap_or_else(|| panic!("{step}: {}", rig.log()));
        // It died by itself, by a signal where there are signals.
        assert_ne!(ended, Some(0), "{step}: {}", rig.log());
        let found = rig.check();
        assert!(found.is_empty(), "{step}: {found:#?} {}", rig.log());
    }
    rig.market.set_faults(&[]);
    rig.ends_well();
    let found = rig.check();
    assert!(found.is_empty(), "{found:#?} {}", rig.log());
}

#[test]
fn killed_at_any_instant_it_never_overspends_doubles_or_forgets() {
    let kills: u32 = setting("SNIPER_TEST_KILLS").map_or(5, |kills| kills.try_into().unwrap());
    let first_seed = setting("SNIPER_TEST_SEED").unwrap_or(12);
    let threads = setting("SNIPER_TEST_RIGS").map_or_else(
        || (kills / KILLS_PER_THREAD).clamp(1, RIGS_MAX),
        |rigs| rigs.try_into().unwrap(),
    );
    let is_long = kills >= LONG_RUN_KILLS || setting("SNIPER_TEST_HONEST") == Some(1);
    let began = Instant::now();
    let share = |thread: u32| kills / threads + u32::from(thread < kills % threads);
    let tallies: Vec<(u64, Tally)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let seed = first_seed + u64::from(thread) * SEEDS_APART;
                (seed, scope.spawn(move || kill(seed.., share(thread), is_long)))
            })
            .collect();
        running.into_iter().map(|(seed, thread)| (seed, thread.join().unwrap())).collect()
    });
    let mut sum = Tally::default();
    for (seed, tally) in &tallies {
        println!("seeds from {seed}: {tally}");
        sum.add(tally);
    }
    println!("seed {first_seed}, {threads} rigs at once, {} s: {sum}", seconds(began.elapsed()));
    assert_eq!(sum.violations(), 0, "{sum}");
    assert_eq!(sum.kills, kills);
    assert!(sum.purchases > 0, "nothing was ever bought");
    assert!(sum.while_buying * 2 > kills, "most kills met a bot that had ordered nothing: {sum}");
}
