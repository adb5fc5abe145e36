//! Consistency of the documents: their commands parse, the tests and files that they name exist,
//! and prose has one sentence per line.
#![expect(clippy::unwrap_used, reason = "a document that cannot be read fails the test")]

use std::{collections::BTreeSet, fs};

use clap::{CommandFactory, Parser as _};
use sniper::commands::cli::Cli;

use crate::tidy::{files, sources, top};

/// Commands that the README's shell blocks may contain besides `cargo run --release -- …`.
const COMMANDS: &[&str] = &[
    "bash .ci/run",
    "cargo test",
    "chmod 600 .env",
    "cp .env.example .env",
    "cp sniper.example.toml sniper.toml",
    r#"echo "NTFY_URL=https://ntfy.sh/sniper-$(od -An -N12 -tx1 /dev/urandom | tr -d ' ')" >> .env"#,
    r#"printf '\n[[alerts]]\nkind = "ntfy"\nurl_env = "NTFY_URL"\n' >> sniper.toml"#,
    "grep NTFY_URL .env",
];

/// Files that must exist.
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

const README_LINES_MAX: usize = 150;

/// One row of `.planning/REQUIREMENTS.md`.
struct Requirement<'a> {
    id: &'a str,
    state: &'a str,
    shown_by: &'a str,
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap()
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

/// Returns the texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns `true` if `name` is an existing file, or the path of an existing function.
fn exists(name: &str, functions: &BTreeSet<String>) -> bool {
    if name.contains('/') || name.ends_with(".md") || name.ends_with(".toml") {
        return top().join(name).exists();
    }
    name.rsplit("::").next().is_some_and(|function| functions.contains(function))
}

/// Returns the names of all functions, including tests.
fn functions() -> BTreeSet<String> {
    let names = |text: &str| {
        let after = text.split("fn ").skip(1);
        let name = |rest: &str| rest.split(['(', '<']).next().unwrap_or_default().to_owned();
        after.map(name).collect::<Vec<_>>()
    };
    let here = [read("tests/it/tidy.rs")];
    sources().iter().map(|source| &source.text).chain(&here).flat_map(|text| names(text)).collect()
}

/// Returns the commands of a document's shell blocks, without comments.
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

/// Returns `true` if the program accepts these arguments.
fn is_valid_command(words: &str) -> bool {
    Cli::try_parse_from(std::iter::once("sniper").chain(words.split_whitespace())).is_ok()
}

/// Returns the keys of an example settings file, commented out or not.
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

