//! `sniper doctor`: tests settings, connection, account and disk step by step, with a remedy for
//! each failure.
//!
//! The steps use the settings and the code of the bot: the feed up to its first listing, account
//! reads over HTTP, a file in `SNIPER_DATA`. Nothing that could send an order is constructed.

pub mod latency;
pub mod step;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;

use self::step::{BOT, DoctorReport, DoctorStep, STEPS, StepProblem};
use super::{
    AppError, CommandContext, block_on,
    report::{Output, print},
    status::DataDirStatus,
};
use crate::{
    account::{
        AccountReader, IncompleteReason, LookBack, PurchasesReading, ReadFailure,
        purchases::UnknownStatus,
    },
    alerts::{
        channel::{AlertChannel, CheckFailure},
        service::free_bytes,
    },
    clock,
    config::{Config, load::make_directory, trade_url::TradeUrlError},
    domain::account::{BalanceError, User},
    domain::latency::format_latency,
    domain::server_clock::ServerClock,
    domain::time::format_duration,
    domain::unit,
    log::OutputStream,
    markets::{AccountQuery, EnvironmentNames, Marketplace, ReadError},
    net::{
        http_client::{HttpClient, HttpReply},
        http_message::HttpRequest,
        tls::Tls,
    },
    text::{Escaped, counted, error_chain},
    ws::{
        Feed, FeedError, SettingNames,
        policy::RETRY_AFTER_MAX,
        probe::{ProbeStep, StepError, probe},
    },
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper doctor
  sniper doctor --latency
  sniper doctor --config other.toml
  sniper doctor --json";

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Only measure the latency of each address of the market's servers
    #[arg(long)]
    pub latency: bool,
}

/// Maximum time to wait for the first listing.
const LISTING_WAIT: Duration = Duration::from_secs(30);

/// Maximum number of pages of own trades to read. Two show that the cursor advances.
const OWN_TRADES_PAGES_MAX: u32 = 2;

/// Maximum difference between the local clock and the server clock. A smaller one is
/// harmless, because orders for held listings are timed by the server clock.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// Runs `sniper doctor`. `check_market` is [`check`] for the configured market. The exit code
/// is 0 only if every check passes.
///
/// # Errors
///
/// Returns [`AppError::Print`] if a result cannot be printed, or the error of `check_market`.
pub fn run(
    context: CommandContext<'_>,
    check_market: impl FnOnce(Config) -> Result<ExitCode, AppError>,
) -> Result<ExitCode, AppError> {
    match context.load_for_feed(false).map_err(AppError::from) {
        Ok(loaded) => check_market(loaded.config),
        Err(error) => {
            print_steps(context.output, |show| Ok(invalid_settings(&error.to_string(), show)))
        }
    }
}

/// Runs all checks, or only measures the latency, and prints each result.
///
/// # Errors
///
/// Returns [`AppError::Print`] if a result cannot be printed, and that of
/// [`latency::check`].
pub fn check<M: Marketplace>(
    feed: &Feed<M>,
    args: &DoctorArgs,
    output: Output,
) -> Result<ExitCode, AppError> {
    if args.latency {
        return latency::check(&feed.market, &feed.config, output);
    }
    print_steps(output, |show| block_on(async { Ok(run_checks(feed, LISTING_WAIT, show).await) }))
}

fn print_steps(
    output: Output,
    run: impl FnOnce(&mut dyn FnMut(&DoctorStep)) -> Result<DoctorReport, AppError>,
) -> Result<ExitCode, AppError> {
    let colors = OutputStream::Stdout.has_colors();
    let mut printed = Ok(());
    let report = run(&mut |step| {
        if !output.is_json() && printed.is_ok() {
            printed = print(&step.line(colors));
        }
    })?;
    printed?;
    output.print(&report.conclusion(), || report.to_json())?;
    Ok(ExitCode::from(report.exit_code()))
}

