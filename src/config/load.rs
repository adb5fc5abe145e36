//! The edge: from the command line, the environment and the files to one checked [`Config`].

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Config, CredentialSource, Endpoints, Mode,
    dotenv::{self, Variable},
    entries::{EntryList, check_distinct},
    environment::{self, Environment, Variables},
    policy::{self, TomlSettings},
    problem::{ConfigErrors, Diagnostics, Problem, SourceLocation},
};
use crate::{text::Escaped, whitelist::Whitelist};

/// The largest file that is read, in bytes: a whitelist of 100,000 entries has a third of it.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The policy's file unless said otherwise.
pub const CONFIG_FILE: &str = "sniper.toml";

/// The variables' file.
pub const DOTENV_FILE: &str = ".env";

/// Where settings come from. Everything is said explicitly, so that a test has no need of the
/// process environment.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The environment.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
    /// The working directory: `.env` is read there, and relative paths begin there.
    pub directory: &'a Path,
    /// `--config`.
    pub config_file: Option<&'a Path>,
    /// `--live`.
    pub live: bool,
}

/// A variable of this process. What is not Unicode is not overlooked: it comes with replacement
/// characters, which whoever checks it refuses.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// A configuration, and what a person should be told about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is set.
    pub config: Config,
    /// What is worth a second look and forbids nothing.
    pub warnings: Vec<Problem>,
    /// The policy's file, if there is one.
    pub config_file: Option<PathBuf>,
    /// The variable that holds the credential, and where it is set; never its value.
    pub credential_source: Option<(&'static str, SourceLocation)>,
    /// `RUST_LOG`.
    pub log_filter: Option<String>,
}

impl Config {
    /// Reads every setting.
    ///
    /// # Errors
    ///
    /// All [`ConfigErrors`] at once, with their places and what to write instead.
    pub fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigErrors> {
        let mut findings = Diagnostics::default();
        let variables = Variables {
            lookup: sources.lookup,
            file: DOTENV_FILE.to_owned(),
            dotenv: read_dotenv(sources.directory, &mut findings),
        };
        let environment = environment::read(&variables, &mut findings);
        let live = sources.live.then_some(SourceLocation::CommandLine).or(environment.live.clone());
        let (policy, config_file) =
            read_policy(sources, &environment, live.as_ref(), &mut findings);
        if let Some(place) = &live {
            check_live(place, &environment, &policy, &mut findings);
        }
        check_prices(&policy, &mut findings);
        let warnings = findings.into_warnings()?;
        let Some(endpoints) = environment.endpoints else {
            let place = SourceLocation::File(DOTENV_FILE.to_owned());
            return Err(ConfigErrors::one(Problem::new(place, "an address is wrong", "mend it")));
        };
        let entries = policy.entries.found.into_iter().map(|found| found.entry).collect();
        let config = Self {
            mode: if live.is_some() { Mode::Live } else { Mode::Dry },
            credential: environment.credential,
            budget: policy.budget,
            feed: policy.feed,
            reconnection: policy.reconnection,
            speed: policy.speed,
            state_dir: state_dir(sources.lookup),
            credential_source: Some(credential_source(sources)),
            whitelist: Arc::new(Whitelist::new(entries)),
            ..Self::new(endpoints, sources.directory.join(environment.data_dir))
        };
        Ok(Loaded {
            config,
            warnings,
            config_file,
            credential_source: environment.credential_source,
            log_filter: environment.log_filter,
        })
    }
}

/// `sniper` below `XDG_STATE_HOME`, or else below `.local/state` of the home directory. Only the
/// environment names it: the XDG specification says to ignore a path that is not absolute.
fn state_dir(lookup: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".local").join("state"));
    let named = absolute("XDG_STATE_HOME").or_else(home).or_else(|| absolute("LOCALAPPDATA"));
    named.map(|state| state.join("sniper"))
}

/// Reads `.env` again, for a person may have put a new cookie there since.
fn credential_source(sources: &Sources<'_>) -> CredentialSource {
    let directory = sources.directory.to_path_buf();
    let fixed = environment::fixed_credential(sources.lookup);
    CredentialSource::new(move || {
        // What is wrong in it now was told at the start or is told at the next one.
        let dotenv = read_dotenv(&directory, &mut Diagnostics::default());
        environment::fresh_credential(fixed.as_ref(), dotenv)
    })
}

/// Reads the policy and the whitelist's file, and the path of the former if there is one.
fn read_policy(
    sources: &Sources<'_>,
    environment: &Environment,
    live: Option<&SourceLocation>,
    findings: &mut Diagnostics,
) -> (TomlSettings, Option<PathBuf>) {
    let setting = environment.config_file.as_ref();
    let (name, named_at) = match (sources.config_file, setting) {
        (Some(path), _) => (path.to_path_buf(), Some(SourceLocation::CommandLine)),
        (None, Some(setting)) => (PathBuf::from(&setting.value), Some(setting.place.clone())),
        (None, None) => (PathBuf::from(CONFIG_FILE), None),
    };
    let shown = name.display().to_string();
    let path = sources.directory.join(&name);
    let text = match read_text(&path, &shown, findings) {
        FileRead::Text(text) => text,
        FileRead::Wrong => return (TomlSettings::default(), Some(path)),
        FileRead::Absent => {
            if let Some(place) = named_at.as_ref().or(live) {
                findings.problem(Problem::new(
                    place.clone(),
                    format!("there is no file {}", Escaped(&shown)),
                    "copy sniper.example.toml there and say in it what may be bought",
                ));
            }
            return (TomlSettings::default(), None);
        }
    };
    let mut policy = policy::read(&shown, &text, findings);
    if let Some((file, place)) = policy.whitelist_file.clone() {
        let beside = name.parent().unwrap_or(Path::new(""));
        let more = read_whitelist(sources.directory, &beside.join(file), place, findings);
        policy.entries.count = policy.entries.count.saturating_add(more.count);
        policy.entries.found.extend(more.found);
    }
    check_distinct(&policy.entries.found, findings);
    if policy.entries.count == 0 {
        let remedy = "add a [[whitelist]] entry; sniper.example.toml shows how";
        let message = "the whitelist is empty, so nothing could ever match";
        findings.problem(Problem::new(SourceLocation::File(shown), message, remedy));
    }
    (policy, Some(path))
}

