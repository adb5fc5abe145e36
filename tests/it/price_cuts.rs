//! Search for price cuts after a gap, over real sockets.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::json;
use sniper::{
    account::{AccountReader, backfill::SEARCHES_MAX, fill_gaps},
    config::{Config, Credential, Endpoints},
    domain::money::Amount,
    markets::lis_skins::LisSkins,
    whitelist::{ItemPattern, WhitelistEntry},
    ws::{self, policy::ReconnectPolicy},
};
use tokio::{sync::Notify, time::timeout};

use crate::{
    buyer::market::{Market, Reaction, WAIT_MAX, answer},
    feed::{feed_of, peer::Server, quick},
};

fn entry(item: &str, dollars: i64) -> WhitelistEntry {
    WhitelistEntry {
        item: ItemPattern::Named(item.to_owned()),
        max_price: Amount::from_cents(dollars * 100),
        max_quantity: 1,
        ..WhitelistEntry::default()
    }
}

/// Answers with one listing, which is older than any gap, or none.
fn listings(id: Option<u64>) -> Reaction {
    let listing = |id| {
        json!({"id": id, "name": "AK-47 | Redline (Field-Tested)", "price": 99.5, "unlock_at": null,
            "created_at": "2020-03-01T10:00:00.000000Z"})
    };
    let data: Vec<_> = id.map(listing).into_iter().collect();
    let body = json!({"data": data, "meta": {"next_cursor": null}}).to_string();
    Reaction::Answer(answer(200, "", &body))
}

#[tokio::test]
async fn the_price_cut_of_an_older_listing_is_found_for_a_bounded_number_of_items() {
    let server = Server::closing_once().await;
    let cuts = AtomicUsize::new(0);
    let market = Market::plain(move |request| {
        let is_dearest = request.head.contains("price_to=100.00");
        // The second search shows another listing and ends the test.
        listings(is_dearest.then(|| u64::try_from(cuts.fetch_add(1, Ordering::Relaxed)).unwrap()))
    })
    .await;
    let endpoints = Endpoints::new(&server.address, &market.endpoints.http.to_string()).unwrap();
    let mut config = Config {
        reconnection: ReconnectPolicy::new(quick()).unwrap(),
        ..Config::new(endpoints, "unused")
    };
    let cheaper = (1..90).map(|dollars| entry(&format!("P250 | {dollars}"), dollars));
    config.whitelist = cheaper.chain([entry("AK-47 | Redline", 100)]).collect();
    let key = Credential::from_session("hunter2").unwrap();
    let lis_skins = LisSkins::new(&Config {
        endpoints: market.endpoints.clone(),
        ..Config::new(market.endpoints.clone(), "unused")
    });
    let reader = AccountReader::new(lis_skins, &market.endpoints.http, Some(&key), &market.tls)
        .unwrap()
        .with_min_interval(Duration::ZERO);
    let mut feed = feed_of(config);
    let filler = feed.fill_gaps();
    let (delivered, enough) = (RefCell::new(Vec::new()), Notify::new());
    let on_trade = |trade: sniper::domain::trade::Trade<'_>| {
        delivered.borrow_mut().push(trade.id.to_string());
        if trade.id.as_str() == "1" {
            enough.notify_one();
        }
    };
    let lag = Some(Duration::from_millis(50));
    let found = async {
        tokio::select! {
            gave_up = ws::run_with_reconnect(&feed, on_trade) => unreachable!("{gave_up}"),
            () = fill_gaps(&reader, lag, filler) => unreachable!("the feed is gone"),
            () = enough.notified() => {}
        }
    };
    assert!(timeout(WAIT_MAX, found).await.is_ok(), "delivered: {:?}", delivered.borrow());
    assert!(delivered.borrow().contains(&"0".to_owned()), "{:?}", delivered.borrow());
    let requests = market.requests();
    let of_first_round = requests.iter().skip(1).position(|it| it.head.contains("sort_by=newest"));
    assert_eq!(of_first_round, Some(SEARCHES_MAX), "one search per item");
    let of_dearest = &requests[1].head;
    for part in ["price_to=100.00", "names%5B%5D=AK-47%20%7C%20Redline%20%28Factory%20New%29"] {
        assert!(of_dearest.contains(part), "{of_dearest}");
    }
    assert!(requests[SEARCHES_MAX].head.contains("price_to=51.00"), "{:?}", requests[SEARCHES_MAX]);
}
