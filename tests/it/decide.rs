//! The decision alone: the fast way from a message to a verdict says what a plain one says, and
//! asks for no memory.
#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod fast;
mod mutants;
pub(crate) mod plain;
mod way;

use proptest::prelude::*;
use sniper::whitelist::{Decision, Mismatch};

use self::fast::{Reader, whitelist};

/// A listing of each generation, as the facts about the wire give them.
const OF_A: &str = r#"{"id":"1","type":"next","payload":{"data":{"createTrade":{"trade":{"id":"VHJhZGU6OTAwMDAwMDE","status":"LISTED","steamAppName":"CSGO","cancelReason":null,"canJoinAfter":null,"markupPercent":0,"createdAt":"2026-03-01T10:00:00.120Z","depositor":null,"depositorLastActiveAt":"2026-03-01T09:59:58.004Z","expiresAt":"2026-03-03T10:00:00.101Z","withdrawerSteamTradeUrl":null,"customValue":false,"withdrawer":null,"totalValue":26.35,"updatedAt":"2026-03-01T10:00:00.120Z","tradeItems":[{"id":"VHJhZGVJdGVtOjkwMDAwMDAx","marketName":"AWP | Neo-Noir (Field-Tested)","value":26.35,"customValue":false,"itemVariant":{"id":"SXRlbVZhcmlhbnQ6MTE4OTM","itemId":"SXRlbToxMTg5Mw","name":"Neo-Noir","brand":"AWP","iconUrl":"https://example.invalid/i.png","value":26.35,"displayValue":26.35,"externalId":"AWP | Neo-Noir (Field-Tested)","color":"Field-Tested","rarity":"covert","depositable":true},"markupPercent":0,"stickers":[{"value":0.38,"imageUrl":"https://example.invalid/s.png","brand":"Sticker","name":"Example | 2020 RMR","color":"Holo","wear":0.12}],"steamExternalAssetId":"U3RlYW1FeHRlcm5hbEFzc2V0OjkwMDAwMDAx"}],"trackingType":"API_KEY_DEPOSITOR","suspectedTraderCanJoinAfter":"2026-03-01T10:00:01.120Z","joinedAt":null,"avgPaintWear":0.215,"hasStickers":true}}}}}"#;
const OF_B: &str = r#"{"id":"1","type":"next","payload":{"data":{"createTrades":{"trades":[{"id":"VHJhZGU6OTAwMDAwMDI","depositorLastActiveAt":"2026-03-01T10:00:00.004Z","markupPercent":1.5,"totalValue":10.15,"avgPaintWear":null,"hasStickers":false,"tradeItems":[{"id":"VHJhZGVJdGVtOjkwMDAwMDAy","marketName":"AK-47 | Redline (Field-Tested)","markupPercent":1.5,"customValue":true,"steamExternalAssetId":"U3RlYW1FeHRlcm5hbEFzc2V0OjkwMDAwMDAy","itemVariant":{"brand":"AK-47","color":"Field-Tested","name":"Redline","iconUrl":"https://example.invalid/r.png","rarity":"classified","depositable":true,"itemId":"SXRlbToxMjM","id":"SXRlbVZhcmlhbnQ6MTIz","value":10,"currency":"TKN","externalId":"AK-47 | Redline (Field-Tested)"},"stickers":[],"value":10.15,"patternPercentage":null}],"trackingType":"API_KEY_DEPOSITOR","avgPaintWearRange":{"min":0.15,"max":0.18},"canJoinAfter":null,"depositor":null,"suspectedTraderCanJoinAfter":"2026-03-01T10:00:01.300Z","status":"LISTED","steamAppName":"CSGO","customValue":true,"createdAt":"2026-03-01T10:00:00.300Z","updatedAt":"2026-03-01T10:00:00.300Z","canJoin":true,"expiresAt":"2026-03-03T10:00:00.301Z","withdrawer":null,"joinedAt":null,"cancelReason":null,"withdrawerSteamTradeUrl":null}]}}}}"#;

/// Both ways, on one message. Returns the verdicts of the fast one; `None`: dropped whole.
#[track_caller]
fn agreed(text: &str) -> Option<Vec<Decision>> {
    let whitelist = whitelist();
    let fast = Reader::default().read(text);
    let plain = plain::read(text);
    assert_eq!(fast, plain, "text: {text}");
    let verdicts = fast?.trades.iter().map(|trade| whitelist.decide(trade)).collect::<Vec<_>>();
    let plainly = plain?.trades.iter().map(|trade| whitelist.decide(trade)).collect::<Vec<_>>();
    assert_eq!(verdicts, plainly, "text: {text}");
    Some(verdicts)
}

