//! Controls, readiness, and what the page shows of the market.

use serde_json::Value;

use crate::harness::{Bot, REDLINE, control, get, until};

const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'& | x (Field-Tested)";

#[test]
fn halt_and_resume_do_what_the_commands_do_and_name_their_origin() {
    let bot = Bot::start().ready();
    let reply = control(bot.address, "/api/halt", "halt-key-1");
    assert_eq!(reply.status, 200, "{reply:?}");
    let status: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(status["status"]["buying"], "halted");
    let reason = status["status"]["halts"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("dashboard 127.0.0.1 token"), "{reason}");
    let ready = get(bot.address, "/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.starts_with("halted: "), "{}", ready.body);
    assert_eq!(get(bot.address, "/livez").status, 200);
    let page = get(bot.address, "/").body;
    assert!(page.contains("<h1 class=\"bad\">Halted</h1>"), "{page}");
    assert!(get(bot.address, "/metrics").body.contains("\nsniper_halted 1\n"));
    bot.offer(REDLINE, 1_000);
    until(|| get(bot.address, "/metrics").body.contains("sniper_matches_total 1\n"));
    assert_eq!(bot.market.history().orders().count(), 0, "nothing is ordered while halted");
    assert_eq!(control(bot.address, "/api/resume", "resume-key-1").status, 200);
    assert_eq!(get(bot.address, "/readyz").status, 200);
}

#[test]
fn a_paused_entry_buys_nothing_until_it_is_enabled() {
    let bot = Bot::start().ready();
    for entry in ["red%20%2F%20line", "all%20%3Cb%3E"] {
        let reply = control(bot.address, &format!("/api/entries/{entry}/pause"), entry);
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    bot.offer(REDLINE, 1_000);
    until(|| get(bot.address, "/metrics").body.contains("sniper_listings_total 1\n"));
    assert!(get(bot.address, "/metrics").body.contains("\nsniper_entries_paused 2\n"));
    let page = get(bot.address, "/").body;
    assert!(page.contains("<b class=\"warn\">paused</b>"), "{page}");
    assert!(page.contains("<h1 class=\"warn\">Not buying: every entry is paused</h1>"), "{page}");
    let path = "/api/entries/red%20%2F%20line/enable";
    assert_eq!(control(bot.address, path, "enable-key").status, 200);
    bot.offer(REDLINE, 1_000);
    until(|| bot.market.history().orders().count() == 1);
    let unknown = control(bot.address, "/api/entries/another/pause", "unknown-key");
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("no whitelist entry is named"), "{}", unknown.body);
}

#[test]
fn a_group_shows_what_it_bought_and_is_paused_and_enabled() {
    let bot = Bot::start().ready();
    bot.offer(REDLINE, 1_000);
    until(|| get(bot.address, "/").body.contains("1 bought for 10.00 · 899 of 900 left"));
    let page = get(bot.address, "/").body;
    assert!(
        page.contains("rifles &lt;i&gt;") && page.contains("4990.00 of 5000.00 left"),
        "{page}"
    );
    assert!(!page.contains("paused</b>"), "{page}");
    let path = |action: &str| format!("/api/groups/rifles%20%3Ci%3E/{action}");
    assert_eq!(control(bot.address, &path("pause"), "pause-group").status, 200);
    let page = get(bot.address, "/").body;
    // The group and its entry.
    assert_eq!(page.matches("<b class=\"warn\">paused</b>").count(), 2, "{page}");
    assert!(page.contains(&format!("data-post=\"{}\"", path("enable"))), "{page}");
    assert_eq!(control(bot.address, &path("enable"), "enable-group").status, 200);
    assert!(!get(bot.address, "/").body.contains("paused</b>"));
    let unknown = control(bot.address, "/api/groups/knives/pause", "unknown-group");
    assert_eq!(unknown.status, 404, "{unknown:?}");
}

#[test]
fn a_group_with_an_entry_that_was_paused_by_itself_can_be_enabled_and_paused() {
    let bot = Bot::start().ready();
    let entry = "/api/entries/red%20%2F%20line/pause";
    assert_eq!(control(bot.address, entry, "pause-the-entry").status, 200);
    let page = get(bot.address, "/").body;
    assert!(page.contains("rifles &lt;i&gt; <b class=\"warn\">entries paused</b>"), "{page}");
    let path = |action: &str| format!("/api/groups/rifles%20%3Ci%3E/{action}");
    for action in ["enable", "pause"] {
        assert!(page.contains(&format!("data-post=\"{}\"", path(action))), "{page}");
    }
    assert_eq!(control(bot.address, &path("enable"), "enable-group").status, 200);
    let page = get(bot.address, "/").body;
    assert!(!page.contains("paused</b>") && !page.contains(&path("enable")), "{page}");
}

#[test]
fn a_hostile_item_name_is_text_on_the_page() {
    let bot = Bot::start().ready();
    bot.offer(HOSTILE, 1_000);
    until(|| get(bot.address, "/metrics").body.contains("{outcome=\"bought\"} 1\n"));
    let page = get(bot.address, "/").body;
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"), "{page}");
    assert!(!page.contains("<img"), "{page}");
    assert!(page.contains("all &lt;b&gt;"), "a name from the settings is escaped, too");
}

#[test]
fn the_page_shows_orders_matches_near_misses_and_counts() {
    let bot = Bot::start().ready();
    let reply = control(bot.address, "/api/entries/all%20%3Cb%3E/pause", "pause-the-rest");
    assert_eq!(reply.status, 200, "{reply:?}");
    bot.offer(REDLINE, 1_100);
    bot.offer(REDLINE, 1_250);
    until(|| get(bot.address, "/metrics").body.contains("sniper_listings_total 2\n"));
    until(|| get(bot.address, "/metrics").body.contains("{outcome=\"bought\"} 1\n"));
    let page = get(bot.address, "/").body;
    let order = ["id=\"state\"", "id=\"money\"", "id=\"orders\"", "id=\"matches\"", "id=\"feed\""];
    let order = order.into_iter().chain(["id=\"latency\"", "id=\"entries\""]);
    let places: Vec<usize> = order.map(|id| page.find(id).expect(id)).collect();
    assert!(places.is_sorted(), "{places:?}");
    for shown in [
        "<h1 class=\"good\">Buying</h1>",
        "1 bought, 0 returned, 0 rejected",
        "<b class=\"good\">bought</b> <span class=\"price\">11.00</span> <span class=\"item\">AK-47 | \
         Redline (Field-Tested)</span> <span class=\"label\">red / line</span> <span class=\"dim\">",
        "<span class=\"item\">AK-47 | Redline (Field-Tested)</span> <span class=\"label\">red / \
         line</span> <span class=\"dim\">price 12.50 is above 12.00</span></li>",
        "<dt>Orders</dt><dd>1</dd>",
        "<rect x=\"0\"",
        "11.00 of 100000.00",
        "1 matched · 1 of 1000 bought for 11.00",
        "<span class=\"price\">11.00</span> of 12.00",
        "connected",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
}
