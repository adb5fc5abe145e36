//! Cost of an event of LIS-SKINS that no entry wants: from its message to the decision.

use std::{
    hint::black_box,
    io::{self, Write},
    time::{Duration, Instant},
};

use sniper::{
    config::{Config, Endpoints},
    domain::wanted_items::WantedItems,
    markets::{MarketEvent, Marketplace as _, Scan, lis_skins::LisSkins},
    protocol::{Centrifugo, FeedMessage, ProtocolEvent, Subscription, SubscriptionState},
    whitelist::{Decision, Whitelist},
};

use crate::{
    frames::NAMES,
    measure::{Times, allocations},
    ns,
    subject::whitelist,
};

const CHANNEL: &str = "public:obtained-skins";

/// A subscribed session.
struct Session {
    market: LisSkins,
    machine: SubscriptionState<Centrifugo>,
    whitelist: Whitelist,
    wanted: WantedItems,
    now: Instant,
}

impl Session {
    fn new(entries: usize) -> Self {
        let endpoints = Endpoints::new("ws://127.0.0.1:1/", "http://127.0.0.1:1/v1").unwrap();
        let market = LisSkins::new(&Config::new(endpoints, "unused"));
        let now = Instant::now();
        let wait = Duration::from_secs(1);
        let mut machine = SubscriptionState::new(Centrifugo::default(), wait, wait);
        machine.subscribe(Subscription { topic: CHANNEL.to_owned(), is_optional: false }, now);
        machine.open();
        let connected = FeedMessage::Text(r#"{"id":1,"connect":{"ping":25}}"#);
        let acked = machine.receive(connected, now, |input| market.decode(input));
        assert!(matches!(acked, Ok(ProtocolEvent::Acked)), "not acknowledged");
        while machine.due(now).is_some() {}
        let whitelist = whitelist(entries);
        let wanted = WantedItems::of(whitelist.entries());
        Self { market, machine, whitelist, wanted, now }
    }

    fn scan(&self, text: &str) -> bool {
        let Some(payload) = self.machine.peek_event(text.as_bytes()) else { return false };
        self.market.scan(payload, &self.wanted, &mut |_| {}) == Scan::CanWait
    }

    /// Splits and reads a message and decides its listing.
    fn read_and_decide(&mut self, text: &str) -> Option<Decision> {
        let (first, rest) = self.machine.split_first(FeedMessage::Text(text));
        let market = &self.market;
        let event = self.machine.receive(first, self.now, |input| market.decode(input)).ok()?;
        let ProtocolEvent::Data { payload, .. } = event else { return None };
        match payload.events? {
            MarketEvent::Trade(trade) if rest.is_none() => Some(self.whitelist.decide(&trade)),
            _ => None,
        }
    }
}

fn event(number: usize) -> String {
    // The market writes no phase, and a Doppler is read in its turn.
    let name = NAMES.get(number % NAMES.len()).copied().unwrap_or_default();
    let name = name.replace("Doppler Phase 3", "Fade");
    let (id, price, float) =
        (900_000_123 + number, 102 + number * 7_919 % 900_000, number * 7_368_787);
    format!(
        r#"{{"push":{{"channel":"{CHANNEL}","pub":{{"data":{{"id":{id},"name":"{name}","price":{}.{:02},"name_tag":null,"stickers":[{{"name":"Sticker | Example","image":"https://example.invalid/s.png","wear":0,"slot":0}},{{"name":"Sticker | Example (Holo)","image":"https://example.invalid/t.png","wear":3,"slot":1}}],"unlock_at":null,"created_at":"2026-03-01T10:00:00.000000Z","item_float":"0.{float:015}","item_class_id":"310776560","item_paint_seed":231,"item_paint_index":282,"event":"obtained_skin_added"}},"offset":{number}}}}}}}"#,
        price / 100,
        price % 100
    )
}

pub(crate) fn run(rounds: usize, is_quick: bool, out: &mut impl Write) -> io::Result<()> {
    let texts: Vec<String> = (0..crate::FRAMES).map(event).collect();
    let bytes = texts.iter().map(String::len).sum::<usize>() / texts.len();
    writeln!(out, "LIS-SKINS: ns per event of {bytes} bytes, median of {rounds} rounds (fastest)")?;
    for entries in [10, 100_000] {
        let mut session = Session::new(entries);
        for text in &texts {
            assert_eq!(session.read_and_decide(text), Some(Decision::NoEntry), "{text}");
            assert!(session.scan(text), "{text}");
        }
        let allocations = allocations(|| {
            for text in &texts {
                black_box(session.read_and_decide(text));
            }
        });
        assert_eq!(allocations, 0, "a decision for an unlisted item allocates");
        write!(out, "{entries:>7} entries: {allocations} allocations")?;
        if is_quick {
            writeln!(out, ", not timed")?;
            continue;
        }
        let scan = Times::of(rounds, texts.len(), || {
            for text in &texts {
                black_box(session.scan(black_box(text)));
            }
        });
        let both = Times::of(rounds, texts.len(), || {
            for text in &texts {
                black_box(session.read_and_decide(black_box(text)));
            }
        });
        let shown =
            |times: &Times| format!("{} ({})", ns(times.percentile(50)), ns(times.percentile(0)));
        writeln!(out, ", scan {}, read and decided {}", shown(&scan), shown(&both))?;
    }
    Ok(())
}