/// Runs all steps and passes each result to `on_step`.
///
/// # Cancel safety
///
/// Safe: only a temporary file may be left in `SNIPER_DATA`.
pub async fn run_checks<M: Marketplace>(
    feed: &Feed<M>,
    listing_wait: Duration,
    mut on_step: impl FnMut(&DoctorStep),
) -> DoctorReport {
    let config = &feed.config;
    let mut report = DoctorReport::default();
    let mut done = |step: DoctorStep| {
        on_step(&step);
        report.steps.push(step);
    };
    done(settings(config));
    probe_feed(feed, listing_wait, &mut done).await;
    account(&feed.market, config, &mut done).await;
    done(disk(&config.data_dir));
    done(alerts(config).await);
    done(shared_budget(config).await);
    done(bot(config).await);
    report
}

/// Returns the report for invalid settings: all further steps are skipped.
fn invalid_settings(problems: &str, mut on_step: impl FnMut(&DoctorStep)) -> DoctorReport {
    let mut steps = vec![DoctorStep::failed(
        "settings",
        Duration::ZERO,
        problems.trim_end(),
        "fix the errors above, then run `sniper check`",
    )];
    steps.extend(STEPS.iter().skip(1).map(|name| DoctorStep::skipped(name)));
    steps.iter().for_each(&mut on_step);
    DoctorReport { steps }
}

fn settings(config: &Config) -> DoctorStep {
    let mode = config.mode.name();
    let entries = counted(config.whitelist.len(), "whitelist entry", "whitelist entries");
    let mut detail = format!("{mode}, {entries}, feed {}", config.endpoints.ws);
    if let Some(listen) = config.dashboard.listen.filter(|_| config.dashboard.is_remote()) {
        let warning = "reachable from other machines and not encrypted: use a firewall";
        detail.push_str(&format!("; warning: the dashboard at {listen} is {warning}"));
    }
    DoctorStep::ok("settings", Duration::ZERO, detail)
}

async fn probe_feed<M: Marketplace>(
    feed: &Feed<M>,
    listing_wait: Duration,
    done: &mut impl FnMut(DoctorStep),
) {
    const PROBE_STEPS: [ProbeStep; 6] = [
        ProbeStep::Dns,
        ProbeStep::Tcp,
        ProbeStep::Tls,
        ProbeStep::Upgrade,
        ProbeStep::Ack,
        ProbeStep::Listing,
    ];
    let probed = probe(feed, listing_wait, |step, elapsed, detail| {
        let detail = match step {
            ProbeStep::Dns | ProbeStep::Tcp | ProbeStep::Tls => Escaped(detail).to_string(),
            ProbeStep::Upgrade => "ok".to_owned(),
            ProbeStep::Ack => "subscribed".to_owned(),
            ProbeStep::Listing => "listing received".to_owned(),
        };
        done(DoctorStep::ok(name_of(step), elapsed, detail));
    })
    .await;
    if let Err(StepError { step, took: elapsed, error }) = probed {
        let endpoint = &feed.config.endpoints.ws;
        let remedy = if step == ProbeStep::Tcp && endpoint.is_loopback() {
            format!("start the server at {}, such as `sniper sim`", endpoint.authority())
        } else {
            let advice = error.advice(SettingNames::of::<M>());
            advice.unwrap_or_else(|| remedy(step, &M::CAPABILITIES.environment))
        };
        done(DoctorStep::failed(
            name_of(step),
            elapsed,
            error.chain(),
            retry_after(&error) + &remedy,
        ));
        for step in PROBE_STEPS.into_iter().filter(|other| step < *other) {
            done(DoctorStep::skipped(name_of(step)));
        }
    }
}

const fn name_of(step: ProbeStep) -> &'static str {
    match step {
        ProbeStep::Dns => "DNS",
        ProbeStep::Tcp => "TCP",
        ProbeStep::Tls => "TLS",
        ProbeStep::Upgrade => "upgrade",
        ProbeStep::Ack => "ack",
        ProbeStep::Listing => "first listing",
    }
}

