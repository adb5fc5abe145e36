//! Server side of Engine.IO 4 with Socket.IO for one connection: messages in, messages out. Pure.
//!
//! Only the server pings. It closes the connection of a client that does not answer in time.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{mills, status};
use crate::sim::{
    faults::FaultKind,
    model::{FeedOutput, FeedSession},
    random::{Rng, RngExt as _},
    repricing::{
        listing::{SimEvent, SimListing},
        names::{self, SplitName},
        purchase::{Purchase, PurchaseStage},
        server::FeedOpening,
    },
};

/// The only channel.
const CHANNEL: &str = "csgo";
/// Maximum time until the client connects to the namespace.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(45);
/// Announced maximum size of a client's message.
const PAYLOAD_BYTES_MAX: usize = 1_000_000;

/// Protocol state of one connection.
#[derive(Debug)]
pub struct SocketIoSession {
    /// Id of the account, if the client sent its key.
    account: Option<String>,
    ping_every: Duration,
    pong_timeout: Duration,
    rng: Rng,
    /// Time by which the client must have connected; `None` afterwards.
    connect_by: Option<Duration>,
    next_ping: Duration,
    pong_by: Option<Duration>,
    subscribed: bool,
}

impl SocketIoSession {
    /// Opens the connection after the upgrade. Returns `None` if the request is not acceptable.
    pub(super) fn open(opening: FeedOpening<'_>, now: Duration) -> Option<(Self, Vec<FeedOutput>)> {
        if opening.query.get("EIO") != Some("4")
            || opening.query.get("transport") != Some("websocket")
        {
            return None;
        }
        let has_key = opening.authorization == Some(&*opening.account.key);
        let mut session = Self {
            account: has_key.then(|| opening.account.user_id.clone()),
            ping_every: opening.settings.ping_every,
            pong_timeout: opening.settings.repricing.pong_timeout,
            rng: opening.rng,
            connect_by: Some(now.saturating_add(CONNECT_TIME_MAX)),
            next_ping: now.saturating_add(opening.settings.ping_every),
            pong_by: None,
            subscribed: false,
        };
        let ms = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let handshake = json!({
            "sid": session.session_id(),
            "upgrades": [],
            "pingInterval": ms(session.ping_every),
            "pingTimeout": ms(session.pong_timeout),
            "maxPayload": PAYLOAD_BYTES_MAX,
        });
        Some((session, vec![text(format!("0{handshake}"))]))
    }
}

