//! Tests of the items of orders in the ledger.

use super::*;
use crate::{
    account::OrderReading,
    domain::account::OwnPurchase,
    domain::{item_name::Wear, percent_rule::PriceCurrency, trade::PaintWear},
    ledger::{OrderedItem, Sequence, reader::LedgerReader},
    prices::book::{Resale, SourceLabel},
    whitelist::tests::{book_at, percent_entry},
};

/// Returns a session with a ledger on disk, one entry with a percent rule and one without.
fn session(folder: &std::path::Path) -> TestSession {
    let named = WhitelistEntry {
        name: Some("cases".to_owned()),
        max_quantity: 1_000,
        item: ItemPattern::Named("Fracture Case".to_owned()),
        ..entry()
    };
    let item = ItemPattern::Named("Karambit | Ruby".to_owned());
    let ruby = WhitelistEntry { item, ..named.clone() };
    let ruby = WhitelistEntry { name: Some("ruby".to_owned()), ..ruby };
    let entries = vec![named, ruby, WhitelistEntry { max_quantity: 1_000, ..percent_entry() }];
    let executor = Executor::Live(FakeOrderSender::default());
    let mut session = TestSession::new(executor, ample_budget(), entries.clone());
    let location = LedgerLocation {
        folder: folder.to_owned(),
        host: "market.example".to_owned(),
        boot: None,
        uptime_ms: None,
    };
    let now = session.now();
    let mut ledger = Ledger::open(&location, ample_budget(), &entries, now.wall).unwrap();
    ledger.bind("account-1").unwrap();
    let reading = AccountReading { trades: &[], complete: true, started: now.wall };
    let _effects = ledger.reconcile(&reading, Some(Amount::from_cents(100_000)), now.wall);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ledger.is_limit_durable() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let (whitelist, start) = (Arc::new(Whitelist::new(entries)), session.start);
    let executor = Executor::Live(FakeOrderSender::default());
    let clock = Arc::new(Mutex::new(ServerClock::new(start)));
    session.engine = Engine::new(whitelist, ledger, executor, KeyedBy::Id, clock);
    let label = SourceLabel { name: "buff".into(), currency: PriceCurrency::Usd };
    let resale = Resale { source: 0, fee: Percent::from_hundredths(250) };
    let book = book_at(now.wall).with_labels([label].into_iter()).with_resale(Some(resale));
    session.engine.set_prices(Arc::new(book));
    session
}

fn stored(session: TestSession, folder: &std::path::Path) -> Vec<OrderedItem> {
    drop(session);
    let reader = LedgerReader::open(folder).unwrap();
    reader.verify().unwrap();
    let count = u64::try_from(reader.state().intents().len()).unwrap();
    (1..=count).filter_map(|number| reader.item(Sequence(number)).unwrap()).collect()
}

#[test]
fn an_order_is_stored_with_its_item_and_the_reference_that_decided() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session(folder.path());
    let price = Some(Amount::from_cents(1_500));
    session.consider(Trade {
        total_value: price,
        base_value: price,
        markup_percent: Some(Percent::default()),
        ..trade("a", REDLINE)
    });
    session.consider(trade("b", "Fracture Case"));
    assert_eq!(session.sent(), ["a", "b"]);
    // Prices that arrive after the order change nothing.
    let later = book_at(session.now().wall.minus(Duration::from_secs(3_600)));
    session.engine.set_prices(Arc::new(later));
    let items = stored(session, folder.path());
    let reference = items[0].reference.as_ref().unwrap();
    assert_eq!(reference.to_string(), "75.0 % of buff.ask 20.00");
    assert_eq!(
        (reference.price.to_string(), reference.currency),
        ("10.00".to_owned(), PriceCurrency::Usd)
    );
    assert_eq!(items[0].margin, Some(Percent::from_hundredths(3_000)));
    let plain = OrderedItem {
        name: "Fracture Case".to_owned(),
        float: PaintWear::parse("0.2").map(|float| float.to_string()),
        entry: "cases".to_owned(),
        ..OrderedItem::default()
    };
    assert_eq!(items[1], plain);
    let named = OrderedItem {
        name: REDLINE.to_owned(),
        wear: Some(Wear::FieldTested),
        entry: "*".to_owned(),
        ..plain
    };
    assert_eq!(OrderedItem { reference: None, margin: None, ..items[0].clone() }, named);
}

#[test]
fn a_phase_that_the_market_states_beside_the_name_is_stored_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session(folder.path());
    let name = "★ Karambit | Doppler (Factory New)";
    session.consider(Trade { item: "Karambit | Ruby".into(), ..trade("a", name) });
    session.settle(BOUGHT, true);
    let bought = &session.engine.stats().purchases;
    assert_eq!(bought[0].market_name, "★ Karambit | Ruby (Factory New)");
    assert_eq!(stored(session, folder.path())[0].name, "★ Karambit | Ruby (Factory New)");
}

#[test]
fn a_look_up_after_a_restart_compares_the_item_with_the_stored_one() {
    for (name, is_halted) in [("Fracture Case", false), ("Clutch Case", true)] {
        let folder = tempfile::tempdir().unwrap();
        let mut first = session(folder.path());
        first.consider(trade("a", "Fracture Case"));
        first.settle(Outcome::Unknown(Unknown::Cut), true);
        assert_eq!(stored(first, folder.path()).len(), 1);
        let mut second = session(folder.path());
        second.after = Duration::from_secs(1);
        let (now, id) = (second.now(), TradeId::new("a").unwrap());
        let found = Some(OwnPurchase {
            name: Some(name.into()),
            ..OwnPurchase::bare(id, TradeStatus::Joined)
        });
        let key = KeyedBy::Id.key(id, None);
        let reading = OrderReading { key, found, started: now.wall };
        second.engine.on_account_update(AccountUpdate::Order(reading), now);
        let expected = if is_halted { OrderState::Unknown } else { OrderState::Bought };
        assert_eq!(second.engine.ledger.state().order(&key).unwrap().state, expected, "{name}");
        assert_eq!(second.engine.ledger.snapshot(now.wall).halts.len(), usize::from(is_halted));
        assert_eq!(second.engine.names.get(&id).map(String::as_str), Some("Fracture Case"));
    }
}

#[test]
fn a_report_stores_the_items_of_all_orders_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session(folder.path());
    session.consider(trade("a", "Fracture Case"));
    session.consider(trade("b", "Fracture Case"));
    session.settle(Outcome::Rejected(RejectReason::Taken), true);
    assert_eq!(stored(session, folder.path()).len(), 2);
}