fn remedy(step: ProbeStep, names: &EnvironmentNames) -> String {
    let EnvironmentNames { feed: address, credential, cookie, .. } = names;
    let check_key = || {
        format!(
            "check {address}, and at the market that the key in {credential} is valid and may be \
             used from the IP address of this machine"
        )
    };
    match step {
        ProbeStep::Dns => format!("check the host in {address} and the network"),
        ProbeStep::Tcp => "check the network and the firewall".to_owned(),
        ProbeStep::Tls => "check the address and the date of this machine; if both are right, a \
                           proxy intercepts the connection"
            .to_owned(),
        ProbeStep::Upgrade | ProbeStep::Ack if cookie.is_none() => check_key(),
        ProbeStep::Upgrade => format!(
            "open the market in your browser, solve the challenge if there is one, copy the cookie \
             again, and check {address}"
        ),
        ProbeStep::Ack => format!("check {address}; if it is right, copy the cookie again"),
        // The markets with an API key have no generations.
        ProbeStep::Listing if cookie.is_none() => {
            "the market may be quiet: try again later".to_owned()
        }
        ProbeStep::Listing => "the market may be quiet: try again later; if that fails too, try \
                               the other `generation` in [feed]"
            .to_owned(),
    }
}

/// Runs the account steps: one HTTP request for four of them, and another for the own trades.
async fn account<M: Marketplace>(market: &M, config: &Config, done: &mut impl FnMut(DoctorStep)) {
    let names = &M::CAPABILITIES.environment;
    let started = Instant::now();
    let result = match Tls::from_config(config) {
        Ok(tls) => match read_user(market, config, &tls).await {
            Ok(reply) => Ok((reply, tls)),
            Err(failure) => Err(failed("HTTP", started.elapsed(), &failure, names)),
        },
        Err(error) => {
            let remedy = "build or install sniper again";
            Err(DoctorStep::failed("HTTP", started.elapsed(), error_chain(&error), remedy))
        }
    };
    let elapsed = started.elapsed();
    let (reply, tls) = match result {
        Ok(read) => read,
        Err(step) => {
            done(step);
            for name in ["sign-in", "balance", "own trades", "trade URL", "clock interval"] {
                done(DoctorStep::skipped(name));
            }
            return;
        }
    };
    // Compares the clocks before the own trades are read, which can take many seconds.
    let clock_interval = clock_interval(&reply, elapsed, names);
    done(DoctorStep::ok("HTTP", elapsed, format!("HTTP {}", reply.response.head.status)));
    match signed_in_user(market, config, &reply) {
        Ok(user) => {
            let detail = match user.is_flagged {
                Some(true) => "signed in; the market has flagged this account",
                Some(false) | None => "signed in",
            };
            done(DoctorStep::ok("sign-in", elapsed, detail));
            done(balance(config, &user, (elapsed, names)));
            done(own_trades(market, config, (&user, &tls)).await);
            done(trade_url(market, config, &tls).await);
        }
        Err(failure) => {
            done(failed("sign-in", elapsed, &failure, names));
            done(DoctorStep::skipped("balance"));
            done(DoctorStep::skipped("own trades"));
            done(DoctorStep::skipped("trade URL"));
        }
    }
    done(clock_interval);
}

/// Creates a failed step from a failed account read.
fn failed(
    name: &'static str,
    elapsed: Duration,
    failure: &ReadFailure,
    names: &EnvironmentNames,
) -> DoctorStep {
    let cause = failure.cause(names);
    DoctorStep::failed(name, elapsed, cause.text(), cause.remedy())
}

async fn read_user<M: Marketplace>(
    market: &M,
    config: &Config,
    tls: &Tls,
) -> Result<HttpReply, ReadFailure> {
    send::<M>(market.account_request(&AccountQuery::User)?, config, tls).await
}