impl FeedSession for SocketIoSession {
    type Event = SimEvent;
    const BINARY: (u16, &'static str) = (1_003, "text expected");
    const TOO_SLOW: (u16, &'static str) = (1_013, "too far behind");

    fn receive(&mut self, message: &str, _now: Duration) -> Vec<FeedOutput> {
        let is_connected = self.connect_by.is_none();
        match message.as_bytes() {
            [b'3', ..] => {
                self.pong_by = None;
                Vec::new()
            }
            [b'4', b'0', ..] if !is_connected => {
                self.connect_by = None;
                vec![text(format!("40{}", json!({"sid": self.session_id()})))]
            }
            [b'4', b'2', ..] if is_connected => {
                let packet = message.get(2..).unwrap_or_default();
                let event: Value = serde_json::from_str(packet).unwrap_or(Value::Null);
                self.handle_event(&event)
            }
            [b'4', b'1', ..] if is_connected => {
                self.subscribed = false;
                self.connect_by = Some(Duration::MAX);
                Vec::new()
            }
            // In version 4 of Engine.IO the client does not ping.
            _ => vec![FeedOutput::close(1_000, "")],
        }
    }

    fn send_events(&mut self, events: &[Arc<SimEvent>]) -> Vec<FeedOutput> {
        if !self.subscribed {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        for event in events {
            let (name, payload) = match &**event {
                SimEvent::Added(listing) => ("new", self.listing_json(listing)),
                SimEvent::Repriced(listing) => ("update", self.listing_json(listing)),
                SimEvent::Removed(listing) => ("removed", removed_json(listing)),
                SimEvent::Balance(balance) if self.account.is_some() => {
                    ("change_user", json!({"wallet": mills(*balance)}))
                }
                SimEvent::Purchase(purchase) if self.account.is_some() => {
                    ("steamTrade", trade_json(purchase))
                }
                SimEvent::Foreign(_) | SimEvent::Balance(_) | SimEvent::Purchase(_) => continue,
            };
            outputs.push(event_text(name, &payload));
        }
        outputs
    }

    fn fail(&mut self, kind: FaultKind) -> Vec<FeedOutput> {
        match kind {
            FaultKind::FeedClose => vec![text("1".to_owned()), FeedOutput::close(1_000, "")],
            FaultKind::FeedDisconnect => {
                self.subscribed = false;
                self.connect_by = Some(Duration::MAX);
                vec![text("41".to_owned())]
            }
            FaultKind::FeedError => {
                self.subscribed = false;
                self.connect_by = Some(Duration::MAX);
                vec![text(format!("44{}", json!({"message": "Server is overloaded"})))]
            }
            _ => Vec::new(),
        }
    }

    fn next_due(&self) -> Option<Duration> {
        [self.connect_by, self.pong_by, Some(self.next_ping)].into_iter().flatten().min()
    }

    fn advance(&mut self, now: Duration) -> Vec<FeedOutput> {
        let is_past = |due: Option<Duration>| due.is_some_and(|due| due <= now);
        if is_past(self.connect_by) || is_past(self.pong_by) {
            return vec![FeedOutput::close(1_000, "")];
        }
        if self.next_ping <= now {
            self.next_ping = now.saturating_add(self.ping_every);
            self.pong_by = Some(now.saturating_add(self.pong_timeout));
            return vec![text("2".to_owned())];
        }
        Vec::new()
    }

    fn is_subscribed(&self) -> bool {
        self.subscribed
    }
}

impl SocketIoSession {
    fn session_id(&mut self) -> String {
        format!("{:016x}{:04x}", self.rng.u64(..), self.rng.u16(..))
    }

    fn handle_event(&mut self, event: &Value) -> Vec<FeedOutput> {
        let name = event.get(0).and_then(Value::as_str);
        let channel = event.pointer("/1/name").and_then(Value::as_str);
        match (name, channel) {
            (Some("sub" | "subscribe"), Some(CHANNEL)) if !self.subscribed => {
                self.subscribed = true;
                let handshake = match &self.account {
                    Some(account) => json!({"id": account}),
                    None => json!({"id": null, "message": "No authentication or session"}),
                };
                let mut outputs = vec![
                    event_text("handshake", &handshake),
                    event_text("subscribed", &json!({"name": CHANNEL})),
                ];
                // The two come in either order.
                if self.rng.bool() {
                    outputs.reverse();
                }
                outputs
            }
            (Some("unsub" | "unsubscribe"), _) => {
                self.subscribed = false;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn listing_json(&mut self, listing: &SimListing) -> Value {
        let SplitName { with_phase, phase, paint_index, .. } =
            names::split(&listing.item.market_name);
        let float = listing.item.float.as_ref().map(|float| &*float.text);
        let is_text = self.rng.chance_permille(50);
        let float = match float {
            None => Value::Null,
            Some(float) if is_text => float.into(),
            Some(float) => float.parse::<f64>().map_or(Value::Null, Value::from),
        };
        let stickers =
            listing.item.stickers.iter().map(|sticker| {
                Value::from(format!("Sticker | {} ({})", sticker.name, sticker.color))
            });
        let stickers = match listing.item.stickers.len() {
            0 if self.rng.bool() => Value::Null,
            _ => stickers.collect(),
        };
        let mut json = json!({
            "item_id": listing.id.to_string(),
            "name": with_phase,
            "price": mills(listing.price),
            "game": CHANNEL,
            "auto": !listing.id.is_multiple_of(5),
            "float": float,
            "paint_index": paint_index,
            "phase": phase,
            "sticker_names": stickers,
            "classid": null,
            "instance_id": null,
            "steam_price": mills(listing.item.base),
        });
        if let Some(fields) = json.as_object_mut() {
            if listing.id.is_multiple_of(2) {
                fields.insert("steam_id".to_owned(), "76561198000000001".into());
            }
            if let Some(until) = listing.unlock_at {
                fields.insert("unlock_at".to_owned(), until.to_string().into());
                fields.insert("send_until".to_owned(), until.to_string().into());
            }
        }
        json
    }
}

fn text(text: String) -> FeedOutput {
    FeedOutput::Text(text)
}

fn event_text(name: &str, payload: &Value) -> FeedOutput {
    text(format!("42[\"{name}\",{payload}]"))
}

fn removed_json(listing: &SimListing) -> Value {
    json!({
        "game": CHANNEL,
        "item_id": listing.id.to_string(),
        "name": names::split(&listing.item.market_name).with_phase,
        "price": mills(listing.price),
    })
}

fn trade_json(purchase: &Purchase) -> Value {
    let (status, _) = status(purchase, purchase.changed_at);
    let kind = if purchase.stage == PurchaseStage::Created { "create" } else { "update" };
    let item = json!({
        "id": purchase.number,
        "price": mills(purchase.price),
        "name": names::split(&purchase.market_name).with_phase,
        "status": status,
        "item_id": purchase.listing.id.to_string(),
        "trade_id": null,
    });
    json!({
        "type": kind,
        "data": {
            "id": purchase.number,
            "stage": status,
            // An id of the market, and not the own id of the buyer.
            "costum_id": format!("wx-{}", purchase.number),
            "done": purchase.stage == PurchaseStage::Accepted,
            "send_until": null,
            "items": [item],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::time::UnixMs,
        sim::{
            repricing::{query::Query, server::AccountKeys},
            settings::SimSettings,
        },
    };

    fn open(
        query: &str,
        authorization: Option<&str>,
    ) -> Option<(SocketIoSession, Vec<FeedOutput>)> {
        let account = AccountKeys { key: "k".to_owned(), user_id: "4711".to_owned(), seed: 7 };
        let opening = FeedOpening {
            account: &account,
            settings: &SimSettings::default(),
            query: &Query::parse(query),
            authorization,
            opened_at: UnixMs(0),
            rng: Rng::with_seed(7),
        };
        SocketIoSession::open(opening, Duration::ZERO)
    }

    const QUERY: &str = "EIO=4&transport=websocket";

    fn texts(outputs: &[FeedOutput]) -> Vec<&str> {
        outputs
            .iter()
            .map(|output| match output {
                FeedOutput::Text(text) => text.as_str(),
                FeedOutput::Close(..) => "close",
            })
            .collect()
    }

    #[test]
    fn the_server_opens_and_the_client_connects_and_subscribes() {
        assert!(open("EIO=3&transport=websocket", None).is_none());
        assert!(open("EIO=4&transport=polling", None).is_none());
        let (mut session, greeting) = open(QUERY, Some("k")).unwrap();
        let handshake = texts(&greeting)[0].strip_prefix('0').unwrap();
        let handshake: Value = serde_json::from_str(handshake).unwrap();
        assert_eq!(
            (&handshake["pingInterval"], &handshake["pingTimeout"]),
            (&json!(12_000), &json!(7_000))
        );
        let connected = session.receive("40", Duration::ZERO);
        assert!(texts(&connected)[0].starts_with("40{\"sid\":"));
        let mut subscribed = session.receive(r#"42["sub",{"name":"csgo"}]"#, Duration::ZERO);
        subscribed.sort_by_key(|output| format!("{output:?}"));
        assert_eq!(
            texts(&subscribed),
            [r#"42["handshake",{"id":"4711"}]"#, r#"42["subscribed",{"name":"csgo"}]"#]
        );
        assert!(session.is_subscribed());
    }

    #[test]
    fn without_a_key_the_handshake_says_so() {
        let (mut session, _) = open(QUERY, Some("another")).unwrap();
        session.receive("40", Duration::ZERO);
        let subscribed = session.receive(r#"42["subscribe",{"name":"csgo"}]"#, Duration::ZERO);
        assert!(texts(&subscribed).iter().any(|text| text.contains("No authentication")));
    }

    #[test]
    fn only_the_server_pings_and_a_missing_pong_ends_the_connection() {
        let (mut session, _) = open(QUERY, None).unwrap();
        assert_eq!(texts(&session.receive("2", Duration::ZERO)), ["close"]);
        session.receive("40", Duration::ZERO);
        let seconds = Duration::from_secs;
        assert_eq!(session.next_due(), Some(seconds(12)));
        assert_eq!(texts(&session.advance(seconds(12))), ["2"]);
        assert_eq!(session.receive("3", seconds(13)), []);
        assert_eq!(session.next_due(), Some(seconds(24)));
        session.advance(seconds(24));
        assert_eq!(texts(&session.advance(seconds(31))), ["close"]);
    }
}
