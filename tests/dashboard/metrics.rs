//! The metrics: their format, their documentation, and the board and alert rules that name them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::harness::{Bot, REDLINE, get, until};

/// Functions and keywords of `PromQL` that the board and the rules use.
const PROMQL: [&str; 15] = [
    "absent",
    "and",
    "by",
    "histogram_quantile",
    "increase",
    "job",
    "le",
    "on",
    "or",
    "outcome",
    "rate",
    "sniper",
    "sum",
    "time",
    "up",
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A parsed exposition: the type of each metric, and its samples.
#[derive(Debug, Default)]
struct Exposition {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

/// Parses the text format strictly: a help, a type, and then the samples of each metric.
fn parse(text: &str) -> Exposition {
    let mut parsed = Exposition::default();
    let mut current = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            assert!(!help.is_empty() && !parsed.types.contains_key(name), "{line}");
            name.clone_into(&mut current);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert_eq!(name, current, "the type follows the help");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            parsed.types.insert(name.to_owned(), kind.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let name = series.split('{').next().unwrap();
            let is_own = match parsed.types[&current].as_str() {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|suffix| name.strip_suffix(suffix) == Some(&*current)),
                _ => name == current,
            };
            assert!(is_own, "{line} is below {current}");
            if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                let labels = labels.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
                let (label, value) = labels.and_then(|it| it.split_once('=')).expect(line);
                assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()), "{line}");
                assert!(
                    value.len() > 2 && value.starts_with('"') && value.ends_with('"'),
                    "{line}"
                );
            }
            let value: f64 = value.parse().expect(line);
            let is_new = parsed.samples.insert(series.to_owned(), value).is_none();
            assert!(is_new, "{series} occurs twice");
        }
    }
    parsed
}

/// Returns the metrics of docs/metrics.md with their types.
fn documented() -> BTreeMap<String, String> {
    let page = read("docs/metrics.md");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `sniper_")?.split('|');
        let name = format!("sniper_{}", cells.next()?.trim().trim_end_matches('`'));
        Some((name, cells.next()?.trim().to_owned()))
    };
    page.lines().filter_map(row).collect()
}

#[test]
fn the_metrics_are_valid_documented_and_bounded() {
    let bot = Bot::start().ready();
    let fresh = parse(&get(bot.address, "/metrics").body);
    for zero in ["sniper_matches_total", "sniper_orders_total{outcome=\"bought\"}"] {
        assert_eq!(fresh.samples[zero], 0.0, "a known series exists from the start");
    }
    bot.offer(REDLINE, 1_000);
    bot.offer("<script> \"{}\" | \\ (Field-Tested)", 1_000);
    until(|| get(bot.address, "/metrics").body.contains("{outcome=\"bought\"} 2\n"));
    let reply = get(bot.address, "/metrics");
    assert_eq!(reply.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let metrics = parse(&reply.body);
    let mut documented = documented();
    documented.retain(|name, _| !name.starts_with("sniper_shared_"));
    assert_eq!(metrics.types, documented, "docs/metrics.md lists other metrics");
    assert_eq!(metrics.samples.len(), fresh.samples.len(), "a listing adds no series");
    let value = |series: &str| metrics.samples[series];
    for (series, expected) in [
        ("sniper_listings_total", 2.0),
        ("sniper_feed_events_total", 4.0),
        ("sniper_matches_total", 2.0),
        ("sniper_feed_connected", 1.0),
        ("sniper_halted", 0.0),
        ("sniper_live", 1.0),
        ("sniper_budget_spent", 20.0),
        ("sniper_budget_left", 99_980.0),
        ("sniper_entries", 2.0),
        ("sniper_order_latency_seconds_count", 2.0),
        ("sniper_order_latency_seconds_bucket{le=\"+Inf\"}", 2.0),
    ] {
        assert_eq!(value(series), expected, "{series}");
    }
    assert!(value("sniper_feed_received_bytes_total") > 100.0);
    let sum = value("sniper_order_latency_seconds_sum");
    assert!(0.0 < sum && sum < 60.0, "{sum}");
    let buckets = reply.body.lines().filter_map(|line| {
        let rest = line.strip_prefix("sniper_order_latency_seconds_bucket{le=\"")?;
        let (bound, count) = rest.split_once("\"} ")?;
        Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().unwrap()))
    });
    let buckets: Vec<(f64, u64)> = buckets.collect();
    assert!(buckets.len() > 20 && buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
}

