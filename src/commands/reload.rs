//! `sniper reload`, and the thread of the bot that reads the settings again.
//!
//! The thread reads and checks everything, makes new limits and entries durable, and passes the
//! result to the engine as a whole. A mistake in the settings changes nothing.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use clap::Args;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    AppError, CommandContext, check, known_names,
    ledger::{LedgerCommandError, LedgerCommands},
    practice::PracticeEnvironment,
    prices::{self, PriceFeed},
    sharing,
};
use crate::{
    alerts::AlertControl,
    clock,
    config::{
        Config, ConfigErrors, Loaded, Market, Mode, Sources,
        alerts::AlertsConfig,
        in_force,
        load::{BotPaths, FILE_BYTES_MAX, process_environment, text_checksum},
        prices::{PriceLocation, PricesConfig},
        problem::SourceLocation,
    },
    domain::{
        money::{Amount, Decimals},
        wanted_items::WantedItems,
        whitelist_entry::WhitelistEntry,
    },
    ledger::{
        control::{
            self, BotLocation, ControlError, ControlReply, ControlRequest, Instance,
            PendingRequest, SettingsPaths,
        },
        entries::EntryKey,
        rules::{LedgerRules, LostCount},
    },
    net::tls::Tls,
    prices::{PriceBook, PriceSnapshot},
    sniper::{
        Sniper,
        rules::{Rules, RulesChange},
    },
    text::{Escaped, counted},
    threads::{Alarm, ThreadGuard, ThreadName, failpoint, priority},
    whitelist::Whitelist,
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper check             validate the settings first
  sniper reload            apply them to the running bot";

/// Interval at which the files of the settings are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Line of a reload that changes the subscriptions of the feed.
const FILTERS_RENEWED: &str = "[feed] server_filters: the market's filters follow the new whitelist \
                               within seconds, by new connections beside the old ones";
/// Maximum number of lines in a reply. All are logged.
const LINES_MAX: usize = 50;

/// Arguments of `reload`.
#[derive(Clone, Debug, Args)]
pub struct ReloadArgs {
    /// Count changed entries without a name from zero
    #[arg(long)]
    pub new_entries: bool,
}

/// Source of a session's settings, to read them again.
#[derive(Clone, Debug)]
pub struct SettingsSource {
    config_file: Option<PathBuf>,
    live: bool,
    decimals: fn(Market) -> Decimals,
    practice: Option<PracticeEnvironment>,
    /// Files of the settings that the session uses, with their checksums.
    files: Vec<(PathBuf, u32)>,
}

impl SettingsSource {
    pub fn new(context: &CommandContext<'_>, live: bool, loaded: &Loaded) -> Self {
        let (config_file, files) = (context.global.config.clone(), loaded.files.clone());
        Self { config_file, live, decimals: context.decimals, practice: None, files }
    }

    /// Creates the source of a practice run.
    pub fn practice(environment: PracticeEnvironment, loaded: &Loaded) -> Self {
        let (decimals, files) = (environment.decimals(), loaded.files.clone());
        Self { config_file: None, live: true, decimals, practice: Some(environment), files }
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            lookup: &process_environment,
            directory: Path::new("."),
            config_file: self.config_file.as_deref(),
            live: self.live,
            decimals: self.decimals,
        }
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        if let Some(practice) = &self.practice {
            return practice.load();
        }
        let mut loaded = Config::load(&self.sources())?;
        known_names::apply(&mut loaded);
        Ok(loaded)
    }

    /// Stores the data directory and the market of the session for later commands, whose settings
    /// may name others.
    ///
    /// # Errors
    ///
    /// Returns the error of the state directory.
    pub fn store_data_dir(&self, config: &Config, instance: Instance) -> io::Result<()> {
        match &config.state_dir {
            Some(state) if self.practice.is_none() => {
                let settings = BotPaths::of(&self.sources()).settings;
                let (data, market) = (config.data_dir.clone(), Some(config.market));
                let paths = SettingsPaths { state_dir: state, settings: &settings };
                BotLocation { data, market }.store(paths, instance)
            }
            _ => Ok(()),
        }
    }
}

