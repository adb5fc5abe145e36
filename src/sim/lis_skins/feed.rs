//! Server side of the Centrifugo protocol in JSON for one connection: messages in, messages out.
//! Pure.
//!
//! A text frame may hold several objects, one per line, in both directions. The first command must
//! be `connect` with a valid token. The server pings with `{}` and closes the connection if the
//! answer does not arrive in time.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use super::{dollars, status, token, token::TokenState};
use crate::{
    domain::time::UnixMs,
    sim::{
        catalogue::Sticker,
        faults::FaultKind,
        model::{FeedOutput, FeedSession},
        random::{Rng, RngExt as _},
        repricing::{
            listing::{ForeignLot, SimEvent, SimListing},
            names,
            purchase::Purchase,
            server::FeedOpening,
        },
    },
};

/// Channel of all listings.
const LISTINGS: &str = "public:obtained-skins";
/// Prefix of the channel of a user's purchases.
const PURCHASES: &str = "private:purchase-skins#";
/// Maximum time until the client sends `connect`.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Time after the expiry of a token at which the connection is closed.
const EXPIRED_AFTER: Duration = Duration::from_secs(5);
/// Maximum number of objects in one frame.
const OBJECTS_MAX: usize = 8;
/// Maximum number of channels of a connection.
const CHANNELS_MAX: usize = 16;

/// Protocol state of one connection.
#[derive(Debug)]
pub struct CentrifugoSession {
    seed: u64,
    user_id: String,
    opened_at: UnixMs,
    ping_every: Duration,
    pong_timeout: Duration,
    rng: Rng,
    /// Time by which the client must have connected; `None` afterwards.
    connect_by: Option<Duration>,
    next_ping: Duration,
    pong_by: Option<Duration>,
    /// Time at which the connection is closed because its token has expired.
    expires_at: Option<Duration>,
    uses_frame_pings: bool,
    /// Subscribed channels with the offset of their last publication.
    channels: BTreeMap<String, u64>,
}

impl CentrifugoSession {
    /// Opens the connection after the upgrade. Returns `None` if the request is not acceptable.
    pub(super) fn open(opening: FeedOpening<'_>, now: Duration) -> Option<(Self, Vec<FeedOutput>)> {
        let repricing = opening.settings.repricing;
        let session = Self {
            seed: opening.account.seed,
            user_id: opening.account.user_id.clone(),
            opened_at: opening.opened_at,
            // The interval is announced in whole seconds.
            ping_every: Duration::from_secs(opening.settings.ping_every.as_secs().max(1)),
            pong_timeout: repricing.pong_timeout,
            rng: opening.rng,
            connect_by: Some(now.saturating_add(CONNECT_TIME_MAX)),
            next_ping: now,
            pong_by: None,
            expires_at: None,
            uses_frame_pings: opening.query.get("cf_ws_frame_ping_pong") == Some("true"),
            channels: BTreeMap::new(),
        };
        Some((session, Vec::new()))
    }
}

