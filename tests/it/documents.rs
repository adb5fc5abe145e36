//! What the documents say is so: their commands exist, their promises name tests that exist, and
//! they are written a sentence a line.
#![expect(clippy::unwrap_used, reason = "a document that cannot be read fails the test")]

use std::{collections::BTreeSet, fs};

use clap::{CommandFactory, Parser as _};
use sniper::cli::Cli;

use crate::tidy::{files, sources, top};

/// What a shell block of the README may say besides `cargo run --release -- …`.
const COMMANDS: &[&str] = &[
    "bash .ci/run",
    "cargo test",
    "chmod 600 .env",
    "cp .env.example .env",
    "cp sniper.example.toml sniper.toml",
];

/// What belongs at the top, and must be there.
const TOP_LEVEL: &[&str] = &[
    ".ci/run",
    ".env.example",
    ".planning/PROJECT.md",
    ".planning/REQUIREMENTS.md",
    ".planning/ROADMAP.md",
    ".planning/STATE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "docs/ARCHITECTURE.md",
    "deny.toml",
    "sniper.example.toml",
    "src/lib.rs",
    "src/main.rs",
];

/// One row of `.planning/REQUIREMENTS.md`.
struct Requirement<'a> {
    id: &'a str,
    state: &'a str,
    shown_by: &'a str,
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap().replace("\r\n", "\n")
}

fn requirements(text: &str) -> Vec<Requirement<'_>> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'))
        .filter_map(|row| {
            let [id, _promise, state, shown_by] =
                <[&str; 4]>::try_from(row.split('|').collect::<Vec<_>>()).ok()?;
            Some(Requirement { id: id.trim(), state: state.trim(), shown_by: shown_by.trim() })
        })
        .filter(|row| row.id != "id")
        .collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a name of a test or of a file means something that exists.
fn exists(name: &str, functions: &BTreeSet<String>) -> bool {
    if name.contains('/') || name.ends_with(".md") || name.ends_with(".toml") {
        return top().join(name).exists();
    }
    name.rsplit("::").next().is_some_and(|function| functions.contains(function))
}

/// The names of every function that is compiled, tests among them.
fn functions() -> BTreeSet<String> {
    let names = |text: &str| {
        let after = text.split("fn ").skip(1);
        let name = |rest: &str| rest.split(['(', '<']).next().unwrap_or_default().to_owned();
        after.map(name).collect::<Vec<_>>()
    };
    let here = [read("tests/it/tidy.rs")];
    sources().iter().map(|source| &source.text).chain(&here).flat_map(|text| names(text)).collect()
}

/// The commands of a document's shell blocks: lines that are neither comments nor output.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(language) => inside = !inside && matches!(language, "sh" | "bash" | "console"),
            None if inside => {
                let command = line.split(" #").next().unwrap_or_default().trim();
                if !command.is_empty() && !command.starts_with('#') {
                    found.push(command.to_owned());
                }
            }
            None => {}
        }
    }
    found
}

/// Whether the program's own command line takes these words.
fn is_understood(words: &str) -> bool {
    Cli::try_parse_from(std::iter::once("sniper").chain(words.split_whitespace())).is_ok()
}

/// The keys that an example of settings shows, commented out or not.
fn keys(example: &str) -> BTreeSet<&str> {
    let name = |line| {
        let line: &str = line;
        let (key, _value) = line.trim_start_matches("# ").split_once('=')?;
        let key = key.trim();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        (!key.is_empty() && key.bytes().all(plain)).then_some(key)
    };
    example.lines().filter_map(name).collect()
}

/// Lines of prose that hold more than one sentence, outside code and tables.
fn crowded(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.lines()
        .filter(|line| {
            if line.trim_start().starts_with("```") {
                inside = !inside;
            }
            let prose = !inside && !line.starts_with('|');
            let numbered = line.split_once(". ").is_some_and(|(head, _)| {
                !head.is_empty() && head.trim().bytes().all(|byte| byte.is_ascii_digit())
            });
            let line = if numbered { line.split_once(". ").map_or(*line, |it| it.1) } else { line };
            let mut ends = line.match_indices(['.', '!', '?']);
            prose
                && ends.any(|(at, _)| {
                    let after = line.get(at.saturating_add(1)..).unwrap_or_default();
                    let next = after.strip_prefix(' ').and_then(|rest| rest.chars().next());
                    next.is_some_and(char::is_uppercase)
                })
        })
        .collect()
}

