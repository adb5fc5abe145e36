//! Tests of price sources and percent rules.

use super::*;

/// Parses a file and resolves its percent rules.
fn resolved(text: &str) -> (TomlSettings, Vec<String>, Vec<String>) {
    let mut diagnostics = Diagnostics::default();
    let mut policy = read("f", text, |_market| Decimals::Two, &mut diagnostics);
    resolve(&mut policy.entries.found, &policy.prices, policy.market, &mut diagnostics);
    let shown = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect();
    match diagnostics.into_warnings() {
        Ok(warnings) => (policy, Vec::new(), shown(&warnings)),
        Err(errors) => (policy, shown(errors.list()), shown(errors.warnings())),
    }
}

const PRICES: &str = "[prices]\ncoin_usd = 0.65\n[[prices.source]]\nname = \"buff\"\nkind = \"csgotrader-buff163\"\n\
     [[prices.source]]\nname = \"port\"\nkind = \"skinport\"\nmax_age_minutes = 20\n";

/// Checks the problems of an entry for the Redline with these lines, below [`PRICES`].
#[track_caller]
fn check_rule(lines: &str, expected: &[&str]) {
    let entry = "[[whitelist]]\nitem = \"AK-47 | Redline\"\nmax_price = 50\n";
    let (_, problems, warnings) = resolved(&format!("{PRICES}{entry}{lines}"));
    assert_eq!([problems, warnings].concat(), expected, "{lines}");
}

#[test]
fn price_sources_and_a_rule_are_read_exactly() {
    let rule = "max_percent = 88\nmin_count = 3\nmin_reference = 1.5\n";
    let text = format!(
        "{PRICES}[[prices.source]]\nname = \"own\"\nkind = \"file\"\npath = \"p.csv\"\nunit = \"coins\"\n\
         [[whitelist]]\nitem = \"*\"\nmax_price = 50\nmax_quantity = 3\ncategory = [\"knife\", \"gloves\"]\nrarity = \"Covert\"\n\
         exclude = [\"Sticker | *\"]\n{rule}reference = [\"port.ask\", \"own.bid\"]\nreference_rule = \"first\"\n"
    );
    let (policy, problems, warnings) = resolved(&text);
    assert_eq!((problems, warnings), (vec![], vec![]));
    let prices = &policy.prices.config;
    assert_eq!(prices.coin_usd.unwrap().ten_thousandths(), 6_500);
    let ages: Vec<u64> = prices.sources.iter().map(|it| it.max_age.as_secs() / 60).collect();
    assert_eq!(ages, [360, 20, 10_080]);
    let intervals = prices.sources.iter().map(|it| prices.interval(it).as_secs() / 60);
    assert_eq!(intervals.collect::<Vec<_>>(), [60, 10, 60]);
    let entry = &policy.entries.found[0].entry;
    assert_eq!(entry.max_markup, None);
    let rule = entry.percent.as_ref().unwrap();
    assert_eq!(rule.max_percent, Percent::from_hundredths(8_800));
    assert_eq!((rule.min_count, rule.min_reference), (Some(3), Some(Amount::from_cents(150))));
    let references: Vec<(usize, String)> =
        rule.references.iter().map(|it| (it.index, it.to_string())).collect();
    assert_eq!(references, [(1, "port.ask".to_owned()), (2, "own.bid".to_owned())]);
    let filter = entry.filter.as_deref().unwrap();
    assert_eq!(filter.categories.iter().count(), 2);
    assert_eq!(filter.rarities[0].as_str(), "covert");
    assert_eq!(filter.exclude[0].as_str(), "Sticker | *");
}

