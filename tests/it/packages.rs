//! Files of the packages: the unit, the container, the workflows, the completions and the manual
//! page fit the program.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a package file that cannot be read fails the test"
)]

use std::{fs, process::Command, time::Duration};

use clap::Parser as _;
use serde_json::Value;
use sniper::{
    commands::{
        cli::{self, Cli},
        exit_code,
    },
    markets::{MarketApi as _, csgoroll::Csgoroll, lis_skins::LisSkins, waxpeer::Waxpeer},
    shutdown::STOP_MAX,
};

use crate::tidy::{files, top};

/// Path of the program in the unit and in the container.
const PROGRAM: &str = "/usr/local/bin/sniper";

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap()
}

/// Parses the arguments of a command line that starts the installed program.
#[track_caller]
fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> cli::Command {
    let words: Vec<&str> = words.into_iter().collect();
    assert_eq!(words.first(), Some(&PROGRAM), "{words:?}");
    let cli = Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    cli.command()
}

/// Returns the values of a key of the unit, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    unit.lines().filter_map(value).collect()
}

/// Returns the only value of a key of the unit.
#[track_caller]
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let [value] = values(unit, key).try_into().unwrap_or_else(|all| panic!("{key}: {all:?}"));
    value
}

#[test]
fn the_completions_and_the_manual_page_are_those_of_the_program() {
    for (args, path) in [
        (&["completions", "bash"][..], "dist/completions/sniper.bash"),
        (&["completions", "zsh"], "dist/completions/_sniper"),
        (&["completions", "fish"], "dist/completions/sniper.fish"),
        (&["man"], "dist/sniper.1"),
    ] {
        let printed = Command::new(env!("CARGO_BIN_EXE_sniper")).args(args).output().unwrap();
        assert!(printed.status.success(), "{args:?}: {printed:?}");
        // Without a diff, which would be long.
        let is_current = fs::read(top().join(path)).is_ok_and(|file| file == printed.stdout);
        assert!(is_current, "{path} is not current; write it with: bash dist/generate");
    }
}

#[test]
fn the_manual_page_and_the_completions_have_every_command() {
    let page = read("dist/sniper.1");
    let scripts = files("dist/completions", "bash").into_iter().chain(files("dist", "fish"));
    let scripts: Vec<String> = scripts.map(|file| file.text).collect();
    assert_eq!(scripts.len(), 2);
    let program = Cli::command_line();
    let visible: Vec<&str> = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(clap::Command::get_name)
        .collect();
    assert!(visible.contains(&"run") && visible.contains(&"health"), "{visible:?}");
    for name in visible {
        let heading = format!(".SH \"SNIPER {}\"", name.to_uppercase());
        assert!(page.lines().any(|line| line == heading), "no {heading}");
        assert!(scripts.iter().all(|script| script.contains(name)), "{name}");
    }
    assert!(!page.contains("SNIPER MAN"), "a hidden command is not shown");
    assert!(page.contains(".SH \"SNIPER LEDGER RESOLVE\""), "commands below others are shown");
}

#[test]
fn with_json_the_completions_are_one_object() {
    let args = ["completions", "fish", "--json"];
    let printed = Command::new(env!("CARGO_BIN_EXE_sniper")).args(args).output().unwrap();
    let object: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(object["script"], read("dist/completions/sniper.fish"));
    assert_eq!(object["shell"], "fish");
}

#[test]
fn the_unit_starts_a_dry_run_that_the_program_accepts() {
    let unit = read("dist/sniper.service");
    let commands = ["ExecStart", "ExecReload", "ExecStartPre", "ExecStop"];
    for line in commands.iter().flat_map(|key| values(&unit, key)) {
        parse(line.split_whitespace());
    }
    let cli::Command::Run(args) = parse(value(&unit, "ExecStart").split_whitespace()) else {
        panic!("the unit does not run the bot");
    };
    assert!(!args.live, "`SNIPER_LIVE` in .env decides");
    assert_eq!(value(&unit, "User"), "sniper");
    assert_eq!(value(&unit, "WorkingDirectory"), "/var/lib/sniper");
    assert_eq!(value(&unit, "StateDirectory"), "sniper");
    assert!(read("dist/sniper.sysusers").lines().any(|line| line.starts_with("u sniper ")));
}

