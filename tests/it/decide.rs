//! The path from a feed message to a whitelist decision: the production parser agrees with a
//! reference parser and does not allocate.
#![expect(clippy::unwrap_used, reason = "an unexpected value fails the test")]

mod fast;
mod mutants;
pub(crate) mod plain;
mod way;

use proptest::prelude::*;
use sniper::whitelist::{Decision, Mismatch};

use self::fast::{Reader, whitelist};

/// One listing of each generation, in the wire format.
const LISTING_A: &str = r#"{"id":"1","type":"next","payload":{"data":{"createTrade":{"trade":{"id":"VHJhZGU6OTAwMDAwMDE","status":"LISTED","steamAppName":"CSGO","cancelReason":null,"canJoinAfter":null,"markupPercent":0,"createdAt":"2026-03-01T10:00:00.120Z","depositor":null,"depositorLastActiveAt":"2026-03-01T09:59:58.004Z","expiresAt":"2026-03-03T10:00:00.101Z","withdrawerSteamTradeUrl":null,"customValue":false,"withdrawer":null,"totalValue":26.35,"updatedAt":"2026-03-01T10:00:00.120Z","tradeItems":[{"id":"VHJhZGVJdGVtOjkwMDAwMDAx","marketName":"AWP | Neo-Noir (Field-Tested)","value":26.35,"customValue":false,"itemVariant":{"id":"SXRlbVZhcmlhbnQ6MTE4OTM","itemId":"SXRlbToxMTg5Mw","name":"Neo-Noir","brand":"AWP","iconUrl":"https://example.invalid/i.png","value":26.35,"displayValue":26.35,"externalId":"AWP | Neo-Noir (Field-Tested)","color":"Field-Tested","rarity":"covert","depositable":true},"markupPercent":0,"stickers":[{"value":0.38,"imageUrl":"https://example.invalid/s.png","brand":"Sticker","name":"Example | 2020 RMR","color":"Holo","wear":0.12}],"steamExternalAssetId":"U3RlYW1FeHRlcm5hbEFzc2V0OjkwMDAwMDAx"}],"trackingType":"API_KEY_DEPOSITOR","suspectedTraderCanJoinAfter":"2026-03-01T10:00:01.120Z","joinedAt":null,"avgPaintWear":0.215,"hasStickers":true}}}}}"#;
const LISTING_B: &str = r#"{"id":"1","type":"next","payload":{"data":{"createTrades":{"trades":[{"id":"VHJhZGU6OTAwMDAwMDI","depositorLastActiveAt":"2026-03-01T10:00:00.004Z","markupPercent":1.5,"totalValue":10.15,"avgPaintWear":null,"hasStickers":false,"tradeItems":[{"id":"VHJhZGVJdGVtOjkwMDAwMDAy","marketName":"AK-47 | Redline (Field-Tested)","markupPercent":1.5,"customValue":true,"steamExternalAssetId":"U3RlYW1FeHRlcm5hbEFzc2V0OjkwMDAwMDAy","itemVariant":{"brand":"AK-47","color":"Field-Tested","name":"Redline","iconUrl":"https://example.invalid/r.png","rarity":"classified","depositable":true,"itemId":"SXRlbToxMjM","id":"SXRlbVZhcmlhbnQ6MTIz","value":10,"currency":"TKN","externalId":"AK-47 | Redline (Field-Tested)"},"stickers":[],"value":10.15,"patternPercentage":null}],"trackingType":"API_KEY_DEPOSITOR","avgPaintWearRange":{"min":0.15,"max":0.18},"canJoinAfter":null,"depositor":null,"suspectedTraderCanJoinAfter":"2026-03-01T10:00:01.300Z","status":"LISTED","steamAppName":"CSGO","customValue":true,"createdAt":"2026-03-01T10:00:00.300Z","updatedAt":"2026-03-01T10:00:00.300Z","canJoin":true,"expiresAt":"2026-03-03T10:00:00.301Z","withdrawer":null,"joinedAt":null,"cancelReason":null,"withdrawerSteamTradeUrl":null}]}}}}"#;

/// Reads one message with both parsers and asserts that they agree. Returns the decisions, or
/// `None` if the whole message was dropped.
#[track_caller]
fn decisions_of(text: &str) -> Option<Vec<Decision>> {
    let whitelist = whitelist();
    let fast = Reader::default().read(text);
    let plain = plain::read(text);
    assert_eq!(fast, plain, "text: {text}");
    let decisions = fast?.trades.iter().map(|trade| whitelist.decide(trade)).collect::<Vec<_>>();
    let expected = plain?.trades.iter().map(|trade| whitelist.decide(trade)).collect::<Vec<_>>();
    assert_eq!(decisions, expected, "text: {text}");
    Some(decisions)
}