#[test]
fn without_a_reference_the_first_source_decides() {
    let default = |kind: &str| {
        let source =
            format!("[prices]\ncoin_usd = 0.65\n[[prices.source]]\nname = \"a\"\n{kind}\n");
        let entry = "[[whitelist]]\nitem = \"x\"\nmax_price = 5\nmax_percent = 80\n";
        let (policy, problems, _) = resolved(&format!("{source}{entry}"));
        assert_eq!(problems, [""; 0]);
        policy.entries.found[0].entry.percent.as_ref().unwrap().references[0].to_string()
    };
    assert_eq!(default("kind = \"csgotrader-buff163\""), "a.bid");
    assert_eq!(default("kind = \"csfloat\""), "a.ask");
    let from = |sources: &str| {
        let url = format!("https://example.com/prices?sources={sources}");
        default(&format!("kind = \"pricempire\"\nkey_env = \"K\"\nurl = \"{url}\""))
    };
    assert_eq!([from("buff163,buff163_buy"), from("buff163")], ["a.bid", "a.ask"]);
    let asks = "[[prices.source]]\nname = \"a\"\nkind = \"pricempire\"\nkey_env = \"K\"\n\
                url = \"https://example.com/prices?sources=buff163\"\n[[whitelist]]\nitem = \"x\"\n\
                max_price = 5\nmax_percent = 80\nreference = \"a.bid\"\n";
    let problem = &resolved(&format!("{PRICES}{asks}")).1[0];
    let why = "\"a.bid\" has no prices: its address requests no bids; write a.ask";
    assert!(problem.contains(why), "{problem}");
    assert_eq!(default("kind = \"file\"\npath = \"p\"\nunit = \"usd\""), "a.bid or ask");
}

#[test]
fn a_rule_with_a_mistake_names_its_place_and_remedy() {
    check_rule("max_percent = 88\n", &[]);
    check_rule("max_percent = 88\nmax_markup_percent = 5\n", &[]);
    check_rule(
        "max_percent = 88\nreference = \"bufff.bid\"\n",
        &["f:14:1: `reference` names no source: \"bufff\"; write one of: buff, port"],
    );
    check_rule(
        "max_percent = 88\nreference = \"port.bid\"\n",
        &[
            "f:14:1: \"port.bid\" has no prices: skinport has no bids; write port.ask, or another source",
        ],
    );
    let side = "write the name of a source with .bid or .ask, such as \"buff.bid\"";
    check_rule(
        "max_percent = 88\nreference = \"buff\"\n",
        &[&format!("f:14:13: `reference` cannot be \"buff\"; {side}")],
    );
    check_rule(
        "reference = \"buff.bid\"\n",
        &[
            "f:13:1: `reference` has no effect without `max_percent`; add max_percent = 88, or remove this key",
        ],
    );
    check_rule(
        "max_percent = 0\n",
        &["f:13:15: `max_percent` is out of range; write a number from 0.01 to 1000.00"],
    );
    check_rule(
        "max_percent = 88\nmin_count = 2\n",
        &[
            "f:13:1: \"buff\" states no number of offers, so `min_count` allows no order by it; remove `min_count`, or use a source that counts offers",
        ],
    );
    check_rule(
        "category = \"knive\"\nexclude = [\"*\"]\n",
        &[
            "f:13:12: unknown category \"knive\"; did you mean `knife`?",
            "f:14:12: `exclude` cannot contain \"*\"; write a name as in `item`, with * only at its start or end",
        ],
    );
    let wear = "`exclude` cannot contain \"AK-47|Redline (FT)\"; did you mean `(Field-Tested)`?";
    check_rule("exclude = \"AK-47|Redline (FT)\"\n", &[&format!("f:13:11: {wear}")]);
}

#[test]
fn a_rule_needs_a_source_the_value_of_a_coin_and_a_quantity_for_every_item() {
    let entry = "[[whitelist]]\nitem = \"*\"\nmax_price = 5\nmax_percent = 80\n";
    let quantity = "f:1:1: missing `max_quantity`, which `max_percent` needs with `item` = \"*\"; add the maximum number of items bought in all: max_quantity = 10";
    let (_, problems, _) = resolved(entry);
    let source = "f:4:1: `max_percent` needs a price source; add a [[prices.source]], as sniper.example.toml shows";
    assert_eq!(problems, [quantity, source]);
    let without_coin = PRICES.replace("coin_usd = 0.65\n", "");
    let (_, problems, _) = resolved(&format!("{without_coin}{entry}max_quantity = 2\n"));
    assert_eq!(
        problems,
        [
            "f:1:1: missing `coin_usd`, which a rule with `max_percent` needs on this market; add below [prices] what a coin is worth in dollars, such as coin_usd = 0.65"
        ]
    );
    // Prices in coins need no value of a coin.
    let coins = "[prices]\n[[prices.source]]\nname = \"own\"\nkind = \"file\"\npath = \"p\"\nunit = \"coins\"\n";
    let (_, problems, _) = resolved(&format!("{coins}{entry}max_quantity = 2\n"));
    assert_eq!(problems, [""; 0]);
    // Selling for dollars needs it without any rule, too, but not on a market with dollars.
    let plain = "[[whitelist]]\nitem = \"x\"\nmax_price = 5\n";
    let sell_on = |market: &str, name: &str| {
        let source = without_coin.replacen('\n', &format!("\nsell_on = \"{name}\"\n"), 1);
        let own = coins.replace("[prices]\n", "");
        resolved(&format!("market = \"{market}\"\n{source}{own}{plain}")).1
    };
    let missing = "missing `coin_usd`, which `sell_on` needs on this market";
    let found = sell_on("csgoroll", "buff");
    assert!(found.len() == 1 && found[0].contains(missing), "{found:?}");
    assert_eq!(sell_on("csgoroll", "own"), [""; 0]);
    assert_eq!(sell_on("waxpeer", "buff"), [""; 0]);
}

