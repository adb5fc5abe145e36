//! Loads the command line, the environment and the files into one validated [`Config`].

use std::{
    fs::{DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    Config, Credential, CredentialSource, DashboardConfig, Endpoints, Market, Mode,
    document::ConfigDocument,
    dotenv::{self, Variable},
    environment::{self, Environment, MarketEnvironment, REMOVE_QUOTES, Variables},
    in_force::SettingPlace,
    market::{CredentialVariables, TRADE_URL},
    prices::PriceLocation,
    problem::{ConfigErrors, Diagnostics, Problem, SourceLocation},
    settings::{self, EntryList, TomlSettings, check_distinct, resolve, resolve_groups},
    shared::SharedConfig,
    trade_url::TradeUrlError,
};
use crate::{
    domain::{money::Decimals, whitelist_entry::WhitelistEntry},
    text::{Escaped, counted, is_quoted},
    threads::affinity,
};

/// Maximum size of a file in bytes, three times the size of a whitelist with 100,000 entries.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Default name of the settings file.
pub const CONFIG_FILE: &str = "sniper.toml";

/// Name of the file with environment variables.
pub const DOTENV_FILE: &str = ".env";

/// Sources of the configuration. All are explicit, so that a test does not depend on the process
/// environment.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Looks up an environment variable.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Working directory: contains `.env`, and relative paths are resolved against it.
    pub directory: &'a Path,
    /// Value of `--config`.
    pub config_file: Option<&'a Path>,
    /// `true` with `--live`.
    pub live: bool,
    /// Returns the number of decimals of a marketplace's amounts.
    pub decimals: fn(Market) -> Decimals,
}