async fn send<M: Marketplace>(
    request: HttpRequest,
    config: &Config,
    tls: &Tls,
) -> Result<HttpReply, ReadFailure> {
    let client = HttpClient::new(&config.endpoints.http, tls)?;
    let request = M::authenticated(config.credential.as_ref(), request);
    let reply = client.send(&request).await?;
    match ReadFailure::from_response::<M>(&reply.response) {
        Some(failure) => Err(failure),
        None => Ok(reply),
    }
}

fn signed_in_user(
    market: &impl Marketplace,
    config: &Config,
    reply: &HttpReply,
) -> Result<User, ReadFailure> {
    if config.credential.is_none() {
        return Err(ReadFailure::NoCredential);
    }
    Ok(market.read_user(&reply.response)?)
}

fn balance(
    config: &Config,
    user: &User,
    (elapsed, names): (Duration, &EnvironmentNames),
) -> DoctorStep {
    let floor = config.budget.min_balance;
    match user.balance {
        Some(balance) if balance < floor => DoctorStep::failed(
            "balance",
            elapsed,
            format!("{balance} {}, below min_balance", unit::name()),
            "deposit, or lower min_balance in [budget]; the bot would stop immediately",
        ),
        Some(balance) => DoctorStep::ok("balance", elapsed, format!("{balance} {}", unit::name())),
        None => {
            let missing = || BalanceError::new("missing", "the answer has no balance");
            let error = user.balance_error.clone().unwrap_or_else(missing);
            failed("balance", elapsed, &ReadFailure::Balance(error), names)
        }
    }
}

/// Reads the purchases of the account in the same way as the bot.
async fn own_trades<M: Marketplace>(
    market: &M,
    config: &Config,
    (user, tls): (&User, &Tls),
) -> DoctorStep {
    let (name, started) = ("own trades", Instant::now());
    if !M::CAPABILITIES.has_purchases {
        return DoctorStep::ok(name, Duration::ZERO, "this market has no list of them");
    }
    let read = read_own_trades(market, config, (user, tls)).await;
    let elapsed = started.elapsed();
    let reading = match read {
        Ok(reading) => reading,
        Err(failure) => return failed(name, elapsed, &failure, &M::CAPABILITIES.environment),
    };
    let is_truncated = matches!(reading.incomplete, Some(IncompleteReason::TooManyPages { .. }));
    match &reading.incomplete {
        Some(incomplete) if !is_truncated => {
            let cause = incomplete.cause();
            DoctorStep::failed(name, elapsed, cause.text(), cause.remedy())
        }
        _ => DoctorStep::ok(name, elapsed, own_trades_detail(&reading, is_truncated)),
    }
}

/// Lets the market check the recipient of the items, where it can.
async fn trade_url<M: Marketplace>(market: &M, config: &Config, tls: &Tls) -> DoctorStep {
    let (name, started) = ("trade URL", Instant::now());
    let Some(request) = market.recipient_check() else {
        let detail = match config.market.settings().needs_trade_url {
            true if config.trade_url.is_none() => "none is set; orders need one",
            true => "this market cannot check it",
            false => "this market needs none",
        };
        return DoctorStep::ok(name, Duration::ZERO, detail);
    };
    let checked = send::<M>(request, config, tls).await;
    let checked = checked.and_then(|reply| Ok(market.read_recipient_check(&reply.response)?));
    match checked {
        Ok(()) => DoctorStep::ok(name, started.elapsed(), "accepted by the market"),
        Err(failure @ ReadFailure::Response(ReadError::MarketError(_))) => {
            let text = failure.cause(&M::CAPABILITIES.environment);
            DoctorStep::failed(name, started.elapsed(), text.text(), TradeUrlError::REMEDY)
        }
        Err(failure) => failed(name, started.elapsed(), &failure, &M::CAPABILITIES.environment),
    }
}

