//! Sessions that share one budget, on simulated markets whose books decide.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use sniper::{
    domain::money::Amount,
    ledger::shared_status::{ACTIVE, STANDBY},
    shared::exchanger::MemoryGroup,
    sim::{SimServer, SimSettings},
    sniper::{Now, Sniper, stats::SessionStats},
    threads::ThreadName,
};

use super::{
    TestBot, assert_agrees, cents, is_reconciled, quiet, redline, skipped, until, wait_for_stats,
};

const TERM_MS: i64 = 3_000;

fn policy(member: &str, more: &str) -> String {
    format!(
        "[budget]\nmax_price = 11\ntotal = 1000\nmin_balance = 0\nmax_buys_per_minute = 1000\n\
         [shared]\ngroup = \"main\"\ntotal = 40.00\nunit = \"coins\"\nmember = \"{member}\"\n{more}\
         [[whitelist]]\nname = \"redline\"\nitem = \"AK-47 | Redline\"\nmax_price = 11\n\
         max_quantity = 100\n"
    )
}

/// Returns the state of the shared budget, and the slice that is in force.
fn state(sniper: &Sniper) -> (String, i64) {
    let status = sniper.with_engine(|engine| engine.shared_status());
    status.map_or_else(Default::default, |status| (status.state, status.slice))
}

fn is_active(sniper: &Sniper) -> bool {
    is_reconciled(sniper) && matches!(state(sniper), (state, 1..) if state == ACTIVE)
}

/// Lists items until one is bought: only listings created after the bot became active are ordered.
async fn buy_one(sniper: &Sniper, market: &SimServer) {
    let done = |stats: &SessionStats| stats.bought + stats.skipped_total();
    while sniper.with_engine(|engine| engine.stats().bought) == 0 {
        let before = sniper.with_engine(|engine| done(engine.stats()));
        market.list_items(vec![redline(1_015)]);
        wait_for_stats(sniper, |stats| before < done(stats)).await;
    }
}

fn spent(markets: &[&SimServer]) -> Amount {
    let spent = markets.iter().map(|market| market.history().spent());
    spent.fold(Amount::ZERO, Amount::saturating_add)
}

#[tokio::test]
async fn two_bots_of_one_budget_spend_at_most_its_total_by_the_books_of_their_markets() {
    let group = MemoryGroup::new(40_000, TERM_MS);
    let markets = [SimServer::start(quiet()).unwrap(), SimServer::start(quiet()).unwrap()];
    let run = |market: &'static str, number: usize| {
        let (group, servers) = (&group, &markets);
        async move {
            let server = &servers[number];
            let bot = TestBot::live(server, &policy(market, "[orders]\nmax_wait_ms = 500\n"))
                .with_group(group);
            bot.run(async |sniper| {
                until(|| is_active(sniper) && server.stats().feeds_subscribed == 1).await;
                for done in 1..=6 {
                    server.list_items(vec![redline(1_015)]);
                    wait_for_stats(sniper, |stats| stats.bought + stats.skipped_total() == done)
                        .await;
                }
            })
            .await
        }
    };
    let (first, second) = tokio::join!(run("first", 0), run("second", 1));
    assert_agrees(&first, &markets[0]);
    assert_agrees(&second, &markets[1]);
    let spent = spent(&[&markets[0], &markets[1]]);
    assert!(cents(1_015) <= spent && spent <= cents(4_000), "{spent}");
    assert!(skipped(&first, "shared_total") + skipped(&second, "shared_total") >= 9);
}

#[tokio::test]
async fn a_standby_takes_over_with_open_connections_and_no_listing_is_ordered_twice() {
    let group = MemoryGroup::new(1_000_000, TERM_MS);
    let market = SimServer::start(quiet()).unwrap();
    let standby = format!("standby = \"one\"\nterm_s = {}\n", TERM_MS / 1_000);
    let bot = |member| TestBot::live(&market, &policy(member, &standby)).with_group(&group);
    let (first, second) = (bot("first"), bot("second"));
    let (started, mut is_started) = tokio::sync::watch::channel(false);
    let (ready, mut is_ready) = tokio::sync::watch::channel(false);
    let (stopped, mut is_stopped) = tokio::sync::watch::channel(None);
    let active = async {
        let summary = first.run(async |sniper| {
            until(|| is_active(sniper)).await;
            started.send(true).unwrap();
            until(|| market.stats().feeds_subscribed == 2).await;
            is_ready.wait_for(|is_ready| *is_ready).await.unwrap();
            buy_one(sniper, &market).await;
        });
        let summary = summary.await;
        stopped.send(Some(Instant::now())).unwrap();
        summary
    };
    let mut connections_on_standby = 0;
    let waiting = async {
        is_started.wait_for(|is_started| *is_started).await.unwrap();
        let summary = second.run(async |sniper| {
            until(|| is_reconciled(sniper) && state(sniper).0 == STANDBY).await;
            ready.send(true).unwrap();
            wait_for_stats(sniper, |stats| stats.skipped_total() == 1).await;
            let stopped = *is_stopped.wait_for(Option::is_some).await.unwrap();
            connections_on_standby = market.stats().connections;
            until(|| is_active(sniper)).await;
            let took = stopped.unwrap().elapsed();
            assert!(took < Duration::from_millis(TERM_MS.unsigned_abs() + 2_000), "{took:?}");
            buy_one(sniper, &market).await;
            let halts =
                sniper.with_engine(|engine| engine.ledger().snapshot(Now::read().wall).halts);
            assert_eq!(halts, []);
        });
        summary.await
    };
    let (first, second) = tokio::join!(active, waiting);
    assert_eq!((first.stats.bought, second.stats.bought), (1, 1));
    // It may read of the order before it receives the listing, or receive the listing together with
    // its removal.
    let reasons = ["standby", "ordered before takeover", "not listed any more"];
    let decided: u64 = reasons.iter().map(|reason| skipped(&second, reason)).sum();
    assert!(decided >= 1, "the standby decides all the same: {:?}", second.stats.skipped);
    let history = market.history();
    assert_eq!((history.orders().count(), history.ordered_twice().count()), (2, 0));
    let (_, last) = history.orders().max_by_key(|(_, order)| order.at).unwrap();
    assert!(last.connection <= connections_on_standby, "opened after the takeover: {last:?}");
}

