//! The structure of the source: layers without cycles, type names that mean one thing, and size.
#![expect(clippy::arithmetic_side_effects, reason = "counts of lines and positions in a text")]

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{Source, files};

/// Number of type names that may be declared more than once in `src`.
const REPEATED_TYPE_NAMES_MAX: usize = 20;
/// Type names that are clear from their module and may be declared as often as needed.
const MODULE_TYPE_NAMES: [&str; 5] = ["Args", "Builder", "Error", "Event", "State"];
/// Names of the standard library that no type may have.
const STD_NAMES: [&str; 20] = [
    "Arc", "Box", "Cell", "Clone", "Copy", "Debug", "Default", "Display", "Drop", "Duration",
    "Future", "Hash", "Instant", "Iterator", "Option", "Ord", "Ordering", "Path", "Rc", "Vec",
];
/// Modules with the client's wire formats, which the simulator must not share: a misreading of the
/// marketplace would be on both sides.
const CLIENT_MODULES: [&str; 8] =
    ["json", "prices", "net", "markets", "protocol", "ws", "execution", "account"];
/// Upper limit of the source, in lines that are neither blank, comment nor test.
const SOURCE_LINES_MAX: usize = 74_380;

fn sources() -> Vec<Source> {
    files("src", "rs")
}

/// Module path of a file, without `crate`.
fn module(path: &str) -> Vec<&str> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').collect() }
}

fn is_test_file(path: &str) -> bool {
    module(path).contains(&"tests")
}

/// Returns the code of a file without comments, string contents and items under `#[cfg(test)]`.
fn code(source: &Source) -> String {
    if is_test_file(&source.path) {
        return String::new();
    }
    let mut kept = String::new();
    let mut lines = source.text.lines();
    while let Some(line) = lines.next() {
        let attribute = line.trim_start();
        if attribute.starts_with("#[cfg(test)]") || attribute.starts_with("#[cfg(all(test") {
            skip_item(line, &mut lines);
        } else if !attribute.starts_with("//") {
            let line = line.split(" // ").next().unwrap_or_default();
            // Text between quotes is not code.
            kept.extend(line.split('"').step_by(2));
            kept.push('\n');
        }
    }
    kept
}

/// Skips one item: one line, or up to the brace below its first letter. The braces are not counted,
/// because those in a text need not be in pairs.
fn skip_item<'a>(attribute: &str, lines: &mut impl Iterator<Item = &'a str>) {
    let indent = attribute.len() - attribute.trim_start().len();
    let mut is_first = true;
    for line in lines {
        if is_first && line.trim_start().starts_with("#[") {
            continue;
        }
        let has_end = line.trim_end().ends_with([';', ',', '}']);
        let is_end =
            line.len() - line.trim_start().len() == indent && line.trim_start().starts_with('}');
        if is_end || is_first && has_end {
            return;
        }
        is_first = false;
    }
}

/// Returns the names that follow `climbs` times `super::`: one, or each first segment of a `{…}`
/// group. The groups may be nested, and may themselves climb.
fn heads(path: &str, climbs: usize) -> Vec<&str> {
    if let Some(group) = path.strip_prefix('{') {
        return elements(group).into_iter().flat_map(|element| heads(element, climbs)).collect();
    }
    if 0 < climbs {
        return path.strip_prefix("super::").map_or(Vec::new(), |rest| heads(rest, climbs - 1));
    }
    let length = path.find(|char: char| !is_word(char)).unwrap_or(path.len());
    path.get(..length).into_iter().filter(|name| !name.is_empty()).collect()
}