#[test]
fn the_unit_restarts_the_bot_except_after_mistakes_of_its_user_and_waits_for_its_orders() {
    let unit = read("dist/sniper.service");
    assert_eq!(value(&unit, "Restart"), "on-failure");
    let kept: Vec<&str> = value(&unit, "RestartPreventExitStatus").split(' ').collect();
    assert_eq!(kept, ["2", &exit_code::CONFIG.to_string()]);
    assert_eq!(
        value(&unit, "RestartForceExitStatus"),
        "SIGHUP",
        "systemd takes it for a clean end"
    );
    assert!(value(&unit, "TimeoutStopSec").parse::<u64>().unwrap() > STOP_MAX.as_secs());
    assert_eq!(value(&unit, "Type"), "notify");
    assert!(value(&unit, "WatchdogSec").parse::<u64>().unwrap() >= 30);
    let (head, service) = unit.split_once("[Service]").unwrap();
    assert!(head.contains("StartLimitBurst=") && !service.contains("StartLimit"));
}

#[test]
fn the_limit_of_a_stop_leaves_time_for_the_slowest_order_and_what_follows_it() {
    let order_timeouts = [
        Csgoroll::CAPABILITIES.order_timeout,
        LisSkins::CAPABILITIES.order_timeout,
        Waxpeer::CAPABILITIES.order_timeout,
    ];
    // Connections 1 s, alerts 5 s, ledger 10 s, paused entries 1 s, log 1 s, summary 2 s.
    let rest = Duration::from_secs(20);
    assert!(order_timeouts.iter().all(|order| *order + rest < STOP_MAX), "{order_timeouts:?}");
}

#[test]
fn the_unit_is_confined_and_allows_the_calls_of_the_threads() {
    let unit = read("dist/sniper.service");
    for key in [
        "NoNewPrivileges",
        "PrivateDevices",
        "PrivateTmp",
        "PrivateUsers",
        "ProtectHome",
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
    ] {
        assert_eq!(value(&unit, key), "yes", "{key}");
    }
    assert_eq!(value(&unit, "ProtectSystem"), "strict");
    assert_eq!(value(&unit, "CapabilityBoundingSet"), "");
    assert_eq!(value(&unit, "UMask"), "0077");
    // The id of the boot is in /proc/sys.
    assert_eq!(values(&unit, "ProcSubset"), Vec::<&str>::new());
    // A later line adds to the filter or takes away from it.
    let filter = values(&unit, "SystemCallFilter");
    assert_eq!(
        filter,
        ["@system-service", "~@privileged @resources", "setpriority sched_setaffinity"]
    );
}

/// Returns the words of an instruction of the Dockerfile in exec form.
#[track_caller]
fn exec_form(dockerfile: &str, instruction: &str) -> Vec<String> {
    let stage = dockerfile.rsplit("\nFROM ").next().unwrap();
    let line = stage.lines().find_map(|line| line.strip_prefix(instruction));
    let line = line.unwrap_or_else(|| panic!("no {instruction}"));
    serde_json::from_str(line.trim()).unwrap_or_else(|error| panic!("{instruction}: {error}"))
}

#[test]
fn the_container_runs_the_bot_without_a_shell_and_asks_for_its_health() {
    let dockerfile = read("dist/Dockerfile");
    let start = [exec_form(&dockerfile, "ENTRYPOINT "), exec_form(&dockerfile, "CMD ")];
    assert!(matches!(parse(start.iter().flatten().map(String::as_str)), cli::Command::Run(_)));
    assert!(dockerfile.contains("\nHEALTHCHECK "));
    let health = exec_form(&dockerfile, "    CMD ");
    assert!(matches!(parse(health.iter().map(String::as_str)), cli::Command::Health));
    let users: Vec<&str> =
        dockerfile.lines().filter_map(|line| line.strip_prefix("USER ")).collect();
    assert_eq!(users, ["65532:65532"]);
    assert!(dockerfile.contains("--profile dist") && read("Cargo.toml").contains("[profile.dist]"));
}