async fn read_own_trades<M: Marketplace>(
    market: &M,
    config: &Config,
    (user, tls): (&User, &Tls),
) -> Result<PurchasesReading, ReadFailure> {
    let credential = config.credential.as_ref();
    let endpoint = &config.endpoints.http;
    let reader = AccountReader::new(market.clone(), endpoint, credential, tls)?;
    let span = LookBack { pages_max: OWN_TRADES_PAGES_MAX, ..LookBack::back_to(clock::now()) };
    reader.own_purchases(user, span).await
}

fn own_trades_detail(reading: &PurchasesReading, is_truncated: bool) -> String {
    let (count, pages) = (reading.trades.len(), reading.pages);
    let more = if is_truncated { ", more exist" } else { "" };
    let (purchases, pages) =
        (counted(count, "purchase", "purchases"), counted(pages, "page", "pages"));
    let mut detail = format!("{purchases} on {pages}{more}");
    if let Some(UnknownStatus { word, .. }) = reading.unknown.first() {
        detail.push_str(&format!("; status {} is unknown to this version", Escaped(word)));
    }
    if let Some((count, _first)) = reading.unpriced {
        detail.push_str(&format!("; {count} with an unreadable price"));
    }
    detail
}

/// Estimates the server clock from a response that has just arrived.
fn clock_interval(reply: &HttpReply, elapsed: Duration, names: &EnvironmentNames) -> DoctorStep {
    let name = "clock interval";
    let Some(date) = reply.response.head.date else {
        let remedy = format!(
            "check {}; without the date, orders for held listings cannot be timed",
            names.http
        );
        return DoctorStep::failed(name, elapsed, "the response has no Date header", remedy);
    };
    let mut clock = ServerClock::new(reply.exchange.sent);
    clock.observe_date(reply.exchange, date);
    let width = clock.width(Instant::now()).unwrap_or_default();
    let ours = clock::now();
    let skew = ours.since(date).max(date.since(ours));
    if skew > SKEW_MAX {
        let detail = format!("the clock of this machine is off by {}", format_latency(skew));
        return DoctorStep::failed(
            name,
            elapsed,
            detail,
            "set the clock of this machine, or enable NTP",
        );
    }
    DoctorStep::ok(name, elapsed, format!("server clock known to ±{}", format_latency(width)))
}

/// Returns the instruction to wait for `Retry-After` of a rejected handshake.
fn retry_after(error: &FeedError) -> String {
    let wait = error.retry_after().map(|wait| wait.min(RETRY_AFTER_MAX));
    wait.map_or_else(String::new, |wait| {
        format!("wait {} (requested by the server); ", format_duration(wait))
    })
}

/// Reads the state of the bot with this `SNIPER_DATA`, like `sniper status`.
async fn bot(config: &Config) -> DoctorStep {
    let started = Instant::now();
    let (directory, state) = (config.data_dir.clone(), config.state_dir.clone());
    // Blocks until the bot responds, with its own time limit.
    let read = move || DataDirStatus::read(&directory, state.as_deref(), clock::now());
    let result = tokio::task::spawn_blocking(read).await;
    let elapsed = started.elapsed();
    let status = match result {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            let remedy = "run `sniper status`, and `sniper ledger verify` if no bot is running";
            return DoctorStep::failed(
                BOT,
                elapsed,
                Escaped(&error_chain(&error)).to_string(),
                remedy,
            );
        }
        Err(_panicked) => {
            return DoctorStep::failed(
                BOT,
                elapsed,
                "reading the state of the bot failed",
                "run `sniper status`",
            );
        }
    };
    let problems = status.problems();
    if !problems.is_empty() {
        let remedy = "run `sniper status`, follow its instructions, then run `sniper resume` if it is halted";
        return DoctorStep::failed(BOT, elapsed, Escaped(&problems.join("; ")).to_string(), remedy);
    }
    let detail = match (&status.live, &status.dry, &status.stopped) {
        (Some(live), ..) => match &live.not_ordering_because {
            Some(reason) => format!("live, sends no orders: {}", Escaped(reason)),
            None => format!("live, ordering {}", live.buying),
        },
        (None, Some(_), _) => "dry run".to_owned(),
        (None, None, Some(_)) => "not running, not halted".to_owned(),
        (None, None, None) => "not running, no ledger yet".to_owned(),
    };
    DoctorStep::ok(BOT, elapsed, detail)
}