/// Starts the thread that reloads the settings. It ends once the session has.
///
/// # Errors
///
/// Returns [`AppError::Start`] if the thread cannot be created.
pub fn start(reloader: Reloader) -> Result<ReloadHandles, AppError> {
    let (requests, received) = sync_channel(1);
    let (changes, rules) = mpsc::channel(1);
    thread::Builder::new()
        .name(ThreadName::Reload.to_string())
        .spawn(move || {
            let guard = ThreadGuard::new(ThreadName::Reload, Alarm::global());
            priority::lower(ThreadName::Reload);
            let files = Files::of(reloader.source.files.clone());
            RunningReloader { files, reloader, changes, retired: Vec::new() }.run(&received, guard);
        })
        .map_err(|error| AppError::start("the thread that reloads the settings", error))?;
    Ok(ReloadHandles { requests, rules })
}

/// Requests a reload without waiting for its result, which is logged.
pub fn request(requests: &SyncSender<PendingRequest>) {
    let (reply, _result) = sync_channel(1);
    let request = ControlRequest::Reload { by: "SIGHUP".to_owned(), new_entries: false };
    if requests.try_send(PendingRequest { request, reply }).is_err() {
        warn!("Settings not reloaded: another reload is in progress; try again");
    }
}

/// Queues between the session and the thread that reloads the settings.
#[derive(Debug)]
pub struct ReloadHandles {
    pub requests: SyncSender<PendingRequest>,
    pub rules: mpsc::Receiver<RulesChange>,
}

type RenewFilters = dyn Fn(&[WhitelistEntry]) -> bool + Send;

/// Settings and session of the bot, for a reload.
pub struct Reloader {
    pub source: SettingsSource,
    /// Effective settings.
    pub config: Config,
    pub tls: Tls,
    /// Returns `None` once the session has ended.
    pub sniper: Box<dyn Fn() -> Option<Sniper> + Send>,
    pub alerts: Option<AlertControl>,
    /// Renews the filters of the market for a whitelist; see
    /// [`Feed::renewal`](crate::ws::Feed::renewal).
    pub renew_filters: Box<RenewFilters>,
    /// Checks that the market can honor the whitelist.
    pub check_supported: fn(&Config) -> Result<(), AppError>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("source", &self.source).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct RunningReloader {
    reloader: Reloader,
    files: Files,
    changes: mpsc::Sender<RulesChange>,
    /// Wanted items that the feed may still use. Kept here, so that this thread frees them: freeing
    /// them on the feed's thread would delay an order.
    retired: Vec<Arc<WantedItems>>,
}

/// Cause of a reload that changed nothing.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("nothing was changed, because the settings are invalid:\n{}", check::format_errors(.0).trim_end())]
    Settings(ConfigErrors),
    #[error(
        "nothing was changed: {0} cannot change while the bot runs; restart it, or undo the change"
    )]
    Fixed(&'static str),
    #[error("nothing was changed: {}", .0.chain())]
    Unsupported(AppError),
    #[error("nothing was changed: {0}")]
    LostCounts(String),
    #[error("nothing was changed, because the ledger cannot record the new settings: {0}")]
    Ledger(String),
    #[error("nothing was changed, because the price sources cannot be read: {}", .0.chain())]
    Prices(AppError),
    #[error("nothing was changed: {}", .0.chain())]
    Alerts(AppError),
    #[error("the bot is stopping")]
    Stopping,
}

impl RunningReloader {
    fn run(mut self, requests: &Receiver<PendingRequest>, guard: ThreadGuard) {
        loop {
            if failpoint(ThreadName::Reload) {
                return;
            }
            match requests.recv_timeout(CHECK_INTERVAL) {
                Ok(pending) => self.on_request(&pending),
                Err(RecvTimeoutError::Timeout) => {
                    if self.changes.is_closed() {
                        return guard.finished();
                    }
                    self.retired.retain(|wanted| 1 < Arc::strong_count(wanted));
                    self.check_files();
                }
                Err(RecvTimeoutError::Disconnected) => return guard.finished(),
            }
        }
    }

    fn on_request(&mut self, pending: &PendingRequest) {
        let ControlRequest::Reload { by, new_entries } = &pending.request else { return };
        let reply = match self.reload(*new_entries) {
            Ok(mut lines) => {
                info!("Settings reloaded (requested by {})", Escaped(by));
                for line in &lines {
                    info!("{line}");
                }
                let hidden = lines.len().saturating_sub(LINES_MAX);
                lines.truncate(LINES_MAX);
                if 0 < hidden {
                    lines.push(format!("… and {hidden} more lines in the log"));
                }
                ControlReply::Reloaded(lines)
            }
            Err(error) => {
                for line in error.to_string().lines().filter(|line| !line.is_empty()) {
                    warn!("Settings not reloaded: {line}");
                }
                ControlReply::Rejected(error.to_string())
            }
        };
        // The client may have disconnected.
        drop(pending.reply.try_send(reply));
    }

