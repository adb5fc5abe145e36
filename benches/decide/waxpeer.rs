//! Cost of an unwanted event of Waxpeer: its envelope, the listing, and the decision of the
//! whitelist.

use std::{
    hint::black_box,
    io::{self, Write},
    time::{Duration, Instant},
};

use sniper::{
    config::{Config, Endpoints},
    domain::wanted_items::WantedItems,
    markets::{MarketEvent, Marketplace as _, Scan, waxpeer::Waxpeer},
    protocol::{FeedMessage, ProtocolEvent, SocketIo, SubscriptionState},
    whitelist::{Decision, Whitelist},
};

use crate::{
    FRAMES,
    frames::NAMES,
    measure::{Times, allocations},
    ns,
    subject::whitelist,
};

/// Entries of the whitelist.
const ENTRIES: usize = 100_000;

/// A subscribed session with a whitelist.
struct WaxpeerSubject {
    market: Waxpeer,
    machine: SubscriptionState<SocketIo>,
    whitelist: Whitelist,
    wanted: WantedItems,
    now: Instant,
}

impl WaxpeerSubject {
    fn new() -> Self {
        let endpoints = Endpoints::new("ws://127.0.0.1:1/", "http://127.0.0.1:1/v1").unwrap();
        let market = Waxpeer::new(&Config::new(endpoints, "unused"));
        let (now, retry) = (Instant::now(), Duration::from_secs(1));
        let mut machine = SubscriptionState::new(SocketIo::default(), retry, retry);
        machine.open();
        for text in [r#"0{"sid":"a"}"#, r#"40{"sid":"b"}"#] {
            let read = machine.receive(FeedMessage::Text(text), now, |input| market.decode(input));
            assert!(read.is_ok(), "{text}");
        }
        assert!(machine.is_live());
        let whitelist = whitelist(ENTRIES);
        let wanted = WantedItems::of(whitelist.entries());
        Self { market, machine, whitelist, wanted, now }
    }

    /// Reads one event. Returns the decision about its listing, or `None` for a removal.
    #[inline]
    fn read_and_decide(&mut self, text: &str) -> Option<Decision> {
        let Self { market, machine, whitelist, now, .. } = self;
        let read = machine.receive(FeedMessage::Text(text), *now, |input| market.decode(input));
        let payload = match read {
            Ok(ProtocolEvent::Data { payload, .. }) => Some(payload),
            _ => None,
        };
        let payload = payload.unwrap();
        payload.events.into_iter().find_map(|event| match event {
            MarketEvent::Trade(trade) => Some(whitelist.decide(&trade)),
            _ => None,
        })
    }

    #[inline]
    /// Scans one event. Returns `true` if it is counted without being read.
    fn scan(&self, text: &str) -> bool {
        let payload = self.machine.peek_event(text.as_bytes()).unwrap();
        let scan = self.market.scan(payload, &self.wanted, &mut |_trade| {});
        matches!(black_box(scan), Scan::Unnamed(_))
    }
}

/// Returns the `number`-th event, with the fields and their order as recorded.
fn event(name: &str, number: usize) -> String {
    let item = NAMES.get(number % NAMES.len()).unwrap();
    let price = 500 + number * 7_919 % 900_000;
    let id = 40_000_000_000 + number;
    if name == "removed" {
        return format!(
            r#"42["removed",{{"game":"csgo","item_id":"{id}","name":"{item}","price":{price}}}]"#
        );
    }
    let float = number * 7_368_787 % 1_000_000_000;
    let phase = if item.contains("Phase 3") { "Phase 3" } else { "" };
    format!(
        r#"42["{name}",{{"item_id":"{id}","name":"{item}","price":{price},"game":"csgo","auto":true,"float":0.{float:09},"paint_index":{},"phase":"{phase}","sticker_names":["Sticker | Example (Foil)","Sticker | Example"],"classid":310776560,"instance_id":302028390,"steam_id":"76561198000000000","steam_price":{}}}]"#,
        number % 1_000,
        price + 90_000,
    )
}

pub(crate) fn run(rounds: usize, is_quick: bool, out: &mut impl Write) -> io::Result<()> {
    let mut subject = WaxpeerSubject::new();
    writeln!(out, "Waxpeer: ns per event, median of {rounds} rounds (fastest); nothing matches")?;
    writeln!(out, "     event bytes |             scan |             both | allocations")?;
    for name in ["new", "update", "removed"] {
        let texts: Vec<String> = (0..FRAMES).map(|number| event(name, number)).collect();
        let expected = (name != "removed").then_some(Decision::NoEntry);
        for text in &texts {
            assert_eq!(subject.read_and_decide(text), expected, "{text}");
            assert!(subject.scan(text), "{text}");
        }
        let allocations = allocations(|| {
            for text in &texts {
                black_box(subject.read_and_decide(text));
            }
        });
        assert_eq!(allocations, 0, "a decision for an unlisted item allocates");
        let size = texts.iter().map(String::len).sum::<usize>() / FRAMES;
        write!(out, "{name:>10} {size:>5} |")?;
        if is_quick {
            writeln!(out, " not timed | {allocations}")?;
            continue;
        }
        let scan = Times::of(rounds, FRAMES, || {
            for text in &texts {
                black_box(subject.scan(black_box(text)));
            }
        });
        let both = Times::of(rounds, FRAMES, || {
            for text in &texts {
                black_box(subject.read_and_decide(black_box(text)));
            }
        });
        for times in [scan, both] {
            write!(out, " {:>7} ({:>7})|", ns(times.percentile(50)), ns(times.percentile(0)))?;
        }
        writeln!(out, " {allocations}")?;
    }
    Ok(())
}