/// Operators between two operands, with a blank on each side.
const OPERATORS: [&str; 13] =
    ["==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "and", "or", "unless"];

/// Checks an expression: its brackets and quotes are balanced, each operator has two operands, and
/// each word is a known metric, label, function or keyword. Returns the metrics.
fn check_expression(expression: &str, known: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut open = Vec::new();
    for char in expression.chars() {
        match char {
            '(' | '[' | '{' => open.push(char),
            ')' => assert_eq!(open.pop(), Some('('), "{expression}"),
            ']' => assert_eq!(open.pop(), Some('['), "{expression}"),
            '}' => assert_eq!(open.pop(), Some('{'), "{expression}"),
            _ => {}
        }
    }
    assert!(open.is_empty() && expression.matches('"').count().is_multiple_of(2), "{expression}");
    let words: Vec<&str> = expression.split(' ').collect();
    let is_operand = |at: usize| words.get(at).is_some_and(|word| !OPERATORS.contains(word));
    for at in (0..words.len()).filter(|at| !is_operand(*at)) {
        let has_left = at.checked_sub(1).is_some_and(is_operand);
        assert!(has_left && is_operand(at + 1), "{} lacks an operand: {expression}", words[at]);
    }
    let mut metrics = BTreeSet::new();
    let plain = expression.replace("$__rate_interval", "5m");
    let words = plain.split(|char: char| !char.is_ascii_alphanumeric() && !"_.".contains(char));
    for word in words.filter(|word| word.starts_with(|char: char| char.is_ascii_alphabetic())) {
        let histogram = ["_bucket", "_sum", "_count"];
        let base = histogram.iter().find_map(|suffix| word.strip_suffix(suffix));
        if known.contains_key(word)
            || base.is_some_and(|base| known.get(base).is_some_and(|kind| kind == "histogram"))
        {
            metrics.insert(word.to_owned());
        } else {
            assert!(PROMQL.contains(&word) || word == "reason", "{word} in {expression}");
        }
    }
    assert!(!metrics.is_empty(), "{expression}");
    metrics
}

/// Returns whether an expression of comparisons such as `a <= 0.5 * b` is true for a value of each
/// metric.
#[expect(clippy::float_arithmetic, reason = "the values of Prometheus are floats")]
fn is_true(expression: &str, values: &[(&str, f64)]) -> bool {
    let value = |name: &str| values.iter().find(|(of, _)| *of == name).unwrap().1;
    expression.split(" or ").any(|comparison| {
        let words: Vec<&str> = comparison.split(' ').collect();
        let [left, operator, factor, "*", right] = words[..] else { panic!("{comparison}") };
        let (left, right) = (value(left), factor.parse::<f64>().unwrap() * value(right));
        match operator {
            "<" => left < right,
            "<=" => left <= right,
            _ => panic!("{comparison}"),
        }
    })
}

#[test]
fn the_rule_for_coins_fires_although_a_rest_remains() {
    let documents = YamlLoader::load_from_str(&read("dist/alerts.yml")).unwrap();
    let rules = documents[0]["groups"][0]["rules"].as_vec().unwrap();
    let rule = rules.iter().find(|rule| rule["alert"].as_str() == Some("SniperOutOfCoins"));
    let expression = rule.unwrap()["expr"].as_str().unwrap();
    for (left, balance, expected) in
        [(50.0, 100.0, false), (0.0, 100.0, true), (1.5, 100.0, true), (50.0, 11.0, true)]
    {
        let values = [
            ("sniper_budget_left", left),
            ("sniper_budget_limit", 200.0),
            ("sniper_balance", balance),
            ("sniper_balance_min", 10.0),
        ];
        assert_eq!(is_true(expression, &values), expected, "{left} {balance}");
    }
}

#[test]
fn the_alert_rules_are_valid_and_name_existing_metrics() {
    let known = documented();
    let documents = YamlLoader::load_from_str(&read("dist/alerts.yml")).unwrap();
    let [document] = documents.as_slice() else { panic!("{documents:?}") };
    let groups = document["groups"].as_vec().unwrap();
    let rules: Vec<&Yaml> =
        groups.iter().flat_map(|group| group["rules"].as_vec().unwrap()).collect();
    assert_eq!(rules.len(), 5, "one rule for each case that needs the user");
    // `absent` fires only once every bot is gone.
    let down = rules.iter().find(|rule| rule["alert"].as_str() == Some("SniperDown")).unwrap();
    assert!(down["expr"].as_str().unwrap().ends_with(" or up{job=\"sniper\"} == 0"), "{down:?}");
    assert!(read("docs/metrics.md").contains("job_name: sniper\n"));
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} occurs twice");
        check_expression(rule["expr"].as_str().unwrap(), &known);
        let wait = rule["for"].as_str().unwrap();
        let minutes = wait.strip_suffix('m').and_then(|count| count.parse::<u32>().ok());
        assert!(minutes.is_some_and(|minutes| (1..60).contains(&minutes)), "{wait}");
        let severity = rule["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning")), "{name}");
        for text in ["summary", "description"] {
            assert!(!rule["annotations"][text].as_str().unwrap().is_empty(), "{name}");
        }
        let keys = rule.as_hash().unwrap().keys().map(|key| key.as_str().unwrap());
        assert_eq!(keys.collect::<Vec<_>>(), ["alert", "expr", "for", "labels", "annotations"]);
    }
}