fn read_whitelist(
    directory: &Path,
    name: &Path,
    place: SourceLocation,
    findings: &mut Diagnostics,
) -> EntryList {
    let shown = name.display().to_string();
    match read_text(&directory.join(name), &shown, findings) {
        FileRead::Text(text) => policy::read_whitelist(&shown, &text, findings),
        FileRead::Wrong => EntryList { found: Vec::new(), count: 1 },
        FileRead::Absent => {
            let message = format!("there is no file {}", Escaped(&shown));
            let remedy = "paths begin at the directory of the file that names them";
            findings.problem(Problem::new(place, message, remedy));
            EntryList { found: Vec::new(), count: 1 }
        }
    }
}

/// What came of reading a file.
enum FileRead {
    Text(String),
    /// There is none.
    Absent,
    /// It could not be read, which is a problem and has been reported.
    Wrong,
}

fn read_text(path: &Path, shown: &str, findings: &mut Diagnostics) -> FileRead {
    let mut problem = |place: SourceLocation, message: String, remedy: &str| {
        findings.problem(Problem::new(place, message, remedy));
        FileRead::Wrong
    };
    let whole = || SourceLocation::File(shown.to_owned());
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return FileRead::Absent,
        Err(error) => {
            let remedy = "make it a file that this user can read";
            return problem(whole(), format!("cannot be read ({error})"), remedy);
        }
    };
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        let remedy = format!("keep it below {} MiB", FILE_BYTES_MAX / 1024 / 1024);
        return problem(whole(), "is too large".to_owned(), &remedy);
    }
    match String::from_utf8(bytes) {
        // Some editors begin a file with a mark that says UTF-8.
        Ok(text) => match text.strip_prefix('\u{feff}') {
            Some(rest) => FileRead::Text(rest.to_owned()),
            None => FileRead::Text(text),
        },
        Err(error) => {
            let read = error.as_bytes().get(..error.utf8_error().valid_up_to());
            let line = memchr::memchr_iter(b'\n', read.unwrap_or_default()).count();
            let place =
                SourceLocation::Line { file: shown.to_owned(), line: line.saturating_add(1) };
            problem(place, "is not UTF-8".to_owned(), "save the file as UTF-8")
        }
    }
}

/// The file's bytes, and one more than is allowed if there are more.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_dotenv(directory: &Path, findings: &mut Diagnostics) -> Vec<Variable> {
    let path = directory.join(DOTENV_FILE);
    match read_text(&path, DOTENV_FILE, findings) {
        FileRead::Text(text) => {
            if others_can_read(&path) {
                let place = SourceLocation::File(DOTENV_FILE.to_owned());
                let remedy = "run: chmod 600 .env";
                findings.warning(Problem::new(place, "others can read this file", remedy));
            }
            dotenv::read(DOTENV_FILE, &text, findings)
        }
        FileRead::Absent | FileRead::Wrong => Vec::new(),
    }
}

#[cfg(unix)]
fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Who may read a file is not a matter of mode bits there, and a home directory is private.
#[cfg(not(unix))]
fn others_can_read(_path: &Path) -> bool {
    false
}

/// What a live run needs and a dry one does not.
fn check_live(
    place: &SourceLocation,
    environment: &Environment,
    policy: &TomlSettings,
    findings: &mut Diagnostics,
) {
    policy.missing_for_live.iter().for_each(|missing| findings.problem(missing.clone()));
    if !environment.has_credential {
        findings.problem(Problem::new(
            place.clone(),
            "live mode needs a credential, and none is set",
            "log in with your browser and put the value of the `session` cookie into .env as \
             CSGOROLL_SESSION",
        ));
    }
    if let Some(Endpoints { ws, http, .. }) = &environment.endpoints
        && ws.is_loopback() != http.is_loopback()
    {
        findings.problem(Problem::new(
            place.clone(),
            "CSGOROLL_WS_URL and CSGOROLL_HTTP_URL are of different markets: one is on this \
             machine, the other is not",
            "set both or neither",
        ));
    }
}

/// Entries whose price can never be reached.
fn check_prices(policy: &TomlSettings, findings: &mut Diagnostics) {
    let limit = policy.budget.max_price;
    for found in policy.entries.found.iter().filter(|found| found.entry.max_price > limit) {
        let price = found.entry.max_price;
        let message = format!("`max_price` {price} is above the {limit} of [budget]");
        let remedy = "the lower one decides; raise the one of [budget] if that is not meant";
        findings.warning(Problem::new(found.place.clone(), message, remedy));
    }
}