/// Returns the elements of a group, whose opening brace was read.
fn elements(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(group.get(start..at).unwrap_or_default().trim());
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// Returns the number of inline modules around each line, with the line's first byte.
fn inline_depths(code: &str) -> Vec<(usize, usize)> {
    let (mut start, mut indents, mut depths) = (0, Vec::new(), Vec::new());
    for line in code.split_inclusive('\n') {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        if text == "}" && indents.last() == Some(&indent) {
            indents.pop();
        }
        depths.push((start, indents.len()));
        if text.ends_with('{') && text.split(' ').rev().nth(2) == Some("mod") {
            indents.push(indent);
        }
        start += line.len();
    }
    depths
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

/// Returns the top-level modules that a file's code refers to by `crate::` or `super::`.
fn imports(path: &str, code: &str) -> BTreeSet<String> {
    let own = module(path).len();
    let depths = inline_depths(code);
    let mut found = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::") {
        let names = heads(code.get(at + prefix.len()..).unwrap_or_default(), 0);
        found.extend(names.iter().map(ToString::to_string));
    }
    for (at, _) in code.match_indices("super::") {
        let before = code.get(..at).unwrap_or_default();
        if before.chars().next_back().is_some_and(is_word) {
            continue;
        }
        let line = depths.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        let inline = depths.get(line).map_or(0, |(_, depth)| *depth);
        // Only a path that climbs to the root can name another module.
        let names = heads(code.get(at..).unwrap_or_default(), own + inline);
        found.extend(names.iter().map(ToString::to_string));
    }
    found
}

/// The modules of `lib.rs`, in its order.
fn order(library: &str) -> Vec<&str> {
    let name = |line| {
        let line: &str = line;
        line.strip_prefix("pub mod ").and_then(|it| it.strip_suffix(';'))
    };
    library.lines().filter_map(name).collect()
}

/// Every import that goes to a module further down in the order.
fn upward(order: &[&str], path: &str, code: &str) -> Vec<String> {
    let rank = |name: &str| order.iter().position(|module| *module == name);
    let Some(own) = module(path).first().and_then(|name| rank(name)) else { return Vec::new() };
    let below = |name: &String| rank(name).is_some_and(|other| other > own);
    let lower = imports(path, code).into_iter().filter(below);
    lower.map(|name| format!("{path} imports {name}, which lib.rs lists below it")).collect()
}

#[test]
fn a_module_imports_only_from_modules_above_it_in_the_library() {
    let sources = sources();
    let library = sources.iter().find(|source| source.path == "src/lib.rs").unwrap();
    let order = order(&library.text);
    assert!(order.len() > 10, "{order:?}");
    let complaints: Vec<String> = sources
        .iter()
        .filter(|source| source.path != "src/main.rs")
        .flat_map(|source| upward(&order, &source.path, &code(source)))
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Every import of a client's module by a file of the simulator.
fn shared_wire_code(path: &str, code: &str) -> Vec<String> {
    let shared = imports(path, code);
    let shared = CLIENT_MODULES.iter().filter(|module| shared.contains(**module));
    shared.map(|module| format!("{path} imports {module}")).collect()
}

#[test]
fn the_simulator_shares_no_wire_code_with_the_client() {
    let sources = sources();
    let simulator = sources.iter().filter(|source| source.is_under("src/sim"));
    let simulator: Vec<&Source> = simulator.collect();
    for folder in ["csgoroll", "lis_skins", "repricing", "waxpeer"] {
        let folder = format!("src/sim/{folder}");
        assert!(simulator.iter().any(|source| source.is_under(&folder)), "{folder}");
    }
    let complaints: Vec<String> =
        simulator.iter().flat_map(|source| shared_wire_code(&source.path, &code(source))).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The markets, by the name of their folders.
const MARKETS: [&str; 3] = ["csgoroll", "lis_skins", "waxpeer"];

/// Places that may name a market, besides its own folders: the modules that contain these, the
/// settings, the two places that choose a market's type (`main.rs`, and the simulator of a market
/// in `commands/simulated_market.rs`), and the sources of reference prices, which are sites of the
/// same names.
const MARKET_PLACES: [&str; 6] = [
    "src/markets/mod.rs",
    "src/sim/mod.rs",
    "src/config",
    "src/commands/simulated_market.rs",
    "src/main.rs",
    "src/prices",
];

/// Every line of a file outside its tests, comments included, that names this market. Examples of
/// the command line may.
fn market_names(market: &str, source: &Source) -> Vec<String> {
    let own = ["markets", "sim"].map(|layer| format!("src/{layer}/{market}"));
    let is_allowed = MARKET_PLACES.iter().any(|place| source.is_under(place))
        || own.iter().any(|place| source.is_under(place));
    if is_allowed || is_test_file(&source.path) {
        return Vec::new();
    }
    let (mut found, name) = (Vec::new(), market.replace('_', ""));
    let mut lines = source.text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            skip_item(line, &mut lines);
        } else if !line.contains("--market ")
            && line.to_ascii_lowercase().replace(['-', '_'], "").contains(&name)
        {
            found.push(format!("{}: {}", source.path, line.trim()));
        }
    }
    found
}

#[test]
fn only_its_own_modules_and_the_settings_name_a_market() {
    let sources = sources();
    for place in MARKET_PLACES {
        assert!(sources.iter().any(|source| source.is_under(place)), "{place} does not exist");
    }
    let main = sources.iter().find(|source| source.path == "src/main.rs").unwrap();
    assert_eq!(main.text.matches("Market::Csgoroll").count(), 1, "main.rs has one `match`");
    let in_all = |market| sources.iter().flat_map(move |source| market_names(market, source));
    let complaints: Vec<String> = MARKETS.into_iter().flat_map(in_all).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Returns the names of the types that a file declares at its top level.
fn types(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = match line.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
            Some(rest) => rest.trim_start(),
            None => line,
        };
        let (kind, rest) = line.split_once(' ')?;
        let is_type = ["struct", "enum", "trait", "type", "union"].contains(&kind);
        is_type.then(|| rest.split(|char| !is_word(char)).next().unwrap_or_default())
    })
}