/// Returns a variable of the process environment. Invalid Unicode becomes replacement characters,
/// which validation rejects.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Creates a directory and its parents, accessible to the owner only: a live start rejects a data
/// directory that others may write. Existing directories keep their mode.
///
/// # Errors
///
/// Returns the error of the system.
pub fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A loaded configuration, with warnings and origins to show to the user.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Problem>,
    /// Path of the settings file, if there is one.
    pub config_file: Option<PathBuf>,
    /// The settings file, and the whitelist file that it names, with the checksums of their text.
    pub files: Vec<(PathBuf, u32)>,
    /// Location of each whitelist entry.
    pub entry_places: Vec<SourceLocation>,
    /// Variable that contains the credential, and its location; never its value.
    pub credential_source: Option<(&'static str, SourceLocation)>,
    /// Value of `RUST_LOG`.
    pub log_filter: Option<String>,
    /// Locations of the settings of the settings file that are set, except those in lists.
    pub set_at: Vec<SettingPlace>,
    /// Environment variables that are set, and their locations.
    pub variables: Vec<(&'static str, SourceLocation)>,
}

impl Config {
    /// Reads and validates the whole configuration.
    ///
    /// # Errors
    ///
    /// Returns all errors at once, each with its location and remedy.
    pub fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigErrors> {
        Self::load_with(sources, SettingsText::File)
    }

    /// Does the same as [`load`](Self::load) for a command that does not dial the feed: the
    /// credential that the feed of some markets needs may be missing.
    ///
    /// # Errors
    ///
    /// Returns all errors at once, each with its location and remedy.
    pub fn load_without_feed(sources: &Sources<'_>) -> Result<Loaded, ConfigErrors> {
        Self::load_with(sources, SettingsText::WithoutFeed)
    }

    /// Does the same as [`load_without_feed`](Self::load_without_feed) with this text as the
    /// content of the settings file, to check an edit before it is written.
    ///
    /// # Errors
    ///
    /// Returns all errors at once, each with its location and remedy.
    pub fn load_edited(sources: &Sources<'_>, text: &str) -> Result<Loaded, ConfigErrors> {
        Self::load_with(sources, SettingsText::Edited(text))
    }

    /// Does the same as [`load_without_feed`](Self::load_without_feed) with this whitelist instead
    /// of the file that the settings name, to check an import before it is written.
    ///
    /// # Errors
    ///
    /// Returns all errors at once, each with its location and remedy.
    pub fn load_with_whitelist(
        sources: &Sources<'_>,
        whitelist: WhitelistText<'_>,
    ) -> Result<Loaded, ConfigErrors> {
        Self::load_with(sources, SettingsText::Whitelist(whitelist))
    }

    /// Does the same as [`load`](Self::load) for a practice run: `.env` is not read, and neither
    /// alerts nor keys are set. The lookup has the variables of the simulated market.
    ///
    /// # Errors
    ///
    /// Returns all errors at once, each with its location and remedy.
    pub fn load_for_practice(sources: &Sources<'_>) -> Result<Loaded, ConfigErrors> {
        Self::load_with(sources, SettingsText::Practice)
    }

    fn load_with(sources: &Sources<'_>, text: SettingsText<'_>) -> Result<Loaded, ConfigErrors> {
        let is_practice = matches!(text, SettingsText::Practice);
        let (variables, mut diagnostics) = read_variables(sources, is_practice);
        let is_dotenv_valid = diagnostics.is_ok();
        let environment = environment::read(&variables, &mut diagnostics);
        let live = sources.live.then_some(SourceLocation::CommandLine).or(environment.live.clone());
        let (name, named_at) = config_file_name(sources.config_file, &environment);
        let named_at = named_at.as_ref().or(live.as_ref());
        let mut of_settings = Diagnostics::default();
        let (mut policy, config_file) =
            read_policy(sources, (&name, text, named_at), &mut of_settings);
        if is_practice {
            policy.alerts = Default::default();
            policy.prices.config.is_offline = true;
        } else {
            read_price_keys(&mut policy, &variables, &mut of_settings);
        }
        let of_market = environment::read_market(policy.market, &variables, &mut diagnostics);
        diagnostics.extend(of_settings);
        let required = (!is_practice).then_some(&of_market);
        let feed_needs_credential = policy.market.settings().feed_needs_credential;
        let dials_feed = matches!(text, SettingsText::File);
        // A missing credential may be a consequence of an invalid line in `.env`.
        let needs_credential =
            is_dotenv_valid && (live.is_some() || (dials_feed && feed_needs_credential));
        check(&mut policy, required, needs_credential, live.as_ref(), &mut diagnostics);
        let alerts = std::mem::take(&mut policy.alerts).resolve(&variables, &mut diagnostics);
        let shared =
            if is_practice { None } else { read_shared(&mut policy, &variables, &mut diagnostics) };
        let warnings = diagnostics.into_warnings()?;
        let Some(endpoints) = of_market.endpoints else {
            let place = SourceLocation::File(DOTENV_FILE.to_owned());
            return Err(ConfigErrors::one(Problem::new(
                place,
                "invalid address",
                "fix the addresses of the market",
            )));
        };
        let data_dir = sources.directory.join(environment.data_dir(policy.market));
        let found = policy.entries.found.into_iter().map(|found| (found.place, found.entry));
        let (entry_places, entries): (Vec<_>, Vec<_>) = found.unzip();
        let config = Self {
            mode: if live.is_some() { Mode::Live } else { Mode::Dry },
            market: policy.market,
            credential: of_market.credential,
            trade_url: of_market.trade_url,
            account_id: of_market.account_id,
            budget: policy.budget,
            orders: policy.orders,
            feed: policy.feed,
            reconnection: policy.reconnection,
            speed: policy.speed,
            state_dir: state_dir(sources.lookup),
            credential_source: (!is_practice).then(|| credential_source(sources, policy.market)),
            whitelist: entries.into(),
            prices: policy.prices.config,
            alerts,
            dashboard: DashboardConfig { token: environment.dashboard_token, ..policy.dashboard },
            shared,
            ..Self::new(endpoints, data_dir)
        };
        Ok(Loaded {
            config,
            warnings,
            config_file,
            files: policy.files,
            entry_places,
            credential_source: of_market.credential_source,
            log_filter: environment.log_filter,
            set_at: policy.set_at,
            variables: variables.set_at(),
        })
    }
}

/// Checks conditions that concern several settings, and that the variables of the market that this
/// command requires are set. `of_market` is `None` for a practice run, which requires none.
fn check(
    policy: &mut TomlSettings,
    of_market: Option<&MarketEnvironment>,
    needs_credential: bool,
    live: Option<&SourceLocation>,
    diagnostics: &mut Diagnostics,
) {
    if live.is_some() {
        policy.missing_for_live.iter().for_each(|missing| diagnostics.problem(missing.clone()));
    }
    if let Some(of_market) = of_market {
        if let Some(place) = live {
            check_live(place, of_market, policy.market, diagnostics);
        }
        if needs_credential && !of_market.has_credential {
            report_missing_credential(policy.market, live, diagnostics);
        }
    }
    check_prices(policy, diagnostics);
    limit_orders(policy, diagnostics);
    check_pin_cpu(policy, diagnostics);
}

/// Where the text of the settings file comes from.
#[derive(Clone, Copy)]
enum SettingsText<'t> {
    File,
    /// The file, for a command that does not dial the feed.
    WithoutFeed,
    /// An edit that is not yet written.
    Edited(&'t str),
    /// The file, for a practice run.
    Practice,
    /// The file, with a whitelist that is not yet written.
    Whitelist(WhitelistText<'t>),
}

/// A JSON whitelist that is not yet written.
#[derive(Clone, Copy, Debug)]
pub struct WhitelistText<'t> {
    /// Name in problems.
    pub name: &'t str,
    pub text: &'t str,
    /// `true` if it also replaces the entries of the settings file.
    pub is_whole: bool,
}

/// Returns the market of a settings file whose other content may be invalid; `None` without the
/// file.
pub fn market_of_file(path: &Path) -> Option<Market> {
    match read_text(path, CONFIG_FILE, &mut Diagnostics::default()) {
        FileRead::Text(text) => Some(settings::market_in(&text)),
        FileRead::Invalid => Some(Market::default()),
        FileRead::Absent => None,
    }
}

/// Completes `[shared]` by the environment and the name of this host.
fn read_shared(
    policy: &mut TomlSettings,
    variables: &Variables<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<SharedConfig> {
    let parsed = policy.shared.take()?;
    if !cfg!(feature = "shared") {
        let message = "this program was built without the feature `shared`";
        let remedy = "remove [shared], or install a released program";
        diagnostics.problem(Problem::new(parsed.place().clone(), message, remedy));
    }
    let mut unnamed = policy.entries.found.iter().filter(|found| found.entry.name.is_none());
    if let Some(first) = unnamed.next() {
        let count = unnamed.count().saturating_add(1);
        let message = format!(
            "{} without a `name`: each bot counts its `max_quantity` and `max_total` alone",
            counted(count, "entry", "entries")
        );
        let remedy = "give it the same `name` in the settings of every bot, to share them";
        diagnostics.warning(Problem::new(first.place.clone(), message, remedy));
    }
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let of_market = (policy.market, policy.prices.config.coin_usd);
    parsed.resolve(of_market, (variables, &host), diagnostics)
}

/// Paths of the bot that these settings lead to. Other settings may be invalid.
#[derive(Clone, Debug)]
pub struct BotPaths {
    pub market: Market,
    /// The settings file, which may not exist.
    pub settings: PathBuf,
    pub data: PathBuf,
    pub state: Option<PathBuf>,
}

impl BotPaths {
    pub fn of(sources: &Sources<'_>) -> Self {
        let (variables, mut ignored) = read_variables(sources, false);
        let environment = environment::read(&variables, &mut ignored);
        let (name, _place) = config_file_name(sources.config_file, &environment);
        let settings = sources.directory.join(name);
        let market = market_of_file(&settings).unwrap_or_default();
        let data = sources.directory.join(environment.data_dir(market));
        Self { market, settings, data, state: state_dir(sources.lookup) }
    }
}

/// Reads the environment, and `.env` except for a practice run.
fn read_variables<'a>(sources: &Sources<'a>, is_practice: bool) -> (Variables<'a>, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let dotenv =
        if is_practice { Vec::new() } else { read_dotenv(sources.directory, &mut diagnostics) };
    let file = DOTENV_FILE.to_owned();
    (Variables { lookup: sources.lookup, file, dotenv }, diagnostics)
}

/// Returns the path of the settings file, and where it is named.
fn config_file_name(
    argument: Option<&Path>,
    environment: &Environment,
) -> (PathBuf, Option<SourceLocation>) {
    match (argument, &environment.config_file) {
        (Some(path), _) => (path.to_path_buf(), Some(SourceLocation::CommandLine)),
        (None, Some(setting)) => (PathBuf::from(&setting.value), Some(setting.place.clone())),
        (None, None) => (PathBuf::from(CONFIG_FILE), None),
    }
}

/// Warns about a CPU that this process may not use. No error, because the bot also works without
/// it, and the other commands, such as `halt`, may have fewer CPUs than the bot.
fn check_pin_cpu(policy: &TomlSettings, diagnostics: &mut Diagnostics) {
    if let (Some(cpu), Some(place)) = (policy.speed.pin_cpu, &policy.pin_cpu_at)
        && !affinity::is_available(cpu)
    {
        let message = format!("CPU {cpu} does not exist, or this process may not use it");
        let remedy = "the feed is not bound to a CPU; CPUs are numbered from 0";
        diagnostics.warning(Problem::new(place.clone(), message, remedy));
    }
}

/// Returns `sniper` below `XDG_STATE_HOME`, or below `.local/state` of the home directory.
/// Relative paths are ignored, as the XDG specification requires.
fn state_dir(lookup: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".local").join("state"));
    let named = absolute("XDG_STATE_HOME").or_else(home);
    named.map(|state| state.join("sniper"))
}