#[test]
fn the_board_loads_without_an_import_and_names_existing_metrics() {
    let known = documented();
    let board: Value = serde_json::from_str(&read("dist/grafana.json")).unwrap();
    assert_eq!((&board["id"], &board["uid"]), (&Value::Null, &"sniper".into()));
    assert!(board.get("__inputs").is_none(), "a provisioned board has no inputs");
    let variable = &board["templating"]["list"][0];
    assert_eq!(
        (&variable["name"], &variable["type"], &variable["query"]),
        (&"datasource".into(), &"datasource".into(), &"prometheus".into())
    );
    let (mut ids, mut metrics) = (BTreeSet::new(), BTreeSet::new());
    for panel in board["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
        for target in panel["targets"].as_array().unwrap() {
            for place in [panel, target] {
                assert_eq!(place["datasource"]["uid"], "${datasource}");
                assert_eq!(place["datasource"]["type"], "prometheus");
            }
            metrics.extend(check_expression(target["expr"].as_str().unwrap(), &known));
        }
    }
    assert!(metrics.len() >= 15, "{metrics:?}");
}

#[test]
fn each_check_of_the_metrics_detects_a_mistake() {
    let known = documented();
    let is_rejected =
        |check: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err();
    for expression in [
        "sniper_no_such_metric == 1",
        "rate(sniper_listings_total[5m]",
        "1 > 0",
        "sniper_halted == == 1",
        "sniper_halted == 1 or",
        "== sniper_halted",
        "sum(sniper_halted]",
    ] {
        assert!(is_rejected(&|| drop(check_expression(expression, &known))), "{expression}");
    }
    for text in [
        "# HELP a b\n# TYPE a gauge\na 1\na 2\n",
        "# HELP a b\n# TYPE a counter\na 1\n",
        "# HELP a b\n# TYPE a gauge\nb 1\n",
        "# HELP a b\n# TYPE a gauge\na one\n",
        "# HELP a b\n# TYPE a gauge\na 1",
    ] {
        assert!(is_rejected(&|| drop(parse(text))), "{text}");
    }
}