#[test]
fn what_belongs_at_the_top_is_there() {
    let missing: Vec<_> = TOP_LEVEL.iter().filter(|path| !top().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_is_private_is_ignored_by_git() {
    let text = read(".gitignore");
    let ignored: Vec<&str> = text.lines().map(|line| line.trim_matches('/')).collect();
    for private in [".env", "data", "sniper.toml"] {
        assert!(ignored.contains(&private), "{private} could be committed");
    }
}

#[test]
fn every_requirement_has_one_id_and_a_known_state() {
    let text = read(".planning/REQUIREMENTS.md");
    let rows = requirements(&text);
    let lines = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id "));
    assert_eq!(rows.len(), lines.count(), "a row has not four columns");
    assert!(!rows.is_empty());

    let mut seen = BTreeSet::new();
    for row in &rows {
        let (family, number) = row.id.split_once('-').unwrap_or_default();
        let plain = family.bytes().all(|byte| byte.is_ascii_uppercase());
        assert!(plain && !family.is_empty() && number.len() == 2, "{} is no id", row.id);
        assert!(seen.insert(row.id), "{} occurs twice", row.id);
        assert!(["Done", "Partial", "Pending"].contains(&row.state), "{}: {}", row.id, row.state);
    }
}

#[test]
fn a_requirement_that_is_done_names_what_shows_it_and_that_exists() {
    let text = read(".planning/REQUIREMENTS.md");
    let functions = functions();
    let mut complaints = Vec::new();
    for row in requirements(&text) {
        if row.state != "Pending" && quoted(row.shown_by).next().is_none() {
            complaints.push(format!("{} is {} and names nothing that shows it", row.id, row.state));
        }
        for name in quoted(row.shown_by).filter(|name| !exists(name, &functions)) {
            complaints.push(format!("{} is shown by `{name}`, which does not exist", row.id));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_summary_belongs_to_a_plan_and_speaks_of_known_requirements() {
    let text = read(".planning/REQUIREMENTS.md");
    let known: BTreeSet<&str> = requirements(&text).iter().map(|row| row.id).collect();
    let files = files(".planning/phases", "md");
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert!(!files.is_empty());
    for file in &files {
        if let Some(stem) = file.path.strip_suffix("-SUMMARY.md") {
            assert!(paths.contains(&*format!("{stem}-PLAN.md")), "{} has no plan", file.path);
        }
        let words = file.text.split(|char: char| !char.is_ascii_alphanumeric() && char != '-');
        for word in words {
            let family = word.split_once('-').map_or("", |(family, _)| family);
            if known.iter().any(|id| id.split_once('-').is_some_and(|(it, _)| it == family)) {
                assert!(known.contains(word), "{} speaks of {word}", file.path);
            }
        }
    }
}

#[test]
fn the_readme_shows_only_commands_that_exist() {
    let readme = read("README.md");
    let shown = commands(&readme);
    assert!(shown.iter().any(|command| command == "cargo test"), "{shown:?}");
    for command in &shown {
        match command.strip_prefix("cargo run --release -- ") {
            Some(words) => assert!(is_understood(words), "the README shows `{command}`"),
            None => assert!(COMMANDS.contains(&command.as_str()), "the README shows `{command}`"),
        }
    }
    for words in quoted(&readme).filter_map(|text| text.strip_prefix("sniper ")) {
        assert!(is_understood(words), "the README speaks of `sniper {words}`");
    }
}

#[test]
fn the_readme_explains_every_command() {
    let readme = read("README.md");
    for command in <Cli as CommandFactory>::command().get_subcommands() {
        let name = format!("sniper {}", command.get_name());
        let is_explained = quoted(&readme).any(|text| text.starts_with(&name));
        assert!(is_explained || command.get_name() == "help", "the README has no `{name}`");
    }
}

#[test]
fn the_readme_explains_every_setting() {
    let readme = read("README.md");
    let explained: BTreeSet<&str> = quoted(&readme).collect();
    for example in [".env.example", "sniper.example.toml"] {
        let text = read(example);
        let missing: Vec<&str> =
            keys(&text).into_iter().filter(|key| !explained.contains(key)).collect();
        assert!(keys(&text).len() >= 10, "the keys of {example} were not found");
        assert!(missing.is_empty(), "the README does not explain {missing:?} of {example}");
    }
}

#[test]
fn every_room_is_on_the_map() {
    let (code, map) = (read("src/lib.rs"), read("docs/ARCHITECTURE.md"));
    let shown: BTreeSet<&str> = quoted(&map).collect();
    let rooms = code.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let rooms: Vec<&str> = rooms.collect();
    assert!(rooms.len() > 10, "the rooms were not found");
    let missing: Vec<&&str> = rooms.iter().filter(|room| !shown.contains(*room)).collect();
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md does not show {missing:?}");
}

/// The names of all packages that are asked for, those of tests apart.
fn packages(manifest: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut program, mut tests) = (BTreeSet::new(), BTreeSet::new());
    let mut section = "";
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((name, _)) = line.split_once(" = ").filter(|(name, _)| is_name(name)) {
            match section {
                "dev-dependencies" => tests.insert(name),
                _ if section.ends_with("dependencies") => program.insert(name),
                _ => false,
            };
        }
    }
    let shared: Vec<&str> = tests.intersection(&program).copied().collect();
    tests.retain(|name| !shared.contains(name));
    (program, tests)
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[test]
fn every_package_says_what_it_is_for_and_is_used() {
    let (manifest, map) = (read("Cargo.toml"), read("docs/ARCHITECTURE.md"));
    let (program, tests) = packages(&manifest);
    assert!(program.len() > 10 && tests.contains("proptest"), "{program:?} {tests:?}");

    let (_, table) = map.split_once("## Packages").unwrap();
    let first_cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    let explained: BTreeSet<&str> = first_cells
        .flat_map(|cell| cell.split(','))
        .map(str::trim)
        .filter(|name| *name != "package")
        .collect();
    let asked: BTreeSet<&str> = program.union(&tests).copied().collect();
    assert_eq!(explained, asked, "explained in docs/ARCHITECTURE.md, and asked for in Cargo.toml");

    let sources = sources();
    let unused = |names: &BTreeSet<&str>, place: &[&str]| -> Vec<String> {
        let is_used = |name: &str| {
            let path = format!("{name}::");
            let mut places = sources.iter().filter(|it| place.iter().any(|at| it.is_under(at)));
            places.any(|source| source.text.contains(&path))
        };
        let names = names.iter().map(|name| name.replace('-', "_"));
        names.filter(|name| !is_used(name)).collect()
    };
    assert_eq!(unused(&program, &["src"]), Vec::<String>::new(), "asked for and not used");
    assert_eq!(unused(&tests, &["src", "tests", "benches"]), Vec::<String>::new(), "not used");
}

#[test]
fn the_documents_have_one_sentence_a_line() {
    let top: Vec<String> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(read).into();
    let docs = files("docs", "md").into_iter().map(|file| file.text);
    let planning = files(".planning", "md").into_iter().map(|file| file.text);
    let texts: Vec<String> = top.into_iter().chain(docs).chain(planning).collect();
    let complaints: Vec<&str> = texts.iter().flat_map(|text| crowded(text)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn these_checks_bite() {
    let functions = BTreeSet::from(["a_test_that_exists".to_owned()]);
    assert!(exists("room::tests::a_test_that_exists", &functions));
    assert!(!exists("room::tests::a_test_that_was_renamed", &functions));
    assert!(exists("src/lib.rs", &functions));
    assert!(!exists("docs/nowhere.md", &functions));

    assert_eq!(
        commands("```sh\ncargo test # all\n\n# a word\n```\ntext\n```text\nout\n```\n").len(),
        1
    );
    assert_eq!(crowded("One. Two.\n1. One.\n| a. B |\n```\nA. B.\n```\nEnd. `x`\n"), ["One. Two."]);
    assert_eq!(requirements("| A-01 | p | Done | `x` |\n| id | promise | state | by |\n").len(), 1);
}