    /// Reads the settings and applies those that can change. Returns a line for each change.
    fn reload(&mut self, new_entries: bool) -> Result<Vec<String>, ReloadError> {
        let Loaded { config: new, warnings, entry_places, files, .. } =
            self.reloader.source.load().map_err(ReloadError::Settings)?;
        let old = &self.reloader.config;
        check_applicable(old, &new)?;
        (self.reloader.check_supported)(&new).map_err(ReloadError::Unsupported)?;
        let sniper = (self.reloader.sniper)().ok_or(ReloadError::Stopping)?;
        let (mut plan, recorder, spent) = sniper.with_engine(|engine| {
            let ledger = engine.ledger();
            (ledger.entry_plan(), ledger.rules_recorder(), ledger.state().spent())
        });
        let lost = plan.set(&old.whitelist, &new.whitelist, new_entries);
        if !new_entries && !lost.is_empty() {
            return Err(ReloadError::LostCounts(describe_lost(&lost, &new, &entry_places)));
        }
        // The thread of the prices also builds the wanted items, so a new whitelist needs a new
        // one.
        let prices = prices::start(&new, &self.reloader.tls).map_err(ReloadError::Prices)?;
        // Also the same settings: a channel that its service has rejected is tried again.
        let prepared = self.reloader.alerts.as_ref().map(|control| control.prepare(&new.alerts));
        let failed = |error| ReloadError::Alerts(AppError::start("the alerts", error));
        let alerts = prepared.transpose().map_err(failed)?;
        let continued: Vec<String> = plan.continued().collect();
        let ledger =
            recorder.record(plan, new.budget.clone(), clock::now()).map_err(ReloadError::Ledger)?;
        drop(recorder);
        let needs_restart = not_applied(old, &new);
        let mut lines = changes(old, &new, spent);
        lines.extend(continued);
        let dropped = self.replace(&new, ledger, prices)?;
        if let (Some(control), Some(change)) = (&self.reloader.alerts, alerts) {
            control.apply(change);
        }
        if (self.reloader.renew_filters)(&new.whitelist) {
            lines.push(FILTERS_RENEWED.to_owned());
        }
        if 0 < dropped {
            let dropped = counted(dropped, "waiting listing", "waiting listings");
            lines.push(format!("{dropped} dropped: no entry matches now"));
        }
        lines.extend(warnings.iter().map(ToString::to_string));
        sniper.with_engine(|engine| engine.set_settings_changed(false, needs_restart));
        self.files = Files::of(files);
        let config = &mut self.reloader.config;
        (config.whitelist, config.prices) = (new.whitelist, new.prices);
        (config.budget, config.orders) = (new.budget, new.orders);
        config.alerts = new.alerts;
        Ok(lines)
    }

    /// Passes the rules to the engine and frees the old ones. Returns the number of listings that
    /// were dropped.
    fn replace(
        &mut self,
        new: &Config,
        ledger: LedgerRules,
        prices: Option<PriceFeed>,
    ) -> Result<usize, ReloadError> {
        let (prices, later) = match prices {
            Some((stored, later)) => (stored, Some(later)),
            None => (PriceSnapshot::new(PriceBook::default(), &new.whitelist, clock::now()), None),
        };
        let sources = || new.prices.sources.iter().map(|source| source.name.clone()).collect();
        let is_changed = new.prices.sources != self.reloader.config.prices.sources;
        let other_sources = is_changed.then(sources);
        let whitelist = Arc::new(Whitelist::new(new.whitelist.to_vec()));
        let sniper = (self.reloader.sniper)().ok_or(ReloadError::Stopping)?;
        // Here, because it takes long with many entries.
        let pauses = sniper.with_engine(|engine| engine.current_pauses());
        let pauses = pauses.prepare(&whitelist);
        drop(sniper);
        let rules = Rules {
            whitelist,
            pauses,
            ledger,
            prices,
            other_sources,
            max_wait: new.orders.max_wait,
        };
        let (replaced, result) = sync_channel(1);
        let change = RulesChange { rules, later, replaced };
        self.changes.blocking_send(change).map_err(|_closed| ReloadError::Stopping)?;
        // Without a time limit: a change that the engine applies later would be missing from the
        // settings that the next reload compares with. The end of the session closes the queue.
        let old = result.recv().map_err(|_closed| ReloadError::Stopping)?;
        self.retired.extend(old.wanted.clone());
        Ok(old.dropped)
    }