#[test]
fn both_parsers_agree_on_hostile_messages() {
    let redline = |from: &str, to: &str| LISTING_B.replacen(from, to, 1);
    let is_wanted = |text: &str| decisions_of(text) == Some(vec![Decision::Matched(0)]);
    let is_unreadable =
        |text: &str| matches!(decisions_of(text).as_deref(), Some([Decision::Unreadable(_)]));
    assert!(is_wanted(LISTING_B));
    // Escapes in names and keys are decoded.
    assert!(is_wanted(&redline("\"AK-47 | Redline (", "\"\\u0041K-47 \\u007c Redline (")));
    assert!(is_wanted(&redline("\"totalValue\"", "\"total\\u0056alue\"")));
    assert!(is_wanted(&redline("\"next\"", "\"n\\u0065xt\"")));
    assert!(is_wanted(&redline("\"id\":\"1\"", "\"i\\u0064\":\"\\u0031\"")));
    // The order of fields and white space are irrelevant.
    assert!(is_wanted(&redline("\"id\":\"1\",\"type\":\"next\",", "").replacen(
        "]}}}}",
        "]}}},\"type\":\"next\",\"id\":\"1\"}",
        1
    )));
    assert!(is_wanted(&LISTING_B.replace(",\"", " ,\r\n\t\"")));
    // Numbers are read exactly, however large or long.
    for number in ["1e400", "-1e400", "10.155", "1e-400", "99999999999999999999"] {
        assert!(is_unreadable(&redline(":10.15,", &format!(":{number},"))), "{number}");
    }
    assert!(is_wanted(&redline(":10.15,", ":1015e-2,")));
    assert!(is_wanted(&redline("\"patternPercentage\":null", "\"patternPercentage\":1e400")));
    // A repeated key that affects the decision makes a listing unreadable.
    for key in ["totalValue", "total\\u0056alue", "id", "status", "tradeItems"] {
        let twice = redline("\"hasStickers\"", &format!("\"{key}\":null,\"hasStickers\""));
        assert_ne!(decisions_of(&twice), Some(vec![Decision::Matched(0)]), "{key}");
    }
    assert!(is_unreadable(&redline("{\"min\":0.15,", "{\"min\":0.9,\"min\":0.15,")));
    // Nesting is accepted up to the limit. Beyond it the whole message is dropped.
    let nested = |depth: usize| {
        let nest = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        redline("\"patternPercentage\":null", &format!("\"patternPercentage\":{nest}"))
    };
    assert!(is_wanted(&nested(100)));
    assert_eq!(decisions_of(&nested(127)), None);
    assert_eq!(decisions_of(&nested(100_000)), None);
    // A truncated message or trailing data drops the whole message.
    assert_eq!(decisions_of(&LISTING_B[..LISTING_B.len() - 1]), None);
    assert_eq!(decisions_of(&format!("{LISTING_B}}}")), None);
}

#[test]
fn the_samples_cover_every_kind_of_decision() {
    let decision = |text: &str| decisions_of(text).unwrap().pop();
    assert_eq!(decision(LISTING_B), Some(Decision::Matched(0)));
    assert!(matches!(
        decision(LISTING_A),
        Some(Decision::Mismatched { entry: 1, mismatch: Mismatch::FloatAbove { .. } })
    ));
    assert_eq!(decision(&LISTING_A.replace("AWP |", "AUG |")), Some(Decision::NoEntry));
    let priceless = LISTING_B.replacen(":10.15,", ":null,", 1);
    assert!(matches!(decision(&priceless), Some(Decision::Unreadable(_))));
    assert_eq!(decisions_of("{"), None);
}

#[test]
fn evaluating_an_unwanted_listing_does_not_allocate() {
    let whitelist = whitelist();
    let mut reader = Reader::default();
    let others = [LISTING_A, LISTING_B].map(|text| text.replace(" | ", " / "));
    let mut count = |text: &str| {
        let mut decisions = [None, None];
        let counted = allocation_counter::measure(|| {
            let mut slots = decisions.iter_mut();
            reader.each(text, |trade| {
                if let Some(slot) = slots.next() {
                    *slot = Some(whitelist.decide(&trade));
                }
            });
        });
        (counted.count_total, decisions)
    };
    for text in &others {
        assert_eq!(count(text), (0, [Some(Decision::NoEntry), None]));
    }
    // Evaluating an entry that excludes the float does not allocate either.
    let (allocations, [decision, _]) = count(LISTING_A);
    assert!(matches!(decision, Some(Decision::Mismatched { .. })));
    assert_eq!(allocations, 0);
    // Control: decoding an escape in a name does allocate.
    assert_ne!(count(&others[0].replace("Neo-Noir (", "Neo\\u002dNoir (")).0, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// For any mutated message both parsers return the same listings and decisions, or both drop
    /// it.
    #[test]
    fn both_parsers_agree_on_any_mutated_message(
        is_of_a in any::<bool>(),
        mutations in mutants::mutations(),
    ) {
        decisions_of(&mutants::mutated(if is_of_a { LISTING_A } else { LISTING_B }, &mutations));
    }
}
