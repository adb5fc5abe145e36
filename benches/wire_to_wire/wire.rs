//! What differs between the markets: the messages of the feed, and the requests over HTTP.

use std::io::{Read, Write};

use memchr::memmem;
use serde_json::{Value, json};
use sniper::{
    clock,
    config::Market as MarketName,
    domain::{money::Amount, time::UnixMs},
};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::{
    frames::WANTED,
    market::{BALANCE, PRICE, ReceivedOrder},
};

/// Path of the feed.
pub(crate) const fn feed_path(market: MarketName) -> &'static str {
    match market {
        MarketName::Csgoroll => "ws",
        MarketName::LisSkins => "connection/websocket",
        MarketName::Waxpeer => "socket.io/?EIO=4&transport=websocket",
    }
}

/// Path of the API.
pub(crate) const fn http_path(market: MarketName) -> &'static str {
    match market {
        MarketName::Csgoroll => "graphql",
        MarketName::LisSkins | MarketName::Waxpeer => "v1",
    }
}

/// Maximum number of orders of a run: half of the documented ones per minute on LIS-SKINS, which
/// the bot keeps.
pub(crate) const fn orders_max(market: MarketName) -> usize {
    match market {
        MarketName::LisSkins => 400,
        MarketName::Csgoroll | MarketName::Waxpeer => usize::MAX,
    }
}

/// First number of the listings, so that all ids have the same length.
pub(crate) const fn first_number(market: MarketName) -> u64 {
    match market {
        MarketName::Csgoroll | MarketName::LisSkins => 500_000_000,
        MarketName::Waxpeer => 40_000_000_000,
    }
}