impl FeedSession for CentrifugoSession {
    type Event = SimEvent;
    const BINARY: (u16, &'static str) = (1_003, "text expected");
    const TOO_SLOW: (u16, &'static str) = (1_013, "too far behind");

    fn receive(&mut self, text: &str, now: Duration) -> Vec<FeedOutput> {
        let mut outputs = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let command: Value = serde_json::from_str(line).unwrap_or(Value::Null);
            let Some(fields) = command.as_object() else {
                outputs.push(FeedOutput::close(3_501, "bad request"));
                break;
            };
            if fields.is_empty() {
                self.pong_by = None;
                continue;
            }
            let output = match fields.get("id").and_then(Value::as_u64) {
                Some(id) if id > 0 => self.execute(id, &command, now),
                _ => FeedOutput::close(3_501, "bad request"),
            };
            let is_end = matches!(output, FeedOutput::Close(..));
            outputs.push(output);
            if is_end {
                break;
            }
        }
        outputs
    }

    fn send_events(&mut self, events: &[Arc<SimEvent>]) -> Vec<FeedOutput> {
        let mut objects: VecDeque<String> = VecDeque::new();
        let own = format!("{PURCHASES}{}", self.user_id);
        for event in events {
            let (channel, data) = match &**event {
                SimEvent::Added(listing) => {
                    (LISTINGS, listing_json(listing, "obtained_skin_added"))
                }
                SimEvent::Repriced(listing) => {
                    (LISTINGS, listing_json(listing, "obtained_skin_price_changed"))
                }
                SimEvent::Foreign(listing) => (LISTINGS, foreign_json(listing)),
                SimEvent::Removed(listing) => (LISTINGS, self.removed_json(listing)),
                SimEvent::Purchase(purchase) => (&*own, purchase_json(purchase)),
                SimEvent::Balance(_) => continue,
            };
            let Some(offset) = self.channels.get_mut(channel) else { continue };
            *offset = offset.saturating_add(1);
            let publication = json!({"data": data, "offset": *offset});
            let push = json!({"push": {"channel": channel, "pub": publication}});
            objects.push_back(push.to_string());
        }
        let mut outputs = Vec::new();
        while !objects.is_empty() {
            let count = self.rng.usize(1..=OBJECTS_MAX).min(objects.len());
            let frame: Vec<String> = objects.drain(..count).collect();
            outputs.push(FeedOutput::Text(frame.join("\n")));
        }
        outputs
    }

    fn fail(&mut self, kind: FaultKind) -> Vec<FeedOutput> {
        match kind {
            FaultKind::FeedClose => vec![FeedOutput::close(3_001, "shutdown")],
            FaultKind::FeedToken => vec![FeedOutput::close(3_500, "invalid token")],
            FaultKind::FeedDisconnect => {
                let push =
                    json!({"push": {"disconnect": {"code": 3_004, "reason": "force reconnect"}}});
                vec![
                    FeedOutput::Text(push.to_string()),
                    FeedOutput::close(3_004, "force reconnect"),
                ]
            }
            FaultKind::FeedError => {
                let channels = std::mem::take(&mut self.channels);
                let unsubscribe = |channel: &String| {
                    let body = json!({"code": 2_500, "reason": "insufficient state"});
                    let push = json!({"push": {"channel": channel, "unsubscribe": body}});
                    FeedOutput::Text(push.to_string())
                };
                channels.keys().map(unsubscribe).collect()
            }
            _ => Vec::new(),
        }
    }

    fn next_due(&self) -> Option<Duration> {
        let ping = (self.connect_by.is_none() && !self.uses_frame_pings).then_some(self.next_ping);
        [self.connect_by, ping, self.pong_by, self.expires_at].into_iter().flatten().min()
    }

    fn advance(&mut self, now: Duration) -> Vec<FeedOutput> {
        let is_past = |due: Option<Duration>| due.is_some_and(|due| due <= now);
        if is_past(self.connect_by) {
            return vec![FeedOutput::close(3_502, "stale")];
        }
        if is_past(self.pong_by) {
            return vec![FeedOutput::close(3_012, "no pong")];
        }
        if is_past(self.expires_at) {
            return vec![FeedOutput::close(3_005, "connection expired")];
        }
        if self.connect_by.is_none() && self.next_ping <= now && !self.uses_frame_pings {
            self.next_ping = now.saturating_add(self.ping_every);
            self.pong_by = Some(now.saturating_add(self.pong_timeout));
            return vec![FeedOutput::Text("{}".to_owned())];
        }
        Vec::new()
    }

    fn is_subscribed(&self) -> bool {
        !self.channels.is_empty()
    }
}

impl CentrifugoSession {
    /// Executes a command with this id. Returns its reply.
    fn execute(&mut self, id: u64, command: &Value, now: Duration) -> FeedOutput {
        let is_connected = self.connect_by.is_none();
        if let Some(connect) = command.get("connect") {
            if is_connected {
                return FeedOutput::close(3_501, "bad request");
            }
            return self.connect(id, connect, now);
        }
        if !is_connected {
            return FeedOutput::close(3_501, "bad request");
        }
        if let Some(subscribe) = command.get("subscribe") {
            let channel = subscribe.get("channel").and_then(Value::as_str).unwrap_or_default();
            return self.subscribe(id, channel);
        }
        if let Some(unsubscribe) = command.get("unsubscribe") {
            let channel = unsubscribe.get("channel").and_then(Value::as_str).unwrap_or_default();
            self.channels.remove(channel);
            return reply(id, &json!({"unsubscribe": {}}));
        }
        match command.get("refresh") {
            Some(refresh) => self.refresh(id, refresh, now),
            None => error(id, 104, "method not found"),
        }
    }