#[test]
fn a_type_name_means_one_thing() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        for name in types(&source.text) {
            assert!(!STD_NAMES.contains(&name), "{} declares {name}", source.path);
            places.entry(name.to_owned()).or_default().push(source.path.clone());
        }
    }
    assert!(places.len() > 100, "the types were not found");
    places.retain(|name, at| at.len() > 1 && !MODULE_TYPE_NAMES.contains(&name.as_str()));
    assert!(places.len() <= REPEATED_TYPE_NAMES_MAX, "{places:#?}");
    let sources = sources();
    let code_of = |path: &String| sources.iter().find(|source| source.path == *path).map(code);
    for (name, at) in &places {
        for (file, other) in at.iter().flat_map(|file| at.iter().map(move |other| (file, other))) {
            let is_mixed = file != other && names_module(&code_of(file).unwrap(), other);
            assert!(!is_mixed, "{file} imports {other}, and both declare {name}");
        }
    }
}

/// Returns `true` if a file's code names items of another file's module.
fn names_module(code: &str, path: &str) -> bool {
    let prefix = format!("{}::", module(path).last().copied().unwrap_or_default());
    let is_whole = |at: usize| !code[..at].chars().next_back().is_some_and(is_word);
    code.match_indices(&prefix).any(|(at, _)| is_whole(at))
}

#[test]
fn the_source_stays_within_its_size() {
    let count =
        |source: &Source| code(source).lines().filter(|line| !line.trim().is_empty()).count();
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for source in sources() {
        let top = module(&source.path).first().map_or("lib", |name| name).to_owned();
        *sizes.entry(top).or_default() += count(&source);
    }
    let total: usize = sizes.values().sum();
    println!("{total} lines of code in src: {sizes:?}");
    assert!((10_000..=SOURCE_LINES_MAX).contains(&total), "{total} lines: {sizes:?}");
}

#[test]
fn these_checks_find_what_they_look_for() {
    let source = |text: &str| Source { path: "src/low/part.rs".to_owned(), text: text.to_owned() };
    let found = |text: &str| {
        let source = source(text);
        upward(&["base", "low", "high"], &source.path, &code(&source)).len()
    };
    let inline = "pub(crate) mod inline {\n    fn f() {\n        super::CLIMB\n    }\n}\n";
    let inline = |path| inline.replace("super::CLIMB", path);
    let braces =
        "#[cfg(test)]\nmod tests {\n    const A: &str = \"}}}\";\n    use crate::high::T;\n}\n";
    for (code, count) in [
        ("use crate::base::Thing;\n", 0),
        ("use crate::high::Thing;\n", 1),
        ("use crate::{\n    base::{A, B},\n    high::C,\n};\n", 1),
        ("fn f() { crate::high::g() }\n", 1),
        ("use super::super::high::Thing;\n", 1),
        ("use super::high::Thing;\n", 0),
        ("use super::{Near, super::high::Thing};\n", 1),
        ("use super::{\n    Near,\n    super::{base::A, high::{B, C}},\n};\n", 1),
        ("use super::{Near, high::Thing, super::base::A};\n", 0),
        (&inline("super::super::super::high::g()"), 1),
        (&inline("super::super::high::g()"), 0),
        (&inline("crate::high::g()"), 1),
        (&(inline("g()") + "use super::super::high::Thing;\n"), 1),
        ("// crate::high\n#[cfg(test)]\nmod tests {\n    use crate::high::T;\n}\n", 0),
        ("#[cfg(test)]\nuse crate::high::T;\nfn f() { crate::high::g() }\n", 1),
        (braces, 0),
        (&format!("{braces}use crate::high::T;\n"), 1),
    ] {
        assert_eq!(found(code), count, "{code}");
    }
    let shared = |code: &str| shared_wire_code("src/sim/csgoroll/feed.rs", code).len();
    assert_eq!(shared("use crate::{config::Generation, domain::money::Amount};\n"), 0);
    assert_eq!(shared("use crate::markets::csgoroll::operations::JOIN;\n"), 1);
    assert_eq!(
        shared("use crate::{\n    domain::time::UnixMs,\n    ws::protocol::Frame,\n};\n"),
        1
    );
    assert_eq!(shared("use super::super::super::json::Cursor;\n"), 1);
    assert!(names_module("use super::{credential::Credential};", "src/config/credential.rs"));
    assert!(!names_module("use super::bad_credential::A;", "src/config/credential.rs"));
    let named = |text: &str| market_names("csgoroll", &source(text)).len();
    assert_eq!(named("use crate::markets::csgoroll::Csgoroll;\n"), 1);
    assert_eq!(named("/// Watches CSGORoll.\nfn f() {}\n"), 1);
    assert_eq!(named("const URL: &str = \"CSGOROLL_WS_URL\";\n"), 1);
    assert_eq!(named("#[cfg(test)]\nmod tests {\n    use csgoroll::A;\n}\nfn f() {}\n"), 0);
    assert_eq!(
        types("pub(super) struct A;\nenum B {}\nfn c() {}\npub type D = u8;\n").collect::<Vec<_>>(),
        ["A", "B", "D"]
    );
}