/// Answers the messages of a client up to its last subscription. Returns the id of the
/// subscription, or `None` if the connection ends before.
pub(crate) fn accept<S: Read + Write>(
    market: MarketName,
    socket: &mut WebSocket<S>,
) -> Option<String> {
    if market == MarketName::Waxpeer {
        let open = r#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
        socket.send(Message::text(open)).ok()?;
    }
    loop {
        let Ok(Message::Text(text)) = socket.read() else { return None };
        let message: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = &message["id"];
        let (answer, subscribed) = match market {
            MarketName::Csgoroll => match message["type"].as_str() {
                Some("connection_init") => (r#"{"type":"connection_ack"}"#.to_owned(), None),
                Some("ping") => (r#"{"type":"pong"}"#.to_owned(), None),
                Some("subscribe") if text.contains("createTrades") => {
                    return Some(id.as_str().unwrap_or_default().to_owned());
                }
                _ => continue,
            },
            MarketName::LisSkins if message["connect"].is_object() => {
                (json!({"id": id, "connect": {"client": "a", "version": "5"}}).to_string(), None)
            }
            // The subscription to the purchases follows that to the listings.
            MarketName::LisSkins => {
                let is_last = text.contains("private:").then(String::new);
                (json!({"id": id, "subscribe": {}}).to_string(), is_last)
            }
            MarketName::Waxpeer if &*text == "40" => (r#"40{"sid":"b"}"#.to_owned(), None),
            MarketName::Waxpeer => {
                (r#"42["subscribed",{"name":"csgo"}]"#.to_owned(), Some(String::new()))
            }
        };
        socket.send(Message::text(answer)).ok()?;
        if subscribed.is_some() {
            return subscribed;
        }
    }
}

/// Returns the message about a new listing, with the fields and their order as recorded.
pub(crate) fn listing(market: MarketName, id: u64, name: &str, price: Amount) -> String {
    let (float, seed) = (id * 7_368_787 % 1_000_000_000, id % 1_000);
    let thousandths = price.thousandths();
    if market == MarketName::Waxpeer {
        return format!(
            r#"42["new",{{"item_id":"{id}","name":"{name}","price":{thousandths},"game":"csgo","auto":true,"float":0.{float:09},"paint_index":{seed},"phase":"","sticker_names":["Sticker | Example (Foil)","Sticker | Example"],"classid":310776560,"instance_id":302028390,"steam_id":"76561198000000000","steam_price":{}}}]"#,
            thousandths + 90_000,
        );
    }
    let (dollars, cents) = (thousandths / 1_000, thousandths % 1_000 / 10);
    format!(
        r#"{{"push":{{"channel":"public:obtained-skins","pub":{{"data":{{"id":{id},"name":"{name}","price":{dollars}.{cents:02},"name_tag":null,"stickers":[{{"name":"Sticker | Example","image":"https://example.invalid/s.png","wear":0,"slot":0}}],"unlock_at":null,"created_at":"{}","item_float":"0.{float:015}","item_class_id":"310776560","item_paint_seed":{seed},"item_paint_index":282,"event":"obtained_skin_added"}}}}}}}}"#,
        clock::now(),
    )
}

/// Returns the id of the listing that a request orders.
pub(crate) fn ordered(market: MarketName, request: &[u8]) -> Option<String> {
    let (mark, end): (&[u8], u8) = match market {
        MarketName::Csgoroll => (b"\"tradeIds\":[\"", b'"'),
        MarketName::LisSkins => (b"{\"ids\":[", b']'),
        MarketName::Waxpeer => (b"/buy-one-p2p?", b' '),
    };
    let found = crate::market::between(request, mark, end)?;
    if market != MarketName::Waxpeer {
        return Some(found);
    }
    let id = found.split('&').find_map(|pair| pair.strip_prefix("item_id="));
    id.map(str::to_owned)
}

/// Returns the value of a parameter of a request.
fn parameter(request: &[u8], name: &[u8]) -> Option<String> {
    let from = memmem::find(request, name)? + name.len();
    let value = request[from..].split(|byte| matches!(byte, b'&' | b' ')).next()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Answers a request to LIS-SKINS or Waxpeer. `ordered`: the listing that it orders.
pub(crate) fn answer(
    market: MarketName,
    request: &[u8],
    (ordered, orders): (Option<&str>, &[ReceivedOrder]),
) -> String {
    let count = i64::try_from(orders.len()).unwrap();
    let balance = Amount::from_cents(BALANCE.cents() - count * PRICE.cents());
    let has = |part: &[u8]| memmem::find(request, part).is_some();
    if market == MarketName::Waxpeer {
        return match ordered {
            // The recorded response has no own id. Without it, a connection is replaced after each
            // purchase, and there would be too few of them for this many orders.
            Some(_) => json!({
                "success": true, "id": count, "price": PRICE.thousandths(),
                "project_id": parameter(request, b"project_id="),
            }),
            None if has(b"/user?") => {
                let user = json!({"id": "bench", "wallet": balance.thousandths()});
                json!({"success": true, "user": user})
            }
            None => json!({"success": true, "trades": []}),
        }
        .to_string();
    }
    let now = clock::now();
    if let Some(id) = ordered {
        let own_id = crate::market::between(request, b"\"custom_id\":\"", b'"');
        return json!({ "data": purchase(id, &own_id.unwrap_or_default(), now) }).to_string();
    }
    let data = if has(b"/user/get-ws-token") {
        json!({"token": "token-of-the-benchmark"})
    } else if has(b"/user/balance") {
        return format!(r#"{{"data":{{"balance":{balance}}}}}"#);
    } else if has(b"/market/history") {
        orders.iter().rev().map(|order| purchase(&order.id, "", now)).collect()
    } else {
        json!([])
    };
    let meta = json!({"current_page": 1, "last_page": 1, "next_cursor": null});
    json!({"data": data, "meta": meta}).to_string()
}

fn purchase(id: &str, own_id: &str, at: UnixMs) -> Value {
    let id: u64 = id.parse().unwrap();
    let skin = json!({
        "id": id, "name": WANTED, "price": 10, "status": "processing", "return_reason": null,
        "error": null,
    });
    json!({"purchase_id": id, "created_at": at.to_string(), "custom_id": own_id, "skins": [skin]})
}