    /// Logs once that the files were changed and are not in force, until they are restored.
    fn check_files(&mut self) {
        let are_changed = self.files.are_changed();
        if are_changed == self.files.is_reported {
            return;
        }
        self.files.is_reported = are_changed;
        if are_changed {
            warn!("Settings changed on disk and not applied; apply them with: sniper reload");
        } else {
            info!("Settings on disk are those in force again");
        }
        if let Some(sniper) = (self.reloader.sniper)() {
            sniper.with_engine(|engine| engine.is_settings_changed = are_changed);
        }
    }
}

/// Checks that the session with the settings `old` can apply new ones.
fn check_applicable(old: &Config, new: &Config) -> Result<(), ReloadError> {
    // Amounts of another market are in another unit.
    if old.market != new.market {
        return Err(ReloadError::Fixed("`market`"));
    }
    if old.data_dir != new.data_dir {
        return Err(ReloadError::Fixed("the data directory (SNIPER_DATA)"));
    }
    let is_shared = old.shared.is_some() && old.mode == Mode::Live;
    let names = if is_shared { sharing::check_names(&new.whitelist) } else { Ok(()) };
    names.map_err(ReloadError::Unsupported)
}

/// Files of the settings, with the checksums of their content when it was read.
#[derive(Debug)]
struct Files {
    read: Vec<(PathBuf, u32)>,
    is_reported: bool,
}

impl Files {
    const fn of(read: Vec<(PathBuf, u32)>) -> Self {
        Self { read, is_reported: false }
    }

    fn are_changed(&self) -> bool {
        self.read.iter().any(|(path, read)| checksum(path) != Some(*read))
    }
}

/// Returns the checksum of a file's text; `None` if it cannot be read or is too large.
fn checksum(path: &Path) -> Option<u32> {
    let is_small = path.metadata().is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
    let content = is_small.then(|| std::fs::read(path).ok()).flatten()?;
    Some(text_checksum(&content))
}

/// Describes the new entries that replace others with purchases, each with the line to add.
fn describe_lost(lost: &[LostCount], new: &Config, places: &[SourceLocation]) -> String {
    let mut lines =
        vec!["entries were replaced, and what they bought would no longer count:".to_owned()];
    let names = new.whitelist.iter().filter_map(|entry| entry.name.clone());
    let mut taken: HashSet<String> = names.collect();
    for LostCount { entry, usage, removed } in lost.iter().take(LINES_MAX) {
        let place = places.get(*entry).map(ToString::to_string).unwrap_or_default();
        let Some(entry) = new.whitelist.get(*entry) else { continue };
        let label = entry.label();
        let remedy = match (removed, &entry.name) {
            (None, _) => String::new(),
            (Some(removed), None) if !removed.is_name() => {
                format!("; add this line to it: name = \"{}\"", free_name(label, &mut taken))
            }
            (Some(_), _) => {
                "; keep the name of the entry before, or name one entry for an item at a time"
                    .to_owned()
            }
        };
        let (quantity, total) = (usage.quantity, usage.total);
        lines.push(format!("{place}: {} ({quantity} bought for {total}){remedy}", Escaped(label)));
    }
    let hidden = lost.len().saturating_sub(LINES_MAX);
    if 0 < hidden {
        lines.push(format!("… and {hidden} more"));
    }
    lines.push("or count them from zero with: sniper reload --new-entries".to_owned());
    lines.join("\n")
}

/// Returns a name that no entry has, and adds it to the taken ones.
fn free_name(label: &str, taken: &mut HashSet<String>) -> String {
    let base: String = label.chars().filter(|char| !matches!(char, '"' | '\\')).collect();
    let base = if base == "*" { "any item".to_owned() } else { base };
    let numbered = (2_u32..).map(|number| format!("{base} {number}"));
    let mut names = std::iter::once(base.clone()).chain(numbered);
    let name = names.find(|name| !taken.contains(name)).unwrap_or(base);
    taken.insert(name.clone());
    name
}