    /// Returns the state of the token of a command.
    fn token(&self, command: &Value, now: Duration) -> TokenState {
        let text = command.get("token").and_then(Value::as_str).unwrap_or_default();
        token::check(self.seed, text, self.opened_at.plus(now))
    }

    /// Takes over the expiry of a token. Returns its remaining whole seconds.
    fn set_expiry(&mut self, expires_at: UnixMs, now: Duration) -> u64 {
        let left = expires_at.since(self.opened_at.plus(now));
        self.expires_at = Some(now.saturating_add(left).saturating_add(EXPIRED_AFTER));
        left.as_secs()
    }

    fn connect(&mut self, id: u64, connect: &Value, now: Duration) -> FeedOutput {
        match self.token(connect, now) {
            TokenState::Invalid => FeedOutput::close(3_500, "invalid token"),
            TokenState::Expired => error(id, 109, "token expired"),
            TokenState::Valid(expires_at) => {
                let ttl = self.set_expiry(expires_at, now);
                self.connect_by = None;
                self.next_ping = now.saturating_add(self.ping_every);
                let mut result = json!({
                    "client": format!("{:08x}-0000-4000-8000-{:012x}", self.rng.u32(..), self.rng.u32(..)),
                    "version": "5.4.0",
                    "expires": true,
                    "ttl": ttl,
                });
                if let Some(fields) = result.as_object_mut().filter(|_| !self.uses_frame_pings) {
                    fields.insert("ping".to_owned(), self.ping_every.as_secs().into());
                    fields.insert("pong".to_owned(), true.into());
                }
                reply(id, &json!({"connect": result}))
            }
        }
    }

    fn refresh(&mut self, id: u64, refresh: &Value, now: Duration) -> FeedOutput {
        match self.token(refresh, now) {
            TokenState::Invalid => FeedOutput::close(3_500, "invalid token"),
            TokenState::Expired => error(id, 109, "token expired"),
            TokenState::Valid(expires_at) => {
                let ttl = self.set_expiry(expires_at, now);
                reply(id, &json!({"refresh": {"expires": true, "ttl": ttl}}))
            }
        }
    }

    fn subscribe(&mut self, id: u64, channel: &str) -> FeedOutput {
        let own = format!("{PURCHASES}{}", self.user_id);
        if channel.starts_with(PURCHASES) && channel != own {
            return error(id, 103, "permission denied");
        }
        if channel != LISTINGS && channel != own {
            return error(id, 102, "unknown channel");
        }
        if self.channels.contains_key(channel) {
            return error(id, 105, "already subscribed");
        }
        if self.channels.len() >= CHANNELS_MAX {
            return error(id, 106, "limit exceeded");
        }
        self.channels.insert(channel.to_owned(), 0);
        let history = if channel == LISTINGS {
            json!({"recoverable": true, "epoch": "practice", "offset": 0})
        } else {
            json!({})
        };
        reply(id, &json!({"subscribe": history}))
    }

