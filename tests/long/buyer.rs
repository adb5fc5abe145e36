//! The order client with many orders.

#[expect(dead_code, reason = "shared with the other tests of the order client")]
#[path = "../it/buyer/harness.rs"]
mod harness;
#[expect(dead_code, reason = "shared with the other tests of the order client")]
#[path = "../it/buyer/market.rs"]
mod market;

use std::time::Instant;

use self::{
    harness::{Bot, error_of},
    market::{Market, WAIT_MAX, confirm_all},
};

#[tokio::test]
async fn ten_thousand_orders_use_warm_connections_and_none_is_lost() {
    let market = Market::plain(confirm_all).await;
    let mut bot = Bot::ready(&market, 4).await;
    for number in 0..10_000_u32 {
        if number % 3_000 == 2_999 {
            // The server closes its idle connections, and the next order waits until they are
            // replaced.
            let before = market.connections();
            market.close_idle();
            market.wait_until(|market| market.connections() >= before + 4).await;
            assert!(bot.client.warm(4, WAIT_MAX).await);
        }
        let listed = Instant::now();
        let written = bot.send(&format!("id{number}")).unwrap();
        assert!(written.ready < listed, "a cold connection");
        assert_eq!(error_of(&bot.report().await.response), None);
    }
    assert_eq!(market.ordered_ids().len(), 10_000);
}