/// Returns the lines with more than one sentence, outside code blocks and tables.
fn lines_with_several_sentences(text: &str) -> Vec<&str> {
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
fn all_required_files_exist() {
    let missing: Vec<_> = TOP_LEVEL.iter().filter(|path| !top().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// `cargo test` and `cargo clippy --all-targets` skip these targets.
#[test]
fn the_script_builds_and_runs_every_test_target_that_cargo_test_skips() {
    let manifest = read("Cargo.toml");
    let skipped: Vec<&str> = manifest
        .split("[[test]]")
        .skip(1)
        .filter_map(|rest| rest.split("\n[").next())
        .filter(|target| target.contains("test = false"))
        .filter_map(|target| target.split_once("name = \"")?.1.split('"').next())
        .collect();
    assert_eq!(skipped, ["long"]);
    let script = read(".ci/run");
    for name in skipped {
        for command in ["cargo clippy", "cargo test"] {
            let start = format!("{command} --locked --test {name} ");
            assert!(script.lines().any(|line| line.starts_with(&start)), "no `{start}` in .ci/run");
        }
    }
}

#[test]
fn private_files_are_ignored_by_git() {
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
fn every_finished_requirement_names_existing_tests_or_files() {
    let text = read(".planning/REQUIREMENTS.md");
    let functions = functions();
    let mut complaints = Vec::new();
    for row in requirements(&text) {
        if row.state != "Pending" && quoted(row.shown_by).next().is_none() {
            complaints.push(format!("{} is {} and names no test or file", row.id, row.state));
        }
        for name in quoted(row.shown_by).filter(|name| !exists(name, &functions)) {
            complaints.push(format!("{} is shown by `{name}`, which does not exist", row.id));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn phase_summaries_refer_to_known_requirements() {
    let text = read(".planning/REQUIREMENTS.md");
    let known: BTreeSet<&str> = requirements(&text).iter().map(|row| row.id).collect();
    let files = files(".planning/phases", "md");
    assert!(!files.is_empty());
    for file in &files {
        let words = file.text.split(|char: char| !char.is_ascii_alphanumeric() && char != '-');
        for word in words {
            let family = word.split_once('-').map_or("", |(family, _)| family);
            if known.iter().any(|id| id.split_once('-').is_some_and(|(it, _)| it == family)) {
                assert!(known.contains(word), "{} refers to {word}", file.path);
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
            Some(words) => assert!(is_valid_command(words), "the README shows `{command}`"),
            None => assert!(COMMANDS.contains(&command.as_str()), "the README shows `{command}`"),
        }
    }
    for words in quoted(&readme).filter_map(|text| text.strip_prefix("sniper ")) {
        assert!(is_valid_command(words), "the README mentions `sniper {words}`");
    }
}

#[test]
fn the_readme_is_short() {
    assert!(read("README.md").lines().count() <= README_LINES_MAX);
}

#[test]
fn the_readme_and_the_commands_page_explain_every_command() {
    let readme = read("README.md") + &read("docs/commands.md");
    for command in <Cli as CommandFactory>::command().get_subcommands() {
        let name = format!("sniper {}", command.get_name());
        let is_explained = quoted(&readme).any(|text| text.starts_with(&name));
        assert!(is_explained || command.get_name() == "help", "the README has no `{name}`");
    }
}

#[test]
fn the_configuration_page_explains_every_setting() {
    let page = read("docs/configuration.md");
    let explained: BTreeSet<&str> = quoted(&page).collect();
    for example in [".env.example", "sniper.example.toml"] {
        let text = read(example);
        let missing: Vec<&str> =
            keys(&text).into_iter().filter(|key| !explained.contains(key)).collect();
        assert!(keys(&text).len() >= 10, "the keys of {example} were not found");
        assert!(
            missing.is_empty(),
            "docs/configuration.md does not explain {missing:?} of {example}"
        );
    }
}

#[test]
fn the_architecture_page_lists_every_module() {
    let (code, map) = (read("src/lib.rs"), read("docs/ARCHITECTURE.md"));
    let shown: BTreeSet<&str> = quoted(&map).collect();
    let modules = code.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let modules: Vec<&str> = modules.collect();
    assert!(modules.len() > 10, "the modules were not found");
    let missing: Vec<&&str> = modules.iter().filter(|module| !shown.contains(*module)).collect();
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md does not show {missing:?}");
}

/// Returns the names of the dependencies, and of the packages that only tests use.
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
fn every_dependency_is_documented_and_used() {
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
    let declared: BTreeSet<&str> = program.union(&tests).copied().collect();
    assert_eq!(
        explained, declared,
        "explained in docs/ARCHITECTURE.md, and declared in Cargo.toml"
    );

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
    assert_eq!(unused(&program, &["src"]), Vec::<String>::new(), "declared and not used");
    assert_eq!(unused(&tests, &["src", "tests", "benches"]), Vec::<String>::new(), "not used");
}

#[test]
fn the_documents_have_one_sentence_per_line() {
    let top: Vec<String> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(read).into();
    let docs = files("docs", "md").into_iter().map(|file| file.text);
    let planning = files(".planning", "md").into_iter().map(|file| file.text);
    let texts: Vec<String> = top.into_iter().chain(docs).chain(planning).collect();
    let complaints: Vec<&str> =
        texts.iter().flat_map(|text| lines_with_several_sentences(text)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn each_document_check_detects_a_violation() {
    let functions = BTreeSet::from(["a_test_that_exists".to_owned()]);
    assert!(exists("module::tests::a_test_that_exists", &functions));
    assert!(!exists("module::tests::a_test_that_was_renamed", &functions));
    assert!(exists("src/lib.rs", &functions));
    assert!(!exists("docs/nowhere.md", &functions));

    assert_eq!(
        commands("```sh\ncargo test # all\n\n# a word\n```\ntext\n```text\nout\n```\n").len(),
        1
    );
    assert_eq!(
        lines_with_several_sentences("One. Two.\n1. One.\n| a. B |\n```\nA. B.\n```\nEnd. `x`\n"),
        ["One. Two."]
    );
    assert_eq!(requirements("| A-01 | p | Done | `x` |\n| id | promise | state | by |\n").len(), 1);
}