    /// Returns the event of a deletion, which sometimes contains only the id, the name and the
    /// event.
    fn removed_json(&mut self, listing: &SimListing) -> Value {
        if self.rng.chance_permille(500) {
            return listing_json(listing, "obtained_skin_deleted");
        }
        let name = names::split(&listing.item.market_name).without_phase;
        json!({"id": listing.id, "name": name, "event": "obtained_skin_deleted"})
    }
}

fn reply(id: u64, result: &Value) -> FeedOutput {
    let mut reply = json!({"id": id});
    if let (Some(reply), Some(result)) = (reply.as_object_mut(), result.as_object()) {
        reply.extend(result.clone());
    }
    FeedOutput::Text(reply.to_string())
}

fn error(id: u64, code: u32, message: &str) -> FeedOutput {
    FeedOutput::Text(json!({"id": id, "error": {"code": code, "message": message}}).to_string())
}

/// Returns a time with microseconds, as this market writes it.
fn microseconds(time: UnixMs) -> String {
    let text = time.to_string();
    text.strip_suffix('Z').map_or_else(|| text.clone(), |text| format!("{text}000Z"))
}

/// Returns the fields of a listing, as the feed and the search contain them.
pub(super) fn skin_json(listing: &SimListing) -> Value {
    let name = names::split(&listing.item.market_name);
    let stickers: Vec<Value> =
        listing.item.stickers.iter().zip(0_u32..).map(sticker_json).collect();
    let float = listing.item.float.as_ref().map(|float| &*float.text);
    let seed = u32::try_from(listing.id % 1_000).unwrap_or(0);
    json!({
        "id": listing.id,
        "name": name.without_phase,
        "price": dollars(listing.price),
        "name_tag": null,
        "stickers": stickers,
        "unlock_at": listing.unlock_at.map(microseconds),
        "created_at": microseconds(listing.created_at),
        "item_float": float,
        "item_class_id": "310776560",
        "item_asset_id": null,
        "item_link": null,
        "item_paint_seed": float.map(|_float| seed),
        "item_paint_index": name.paint_index,
    })
}

fn sticker_json((sticker, slot): (&Sticker, u32)) -> Value {
    json!({
        "name": format!("Sticker | {} ({})", sticker.name, sticker.color),
        "image": "https://example.invalid/sticker.png",
        "wear": sticker.wear,
        "slot": slot,
    })
}

fn listing_json(listing: &SimListing, event: &str) -> Value {
    let mut json = skin_json(listing);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("event".to_owned(), event.into());
        // Some events name the game.
        if listing.id.is_multiple_of(3) {
            fields.insert("game_id".to_owned(), 1.into());
        }
    }
    json
}

/// Returns the event of a listing of another game, most of which name the game.
fn foreign_json(listing: &ForeignLot) -> Value {
    let mut json = json!({
        "id": listing.id,
        "name": listing.name,
        "price": dollars(listing.price),
        "name_tag": null,
        "stickers": null,
        "unlock_at": null,
        "created_at": microseconds(listing.created_at),
        "item_float": null,
        "item_class_id": "100",
        "item_paint_seed": null,
        "item_paint_index": null,
        "event": "obtained_skin_added",
    });
    if let Some(fields) = json.as_object_mut().filter(|_| !listing.id.is_multiple_of(4)) {
        fields.insert("game_id".to_owned(), listing.game.into());
    }
    json
}