#[test]
fn hostile_messages_get_the_verdict_that_they_get_from_a_plain_reader() {
    let redline = |from: &str, to: &str| OF_B.replacen(from, to, 1);
    let is_wanted = |text: &str| agreed(text) == Some(vec![Decision::Wanted(0)]);
    let is_unreadable =
        |text: &str| matches!(agreed(text).as_deref(), Some([Decision::Unreadable(_)]));
    assert!(is_wanted(OF_B));
    // Escapes in names and keys mean what they mean.
    assert!(is_wanted(&redline("\"AK-47 | Redline (", "\"\\u0041K-47 \\u007c Redline (")));
    assert!(is_wanted(&redline("\"totalValue\"", "\"total\\u0056alue\"")));
    assert!(is_wanted(&redline("\"next\"", "\"n\\u0065xt\"")));
    assert!(is_wanted(&redline("\"id\":\"1\"", "\"i\\u0064\":\"\\u0031\"")));
    // The order of fields means nothing, and neither does white space.
    assert!(is_wanted(&redline("\"id\":\"1\",\"type\":\"next\",", "").replacen(
        "]}}}}",
        "]}}},\"type\":\"next\",\"id\":\"1\"}",
        1
    )));
    assert!(is_wanted(&OF_B.replace(",\"", " ,\r\n\t\"")));
    // Numbers are what they are, however large or long.
    for number in ["1e400", "-1e400", "10.155", "1e-400", "99999999999999999999"] {
        assert!(is_unreadable(&redline(":10.15,", &format!(":{number},"))), "{number}");
    }
    assert!(is_wanted(&redline(":10.15,", ":1015e-2,")));
    assert!(is_wanted(&redline("\"patternPercentage\":null", "\"patternPercentage\":1e400")));
    // A key that decides stands once.
    for key in ["totalValue", "total\\u0056alue", "id", "status", "tradeItems"] {
        let twice = redline("\"hasStickers\"", &format!("\"{key}\":null,\"hasStickers\""));
        assert_ne!(agreed(&twice), Some(vec![Decision::Wanted(0)]), "{key}");
    }
    assert!(is_unreadable(&redline("{\"min\":0.15,", "{\"min\":0.9,\"min\":0.15,")));
    // Deep nesting is borne up to the bound, and the whole message is dropped beyond it.
    let nested = |depth: usize| {
        let nest = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        redline("\"patternPercentage\":null", &format!("\"patternPercentage\":{nest}"))
    };
    assert!(is_wanted(&nested(100)));
    assert_eq!(agreed(&nested(127)), None);
    assert_eq!(agreed(&nested(100_000)), None);
    // What is cut off or followed by something is dropped whole.
    assert_eq!(agreed(&OF_B[..OF_B.len() - 1]), None);
    assert_eq!(agreed(&format!("{OF_B}}}")), None);
}

#[test]
fn each_kind_of_verdict_occurs_in_what_is_compared() {
    let verdict = |text: &str| agreed(text).unwrap().pop();
    assert_eq!(verdict(OF_B), Some(Decision::Wanted(0)));
    assert!(matches!(
        verdict(OF_A),
        Some(Decision::Refused { entry: 1, because: Mismatch::FloatAbove { .. } })
    ));
    assert_eq!(verdict(&OF_A.replace("AWP |", "AUG |")), Some(Decision::NotListed));
    let priceless = OF_B.replacen(":10.15,", ":null,", 1);
    assert!(matches!(verdict(&priceless), Some(Decision::Unreadable(_))));
    assert_eq!(agreed("{"), None);
}

#[test]
fn the_way_to_no_match_asks_for_no_memory() {
    let whitelist = whitelist();
    let mut reader = Reader::default();
    let others = [OF_A, OF_B].map(|text| text.replace(" | ", " / "));
    let mut count = |text: &str| {
        let mut verdicts = [None, None];
        let counted = allocation_counter::measure(|| {
            let mut slots = verdicts.iter_mut();
            reader.each(text, |trade| {
                if let Some(slot) = slots.next() {
                    *slot = Some(whitelist.decide(&trade));
                }
            });
        });
        (counted.count_total, verdicts)
    };
    for text in &others {
        assert_eq!(count(text), (0, [Some(Decision::NotListed), None]));
    }
    // Refused by its float: an entry was asked, and still nothing is asked for.
    let (allocations, [verdict, _]) = count(OF_A);
    assert!(matches!(verdict, Some(Decision::Refused { .. })));
    assert_eq!(allocations, 0);
    // The count is not blind: an escape in a name has to be undone somewhere.
    assert_ne!(count(&others[0].replace("Neo-Noir (", "Neo\\u002dNoir (")).0, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Any message, however it was tampered with, brings the same listings and the same verdicts
    /// from both ways, or is dropped whole by both.
    #[test]
    fn the_fast_way_agrees_with_a_plain_one_on_any_message(
        is_of_a in any::<bool>(),
        changes in mutants::changes(),
    ) {
        agreed(&mutants::changed(if is_of_a { OF_A } else { OF_B }, &changes));
    }
}