fn credential_source(sources: &Sources<'_>, market: Market) -> CredentialSource {
    let fixed = environment::fixed_credential(market, sources.lookup);
    CredentialSource { market, directory: sources.directory.to_path_buf(), fixed }
}

impl CredentialSource {
    /// Reads `.env` again, to pick up a credential that the user has replaced. Blocks. Returns
    /// `None` if it is missing or invalid.
    pub fn read(&self) -> Option<Credential> {
        // Problems are not reported here: the start has reported them, or the next one will.
        let dotenv = read_dotenv(&self.directory, &mut Diagnostics::default());
        environment::fresh_credential(self.market, self.fixed.as_ref(), dotenv)
    }
}

/// Reads the settings file and the whitelist file. Also returns the path of the settings file, if
/// it exists.
fn read_policy(
    sources: &Sources<'_>,
    (name, text, named_at): (&Path, SettingsText<'_>, Option<&SourceLocation>),
    diagnostics: &mut Diagnostics,
) -> (TomlSettings, Option<PathBuf>) {
    let shown = name.display().to_string();
    let path = sources.directory.join(name);
    let read = match text {
        SettingsText::Edited(text) => FileRead::Text(without_mark(text).to_owned()),
        _ => read_text(&path, &shown, diagnostics),
    };
    let whitelist = match text {
        SettingsText::Whitelist(whitelist) => Some(whitelist),
        _ => None,
    };
    let text = match read {
        FileRead::Text(text) => text,
        FileRead::Absent if whitelist.is_some() && named_at.is_none() => String::new(),
        FileRead::Invalid => return (TomlSettings::default(), Some(path)),
        FileRead::Absent => {
            if let Some(place) = named_at {
                diagnostics.problem(Problem::new(
                    place.clone(),
                    format!("file not found: {}", Escaped(&shown)),
                    "copy sniper.example.toml to this path, or fix the path",
                ));
            }
            return (TomlSettings::default(), None);
        }
    };
    let mut policy = settings::read(&shown, &text, sources.decimals, diagnostics);
    policy.files.push((path.clone(), text_checksum(text.as_bytes())));
    let decimals = (sources.decimals)(policy.market);
    let more = match (whitelist, policy.whitelist_file.clone()) {
        (Some(WhitelistText { name, text, is_whole }), _) => {
            if is_whole {
                policy.entries = EntryList::default();
            }
            let document = ConfigDocument::new(name, text, decimals);
            Some(settings::read_whitelist(&document, diagnostics))
        }
        (None, Some((file, place))) => {
            let beside = name.parent().unwrap_or(Path::new(""));
            let into = (decimals, &mut policy.files);
            Some(read_whitelist(sources.directory, &beside.join(file), place, into, diagnostics))
        }
        (None, None) => None,
    };
    if let Some(more) = more {
        policy.entries.count = policy.entries.count.saturating_add(more.count);
        policy.entries.found.extend(more.found);
    }
    let market = policy.market;
    resolve(&mut policy.entries.found, &policy.prices, market, diagnostics);
    let beside = sources.directory.join(name.parent().unwrap_or(Path::new("")));
    resolve_price_files(&mut policy, &beside);
    resolve_groups(&mut policy.entries.found, &policy.groups, diagnostics);
    check_distinct(&policy.entries.found, diagnostics);
    if policy.entries.count == 0 {
        let remedy = "add a [[whitelist]] entry as in sniper.example.toml";
        let message = "the whitelist is empty, so nothing can match";
        diagnostics.problem(Problem::new(SourceLocation::File(shown), message, remedy));
    }
    (policy, Some(path))
}

/// Returns the checksum of a settings file, without its byte order mark.
pub fn text_checksum(text: &[u8]) -> u32 {
    crc32c::crc32c(text.strip_prefix(MARK.as_bytes()).unwrap_or(text))
}

/// Reads the keys of price sources from the environment.
fn read_price_keys(
    policy: &mut TomlSettings,
    variables: &Variables<'_>,
    diagnostics: &mut Diagnostics,
) {
    for (index, name, place) in &policy.prices.keys {
        let text = variables.value(name, diagnostics);
        let is_quoted = text.as_deref().is_some_and(is_quoted);
        let key = text.as_deref().ok_or("is not set").and_then(|key| {
            Credential::from_key(key).ok().filter(|_key| !is_quoted).ok_or("is not a key")
        });
        match (key, policy.prices.config.sources.get_mut(*index)) {
            (Ok(key), Some(source)) => {
                diagnostics.register_secrets(place, name, text.as_deref());
                source.key = Some(key);
            }
            (Err(problem), _) => diagnostics.problem(Problem::new(
                place.clone(),
                format!("{name} {problem}"),
                if is_quoted {
                    REMOVE_QUOTES.to_owned()
                } else {
                    format!("write the key of this source into .env as {name}")
                },
            )),
            (Ok(_), None) => {}
        }
    }
}

/// Resolves the paths of price files, which are relative to the settings file.
fn resolve_price_files(policy: &mut TomlSettings, directory: &Path) {
    for source in &mut policy.prices.config.sources {
        if let PriceLocation::File(path) = &mut source.location {
            *path = directory.join(&*path);
        }
    }
}

fn read_whitelist(
    directory: &Path,
    name: &Path,
    place: SourceLocation,
    (decimals, files): (Decimals, &mut Vec<(PathBuf, u32)>),
    diagnostics: &mut Diagnostics,
) -> EntryList {
    let shown = name.display().to_string();
    let path = directory.join(name);
    match read_text(&path, &shown, diagnostics) {
        FileRead::Text(text) => {
            files.push((path, text_checksum(text.as_bytes())));
            let document = ConfigDocument::new(&shown, &text, decimals);
            settings::read_whitelist(&document, diagnostics)
        }
        FileRead::Invalid => EntryList { found: Vec::new(), count: 1 },
        FileRead::Absent => {
            let message = format!("file not found: {}", Escaped(&shown));
            let remedy = "fix the path, which is relative to the file that contains it";
            diagnostics.problem(Problem::new(place, message, remedy));
            EntryList { found: Vec::new(), count: 1 }
        }
    }
}

/// Parses the first entry of a JSON whitelist, without the sources and the group that it names.
/// Returns `None` if there is none, or a problem.
pub fn parse_entry(text: &str, decimals: Decimals) -> Option<WhitelistEntry> {
    let mut diagnostics = Diagnostics::default();
    let document = ConfigDocument::new("whitelist", text, decimals);
    let entries = settings::read_whitelist(&document, &mut diagnostics);
    diagnostics.into_warnings().ok()?;
    entries.found.into_iter().next().map(|found| found.entry)
}

/// Result of reading a file.
enum FileRead {
    Text(String),
    Absent,
    /// The file could not be read; the problem has been reported.
    Invalid,
}

fn read_text(path: &Path, shown: &str, diagnostics: &mut Diagnostics) -> FileRead {
    let mut problem = |place: SourceLocation, message: String, remedy: &str| {
        diagnostics.problem(Problem::new(place, message, remedy));
        FileRead::Invalid
    };
    let whole = || SourceLocation::File(shown.to_owned());
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return FileRead::Absent,
        Err(error) => {
            let remedy = "check that it is a file that this user may read";
            return problem(whole(), format!("cannot be read ({error})"), remedy);
        }
    };
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        let remedy = format!("reduce it to at most {} MiB", FILE_BYTES_MAX / 1024 / 1024);
        return problem(whole(), "is too large".to_owned(), &remedy);
    }
    match String::from_utf8(bytes) {
        Ok(text) => match without_mark(&text) {
            rest if rest.len() < text.len() => FileRead::Text(rest.to_owned()),
            _ => FileRead::Text(text),
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

/// UTF-8 byte order mark, which some editors write.
const MARK: &str = "\u{feff}";

/// Removes the byte order mark.
fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Reads at most one byte more than [`FILE_BYTES_MAX`].
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_dotenv(directory: &Path, diagnostics: &mut Diagnostics) -> Vec<Variable> {
    let path = directory.join(DOTENV_FILE);
    match read_text(&path, DOTENV_FILE, diagnostics) {
        FileRead::Text(text) => {
            if is_readable_by_others(&path) {
                let place = SourceLocation::File(DOTENV_FILE.to_owned());
                let remedy = "run: chmod 600 .env";
                diagnostics.warning(Problem::new(place, "other users can read this file", remedy));
            }
            dotenv::read(DOTENV_FILE, &text, diagnostics)
        }
        FileRead::Absent | FileRead::Invalid => Vec::new(),
    }
}

fn is_readable_by_others(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Reports a missing credential, which live mode requires, and on some markets the feed.
fn report_missing_credential(
    market: Market,
    live: Option<&SourceLocation>,
    diagnostics: &mut Diagnostics,
) {
    let settings = market.settings();
    let variable = settings.credential.main();
    let remedy = match settings.credential {
        CredentialVariables::Cookie { .. } => format!(
            "log in with your browser and copy the value of the `session` cookie into .env as \
             {variable}"
        ),
        CredentialVariables::Key(_) => format!(
            "create an API key in your profile at {} and copy it into .env as {variable}",
            settings.title
        ),
    };
    let (place, message) = match live {
        Some(place) => (place.clone(), "live mode needs a credential".to_owned()),
        None => (
            SourceLocation::File(DOTENV_FILE.to_owned()),
            format!("the feed of {} needs a key, in a dry run too", settings.title),
        ),
    };
    diagnostics.problem(Problem::new(place, message, remedy));
}

/// Reports missing variables that only a live run requires.
fn check_live(
    place: &SourceLocation,
    environment: &MarketEnvironment,
    market: Market,
    diagnostics: &mut Diagnostics,
) {
    let settings = market.settings();
    if settings.needs_trade_url && !environment.has_trade_url {
        diagnostics.problem(Problem::new(
            place.clone(),
            format!("live mode on {} needs {TRADE_URL}, which receives the items", settings.title),
            TradeUrlError::REMEDY,
        ));
    }
    if let (Some(variable), None) = (settings.account_id, &environment.account_id) {
        diagnostics.problem(Problem::new(
            place.clone(),
            format!(
                "live mode on {} needs {variable}, by which the ledger knows its account",
                settings.title
            ),
            "copy the number of your account from the market's profile page into .env",
        ));
    }
    if let Some(Endpoints { ws, http, .. }) = &environment.endpoints
        && ws.is_loopback() != http.is_loopback()
    {
        let (feed, api) = (settings.feed.name, settings.http.name);
        diagnostics.problem(Problem::new(
            place.clone(),
            format!(
                "{feed} and {api} are different markets: one is on this machine, the other is not"
            ),
            "set both, or remove both",
        ));
    }
}

/// Lowers `max_buys_per_minute` to the limit of the market, beyond which it rejects orders.
fn limit_orders(policy: &mut TomlSettings, diagnostics: &mut Diagnostics) {
    let settings = policy.market.settings();
    let Some(limit) = settings.orders_per_minute_max else { return };
    let wanted = policy.budget.max_buys_per_minute;
    if limit < wanted {
        policy.budget.max_buys_per_minute = limit;
        let place = SourceLocation::File(CONFIG_FILE.to_owned());
        let message =
            format!("`max_buys_per_minute` {wanted} is above the {limit} of {}", settings.title);
        diagnostics.warning(Problem::new(place, message, format!("{limit} applies")));
    }
}

/// Warns about entries whose `max_price` is above that of `[budget]`.
fn check_prices(policy: &TomlSettings, diagnostics: &mut Diagnostics) {
    let limit = policy.budget.max_price;
    for found in policy.entries.found.iter().filter(|found| found.entry.max_price > limit) {
        let price = found.entry.max_price;
        let message = format!("`max_price` {price} is above the {limit} of [budget]");
        let remedy = "the lower one applies; raise the one in [budget], or lower this one";
        diagnostics.warning(Problem::new(found.place.clone(), message, remedy));
    }
}