fn purchase_json(purchase: &Purchase) -> Value {
    let (status, reason) = status(purchase);
    json!({
        "event": "purchase_skin_info_updated",
        "id": purchase.listing.id,
        "name": names::split(&purchase.market_name).without_phase,
        "price": dollars(purchase.price),
        "purchase_id": purchase.number,
        "custom_id": &*purchase.own_id,
        "status": status,
        "return_reason": reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{
        repricing::{query::Query, server::AccountKeys},
        settings::SimSettings,
    };

    const OPENED_AT: UnixMs = UnixMs(1_772_366_400_000);

    fn session() -> CentrifugoSession {
        let account = AccountKeys { key: "k".to_owned(), user_id: "4711".to_owned(), seed: 7 };
        let opening = FeedOpening {
            account: &account,
            settings: &SimSettings::default(),
            query: &Query::default(),
            authorization: None,
            opened_at: OPENED_AT,
            rng: Rng::with_seed(7),
        };
        CentrifugoSession::open(opening, Duration::ZERO).unwrap().0
    }

    fn connect(session: &mut CentrifugoSession, valid_for: Duration) -> Vec<FeedOutput> {
        let token = token::issue(7, "4711", OPENED_AT.plus(valid_for));
        let command = json!({"id": 1, "connect": {"token": token, "name": "test"}});
        session.receive(&command.to_string(), Duration::ZERO)
    }

    fn json(output: &FeedOutput) -> Value {
        let FeedOutput::Text(text) = output else { panic!("{output:?}") };
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_connection_needs_a_valid_token_first() {
        let mut early = session();
        let subscribe = r#"{"id":1,"subscribe":{"channel":"public:obtained-skins"}}"#;
        let ended = [FeedOutput::close(3_501, "bad request")];
        assert_eq!(early.receive(subscribe, Duration::ZERO), ended);
        let invalid = r#"{"id":1,"connect":{"token":"nonsense"}}"#;
        let ended = [FeedOutput::close(3_500, "invalid token")];
        assert_eq!(session().receive(invalid, Duration::ZERO), ended);
        let expired = connect(&mut session(), Duration::ZERO);
        assert_eq!(json(&expired[0])["error"]["code"], 109);
        let connected = connect(&mut session(), Duration::from_secs(3_600));
        let reply = json(&connected[0]);
        assert_eq!((&reply["id"], &reply["connect"]["ttl"]), (&json!(1), &json!(3_600)));
        assert_eq!(
            (&reply["connect"]["ping"], &reply["connect"]["pong"]),
            (&json!(12), &json!(true))
        );
    }

    #[test]
    fn several_commands_may_share_a_frame() {
        let mut session = session();
        connect(&mut session, Duration::from_secs(60));
        let frame = "{\"id\":2,\"subscribe\":{\"channel\":\"public:obtained-skins\"}}\n{}\n\
                     {\"id\":3,\"subscribe\":{\"channel\":\"private:purchase-skins#4711\"}}";
        let replies = session.receive(frame, Duration::ZERO);
        let history = json!({"recoverable": true, "epoch": "practice", "offset": 0});
        assert_eq!(json(&replies[0]), json!({"id": 2, "subscribe": history}));
        assert_eq!(json(&replies[1]), json!({"id": 3, "subscribe": {}}));
        let error_code = |session: &mut CentrifugoSession, channel: &str| {
            let command = json!({"id": 4, "subscribe": {"channel": channel}});
            json(&session.receive(&command.to_string(), Duration::ZERO)[0])["error"]["code"].clone()
        };
        assert_eq!(error_code(&mut session, "public:obtained-skins"), 105);
        assert_eq!(error_code(&mut session, "private:purchase-skins#1"), 103);
        assert_eq!(error_code(&mut session, "public:else"), 102);
    }

    #[test]
    fn a_missing_pong_and_an_expired_token_close_the_connection() {
        let mut session = session();
        connect(&mut session, Duration::from_secs(60));
        let ping_at = session.next_due().unwrap();
        assert_eq!(ping_at, Duration::from_secs(12));
        assert_eq!(session.advance(ping_at), [FeedOutput::Text("{}".to_owned())]);
        let pong_by = session.next_due().unwrap();
        assert_eq!(pong_by, Duration::from_secs(19));
        assert_eq!(session.receive("{}", Duration::from_secs(13)), []);
        assert_eq!(session.next_due(), Some(Duration::from_secs(24)));
        session.advance(Duration::from_secs(24));
        let ended = [FeedOutput::close(3_012, "no pong")];
        assert_eq!(session.advance(Duration::from_secs(31)), ended);
        session.receive("{}", Duration::from_secs(31));
        let ended = [FeedOutput::close(3_005, "connection expired")];
        assert_eq!(session.advance(Duration::from_secs(65)), ended);
    }
}