/// Returns the settings that differ and that cannot change while the bot runs.
fn not_applied(old: &Config, new: &Config) -> Vec<&'static str> {
    let fixed = [
        ("dry or live", old.mode != new.mode),
        ("the credential", old.credential != new.credential),
        ("the trade URL", old.trade_url != new.trade_url),
        ("the account id", old.account_id != new.account_id),
        ("the addresses", old.endpoints != new.endpoints),
        ("the state directory", old.state_dir != new.state_dir),
        ("[feed]", old.feed != new.feed),
        ("[reconnection]", old.reconnection != new.reconnection),
        ("[speed]", old.speed != new.speed),
        ("[dashboard]", old.dashboard != new.dashboard),
        ("[shared]", old.shared != new.shared),
    ];
    fixed.into_iter().filter(|(_name, differs)| *differs).map(|(name, _differs)| name).collect()
}

/// Describes the changes, and those that need a restart.
fn changes(old: &Config, new: &Config, spent: Amount) -> Vec<String> {
    let mut lines = Vec::new();
    if old.whitelist != new.whitelist {
        lines.push(whitelist_change(&old.whitelist, &new.whitelist));
    }
    lines.extend(value_changes(old, new));
    if new.budget.total <= spent && old.budget.total != new.budget.total {
        let total = new.budget.total;
        lines.push(format!("Budget: {spent} of {total} is spent, so nothing more is bought"));
    }
    if old.orders != new.orders {
        lines.push(format!("Orders: max_wait_ms = {}", new.orders.max_wait.as_millis()));
    }
    lines.extend(price_changes(&old.prices, &new.prices));
    lines.extend(alert_changes(&old.alerts, &new.alerts));
    lines.extend(
        not_applied(old, new).into_iter().map(|name| {
            format!("Not applied: {name} cannot change while the bot runs; restart it")
        }),
    );
    if lines.is_empty() {
        lines.push("Nothing changed".to_owned());
    }
    lines
}

/// Describes which channels, rules and heartbeat change.
fn alert_changes(old: &AlertsConfig, new: &AlertsConfig) -> Vec<String> {
    let mut lines = Vec::new();
    if old.channels != new.channels {
        let without = |one: &AlertsConfig, other: &AlertsConfig| {
            one.channels.iter().filter(|channel| !other.channels.contains(channel)).count()
        };
        let count = counted(new.channels.len(), "channel", "channels");
        let (added, removed) = (without(new, old), without(old, new));
        lines.push(format!("Alerts: {count} ({added} new or changed, {removed} removed)"));
    }
    if old.rules != new.rules {
        lines.push("Alerts: the rules changed".to_owned());
    }
    if old.heartbeat != new.heartbeat {
        lines.push(match &new.heartbeat {
            Some(heartbeat) => format!("Heartbeat: every {} s", heartbeat.every.as_secs()),
            None => "Heartbeat: off".to_owned(),
        });
    }
    lines
}

/// Describes how the sources of reference prices change.
fn price_changes(old: &PricesConfig, new: &PricesConfig) -> Vec<String> {
    let mut lines = Vec::new();
    if old.sources != new.sources {
        let count = counted(new.sources.len(), "source", "sources");
        lines.push(format!("Prices: {count}"));
    }
    for source in &new.sources {
        if let PriceLocation::File(path) = &source.location
            && !path.exists()
        {
            let (name, path) = (&source.name, path.display());
            lines.push(format!(
                "Prices: the file of {name} is missing: {path}; its last good table stays in use"
            ));
        }
    }
    lines
}

fn whitelist_change(old: &[WhitelistEntry], new: &[WhitelistEntry]) -> String {
    let before: HashMap<EntryKey, &WhitelistEntry> =
        old.iter().map(|entry| (EntryKey::of(entry), entry)).collect();
    let (mut added, mut changed, mut kept) = (0_usize, 0_usize, 0_usize);
    for entry in new {
        match before.get(&EntryKey::of(entry)) {
            None => added = added.saturating_add(1),
            Some(same) if *same == entry => kept = kept.saturating_add(1),
            Some(_) => changed = changed.saturating_add(1),
        }
    }
    let removed = old.len().saturating_sub(kept).saturating_sub(changed);
    let count = counted(new.len(), "entry", "entries");
    format!("Whitelist: {count} ({added} added, {changed} changed, {removed} removed)")
}