#[test]
fn a_fee_without_the_place_of_the_sale_is_warned_of() {
    let fee = PRICES.replacen('\n', "\nsell_fee_percent = 2.5\n", 1);
    let message = "f:2:1: without `sell_on`, no margin is shown; add the source where bought items are sold, such as sell_on = \"buff\"";
    assert_eq!(resolved(&fee).2, [message]);
    let sold = fee.replacen('\n', "\nsell_on = \"buff\"\n", 1);
    assert_eq!(resolved(&sold).2, [""; 0]);
}

#[test]
fn a_source_with_a_mistake_names_its_place_and_remedy() {
    let source = |lines: &str| {
        let (_, problems, _) = resolved(&format!("[prices]\n[[prices.source]]\n{lines}"));
        problems
    };
    assert_eq!(
        source("kind = \"steam\"\n")[0],
        "f:2:1: missing `name`; add name = \"buff\", by which rules refer to it"
    );
    assert!(source("name = \"a\"\nkind = \"skinprt\"\n")[0].ends_with("did you mean `skinport`?"));
    assert!(
        source("name = \"a.b\"\nkind = \"skinport\"\n")[0].starts_with("f:3:1: `name` cannot be")
    );
    assert_eq!(
        source("name = \"a\"\nkind = \"file\"\npath = \"p\"\n"),
        ["f:2:1: missing `unit`; add unit = \"usd\", \"cents\" or \"coins\""]
    );
    assert_eq!(
        source("name = \"a\"\nkind = \"skinport\"\nunit = \"usd\"\n"),
        ["f:5:1: `unit` does not belong to kind \"skinport\"; remove it; the unit is known"]
    );
    let plain = source("name = \"a\"\nkind = \"skinport\"\nurl = \"http://example.com/\"\n");
    assert!(plain[0].starts_with("f:5:1: `url` is unencrypted"), "{plain:?}");
    for (kind, currency) in [("pricempire", "EUR"), ("skinport", "eur")] {
        let url = format!("https://example.com/prices?a=USD&currency={currency}&app_id=730");
        let euros = source(&format!("name = \"a\"\nkind = \"{kind}\"\nurl = \"{url}\"\n"));
        let message =
            format!("f:5:1: `url` requests prices in \"{currency}\"; write currency=USD into it");
        assert_eq!(euros, [message]);
        let dollars = source(&format!(
            "name = \"a\"\nkind = \"{kind}\"\nurl = \"{}\"\n",
            url.replace(currency, "usd")
        ));
        assert_eq!(dollars, [""; 0]);
    }
    let twice =
        "name = \"a\"\nkind = \"skinport\"\n[[prices.source]]\nname = \"a\"\nkind = \"csfloat\"\n";
    assert_eq!(
        source(twice),
        ["f:5:1: duplicate source name \"a\"; give each source its own name"]
    );
    for coin in ["0", "0.65001", "1e-1", "-1", "\"0.65\"", "500000"] {
        let (_, problems, _) = resolved(&format!("[prices]\ncoin_usd = {coin}\n"));
        assert_eq!(problems.len(), 1, "{coin}: {problems:?}");
    }
}