#[tokio::test]
async fn bots_of_two_accounts_split_the_listings_of_a_market_until_one_is_gone() {
    const LISTED: u64 = 12;
    let group = MemoryGroup::new(1_000_000, TERM_MS);
    // Two servers with the same listings stand for one market.
    let market =
        |user: &str| SimServer::start(SimSettings { user_id: user.to_owned(), ..quiet() }).unwrap();
    let markets = [market("VXNlcjox"), market("VXNlcjoy")];
    let list = |server: &SimServer| {
        for _ in 0..LISTED {
            server.list_items(vec![redline(100)]);
        }
    };
    let sees_the_other = |sniper: &Sniper| {
        let status = sniper.with_engine(|engine| engine.shared_status());
        status.is_some_and(|status| {
            status.members.iter().any(|member| member.is_live && !member.is_idle)
        })
    };
    let done = |stats: &SessionStats| stats.bought + stats.skipped_total();
    // None leaves before the other one has seen it.
    let both_seen = tokio::sync::Barrier::new(2);
    let (ended, mut has_ended) = tokio::sync::watch::channel(false);
    let bots = ["first", "second"].map(|name| {
        let server = &markets[usize::from(name == "second")];
        TestBot::live(server, &policy(name, "")).with_group(&group)
    });
    let first = async {
        let summary = bots[0].run(async |sniper| {
            until(|| is_active(sniper) && sees_the_other(sniper)).await;
            until(|| markets[0].stats().feeds_subscribed == 1).await;
            both_seen.wait().await;
            list(&markets[0]);
            wait_for_stats(sniper, |stats| done(stats) == LISTED).await;
        });
        let summary = summary.await;
        ended.send(true).unwrap();
        summary
    };
    let second = bots[1].run(async |sniper| {
        until(|| is_active(sniper) && sees_the_other(sniper)).await;
        until(|| markets[1].stats().feeds_subscribed == 1).await;
        both_seen.wait().await;
        list(&markets[1]);
        wait_for_stats(sniper, |stats| done(stats) == LISTED).await;
        has_ended.wait_for(|has_ended| *has_ended).await.unwrap();
        let gone = Instant::now();
        // It is live for a term after its last exchange, and this bot looks every second.
        until(|| gone.elapsed() > Duration::from_millis(TERM_MS.unsigned_abs() + 1_500)).await;
        let skipped = |stats: &SessionStats| stats.skipped.get("other bot").copied();
        let others = || sniper.with_engine(|engine| skipped(engine.stats()));
        let before = others();
        assert!(before.is_some(), "the listings were split");
        list(&markets[1]);
        wait_for_stats(sniper, |stats| done(stats) == 2 * LISTED).await;
        assert_eq!(others(), before);
    });
    let (first, _second) = tokio::join!(first, second);
    let ordered = |server: &SimServer| -> BTreeSet<String> {
        server.history().orders().map(|(listing, _order)| listing.id.clone()).collect()
    };
    let [ours, theirs] = [ordered(&markets[0]), ordered(&markets[1])];
    assert_eq!(skipped(&first, "other bot") + first.stats.bought, LISTED);
    assert!(!ours.is_empty() && ours.is_disjoint(&theirs), "{ours:?} {theirs:?}");
}

/// The test runs itself in a process of its own, because an environment variable requests the end
/// of a thread.
#[tokio::test]
async fn a_panic_of_the_sharing_thread_stops_orders_and_is_named() {
    const NAME: &str = "session::shared::a_panic_of_the_sharing_thread_stops_orders_and_is_named";
    const REQUEST: &str = "SNIPER_TEST_THREAD";
    let Ok(request) = std::env::var(REQUEST) else {
        let directory = tempfile::tempdir().unwrap();
        let trigger = directory.path().join("trigger");
        let done = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(REQUEST, format!("{}:panic:{}", ThreadName::Sharing, trigger.display()))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        return;
    };
    let trigger = request.rsplit(':').next().unwrap();
    let group = MemoryGroup::new(1_000_000, TERM_MS);
    let market = SimServer::start(quiet()).unwrap();
    let bot = TestBot::live(&market, &policy("first", "")).with_group(&group);
    let summary = bot.run(async |sniper| {
        until(|| is_active(sniper) && market.stats().feeds_subscribed == 1).await;
        buy_one(sniper, &market).await;
        std::fs::write(trigger, "").unwrap();
        let halts = || sniper.with_engine(|engine| engine.ledger().state().halts().to_vec());
        until(|| !halts().is_empty()).await;
        let halts: Vec<String> = halts().iter().map(|halt| halt.reason.to_string()).collect();
        assert!(halts.len() == 1 && halts[0].contains("`sharing`"), "{halts:?}");
        let skipped = sniper.with_engine(|engine| engine.stats().skipped_total());
        market.list_items(vec![redline(1_015)]);
        wait_for_stats(sniper, |stats| skipped < stats.skipped_total()).await;
    });
    let summary = summary.await;
    assert_eq!((skipped(&summary, "halted"), summary.stats.bought), (1, 1));
    assert_eq!(market.history().orders().count(), 1);
}