/// Checks the channels of the alerts without sending a message.
async fn alerts(config: &Config) -> DoctorStep {
    let name = "alerts";
    let started = Instant::now();
    let channels = &config.alerts.channels;
    if channels.is_empty() {
        return DoctorStep::ok(name, Duration::ZERO, "no channel");
    }
    let (mut detail, mut problems, mut remedies) = (Vec::new(), Vec::new(), Vec::new());
    let tls = Tls::from_config(config).map_err(|error| error_chain(&error));
    for channel in channels {
        let channel = tls
            .as_ref()
            .map_err(String::clone)
            .and_then(|tls| AlertChannel::new(channel, tls).map_err(|error| error_chain(&error)));
        let channel = match channel {
            Ok(channel) => channel,
            Err(error) => {
                let remedy = "build or install sniper again";
                return DoctorStep::failed(name, started.elapsed(), error, remedy);
            }
        };
        match channel.check().await {
            Ok(found) => detail.push(format!("{}: {found}", channel.name())),
            Err(CheckFailure { why, remedy }) => {
                problems.push(format!("{}: {why}", channel.name()));
                remedies.push(format!("{}: {remedy}", channel.name()));
            }
        }
    }
    if problems.is_empty() {
        DoctorStep::ok(name, started.elapsed(), detail.join(", "))
    } else {
        DoctorStep::failed(name, started.elapsed(), problems.join("; "), remedies.join("; "))
    }
}

/// Reads the group of `[shared]`.
async fn shared_budget(config: &Config) -> DoctorStep {
    let (name, started) = ("shared budget", Instant::now());
    #[cfg(feature = "shared")]
    let checked = super::shared_group::check(config).await;
    // The settings reject a group in a build without the feature.
    #[cfg(not(feature = "shared"))]
    let checked = Ok::<_, StepProblem>(match &config.shared {
        Some(shared) => shared.group.clone(),
        None => "no [shared] budget".to_owned(),
    });
    match checked {
        Ok(detail) => DoctorStep::ok(name, started.elapsed(), detail),
        Err(StepProblem { detail, remedy }) => {
            let detail = Escaped(&detail).to_string();
            DoctorStep::failed(name, started.elapsed(), detail, remedy)
        }
    }
}

/// Writes and syncs a temporary file in `SNIPER_DATA`, as the ledger does.
fn disk(directory: &Path) -> DoctorStep {
    let started = Instant::now();
    let result = write_and_remove(directory);
    let elapsed = started.elapsed();
    match result {
        Ok(()) => {
            let free = free_bytes(directory).map_or_else(String::new, |bytes| {
                format!(", {}.{} GB free", bytes / 1_000_000_000, bytes / 100_000_000 % 10)
            });
            DoctorStep::ok("disk", elapsed, format!("{} is writable{free}", directory.display()))
        }
        Err(error) => DoctorStep::failed(
            "disk",
            elapsed,
            format!("cannot write to {}: {error}", directory.display()),
            "set SNIPER_DATA to a writable directory on a disk with free space",
        ),
    }
}

fn write_and_remove(directory: &Path) -> io::Result<()> {
    make_directory(directory)?;
    let path = directory.join(format!("doctor-{}.tmp", std::process::id()));
    let written = OpenOptions::new().write(true).create(true).truncate(true).open(&path).and_then(
        |mut file| {
            file.write_all(&[0; 4_096])?;
            file.sync_all()
        },
    );
    let removed = fs::remove_file(&path);
    written.and(removed)
}