/// The build context is a list of what may enter it, so that no secret does.
#[test]
fn the_container_build_gets_the_sources_and_no_secret() {
    let ignore = read(".dockerignore");
    let lines: Vec<&str> = ignore.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.first(), Some(&"*"), "everything else is left out");
    let allowed: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix('!')).collect();
    assert_eq!(allowed.len() + 1, lines.len());
    for secret in [".env", "data", "sniper.toml", "dist"] {
        assert!(!allowed.contains(&secret), "{secret}");
    }
    for needed in ["Cargo.lock", "Cargo.toml", "src", "tests", "benches", "examples"] {
        assert!(allowed.contains(&needed), "{needed}");
    }
    // Files that the program embeds.
    for source in files("src", "rs").iter().filter(|source| !source.path.contains("tests")) {
        for (at, _) in source.text.match_indices("include_") {
            let Some(name) = source.text[at..].split('"').nth(1) else { continue };
            let directory = top().join(&source.path);
            let path = directory.parent().unwrap().join(name).canonicalize();
            let Ok(path) = path else { continue };
            let first = path.strip_prefix(top()).unwrap().components().next().unwrap();
            let first = first.as_os_str().to_str().unwrap();
            assert!(
                allowed.contains(&first),
                "{} embeds {name}: add it to .dockerignore",
                source.path
            );
        }
    }
}

#[test]
fn the_compose_file_publishes_the_page_on_loopback_only_and_keeps_the_data() {
    let compose = read("dist/compose.yaml");
    let (_, ports) = compose.split_once("\n    ports:\n").unwrap();
    let ports: Vec<&str> = ports
        .lines()
        .take_while(|line| line.starts_with("      "))
        .filter_map(|line| line.trim_start().strip_prefix("- "))
        .collect();
    assert_eq!(ports, ["\"127.0.0.1:8098:8098\""]);
    assert!(compose.contains("\n    volumes:\n") && compose.contains("- ./bot:/sniper\n"));
    assert!(read("dist/Dockerfile").contains("\nWORKDIR /sniper\n"));
    assert!(read(".gitignore").lines().any(|line| line == "/dist/bot"), "it holds secrets");
    let lines = || compose.lines().map(str::trim);
    for line in ["read_only: true", "- ALL", "- no-new-privileges:true"] {
        assert!(lines().any(|found| found == line), "{line}");
    }
    let period =
        lines().find_map(|line| line.strip_prefix("stop_grace_period: ")?.strip_suffix('s'));
    assert!(period.unwrap().parse::<u64>().unwrap() > STOP_MAX.as_secs());
    assert!(!compose.contains("network_mode") && !compose.contains("privileged: "));
}

#[test]
fn the_workflows_run_the_script_with_pinned_actions_and_without_secrets() {
    let workflows = files(".github/workflows", "yml");
    assert_eq!(workflows.len(), 2);
    for workflow in &workflows {
        let text = &workflow.text;
        assert!(text.contains("\npermissions:\n  contents: read\n"), "{}", workflow.path);
        assert!(!text.contains("secrets."), "{}", workflow.path);
        assert!(!text.contains("pull_request_target"), "{}", workflow.path);
        for action in text.lines().filter_map(|line| line.trim().strip_prefix("- uses: ")) {
            let (name, version) = action.split_once('@').unwrap_or_default();
            let number = version.strip_prefix('v').and_then(|it| it.parse::<u32>().ok());
            assert!(
                name.starts_with("actions/") && number.is_some(),
                "{}: {action}",
                workflow.path
            );
        }
    }
    let [ci, release] = workflows.try_into().unwrap_or_else(|_| panic!("two workflows"));
    assert!(ci.text.lines().any(|line| line.trim() == "- run: bash .ci/run"));
    assert_eq!(ci.text.matches("write").count(), 0, "CI writes nothing");
    for target in
        ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl", "aarch64-apple-darwin"]
    {
        assert!(release.text.contains(&format!("- target: {target}\n")), "{target}");
    }
    assert!(release.text.contains("sha256sum") && release.text.contains("actions/attest@"));
}

/// `cargo binstall` finds the archives that the release workflow makes.
#[test]
fn the_binstall_metadata_names_the_archives_of_a_release() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let binstall = &manifest["package"]["metadata"]["binstall"];
    let release = read(".github/workflows/release.yml");
    // The tag is v and the version.
    assert!(release.contains("name=\"sniper-$GITHUB_REF_NAME-$TARGET\""));
    assert!(release.contains("tar -czf \"$name.tar.gz\" \"$name\""));
    let url = binstall["pkg-url"].as_str().unwrap();
    assert!(url.ends_with("/v{ version }/{ name }-v{ version }-{ target }.tar.gz"), "{url}");
    assert_eq!(binstall["bin-dir"].as_str(), Some("{ name }-v{ version }-{ target }/{ bin }"));
    assert_eq!(binstall["pkg-fmt"].as_str(), Some("tgz"));
}