/// Describes which values of `[budget]` and `[prices]` change.
fn value_changes(old: &Config, new: &Config) -> Vec<String> {
    let pairs = in_force::values(old).into_iter().zip(in_force::values(new));
    let changed = pairs.filter(|(old, new)| old.value != new.value);
    let named = changed.filter_map(|(old, new)| {
        let section = match new.section {
            "budget" => "Budget",
            "prices" if new.key != "source" => "Prices",
            _ => return None,
        };
        Some(format!("{section}: {} {} → {}", new.key, old.value, new.value))
    });
    named.collect()
}

impl LedgerCommands<'_> {
    /// Runs `sniper reload`: asks each running bot to read its settings again.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerCommandError`] if no bot runs, or one rejects the settings.
    pub fn reload(&mut self, args: &ReloadArgs) -> Result<(), LedgerCommandError> {
        let request =
            ControlRequest::Reload { by: self.who.to_owned(), new_entries: args.new_entries };
        let mut is_done = false;
        let mut failed: Option<(&str, LedgerCommandError)> = None;
        for (instance, bot) in [(Instance::Live, "live bot"), (Instance::Dry, "dry run")] {
            let error = match control::send_request(&self.control_address(instance), &request) {
                Ok(ControlReply::Reloaded(lines)) => {
                    is_done = true;
                    self.print_reloaded(bot, &lines)?;
                    continue;
                }
                Err(ControlError::NotRunning) => continue,
                Ok(ControlReply::Rejected(reason)) => LedgerCommandError::Rejected(reason),
                Ok(ControlReply::Done(_)) => ControlError::InvalidReply.into(),
                Err(error) => error.into(),
            };
            failed = match failed {
                None => Some((bot, error)),
                Some((live, first)) => return Err(first.of(live).and(&error.of(bot))),
            };
        }
        match failed {
            Some((bot, error)) => Err(if is_done { error.of(bot) } else { error }),
            None if is_done => Ok(()),
            None => Err(ControlError::NotRunning.into()),
        }
    }

    fn print_reloaded(&mut self, mode: &str, lines: &[String]) -> Result<(), LedgerCommandError> {
        if self.as_json {
            let value = serde_json::json!({"bot": mode, "changes": lines});
            writeln!(self.out, "{value}")?;
            return Ok(());
        }
        writeln!(self.out, "Settings of the {mode} reloaded.")?;
        for line in lines {
            writeln!(self.out, "  {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{
            Credential, Endpoints, SharedConfig, TradeUrl,
            reconnection::{ReconnectPolicy, ReconnectionLimits},
            shared::{DatabaseUrl, GroupUnit},
        },
        domain::percent_rule::CoinUsd,
        ledger::entries::{EntryUsage, tests::entry},
    };

    fn config() -> Config {
        let endpoints = Endpoints::new("ws://127.0.0.1:1/ws", "http://127.0.0.1:1/graphql");
        Config::new(endpoints.unwrap(), "data")
    }

    fn shared() -> SharedConfig {
        SharedConfig {
            url: DatabaseUrl::parse("postgres://me@localhost/bots").unwrap(),
            group: "home".to_owned(),
            total: Amount::from_cents(1),
            unit: GroupUnit::Usd,
            rate: CoinUsd::from_ten_thousandths(10_000).unwrap(),
            standby: None,
            member: "a".to_owned(),
            term: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_reload_to_more_names_than_a_shared_budget_allows_is_rejected() {
        let named = |count: usize| {
            let entries = (0..count).map(|number| entry(Some(&number.to_string())));
            Config { whitelist: entries.collect(), ..config() }
        };
        let check = |old: &Config, count| check_applicable(old, &named(count)).is_ok();
        let live = Config { mode: Mode::Live, shared: Some(shared()), ..config() };
        assert!(check(&live, 200) && !check(&live, 201), "even if the new settings lack [shared]");
        let dry = Config { mode: Mode::Dry, ..live.clone() };
        assert!(check(&dry, 201) && check(&Config { shared: None, ..live }, 201));
    }

    #[test]
    fn an_edit_right_after_the_settings_were_read_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sniper.toml");
        let settings = "whitelist_file = \"list.json\"\n";
        std::fs::write(&path, format!("\u{feff}{settings}")).unwrap();
        let list = r#"[{"item": "AK-47 | Redline", "max_price": 1, "max_quantity": 1}]"#;
        std::fs::write(directory.path().join("list.json"), list).unwrap();
        let sources = Sources {
            lookup: &|_name| None,
            directory: directory.path(),
            config_file: None,
            live: false,
            decimals: |_market| Decimals::Two,
        };
        let read = Config::load(&sources).unwrap().files;
        assert!(read.len() == 2 && !Files::of(read.clone()).are_changed());
        std::fs::write(directory.path().join("list.json"), list.replace(": 1}", ": 2}")).unwrap();
        assert!(Files::of(read).are_changed());
    }

    #[test]
    fn a_name_is_offered_only_where_the_entry_would_continue_the_count() {
        let config = Config { whitelist: Arc::new([entry(None), entry(Some("b"))]), ..config() };
        let describe = |entry, removed| {
            let lost = [LostCount { entry, usage: EntryUsage::default(), removed }];
            describe_lost(&lost, &config, &[])
        };
        let [unnamed, named] = [None, Some("a")].map(|name| Some(EntryKey::of(&entry(name))));
        let [keep, add] = ["keep the name", "add this line to it: name = \"any item\""];
        for (entry, removed, remedy) in [
            (0, unnamed.clone(), add),
            (0, named.clone(), keep),
            (1, unnamed, keep),
            (1, named, keep),
        ] {
            assert!(describe(entry, removed).contains(remedy), "{entry}: {remedy}");
        }
        for entry in [0, 1] {
            let text = describe(entry, None);
            assert!(!text.contains("name") && text.contains("--new-entries"), "{text}");
        }
    }

    #[test]
    fn every_changed_setting_is_named() {
        // A new setting does not compile here: it is applied, rejected, or named as not applied.
        let Config {
            // Rejected by `reload`.
            market: _,
            data_dir: _,
            // Applied.
            budget: _,
            orders: _,
            whitelist: _,
            prices: _,
            alerts: _,
            // Not applied.
            mode: _,
            endpoints: _,
            credential: _,
            trade_url: _,
            account_id: _,
            state_dir: _,
            feed: _,
            speed: _,
            dashboard: _,
            shared: _,
            reconnection: _,
            // No settings.
            credential_source: _,
            trusted_root: _,
        } = config();
        let check = |expected: &str, change: &dyn Fn(&mut Config)| {
            let mut new = config();
            change(&mut new);
            let lines = changes(&config(), &new, Amount::ZERO);
            assert!(lines.len() == 1 && lines[0].starts_with(expected), "{expected}: {lines:?}");
        };
        check("Nothing changed", &|_| {});
        check("Budget: total", &|new| new.budget.total = Amount::from_cents(1));
        check("Orders: max_wait_ms = 1", &|new| new.orders.max_wait = Duration::from_millis(1));
        check("Whitelist: 1 entry", &|new| new.whitelist = Arc::new([entry(None)]));
        check("Prices: refresh_minutes", &|new| new.prices.refresh = Duration::from_secs(1));
        check("Alerts: the rules", &|new| new.alerts.rules.daily_summary_at = 1);
        check("Not applied: dry or live", &|new| new.mode = Mode::Live);
        check("Not applied: the addresses", &|new| new.endpoints.origin = "x".to_owned());
        check("Not applied: the credential", &|new| {
            new.credential = Some(Credential::from_session("0123456789").unwrap());
        });
        let url = "https://steamcommunity.com/tradeoffer/new/?partner=12345678&token=AbCdEfGh";
        check("Not applied: the trade URL", &|new| {
            new.trade_url = Some(TradeUrl::parse(url).unwrap());
        });
        check("Not applied: the account id", &|new| new.account_id = Some("1".to_owned()));
        check("Not applied: the state directory", &|new| new.state_dir = Some("x".into()));
        check("Not applied: [feed]", &|new| new.feed.connections = 3);
        check("Not applied: [speed]", &|new| new.speed.spin = true);
        check("Not applied: [dashboard]", &|new| new.dashboard.allow_remote = true);
        check("Not applied: [shared]", &|new| new.shared = Some(shared()));
        let limits = ReconnectionLimits { max_retries: Some(1), ..ReconnectionLimits::default() };
        check("Not applied: [reconnection]", &|new| {
            new.reconnection = ReconnectPolicy::new(limits).unwrap();
        });
    }
}
